//! A job: what was asked, where it stands, what it owes. One durable document.

mod life;
pub mod spec;

pub use life::{FailedAttempt, Life, Placement, RankOutcome};

use crate::accounting::Account;
use crate::id::Attempt;
use crate::outbox::Notice;
use serde::{Deserialize, Serialize};
use spec::JobSpec;

/// Why a job comes or came to its end. The domain knows the cause; a dialect words it (design section 3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "cause")]
pub enum EndCause {
    /// Rank 0 ended by itself with this exit code, or another rank ended with a code other than 0.
    Exited {
        /// Which rank decided it.
        rank: u32,
        /// Its exit code.
        code: i32,
    },
    /// The kernel killed a rank for memory.
    OutOfMemory {
        /// Which.
        rank: u32,
    },
    /// A rank was killed by a signal from outside.
    Killed {
        /// Which.
        rank: u32,
        /// The signal's number.
        signal: i32,
    },
    /// The time allocation ran out.
    TimeLimit,
    /// Core asked to end it.
    Terminated,
    /// The wallet is empty.
    NoCredit,
    /// A node was silent for too long, or came back without the rank.
    NodeLost {
        /// Which node.
        node: String,
        /// Which rank.
        rank: u32,
    },
    /// The container engine of a node was restarted and ended a rank: neither the program's doing nor anybody's verdict.
    EngineRestarted {
        /// Which node.
        node: String,
        /// Which rank.
        rank: u32,
    },
    /// An operator took one of its nodes out of service, and the deadline for leaving it has passed.
    Drained {
        /// Which node.
        node: String,
    },
    /// No attempt could start it.
    CannotStart {
        /// In words for the user.
        reason: String,
    },
    /// Core does not know it (any more).
    Orphaned,
}

/// The durable document of one job. Changed only by the functions beside [`Life`] and by what Core acknowledges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What was asked.
    pub spec: JobSpec,
    /// Order of acceptance; the queue is sorted by it.
    pub sequence: u64,
    /// Where it stands.
    pub life: Life,
    /// The present or last attempt; 0 before the first.
    pub attempt: Attempt,
    /// Attempts that failed, oldest first.
    pub failed_attempts: Vec<FailedAttempt>,
    /// The present time allocation, in milliseconds of running.
    pub time_limit_ms: Option<u64>,
    /// How often it was extended.
    pub extensions: u32,
    /// What it used.
    pub account: Account,
    /// What Core must hear, in order.
    pub notices: Vec<Notice>,
    /// How many of the notices Core has acknowledged.
    pub told: u32,
    /// Wall clock of the acceptance, milliseconds since the epoch.
    pub created_at_ms: u64,
    /// Wall clock of the moment when every rank ran.
    pub started_at_ms: Option<u64>,
    /// Wall clock of the end.
    pub ended_at_ms: Option<u64>,
}

impl Job {
    /// A job as it is accepted: queued, owing nothing.
    #[must_use]
    pub fn new(spec: JobSpec, sequence: u64, wall_ms: u64) -> Self {
        Self {
            time_limit_ms: spec.time_limit_ms,
            spec,
            sequence,
            life: Life::Queued,
            attempt: 0,
            failed_attempts: Vec::new(),
            extensions: 0,
            account: Account::default(),
            notices: Vec::new(),
            told: 0,
            created_at_ms: wall_ms,
            started_at_ms: None,
            ended_at_ms: None,
        }
    }

    /// The oldest notice that Core has not acknowledged, with its number. A Core that does not know the job is told nothing.
    #[must_use]
    pub fn owed_notice(&self) -> Option<(u32, &Notice)> {
        if self.account.void {
            return None;
        }
        let notice = self.notices.get(usize::try_from(self.told).ok()?)?;
        Some((self.told, notice))
    }

    /// Whether a notice that Core refuses must be sent again: the end in any case, `RUNNING` until there is an end to tell. Words
    /// may be lost, a state may not; and nothing may stand before the end for ever.
    #[must_use]
    pub fn must_be_told_again(&self) -> bool {
        match self.owed_notice() {
            Some((_, Notice::Ended { .. })) => true,
            Some((_, Notice::Running { .. })) => !self.life.has_ended(),
            _ => false,
        }
    }

    /// How many notices and charges Core has not acknowledged.
    #[must_use]
    pub fn owed(&self) -> usize {
        if self.account.void {
            return 0;
        }
        let charges = self.account.sealed.saturating_sub(self.account.acked);
        self.notices.len().saturating_sub(self.told as usize) + charges as usize
    }
}
