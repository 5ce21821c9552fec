//! The open streams of workers, as dispatch sees them: a number to send to.

use muster_domain::id::SessionId;
use muster_proto::Downlink;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Messages that wait for one worker. A worker with a thousand ranks gets some three thousand at once after a change
/// of leader; one that is further behind is cut off and starts over with a fresh stream.
const QUEUED_MESSAGES: usize = 8192;
/// Streams that may be open at once.
pub const MAX_SESSIONS: usize = 10_000;

#[derive(Debug)]
struct Entry {
    queue: mpsc::Sender<Downlink>,
    ending: Ending,
}

/// Why and when a stream ends, shared by both of its halves.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// Cancelled when the stream is to end.
    pub now: CancellationToken,
    reason: Arc<OnceLock<String>>,
}

impl Ending {
    /// Ends the stream. The first reason is the one the worker hears.
    pub fn because(&self, reason: impl Into<String>) {
        let _ = self.reason.set(reason.into());
        self.now.cancel();
    }

    /// The reason, if one was given.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }
}

/// A new stream.
#[derive(Debug)]
pub struct Opened {
    /// Its number.
    pub session: SessionId,
    /// What is to be sent to the worker.
    pub messages: mpsc::Receiver<Downlink>,
    /// Its end.
    pub ending: Ending,
}

/// All open streams. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    open: Arc<Mutex<HashMap<SessionId, Entry>>>,
    last: Arc<AtomicU64>,
}

impl Sessions {
    /// Numbers a new stream; `None` if there are too many.
    #[must_use]
    pub fn open(&self) -> Option<Opened> {
        let (queue, messages) = mpsc::channel(QUEUED_MESSAGES);
        let ending = Ending::default();
        let mut open = self.locked();
        if open.len() >= MAX_SESSIONS {
            return None;
        }
        let session = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        open.insert(session, Entry { queue, ending: ending.clone() });
        Some(Opened { session, messages, ending })
    }

    /// Puts a message in the queue of a stream; a full queue ends the stream. A stream that is gone is not an error: the brain
    /// hears of it by itself.
    pub fn push(&self, session: SessionId, message: Downlink) {
        let full = match self.locked().get(&session) {
            Some(entry) => matches!(entry.queue.try_send(message), Err(mpsc::error::TrySendError::Full(_))),
            None => false,
        };
        if full {
            tracing::warn!(session, "worker does not read its commands, closing its stream");
            self.close(session, &format!("{QUEUED_MESSAGES} messages wait unread; connect again"));
        }
    }

    /// Ends a stream: what was queued still goes out, then the reason.
    pub fn close(&self, session: SessionId, reason: &str) {
        if let Some(entry) = self.locked().remove(&session) {
            entry.ending.because(reason);
        }
    }

    /// Forgets a stream that has ended.
    pub fn forget(&self, session: SessionId) {
        self.locked().remove(&session);
    }

    /// How many streams are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.locked().len()
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<SessionId, Entry>> {
        // Nothing panics while it holds the lock; if it ever does, the map is still whole.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
