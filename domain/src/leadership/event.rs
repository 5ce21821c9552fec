//! What an election hears, and what its shell must do.

#[cfg(doc)]
use super::Leadership;
use super::{LeaderKey, LeaseId};
use crate::commit::Revision;
use crate::time::Moment;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeadershipEvent {
    /// Time passed: [`Leadership::next_wakeup`] was reached.
    Tick,
    /// The store granted a lease.
    Granted {
        /// The lease.
        lease: LeaseId,
        /// When the request was sent.
        sent_at: Moment,
    },
    /// The store answered a keepalive.
    Kept {
        /// The lease.
        lease: LeaseId,
        /// When that keepalive was sent.
        sent_at: Moment,
        /// Whether the lease still exists.
        alive: bool,
    },
    /// Somebody read the leader key: the answer to a campaign or a look, or a watch.
    Saw(Option<LeaderKey>),
    /// The machine that the leader key of this revision names refuses connections: nobody leads there.
    Absent {
        /// The key's create-revision.
        revision: Revision,
    },
    /// Everything is listed again, and the brain of the new leader lives.
    Restored,
    /// A write found that somebody else leads or writes.
    Fenced,
    /// The operator stops this coordinator.
    Resign,
    /// Everything that served the leadership has ended; nothing of it can be sent any more.
    Stopped,
}

/// Why a leader steps down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepDown {
    /// No keepalive was answered for too long.
    #[error("the lease was not renewed in time; another coordinator may lead by now")]
    InDoubt,
    /// The store says that the lease is gone.
    #[error("the store ended the lease of this leader")]
    LeaseGone,
    /// The leader key is somebody else's, or gone.
    #[error("the leader key is not this coordinator's any more")]
    Deposed,
    /// The store refused a write or a reading, or a document cannot be read.
    #[error("the store refused this leader, or what it holds cannot be read")]
    Fenced,
    /// The operator asked for it.
    #[error("this coordinator was asked to stop")]
    Resigned,
}

/// What the shell must do. Each is safe to do twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeadershipEffect {
    /// Ask the store for a lease; answer with `Granted`.
    Grant,
    /// Keep the lease alive; answer with `Kept`.
    Keep(LeaseId),
    /// Make the leader key with this lease if there is none, and read it in the same transaction; answer with `Saw`.
    Campaign(LeaseId),
    /// Read the leader key; answer with `Saw`.
    Look,
    /// End another's lease, then read the leader key; answer with `Saw`.
    Revoke(LeaseId),
    /// This coordinator has won: list everything, answer with `Restored`. Its writes compare `revision`.
    Restore {
        /// Create-revision of our leader key.
        revision: Revision,
    },
    /// Let effects out from now on, while [`Leadership::is_valid`].
    Lead {
        /// Create-revision of our leader key.
        revision: Revision,
    },
    /// Let nothing out any more, end everything, answer with `Stopped`.
    StepDown(StepDown),
    /// End our own lease, so that a successor need not wait for it.
    Release(LeaseId),
    /// The resignation is complete; the process may end.
    Resigned,
}
