//! Interactive sessions (protocol 4.9, 8.5).

use super::job::Job;
use super::lenient;
use super::secret::Secret;
use serde::{Deserialize, Serialize};

/// What a user wants to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum InteractiveSessionType {
    /// A web interface.
    Web,
    /// A desktop.
    Vnc,
    /// A terminal.
    Shell,
}

/// One item of `interactiveSession`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenInteractiveSession {
    /// The job.
    pub job: Job,
    /// Which rank, from 0.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub rank: i64,
    /// What to open.
    pub session_type: InteractiveSessionType,
}

/// A session that was opened. Addresses are absolute or begin with `/` (protocol 8.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum OpenSession {
    /// A terminal.
    Shell {
        /// The job.
        job_id: String,
        /// Which rank.
        rank: u32,
        /// What gives access to it.
        session_identifier: Secret,
    },
    /// A web interface.
    Web {
        /// The job.
        job_id: String,
        /// Which rank.
        rank: u32,
        /// Where the browser goes.
        redirect_client_to: String,
    },
    /// A desktop.
    Vnc {
        /// The job.
        job_id: String,
        /// Which rank.
        rank: u32,
        /// Where the client connects.
        url: String,
        /// What it says there.
        password: Option<Secret>,
    },
}
