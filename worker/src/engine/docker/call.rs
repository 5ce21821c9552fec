//! Calls to the engine: each has a deadline, and each failure says what may be concluded from it.

use crate::engine::{EngineError, Fault};
use bollard::errors::Error;
use std::error::Error as _;
use std::future::Future;
use std::time::Duration;

/// For looking at things (reliability B.5, "dockerd hang").
pub(super) const LOOK: Duration = Duration::from_secs(5);
/// For making and starting things.
pub(super) const MAKE: Duration = Duration::from_secs(30);
/// For signals; longer than any grace that the engine itself might insert.
pub(super) const SIGNAL: Duration = Duration::from_secs(10);
/// For removing a container, which waits for its storage.
pub(super) const REMOVE: Duration = Duration::from_secs(60);
/// For pulling an image.
pub(super) const PULL: Duration = Duration::from_secs(30 * 60);

/// How a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CallError {
    /// There is no such thing (404).
    Missing(String),
    /// It is in the way of, or in the wrong state for, what was asked (409).
    Conflict(String),
    /// The engine answered with another error.
    Refused {
        /// HTTP status; 0 if the answer could not be read.
        status: u16,
        /// The engine's words.
        message: String,
    },
    /// The engine did not answer in time, or the connection broke. Nothing may be concluded.
    Silent(String),
}

impl CallError {
    /// The engine's own words.
    pub(super) fn message(&self) -> &str {
        match self {
            Self::Missing(message)
            | Self::Conflict(message)
            | Self::Silent(message)
            | Self::Refused { message, .. } => message,
        }
    }

    /// As the failure of `what`, such as "the container could not be made"; the node's fault unless the engine was
    /// silent.
    pub(super) fn on(&self, what: &str) -> EngineError {
        let fault = match self {
            Self::Silent(_) => Fault::Unavailable,
            _ => Fault::Node,
        };
        EngineError { fault, message: format!("{what}: {}", self.message()) }
    }
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        match error {
            Error::DockerResponseServerError { status_code: 404, message } => Self::Missing(message),
            Error::DockerResponseServerError { status_code: 409, message } => Self::Conflict(message),
            Error::DockerResponseServerError { status_code: 503, message } => Self::Silent(message),
            Error::DockerResponseServerError { status_code, message } => Self::Refused { status: status_code, message },
            Error::RequestTimeoutError
            | Error::IOError { .. }
            | Error::HyperResponseError { .. }
            | Error::HyperLegacyError { .. }
            | Error::SocketNotFoundError(_) => {
                Self::Silent(format!("the Docker Engine does not answer: {}", chain(&error)))
            }
            Error::DockerStreamError { error } => Self::Refused { status: 0, message: error },
            other => Self::Refused { status: 0, message: chain(&other) },
        }
    }
}

/// The error and what caused it: the client's own texts say only "client error".
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

/// Makes one call, for at most `limit`.
pub(super) async fn call<T>(limit: Duration, request: impl Future<Output = Result<T, Error>>) -> Result<T, CallError> {
    match tokio::time::timeout(limit, request).await {
        Ok(answer) => answer.map_err(CallError::from),
        Err(_) => Err(CallError::Silent(format!("the Docker Engine did not answer in {} s", limit.as_secs()))),
    }
}

/// The job's own fault, in words for its user.
pub(super) fn job_fault(message: impl Into<String>) -> EngineError {
    EngineError { fault: Fault::Job, message: message.into() }
}

/// The node's fault.
pub(super) fn node_fault(message: impl Into<String>) -> EngineError {
    EngineError { fault: Fault::Node, message: message.into() }
}

/// Nothing is known.
pub(super) fn unavailable(message: impl Into<String>) -> EngineError {
    EngineError { fault: Fault::Unavailable, message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hanging_engine_is_silent_and_nothing_is_concluded() {
        let error = call::<()>(LOOK, std::future::pending()).await.unwrap_err();
        assert_eq!(error, CallError::Silent("the Docker Engine did not answer in 5 s".into()));
        assert_eq!(error.on("the list could not be had").fault, Fault::Unavailable);
    }

    #[test]
    fn answers_are_sorted_by_what_they_mean() {
        let of = |status_code| CallError::from(Error::DockerResponseServerError { status_code, message: "m".into() });
        assert_eq!(of(404), CallError::Missing("m".into()));
        assert_eq!(of(409), CallError::Conflict("m".into()));
        assert_eq!(of(500), CallError::Refused { status: 500, message: "m".into() });
        assert_eq!(of(503).on("x").fault, Fault::Unavailable);
        assert_eq!(of(500).on("x"), node_fault("x: m"));
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "refused");
        assert_eq!(CallError::from(Error::IOError { err: refused }).on("x").fault, Fault::Unavailable);
    }
}
