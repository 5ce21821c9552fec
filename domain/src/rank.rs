//! One rank, as the worker that runs it sees it.

use crate::id::{RankKey, Term};
use crate::job::spec::ContainerSpec;
use crate::peers::PeerFiles;
use crate::resources::Resources;
use serde::{Deserialize, Serialize};

/// Everything a worker needs to prepare one rank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Which container this is.
    pub key: RankKey,
    /// The term under which the leader ordered it; goes into the container's labels.
    pub term: Term,
    /// What runs.
    pub container: ContainerSpec,
    /// Limits of the container.
    pub resources: Resources,
    /// Ranks of the whole gang.
    pub replicas: u32,
    /// The host name of this rank, an RFC 1123 label.
    pub host: String,
    /// W3C `traceparent` of the job, if it is traced.
    pub traceparent: Option<String>,
}

/// How a container came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "how")]
pub enum RankEnd {
    /// It ended by itself.
    Exited {
        /// The exit code, 0 to 255.
        code: i32,
    },
    /// The kernel killed it for memory.
    OutOfMemory,
    /// It was ended by a signal that no one here sent.
    Killed {
        /// The signal's number.
        signal: i32,
    },
    /// The agent ended it because its time was up.
    TimeLimit,
    /// The agent ended it because the leader said so.
    Stopped,
    /// It is gone, and nobody saw how: the node was restarted, or somebody removed it by hand.
    Vanished,
    /// Its container engine was restarted and ended it.
    EngineRestarted,
}

/// Where a rank stands on its worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum RankState {
    /// Image, network, mounts and container are being made.
    Preparing,
    /// The container exists and waits for the others.
    Prepared {
        /// The address under which the other ranks reach this one.
        address: String,
    },
    /// The engine is starting it.
    Starting,
    /// It runs.
    Running {
        /// Milliseconds since it started, from the worker's own monotonic clock.
        age_ms: u64,
    },
    /// It has ended; the container is kept until the leader has made the end durable.
    Ended {
        /// How.
        end: RankEnd,
        /// How long it ran, in milliseconds.
        age_ms: u64,
    },
    /// It could not be prepared or started; nothing of it runs.
    Failed {
        /// Why, in words for the job's user.
        reason: String,
        /// Whether another node may do better. `false` for what the job itself got wrong (no such image, no such
        /// command): trying again elsewhere would only waste the user's time.
        retry: bool,
    },
    /// Container and files are gone. Said once; afterwards the rank is not listed any more.
    Removed,
}

/// One line of a worker's report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankReport {
    /// Which container.
    pub key: RankKey,
    /// Where it stands.
    #[serde(flatten)]
    pub state: RankState,
    /// The time limit that the agent enforces, in milliseconds of running. Lets the leader see whether an extension arrived.
    pub time_limit_ms: Option<u64>,
}

/// What the leader wants of a worker. Every command is idempotent and may come twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Make everything ready, start nothing.
    Prepare(Box<Assignment>),
    /// Write the peer files and start. Refused past `not_after_ms` on the worker's own clock (reliability, hole 4).
    Start {
        /// Which container.
        key: RankKey,
        /// The files for `/etc/ucloud` and the host table.
        files: PeerFiles,
        /// Milliseconds of running after which the agent ends the rank.
        time_limit_ms: Option<u64>,
        /// Deadline on the worker's `CLOCK_BOOTTIME`, in milliseconds.
        not_after_ms: u64,
    },
    /// Enforce another time limit.
    SetTimeLimit {
        /// Which container.
        key: RankKey,
        /// Milliseconds of running; `None` lifts the limit.
        time_limit_ms: Option<u64>,
    },
    /// SIGTERM, grace, SIGKILL. A rank that is not started yet is undone.
    Stop {
        /// Which container.
        key: RankKey,
    },
    /// Its end is durable: save its logs, then remove container, files and, with the last rank, the network.
    Remove {
        /// Which container.
        key: RankKey,
    },
}

impl Command {
    /// The container this is about.
    #[must_use]
    pub fn key(&self) -> &RankKey {
        match self {
            Self::Prepare(assignment) => &assignment.key,
            Self::Start { key, .. } | Self::SetTimeLimit { key, .. } | Self::Stop { key } | Self::Remove { key } => key,
        }
    }

    /// The command's name, for logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Prepare(_) => "prepare",
            Self::Start { .. } => "start",
            Self::SetTimeLimit { .. } => "set_time_limit",
            Self::Stop { .. } => "stop",
            Self::Remove { .. } => "remove",
        }
    }
}
