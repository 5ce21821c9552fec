//! What passes between the link and the driver.

use muster_domain::effect::ToWorker;
use muster_proto::v1;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// One stream of this process, growing.
pub(crate) type StreamId = u64;

/// What the link tells the driver.
#[derive(Debug)]
pub(crate) enum Input {
    /// A stream is being opened; the driver says hello on it.
    Opened { stream: StreamId, outgoing: Outgoing },
    /// The coordinator said something.
    Received { stream: StreamId, message: ToWorker, traceparent: Option<String> },
    /// The stream is gone.
    Closed { stream: StreamId },
}

/// The sending side of a stream. Never waits: a coordinator that does not read loses the stream, and hears everything
/// again on the next one.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    messages: mpsc::Sender<v1::SessionRequest>,
    broken: CancellationToken,
}

impl Outgoing {
    /// `broken` is cancelled when the stream must end.
    pub(crate) fn new(messages: mpsc::Sender<v1::SessionRequest>, broken: CancellationToken) -> Self {
        Self { messages, broken }
    }

    /// Queues a message. After one that found no room, none follows: a gap would mislead.
    pub(crate) fn send(&self, message: v1::SessionRequest) {
        if self.broken.is_cancelled() {
            return;
        }
        if let Err(mpsc::error::TrySendError::Full(_)) = self.messages.try_send(message) {
            tracing::warn!("coordinator does not read fast enough; ending the stream");
            self.break_off();
        }
    }

    /// Ends the stream.
    pub(crate) fn break_off(&self) {
        self.broken.cancel();
    }
}

/// The stream the driver speaks on.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) stream: StreamId,
    pub(super) outgoing: Outgoing,
    /// Whether the coordinator has accepted it.
    pub(super) welcomed: bool,
}
