//! What runs a rank: Docker, a plain process, or a fake, behind one trait.
//!
//! An engine makes no decisions: the agent's brain in `domain` tells it what to do, and it says what it sees. Every
//! call is idempotent, is bounded by a deadline of its own, and may be repeated after a restart of the agent.

pub mod docker;
pub mod fake;
pub mod process;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use muster_domain::agent::Observation;
use muster_domain::id::{RankKey, Term};
use muster_domain::peers::PeerFiles;
use muster_domain::rank::{Assignment, RankEnd};
use muster_domain::time::Moment;

/// Whose fault an engine's failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The job's: no such image, no such command. Another node would say the same.
    Job,
    /// The node's: another one may do better.
    Node,
    /// The engine did not answer in time. Nothing is known; nothing may be concluded.
    Unavailable,
}

/// An engine's failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// Whose fault.
    pub fault: Fault,
    /// In words for the job's user.
    pub message: String,
}

/// What an engine says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    /// `docker`, `process` or `fake`.
    pub name: String,
    /// Version, for people.
    pub version: String,
    /// Nodes whose ranks can reach each other say the same.
    pub network_zone: String,
    /// What an operator should know: limits the kernel lacks, isolation that cannot be had.
    pub warnings: Vec<String>,
}

/// A rank found on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// From its labels.
    pub key: RankKey,
    /// From its labels.
    pub term: Term,
    /// `Prepared`, `Started` or `Ended`.
    pub observation: Observation,
}

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
    /// At most 32 KiB, as the rank wrote them; may end inside a character.
    pub bytes: Bytes,
}

/// What runs ranks on one node. Object-safe, so that one worker binary holds all of them.
pub trait Engine: Send + Sync + 'static {
    /// Who this is; also the health check.
    fn describe(&self) -> BoxFuture<'_, Result<EngineInfo, EngineError>>;

    /// Everything with our labels of this cluster on this node, whatever its state.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Found>, EngineError>>;

    /// Pulls, makes network, mounts and container, starts nothing. Returns the address under which other ranks reach it.
    fn prepare<'a>(&'a self, assignment: &'a Assignment) -> BoxFuture<'a, Result<String, EngineError>>;

    /// Writes the peer files and starts. Returns when it started, on `CLOCK_BOOTTIME`.
    fn start<'a>(&'a self, key: &'a RankKey, files: &'a PeerFiles) -> BoxFuture<'a, Result<Moment, EngineError>>;

    /// Waits for the end of a started rank, also one found by [`Engine::list`]. Returns how, and how long it ran in
    /// milliseconds. Has no deadline. `Unavailable` means: ask again.
    fn wait<'a>(&'a self, key: &'a RankKey) -> BoxFuture<'a, Result<(RankEnd, u64), EngineError>>;

    /// SIGTERM to the rank's first process. Fine if it has ended.
    fn terminate<'a>(&'a self, key: &'a RankKey) -> BoxFuture<'a, Result<(), EngineError>>;

    /// SIGKILL to all of the rank. Fine if it has ended.
    fn kill<'a>(&'a self, key: &'a RankKey) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Saves the rank's logs beside the job's output (`/work/stdout-<rank>.txt`, rank 0 `stdout.txt`, likewise
    /// `stderr`), then removes container and files, and the job's network with its last rank. Fine if it is gone.
    fn remove<'a>(&'a self, key: &'a RankKey) -> BoxFuture<'a, Result<(), EngineError>>;

    /// The rank's log from its beginning, then live; the stream ends when the rank has ended and all is read.
    /// After [`Engine::remove`] it still gives the whole log until the log's retention is over.
    fn logs(&self, key: &RankKey) -> BoxStream<'static, Result<LogPiece, EngineError>>;
}
