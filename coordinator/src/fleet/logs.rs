//! Logs of ranks, from the worker that keeps them to whoever follows them.
//!
//! A follower [opens](LogRelay::open) a log; the relay gives the request a number that cannot be guessed and passes it
//! to the worker's stream; the worker answers with a `PushLog` call of its own that names the number. Pieces go through
//! a short queue, so a follower that does not read holds the worker's call back by HTTP/2 flow control, and nothing
//! piles up here. Whoever drops a [`LogStream`] ends the worker's call.

use bytes::Bytes;
use muster_domain::id::{RankKey, SessionId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Pieces that wait for a slow follower; at most 32 KiB each.
const QUEUED_PIECES: usize = 8;
/// The largest piece that a worker may send, in bytes. Longer ones are cut.
pub const PIECE_BYTES: usize = 32 * 1024;
/// Logs that may be open at once, over all workers.
const OPEN_LOGS: usize = 4096;
/// How long a worker may take to begin its call.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Which of a rank's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSource {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of a rank's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPiece {
    /// Which stream.
    pub source: LogSource,
    /// At most [`PIECE_BYTES`], as the rank wrote them; may end inside a character.
    pub bytes: Bytes,
}

/// A log cannot be read, or cannot be read any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct LogUnavailable {
    /// Why, in words for a person.
    pub why: String,
}

impl LogUnavailable {
    /// With these words.
    pub fn new(why: impl Into<String>) -> Self {
        Self { why: why.into() }
    }
}

/// What the relay asks of a worker's stream: begin a `PushLog` call for this rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRequest {
    /// Names the call; unguessable, so that no other worker can answer.
    pub log_id: u64,
    /// Whose log.
    pub key: RankKey,
}

type Piece = Result<LogPiece, LogUnavailable>;

#[derive(Debug)]
struct Waiting {
    session: SessionId,
    pieces: mpsc::Sender<Piece>,
    begun: oneshot::Sender<Result<(), LogUnavailable>>,
}

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<SessionId, mpsc::Sender<LogRequest>>,
    /// Asked for, not yet begun by the worker.
    waiting: HashMap<u64, Waiting>,
    open: usize,
}

/// Brings followers and workers together. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LogRelay {
    state: Arc<Mutex<State>>,
    open_timeout: Duration,
}

impl Default for LogRelay {
    fn default() -> Self {
        Self { state: Arc::default(), open_timeout: OPEN_TIMEOUT }
    }
}

impl LogRelay {
    /// A relay without workers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the log of a rank on the worker of that stream: from its beginning, then live, until the rank has ended
    /// and all is read. Fails if the worker is gone or does not begin within 5 s.
    pub async fn open(&self, session: SessionId, key: RankKey) -> Result<LogStream, LogUnavailable> {
        let (sender, pieces) = mpsc::channel(QUEUED_PIECES);
        let (begun, has_begun) = oneshot::channel();
        let log_id = {
            let mut state = self.locked();
            if state.open >= OPEN_LOGS {
                return Err(LogUnavailable::new(format!("{OPEN_LOGS} logs are open already; try again later")));
            }
            let Some(requests) = state.sessions.get(&session).cloned() else {
                return Err(LogUnavailable::new("the rank's node is not connected"));
            };
            let log_id = loop {
                // 0 means "none" on the wire.
                let id = rand::random::<u64>();
                if id != 0 && !state.waiting.contains_key(&id) {
                    break id;
                }
            };
            if requests.try_send(LogRequest { log_id, key }).is_err() {
                return Err(LogUnavailable::new("the rank's node is not connected or overloaded"));
            }
            state.waiting.insert(log_id, Waiting { session, pieces: sender, begun });
            state.open += 1;
            log_id
        };
        // From here on the stream's drop cleans up, also if this future is dropped while it waits.
        let stream = LogStream { relay: self.clone(), log_id, pieces };
        match tokio::time::timeout(self.open_timeout, has_begun).await {
            Ok(Ok(Ok(()))) => Ok(stream),
            Ok(Ok(Err(unavailable))) => Err(unavailable),
            Ok(Err(_)) => Err(LogUnavailable::new("the rank's node went away")),
            Err(_) => Err(LogUnavailable::new("the rank's node did not answer")),
        }
    }

    /// Makes a worker's stream known. The caller passes what it receives on to the worker.
    pub fn attach(&self, session: SessionId, requests: mpsc::Sender<LogRequest>) {
        self.locked().sessions.insert(session, requests);
    }

    /// Forgets a worker's stream; who waits for it is told.
    pub fn detach(&self, session: SessionId) {
        let mut state = self.locked();
        state.sessions.remove(&session);
        state.waiting.retain(|_, waiting| waiting.session != session);
    }

    /// Takes the other end of a log that was asked for; `None` if nobody asked, or asked and left, or it was taken.
    #[must_use]
    pub fn begin(&self, log_id: u64) -> Option<LogSink> {
        let waiting = self.locked().waiting.remove(&log_id)?;
        waiting.begun.send(Ok(())).ok()?;
        Some(LogSink { pieces: waiting.pieces })
    }

    /// A worker cannot give a log that it was asked for. Nothing happens unless that very stream was asked.
    pub fn refuse(&self, session: SessionId, log_id: u64, reason: &str) {
        let mut state = self.locked();
        if state.waiting.get(&log_id).is_some_and(|waiting| waiting.session == session)
            && let Some(waiting) = state.waiting.remove(&log_id)
        {
            // A follower that left does not mind.
            let _ = waiting.begun.send(Err(LogUnavailable::new(reason)));
        }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; if it ever does, the maps are still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a worker's call puts what it brings.
#[derive(Debug)]
pub struct LogSink {
    pieces: mpsc::Sender<Piece>,
}

impl LogSink {
    /// Passes a piece on, waiting for a slow follower. `false`: nobody reads any more, end the call.
    pub async fn push(&self, source: LogSource, mut bytes: Bytes) -> bool {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
            if self.pieces.send(Ok(LogPiece { source, bytes: piece })).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Says that the rest cannot be had.
    pub async fn fail(self, why: impl Into<String>) {
        // A follower that left does not mind.
        let _ = self.pieces.send(Err(LogUnavailable::new(why))).await;
    }

    /// Resolves when the follower has left.
    pub async fn abandoned(&self) {
        self.pieces.closed().await;
    }
}

/// A log being read. Dropping it closes it.
#[derive(Debug)]
pub struct LogStream {
    relay: LogRelay,
    log_id: u64,
    pieces: mpsc::Receiver<Piece>,
}

impl LogStream {
    /// The next piece; `None` when the rank has ended and all was read.
    pub async fn next(&mut self) -> Option<Result<LogPiece, LogUnavailable>> {
        self.pieces.recv().await
    }
}

impl Drop for LogStream {
    fn drop(&mut self) {
        let mut state = self.relay.locked();
        state.open = state.open.saturating_sub(1);
        state.waiting.remove(&self.log_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_domain::id::JobId;

    fn key() -> RankKey {
        RankKey { job: JobId::new("7").unwrap(), rank: 0, attempt: 1 }
    }

    #[tokio::test]
    async fn a_log_flows_from_worker_to_follower_and_ends() {
        let relay = LogRelay::new();
        let (requests, mut asked) = mpsc::channel(4);
        relay.attach(3, requests);
        let worker = relay.clone();
        tokio::spawn(async move {
            let Some(LogRequest { log_id, key: asked_for }) = asked.recv().await else { panic!("no request") };
            assert_eq!(asked_for, key());
            assert!(worker.begin(log_id + 1).is_none());
            let sink = worker.begin(log_id).unwrap();
            assert!(sink.push(LogSource::Stdout, Bytes::from(vec![b'x'; PIECE_BYTES + 1])).await);
            assert!(worker.begin(log_id).is_none());
            sink.fail("the disk broke").await;
        });
        let mut log = relay.open(3, key()).await.unwrap();
        assert_eq!(log.next().await.unwrap().unwrap().bytes.len(), PIECE_BYTES);
        assert_eq!(log.next().await.unwrap().unwrap().bytes.len(), 1);
        assert_eq!(log.next().await.unwrap(), Err(LogUnavailable::new("the disk broke")));
        assert!(log.next().await.is_none());
    }

    #[tokio::test]
    async fn a_silent_or_missing_worker_is_said_in_words() {
        let relay = LogRelay { open_timeout: Duration::from_millis(20), ..LogRelay::new() };
        assert_eq!(relay.open(3, key()).await.unwrap_err().why, "the rank's node is not connected");
        let (requests, _asked) = mpsc::channel(4);
        relay.attach(3, requests);
        assert_eq!(relay.open(3, key()).await.unwrap_err().why, "the rank's node did not answer");
        let worker = relay.clone();
        let (requests, mut asked) = mpsc::channel(4);
        relay.attach(4, requests);
        tokio::spawn(async move {
            let log_id = asked.recv().await.unwrap().log_id;
            worker.refuse(3, log_id, "not mine to refuse");
            worker.refuse(4, log_id, "no such rank");
        });
        assert_eq!(relay.open(4, key()).await.unwrap_err().why, "no such rank");
        assert_eq!(relay.locked().open, 0);
        assert!(relay.locked().waiting.is_empty());
    }
}
