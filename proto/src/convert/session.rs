//! The two directions of a worker's stream.

use super::{Malformed, check, required};
use crate::{MAX_ADDRESS_BYTES, MAX_REASON_BYTES, v1};
use muster_domain::effect::ToWorker;
use muster_domain::id::{RankKey, Term};
use muster_domain::worker::{Hello, Report};

/// From worker to coordinator: a [`v1::SessionRequest`] that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uplink {
    /// First message of a stream.
    Hello(Box<Hello>),
    /// Heartbeat or news.
    Report(Report),
    /// A log that was asked for cannot be given.
    LogRefused {
        /// From [`Downlink::OpenLog`].
        log_id: u64,
        /// In words for the reader of the log.
        reason: String,
    },
}

/// From coordinator to worker: a [`v1::SessionResponse`] that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Downlink {
    /// What the leader's brain says.
    Say {
        /// What.
        message: ToWorker,
        /// The trace a command belongs to; not sent with anything else.
        traceparent: Option<String>,
    },
    /// Push a rank's log.
    OpenLog {
        /// Hard to guess; names the log.
        log_id: u64,
        /// Whose.
        key: RankKey,
    },
    /// The stream is refused or ended.
    Refused {
        /// In words for the worker's operator.
        reason: String,
    },
    /// This coordinator does not lead, or leads no more; the stream's last message.
    Redirect {
        /// URL of the leader's fleet listener; empty while nobody leads.
        address: String,
        /// The term of the leader at `address`, or of the one that has ended when it is empty; 0 if not known.
        term: Term,
    },
}

impl From<ToWorker> for Downlink {
    fn from(message: ToWorker) -> Self {
        Self::Say { message, traceparent: None }
    }
}

impl From<Uplink> for v1::SessionRequest {
    fn from(uplink: Uplink) -> Self {
        use v1::session_request::Message;
        let message = match uplink {
            Uplink::Hello(hello) => Message::Hello((*hello).into()),
            Uplink::Report(report) => Message::Report(report.into()),
            Uplink::LogRefused { log_id, reason } => {
                Message::LogRefused(v1::LogRefused { log_id, reason: check::cut(reason) })
            }
        };
        Self { message: Some(message) }
    }
}

impl TryFrom<v1::SessionRequest> for Uplink {
    type Error = Malformed;
    fn try_from(request: v1::SessionRequest) -> Result<Self, Malformed> {
        use v1::session_request::Message;
        Ok(match request.message.ok_or_else(|| Malformed::new("message", "missing or of an unknown kind"))? {
            Message::Hello(hello) => {
                Self::Hello(Box::new(Hello::try_from(hello).map_err(|error| error.under("hello"))?))
            }
            Message::Report(report) => Self::Report(Report::try_from(report).map_err(|error| error.under("report"))?),
            Message::LogRefused(refused) => Self::LogRefused {
                log_id: refused.log_id,
                reason: check::text("log_refused.reason", refused.reason, MAX_REASON_BYTES)?,
            },
        })
    }
}

impl From<Downlink> for v1::SessionResponse {
    fn from(downlink: Downlink) -> Self {
        use v1::session_response::Message;
        let message = match downlink {
            Downlink::Say { message: ToWorker::Welcome { term }, .. } => Message::Welcome(v1::Welcome { term }),
            Downlink::Say { message: ToWorker::Command { sequence, term, command }, traceparent } => {
                Message::Command(v1::Command {
                    sequence,
                    term,
                    traceparent: traceparent.unwrap_or_default(),
                    order: Some(command.into()),
                })
            }
            Downlink::Say { message: ToWorker::Heard { sent_at_ms, term }, .. } => {
                Message::Heard(v1::Heard { sent_at_ms, term })
            }
            Downlink::OpenLog { log_id, key } => Message::OpenLog(v1::OpenLog { log_id, key: Some(key.into()) }),
            Downlink::Refused { reason } => Message::Refused(v1::Refused { reason: check::cut(reason) }),
            Downlink::Redirect { address, term } => Message::Redirect(v1::Redirect { address, term }),
        };
        Self { message: Some(message) }
    }
}

impl TryFrom<v1::SessionResponse> for Downlink {
    type Error = Malformed;
    fn try_from(response: v1::SessionResponse) -> Result<Self, Malformed> {
        use v1::session_response::Message;
        Ok(match response.message.ok_or_else(|| Malformed::new("message", "missing or of an unknown kind"))? {
            Message::Welcome(welcome) => ToWorker::Welcome { term: welcome.term }.into(),
            Message::Command(command) => {
                let order = command.order.ok_or_else(|| Malformed::new("command.order", "missing or unknown"))?;
                let message = ToWorker::Command {
                    sequence: command.sequence,
                    term: command.term,
                    command: order.try_into().map_err(|error: Malformed| error.under("command"))?,
                };
                Self::Say { message, traceparent: check::traceparent("command.traceparent", command.traceparent)? }
            }
            Message::Heard(heard) => ToWorker::Heard { sent_at_ms: heard.sent_at_ms, term: heard.term }.into(),
            Message::OpenLog(open) => Self::OpenLog {
                log_id: open.log_id,
                key: required("key", open.key).map_err(|error| error.under("open_log"))?,
            },
            Message::Refused(refused) => {
                Self::Refused { reason: check::text("refused.reason", refused.reason, MAX_REASON_BYTES)? }
            }
            Message::Redirect(redirect) => Self::Redirect {
                address: check::text("redirect.address", redirect.address, MAX_ADDRESS_BYTES)?,
                term: redirect.term,
            },
        })
    }
}
