//! What the outside will see. The shell performs effects in order, and none before the writes ahead of it are durable.

use crate::accounting::Charge;
use crate::id::{JobId, NodeName, RequestId, SessionId, Term};
use crate::job::Job;
use crate::node::NodeRecord;
use crate::outbox::Notice;
use crate::rank::Command;
use std::fmt;

/// Why a request was refused. The edge maps the kind to a status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Refusal {
    /// What kind of refusal.
    pub kind: RefusalKind,
    /// In words for a person; names the field or job, and what was expected.
    pub why: String,
}

/// Kinds of refusal, each with its HTTP status at the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The request itself is wrong: 400.
    Invalid,
    /// It names something that does not exist: 404.
    NotFound,
    /// It contradicts what was accepted before: 409.
    Conflict,
    /// It could be right later; nothing was applied: 503.
    Unavailable,
}

/// The answer to a request.
pub type Reply = Result<(), Refusal>;

/// What a worker is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToWorker {
    /// The stream is accepted.
    Welcome {
        /// The leader's term.
        term: Term,
    },
    /// Do this.
    Command {
        /// Numbers the commands of one stream from 1; echoed in [`crate::worker::Report::applied_sequence`].
        sequence: u64,
        /// The leader's term.
        term: Term,
        /// What to do.
        command: Command,
    },
    /// A heartbeat was heard.
    Heard {
        /// [`crate::worker::Report::sent_at_ms`] of that heartbeat.
        sent_at_ms: u64,
        /// The leader's term.
        term: Term,
    },
}

/// Names one document of the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DocumentKey {
    /// A job's.
    Job(JobId),
    /// A node's.
    Node(NodeName),
}

impl fmt::Display for DocumentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(job) => write!(f, "jobs/{job}"),
            Self::Node(node) => write!(f, "nodes/{node}"),
        }
    }
}

/// Everything a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Documents {
    /// In any order.
    pub jobs: Vec<Job>,
    /// In any order.
    pub nodes: Vec<NodeRecord>,
}

/// A durable change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Put the job's document.
    Job(Box<Job>),
    /// The job's retention is over.
    ForgetJob(JobId),
    /// Put the node's document.
    Node(Box<NodeRecord>),
    /// An operator says that the node is gone for good.
    ForgetNode(NodeName),
}

impl Write {
    /// The document this is about.
    #[must_use]
    pub fn key(&self) -> DocumentKey {
        match self {
            Self::Job(job) => DocumentKey::Job(job.spec.id.clone()),
            Self::ForgetJob(job) => DocumentKey::Job(job.clone()),
            Self::Node(node) => DocumentKey::Node(node.name.clone()),
            Self::ForgetNode(node) => DocumentKey::Node(node.clone()),
        }
    }

    /// Whether the document is removed.
    #[must_use]
    pub fn removes(&self) -> bool {
        matches!(self, Self::ForgetJob(_) | Self::ForgetNode(_))
    }

    /// Whether nothing holds room after it: such writes come before those that may take the room.
    #[must_use]
    pub fn gives_room(&self) -> bool {
        match self {
            Self::Job(job) => !job.life.holds_room(),
            Self::ForgetJob(_) | Self::Node(_) | Self::ForgetNode(_) => true,
        }
    }
}

/// A step of a job's road that has just been written; names the crash points of reliability B.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Milestone {
    /// The create is accepted.
    Accepted,
    /// Every rank has a node.
    Placed,
    /// Every rank is prepared; peer files are fixed.
    Prepared,
    /// Every rank runs.
    Running,
    /// A charge window is fixed.
    Sealed,
    /// Core took an update or a charge.
    Acknowledged,
    /// The gang is to be stopped.
    Stopping,
    /// The end is decided for ever.
    Ended,
    /// Containers are gone, room is free.
    Released,
    /// Anything else.
    Other,
}

impl Milestone {
    /// The step's name, as crash points and logs write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Placed => "placed",
            Self::Prepared => "prepared",
            Self::Running => "running",
            Self::Sealed => "sealed",
            Self::Acknowledged => "acknowledged",
            Self::Stopping => "stopping",
            Self::Ended => "ended",
            Self::Released => "released",
            Self::Other => "other",
        }
    }
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make this durable, under the leader's term, before anything that follows.
    Write {
        /// What.
        write: Write,
        /// The steps that this write makes durable, in order.
        milestones: Vec<Milestone>,
    },
    /// Answer a request.
    Reply {
        /// Which.
        request: RequestId,
        /// With what.
        reply: Reply,
    },
    /// Say something to a worker.
    Send {
        /// The stream.
        session: SessionId,
        /// What.
        message: ToWorker,
        /// The trace it belongs to, for a command about a job.
        traceparent: Option<String>,
    },
    /// End a worker's stream.
    Close {
        /// The stream.
        session: SessionId,
        /// Why, in words for the worker's operator.
        reason: String,
    },
    /// Send Core an update about a job. At most one per job is under way.
    Tell {
        /// The job.
        job: JobId,
        /// Number of the notice in the job's document.
        number: u32,
        /// What to say.
        notice: Notice,
        /// The trace it belongs to.
        traceparent: Option<String>,
    },
    /// Send Core a sealed charge. At most one per job is under way.
    Charge {
        /// Which; immutable for ever.
        charge: Charge,
        /// The trace it belongs to.
        traceparent: Option<String>,
    },
    /// Tell Core that a job it asked about is not known here. Nothing durable belongs to it; tried once.
    Disown {
        /// The job.
        job: JobId,
    },
    /// A job moved on; whoever watches it may want to look again.
    Changed {
        /// The job.
        job: JobId,
    },
    /// More than half of the workers fell silent at once, or none has dialled, which is more likely this leader's fault than
    /// theirs (reliability B.5): it should resign, so that another coordinator may try. Said at most once in ten minutes.
    ///
    /// The shell decides whether it can: it must not resign more often than once in ten minutes over all its terms, and a
    /// leader that has no one to hand over to (the embedded store) only tells its operator. Until it has resigned,
    /// everything goes on.
    Yield {
        /// What was seen, in words for operators.
        reason: String,
    },
    /// An operator must look at this.
    Alarm {
        /// What is wrong, and what to do.
        message: String,
    },
}

impl Effect {
    /// Whether it turns a caller away until later. Nothing was applied for them, so it need not wait for anything to become
    /// durable: least of all for a write that waits for room, which is why they are turned away.
    #[must_use]
    pub fn turns_away(&self) -> bool {
        matches!(self, Self::Reply { reply: Err(Refusal { kind: RefusalKind::Unavailable, .. }), .. })
    }
}
