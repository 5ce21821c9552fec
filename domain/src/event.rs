//! What can happen to a cluster.

use crate::brake::Verdict;
use crate::id::{JobId, NodeName, RequestId, SessionId};
use crate::job::spec::JobSpec;
use crate::worker::{Hello, Report};

/// One wish for more time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The job.
    pub job: JobId,
    /// Milliseconds to add to our present allocation (`protocol.md` 16.12).
    pub add_ms: u64,
}

/// What Core answered to a [`crate::effect::Effect::Tell`], after the edge has retried what was only unavailable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Core took it (or had it already).
    Accepted,
    /// Core does not know the job: the batch failed, was bisected, this single item is at fault, and `retrieve` with a
    /// good token answers 404.
    UnknownJob,
    /// Core refuses this single item for another reason; repeating will not help.
    Rejected {
        /// Core's words.
        why: String,
    },
}

/// What Core answered to a [`crate::effect::Effect::Charge`], after the edge has retried what was only unavailable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChargeAnswer {
    /// Booked, or booked before.
    Booked,
    /// Booked, and the wallet is below zero; or refused for want of an allocation (402).
    InsufficientFunds,
    /// Core does not know the job.
    UnknownJob,
    /// Core refuses this single charge for another reason; repeating will not help.
    Rejected {
        /// Core's words.
        why: String,
    },
}

/// Something that happened. The shell adds the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Core asks for jobs: all or none.
    Create {
        /// Who waits.
        request: RequestId,
        /// At least one.
        jobs: Vec<JobSpec>,
    },
    /// Core asks to end jobs. Unknown and final ones are fine (`protocol.md` 16.5).
    Terminate {
        /// Who waits.
        request: RequestId,
        /// The jobs.
        jobs: Vec<JobId>,
    },
    /// Core asks for more time: all or none.
    Extend {
        /// Who waits.
        request: RequestId,
        /// The wishes.
        items: Vec<Extension>,
    },
    /// Core lists jobs it believes in.
    Verify {
        /// The jobs.
        jobs: Vec<JobId>,
    },
    /// A worker opened a stream.
    WorkerHello {
        /// The stream.
        session: SessionId,
        /// What it said.
        hello: Box<Hello>,
    },
    /// A worker reports.
    WorkerReport {
        /// The stream.
        session: SessionId,
        /// What it said.
        report: Report,
    },
    /// A stream ended.
    WorkerGone {
        /// The stream.
        session: SessionId,
    },
    /// Core answered an update.
    Told {
        /// The job.
        job: JobId,
        /// The notice's number, from the effect.
        number: u32,
        /// The answer.
        delivery: Delivery,
    },
    /// Core answered a charge.
    Charged {
        /// The job.
        job: JobId,
        /// The window's number, from the effect.
        window: u32,
        /// The answer.
        answer: ChargeAnswer,
    },
    /// The store was measured, or it refused a write for want of room.
    StoreSpace {
        /// Bytes its file takes; `budget_bytes` or more: there is no room left.
        used_bytes: u64,
        /// Bytes it may take.
        budget_bytes: u64,
    },
    /// An operator takes a node out of the choice; what is on it goes on. Also takes back a drain.
    Cordon {
        /// Who waits.
        request: RequestId,
        /// The node.
        node: NodeName,
    },
    /// An operator empties a node. What does not run yet is placed elsewhere at once; what runs ends by itself or at the
    /// deadline.
    Drain {
        /// Who waits.
        request: RequestId,
        /// The node.
        node: NodeName,
        /// Milliseconds from now until what still runs there is ended; `None`: never. Replaces an earlier deadline if it
        /// is another one; the same order given again changes nothing.
        deadline_ms: Option<u64>,
    },
    /// An operator gives a node back.
    Uncordon {
        /// Who waits.
        request: RequestId,
        /// The node.
        node: NodeName,
    },
    /// An operator says that a node is gone for good. Ranks of ended jobs on it count as removed (I7: "a machine declared
    /// gone"); refused while it is connected or a job that has not ended is placed on it.
    ForgetNode {
        /// Who waits.
        request: RequestId,
        /// The node.
        node: NodeName,
    },
    /// An operator has looked at verdicts that the brake holds back (I11): they may act for the next five minutes. Not
    /// durable: a new leader starts with brakes of its own.
    ReleaseBrake {
        /// Who waits.
        request: RequestId,
        /// Which brake; `None`: all.
        verdict: Option<Verdict>,
    },
    /// Time passed: [`crate::cluster::Cluster::next_wakeup`] was reached.
    Tick,
}
