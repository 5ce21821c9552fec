//! Errors at the edge: always `{"why","errorCode"}` with a status (`protocol.md` 1.4).

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use muster_domain::effect::{Refusal, RefusalKind};
use muster_ucloud::v2021::problem::{CommonErrorMessage, Problem};

/// A call that was not done, as the caller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The status.
    pub(crate) status: StatusCode,
    /// In words for a person.
    pub(crate) why: String,
    /// For programs. Where the call has none of its own, the status gives one.
    pub(crate) error_code: Option<&'static str>,
}

/// The code of a failure that has none of its own.
fn code(status: StatusCode) -> Option<&'static str> {
    Some(match status {
        StatusCode::BAD_REQUEST => "INVALID_REQUEST",
        StatusCode::UNAUTHORIZED => "UNAUTHORIZED",
        StatusCode::NOT_FOUND => "NOT_FOUND",
        StatusCode::METHOD_NOT_ALLOWED => "METHOD_NOT_ALLOWED",
        StatusCode::CONFLICT => "CONFLICT",
        StatusCode::PAYLOAD_TOO_LARGE => "BODY_TOO_LARGE",
        StatusCode::REQUEST_TIMEOUT => "BODY_TOO_SLOW",
        StatusCode::SERVICE_UNAVAILABLE => "TRY_AGAIN",
        _ => return None,
    })
}

impl Failure {
    pub(crate) fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into(), error_code: None }
    }

    /// The call itself is wrong.
    pub(crate) fn invalid(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, why)
    }

    /// It names something that is not here.
    pub(crate) fn not_found(why: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, why)
    }

    /// Nothing was applied; the same call may succeed later. Core repeats it (`protocol.md` 1.4).
    pub(crate) fn unavailable(why: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, why)
    }

    /// The one answer to every bad token, so that nothing can be learned from it.
    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized")
    }

    /// Our own fault. The text says nothing about the inside.
    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::BAD_REQUEST);
        Self { status, why: problem.why, error_code: problem.error_code }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.kind {
            RefusalKind::Invalid => StatusCode::BAD_REQUEST,
            RefusalKind::NotFound => StatusCode::NOT_FOUND,
            RefusalKind::Conflict => StatusCode::CONFLICT,
            RefusalKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, refusal.why)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let error_code = self.error_code.or_else(|| code(self.status));
        let message = CommonErrorMessage { why: self.why, error_code: error_code.map(str::to_owned) };
        (self.status, Json(message)).into_response()
    }
}
