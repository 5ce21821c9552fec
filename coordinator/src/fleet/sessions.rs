//! The open streams of workers, as dispatch sees them: a number to send to.
//!
//! Streams are open only while this coordinator leads, and belong to one leadership: [`Sessions::serve`] begins it and
//! [`Sessions::rest`] ends it. After that nothing of its streams leaves but where the worker should go.

use crate::election::Validity;
use muster_domain::id::{SessionId, Term};
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

/// Where a worker should go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Direction {
    /// URL of the leader's fleet listener; empty while nobody leads.
    pub address: String,
    /// The term of the leader there, or of the one that has ended when the address is empty; 0 if not known.
    pub term: Term,
}

impl From<Direction> for Downlink {
    fn from(Direction { address, term }: Direction) -> Self {
        Self::Redirect { address, term }
    }
}

/// The last word on a stream.
#[derive(Clone, Debug)]
struct Farewell {
    word: Downlink,
    /// Whether what is queued is dropped, because nothing of this leadership may leave any more.
    at_once: bool,
}

/// Why and when a stream ends, shared by both of its halves.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// Cancelled when the stream is to end.
    pub now: CancellationToken,
    farewell: Arc<OnceLock<Farewell>>,
}

impl Ending {
    /// Ends the stream. The first farewell is the one the worker hears.
    pub fn because(&self, reason: impl Into<String>) {
        self.with(Downlink::Refused { reason: reason.into() }, false);
    }

    /// Ends the stream after what is queued: the worker should go elsewhere.
    pub fn redirect(&self, direction: Direction) {
        self.with(direction.into(), false);
    }

    fn with(&self, word: Downlink, at_once: bool) {
        let _ = self.farewell.set(Farewell { word, at_once });
        self.now.cancel();
    }

    /// What the worker hears last, if anything.
    #[must_use]
    pub fn word(&self) -> Option<Downlink> {
        self.farewell.get().map(|farewell| farewell.word.clone())
    }

    /// Whether nothing that is queued may leave any more.
    #[must_use]
    pub fn is_at_once(&self) -> bool {
        self.farewell.get().is_some_and(|farewell| farewell.at_once)
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
    /// Until when anything may be sent to the worker.
    pub validity: Validity,
}

/// Why no stream is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOpened {
    /// There are too many.
    TooMany,
    /// This coordinator does not lead.
    Resting,
}

#[derive(Debug, Default)]
struct State {
    /// Of the present leadership; `None` between two.
    validity: Option<Validity>,
    open: HashMap<SessionId, Entry>,
}

/// All open streams. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    state: Arc<Mutex<State>>,
    last: Arc<AtomicU64>,
}

impl Sessions {
    /// Streams of a leadership that never ends, for tests.
    #[cfg(test)]
    pub(crate) fn serving() -> Self {
        let sessions = Self::default();
        sessions.serve(Validity::unbounded());
        sessions
    }

    /// A leadership begins: streams may be opened.
    pub fn serve(&self, validity: Validity) {
        self.locked().validity = Some(validity);
    }

    /// The leadership is over: every stream ends at once, what is queued is dropped, and no new one is opened.
    pub fn rest(&self, direction: &Direction) {
        let ended = {
            let mut state = self.locked();
            state.validity = None;
            std::mem::take(&mut state.open)
        };
        for entry in ended.into_values() {
            entry.ending.with(direction.clone().into(), true);
        }
    }

    /// Numbers a new stream.
    ///
    /// # Errors
    /// There are too many, or this coordinator does not lead.
    pub fn open(&self) -> Result<Opened, NotOpened> {
        let (queue, messages) = mpsc::channel(QUEUED_MESSAGES);
        let ending = Ending::default();
        let mut state = self.locked();
        let validity = state.validity.clone().ok_or(NotOpened::Resting)?;
        if state.open.len() >= MAX_SESSIONS {
            return Err(NotOpened::TooMany);
        }
        let session = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        state.open.insert(session, Entry { queue, ending: ending.clone() });
        Ok(Opened { session, messages, ending, validity })
    }

    /// Puts a message in the queue of a stream; a full queue ends the stream. A stream that is gone is not an error: the brain
    /// hears of it by itself.
    pub fn push(&self, session: SessionId, message: Downlink) {
        let full = match self.locked().open.get(&session) {
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
        if let Some(entry) = self.locked().open.remove(&session) {
            entry.ending.because(reason);
        }
    }

    /// Forgets a stream that has ended.
    pub fn forget(&self, session: SessionId) {
        self.locked().open.remove(&session);
    }

    /// How many streams are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.locked().open.len()
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; if it ever does, the map is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
