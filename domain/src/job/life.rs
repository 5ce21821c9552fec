//! The life of a job: an enum whose moves are functions. Live transitions and restored documents meet the same ones.
//!
//! ```text
//! Queued -> Preparing -> Starting -> Running -> Stopping -> Ended
//!    ^          |            |                      ^
//!    +------- Undoing <------+                      |   anything but Ended may be stopped
//! ```

use super::{EndCause, Job};
use crate::guard::{self, Guard};
use crate::id::{NodeName, Rank};
use crate::outbox::Notice;
use crate::rank::RankEnd;
use serde::{Deserialize, Serialize};

/// A node for every rank: index is the rank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Placement(pub Vec<NodeName>);

/// How one rank of an ended job ended, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankOutcome {
    /// How; `None` if it never ran.
    pub end: Option<RankEnd>,
    /// How long it ran, in milliseconds, as far as proven.
    pub age_ms: u64,
}

/// An attempt that failed, and the node that was at fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedAttempt {
    /// Which attempt.
    pub attempt: u32,
    /// Later attempts avoid this node.
    pub node: NodeName,
    /// Why, in words.
    pub reason: String,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum Life {
    /// It waits for room.
    Queued,
    /// Every rank has a node; workers make the containers.
    Preparing {
        /// Where.
        placement: Placement,
    },
    /// Every rank is prepared; the peer files are fixed; start commands go out.
    Starting {
        /// Where.
        placement: Placement,
        /// The address of each rank.
        addresses: Vec<String>,
    },
    /// Every rank runs (or has run).
    Running {
        /// Where.
        placement: Placement,
        /// The address of each rank.
        addresses: Vec<String>,
        /// How old rank 0 was when the last rank had started. What runs longer than that is charged.
        offset_ms: u64,
    },
    /// An attempt failed or was withdrawn; what it left is removed before the next.
    Undoing {
        /// Where.
        placement: Placement,
    },
    /// The end is decided; the gang is being stopped.
    Stopping {
        /// Where.
        placement: Placement,
        /// The address of each rank; empty if it never was prepared.
        addresses: Vec<String>,
        /// [`Life::Running::offset_ms`]; `None` if the gang never ran as a whole.
        offset_ms: Option<u64>,
        /// Why.
        cause: EndCause,
    },
    /// It has ended, for ever.
    Ended {
        /// Where it was at last; `None` if it never was placed.
        placement: Option<Placement>,
        /// The address of each rank; empty if it never was prepared.
        addresses: Vec<String>,
        /// Why. Written once (I4).
        cause: EndCause,
        /// How each rank ended.
        ranks: Vec<RankOutcome>,
        /// Whether every container is confirmed removed, so that its room is free.
        released: bool,
    },
}

impl Life {
    /// The word that operators see.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Preparing { .. } => "preparing",
            Self::Starting { .. } => "starting",
            Self::Running { .. } => "running",
            Self::Undoing { .. } => "undoing",
            Self::Stopping { .. } => "stopping",
            Self::Ended { .. } => "ended",
        }
    }

    /// Where the ranks of the present or last attempt are.
    #[must_use]
    pub fn placement(&self) -> Option<&Placement> {
        match self {
            Self::Queued => None,
            Self::Preparing { placement }
            | Self::Starting { placement, .. }
            | Self::Running { placement, .. }
            | Self::Undoing { placement }
            | Self::Stopping { placement, .. } => Some(placement),
            Self::Ended { placement, .. } => placement.as_ref(),
        }
    }

    /// Whether room on nodes is taken by it (I7).
    #[must_use]
    pub fn holds_room(&self) -> bool {
        match self {
            Self::Queued => false,
            Self::Ended { released, .. } => !released,
            _ => true,
        }
    }

    /// The address of each rank; empty while not every rank is prepared.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        match self {
            Self::Starting { addresses, .. }
            | Self::Running { addresses, .. }
            | Self::Stopping { addresses, .. }
            | Self::Ended { addresses, .. } => addresses,
            _ => &[],
        }
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self, Self::Ended { .. })
    }
}

impl Job {
    /// Queued -> Preparing, as a new attempt.
    pub fn place(&mut self, placement: Placement) {
        debug_assert!(self.life == Life::Queued && placement.0.len() == self.spec.replicas as usize);
        self.attempt += 1;
        self.life = Life::Preparing { placement };
    }

    /// Preparing -> Starting: every rank answered with its address.
    pub fn prepared(&mut self, addresses: Vec<String>) {
        if let Life::Preparing { placement } = &self.life {
            self.life = Life::Starting { placement: placement.clone(), addresses };
        }
    }

    /// Starting -> Running: the time allocation and the charges start.
    pub fn started(&mut self, offset_ms: u64, wall_ms: u64) {
        if let Life::Starting { placement, addresses } = &self.life {
            let mut nodes: Vec<String> = Vec::new();
            for node in &placement.0 {
                if !nodes.iter().any(|known| known == node.as_str()) {
                    nodes.push(node.as_str().to_owned());
                }
            }
            let (placement, addresses) = (placement.clone(), addresses.clone());
            self.life = Life::Running { placement, addresses, offset_ms };
            self.started_at_ms = Some(wall_ms);
            self.notices.push(Notice::Running { nodes });
        }
    }

    /// Preparing or Starting -> Undoing: one node could not; another attempt will be made.
    pub fn undo(&mut self, node: NodeName, reason: String) {
        if let Life::Preparing { placement } | Life::Starting { placement, .. } = &self.life {
            self.life = Life::Undoing { placement: placement.clone() };
            self.notices.push(Notice::AttemptFailed { attempt: self.attempt, reason: reason.clone() });
            self.failed_attempts.push(FailedAttempt { attempt: self.attempt, node, reason });
        }
    }

    /// Preparing or Starting -> Undoing: an operator takes a node out of service. That is nobody's failure, so it is not
    /// counted among the failed attempts.
    pub fn withdraw(&mut self, node: &NodeName) {
        if let Life::Preparing { placement } | Life::Starting { placement, .. } = &self.life {
            self.life = Life::Undoing { placement: placement.clone() };
            let reason = format!("node {node} was taken out of service before the job ran; it is placed again");
            let notice = Notice::Waiting { reason };
            if self.notices.last() != Some(&notice) {
                self.notices.push(notice);
            }
        }
    }

    /// Undoing -> Queued: everything the attempt left is gone.
    pub fn requeue(&mut self) {
        debug_assert!(matches!(self.life, Life::Undoing { .. }));
        self.life = Life::Queued;
    }

    /// Anything -> Stopping, or -> Ended where nothing was placed. The first cause stays; an end stays for ever.
    pub fn stop(&mut self, cause: EndCause, wall_ms: u64) {
        if let Life::Stopping { cause: known, .. } | Life::Ended { cause: known, .. } = &mut self.life
            && !guard::stands(Guard::OneEnd)
        {
            *known = cause;
            return;
        }
        let (placement, addresses, offset_ms) = match &self.life {
            Life::Queued => {
                self.finish(None, Vec::new(), cause, Vec::new(), wall_ms);
                return;
            }
            Life::Stopping { .. } | Life::Ended { .. } => return,
            Life::Preparing { placement } | Life::Undoing { placement } => (placement, Vec::new(), None),
            Life::Starting { placement, addresses } => (placement, addresses.clone(), None),
            Life::Running { placement, addresses, offset_ms } => (placement, addresses.clone(), Some(*offset_ms)),
        };
        self.life = Life::Stopping { placement: placement.clone(), addresses, offset_ms, cause };
    }

    /// Stopping -> Ended: no rank runs any more.
    pub fn end(&mut self, ranks: Vec<RankOutcome>, wall_ms: u64) {
        if let Life::Stopping { placement, addresses, cause, .. } = &self.life {
            let (placement, addresses, cause) = (placement.clone(), addresses.clone(), cause.clone());
            self.finish(Some(placement), addresses, cause, ranks, wall_ms);
        }
    }

    fn finish(
        &mut self,
        placement: Option<Placement>,
        addresses: Vec<String>,
        cause: EndCause,
        ranks: Vec<RankOutcome>,
        wall_ms: u64,
    ) {
        let released = placement.is_none();
        self.notices.push(Notice::Ended { cause: cause.clone() });
        self.life = Life::Ended { placement, addresses, cause, ranks, released };
        self.ended_at_ms = Some(wall_ms);
    }

    /// Every container of an ended job is confirmed removed.
    pub fn release(&mut self) {
        if let Life::Ended { released, .. } = &mut self.life {
            *released = true;
        }
    }

    /// The node of a rank in the present or last attempt.
    #[must_use]
    pub fn node_of(&self, rank: Rank) -> Option<&NodeName> {
        self.life.placement()?.0.get(rank as usize)
    }
}
