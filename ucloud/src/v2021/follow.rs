//! Logs over a WebSocket (protocol 5.3).

use super::job::Job;
use super::lenient;
use serde::{Deserialize, Serialize};

/// The payload of a `follow` request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum FollowRequest {
    /// Send a job's logs: all so far, then what comes.
    Init {
        /// The job.
        job: Box<Job>,
    },
    /// Stop a session.
    Cancel {
        /// The follow session's id, not the envelope's.
        stream_id: String,
    },
}

/// The payload of every message and response of `follow`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogChunk {
    /// The follow session's id.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub stream_id: String,
    /// Which rank; -1 where it is about none.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub rank: i64,
    /// What it wrote to its output.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub stdout: Option<String>,
    /// What it wrote to its error output.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub stderr: Option<String>,
}

impl LogChunk {
    /// The chunk that announces a session, ends it, and answers a cancel (with an empty id).
    #[must_use]
    pub fn empty(stream_id: impl Into<String>) -> Self {
        Self { stream_id: stream_id.into(), rank: -1, stdout: None, stderr: None }
    }
}
