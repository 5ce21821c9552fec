//! Errors as Core words them, and faults that tests switch on.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// An answer outside 2xx: `CommonErrorMessage` (protocol 1.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ControlError {
    pub(super) status: u16,
    pub(super) why: String,
    pub(super) error_code: Option<&'static str>,
}

impl ControlError {
    pub(super) fn new(status: u16, why: impl Into<String>) -> Self {
        Self { status, why: why.into(), error_code: None }
    }

    /// One unknown id spoils a whole batch (protocol 6.4, step 1).
    pub(super) fn unknown_resources() -> Self {
        Self::new(400, "Unable to use all requested resources")
    }
}

/// The reason of an error answer, kept beside the response for the log of calls.
#[derive(Clone)]
pub(super) struct Reason(pub(super) String);

impl IntoResponse for ControlError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = axum::Json(json!({"why": self.why, "errorCode": self.error_code}));
        let mut response = (status, body).into_response();
        response.extensions_mut().insert(Reason(self.why));
        response
    }
}

/// What is wrong with Core at the moment. The default is nothing. Admin routes are never affected, except by `refuse_connections`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Faults {
    /// Every answer to the provider waits this long first, milliseconds.
    pub slow_ms: u64,
    /// So many of a hundred calls of the provider fail before they are processed.
    pub fail_percent: u8,
    /// The status they fail with; 0 means 500.
    pub fail_status: u16,
    /// The listening socket is closed: connections are refused by the kernel, open ones are cut at their next call.
    pub refuse_connections: bool,
    /// Calls of the provider are cut without an answer and without being processed.
    pub cut_connections: bool,
    /// Access tokens have expired when they are handed out.
    pub tokens_expire_at_once: bool,
    /// Ids that Core claims not to know.
    pub unknown_jobs: BTreeSet<String>,
    /// So many of the next charges are processed and then the connection is cut instead of an answer.
    pub drop_next_charge_answers: u32,
    /// So many of the next updates are processed and then the connection is cut instead of an answer.
    pub drop_next_update_answers: u32,
}
