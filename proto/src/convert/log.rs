//! The pieces of a rank's log.

use super::{Malformed, check};
use crate::{MAX_LOG_PIECE_BYTES, MAX_REASON_BYTES, v1};
use bytes::Bytes;

/// Which of a rank's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSource {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A [`v1::PushLogRequest`] that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogPush {
    /// First message of the call.
    Open {
        /// From [`super::Downlink::OpenLog`].
        log_id: u64,
    },
    /// A piece, in order.
    Piece {
        /// Which stream.
        source: LogSource,
        /// At most [`MAX_LOG_PIECE_BYTES`]; may end inside a character.
        data: Bytes,
    },
    /// Last message, if the worker had the chance.
    End {
        /// `None`: the rank has ended and all was sent. Else why there is no more.
        error: Option<String>,
    },
}

impl From<LogPush> for v1::PushLogRequest {
    fn from(push: LogPush) -> Self {
        use v1::push_log_request::Message;
        let message = match push {
            LogPush::Open { log_id } => Message::Open(v1::LogOpen { log_id }),
            LogPush::Piece { source, data } => {
                let source = match source {
                    LogSource::Stdout => v1::LogSource::Stdout,
                    LogSource::Stderr => v1::LogSource::Stderr,
                };
                Message::Piece(v1::LogPiece { source: source.into(), data })
            }
            LogPush::End { error } => Message::End(v1::LogEnd { error: check::cut(error.unwrap_or_default()) }),
        };
        Self { message: Some(message) }
    }
}

impl TryFrom<v1::PushLogRequest> for LogPush {
    type Error = Malformed;
    fn try_from(request: v1::PushLogRequest) -> Result<Self, Malformed> {
        use v1::push_log_request::Message;
        Ok(match request.message.ok_or_else(|| Malformed::new("message", "missing or of an unknown kind"))? {
            Message::Open(open) => Self::Open { log_id: open.log_id },
            Message::Piece(piece) => {
                let source = match v1::LogSource::try_from(piece.source) {
                    Ok(v1::LogSource::Stdout) => LogSource::Stdout,
                    Ok(v1::LogSource::Stderr) => LogSource::Stderr,
                    Ok(v1::LogSource::Unspecified) | Err(_) => {
                        return Err(Malformed::new("piece.source", format!("{}, expected 1 or 2", piece.source)));
                    }
                };
                if piece.data.len() > MAX_LOG_PIECE_BYTES {
                    let problem = format!("{} bytes, expected at most {MAX_LOG_PIECE_BYTES}", piece.data.len());
                    return Err(Malformed::new("piece.data", problem));
                }
                Self::Piece { source, data: piece.data }
            }
            Message::End(end) => {
                let error = check::text("end.error", end.error, MAX_REASON_BYTES)?;
                Self::End { error: (!error.is_empty()).then_some(error) }
            }
        })
    }
}
