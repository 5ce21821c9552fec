//! One rank that this worker holds, and the moves of its life.

use super::{Adopted, AgentEffect, KILL_AGAIN_MS, Observation};
use crate::id::RankKey;
use crate::rank::{RankEnd, RankReport, RankState};
use crate::time::Moment;

/// Who wanted a running rank to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopBy {
    Leader,
    TimeLimit,
}

impl StopBy {
    /// What to call the end `seen` of a rank that was told to end. An end that nobody saw may have come before that, with
    /// its machine; and is charged to the last evidence only.
    fn end(self, seen: &RankEnd) -> RankEnd {
        match (self, seen) {
            (_, RankEnd::Vanished) => RankEnd::Vanished,
            (Self::Leader, _) => RankEnd::Stopped,
            (Self::TimeLimit, _) => RankEnd::TimeLimit,
        }
    }
}

/// Where a rank stands, with what the next move needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The engine is making it; wishes that came meanwhile are kept until it answers.
    Preparing {
        stop: bool,
        remove: bool,
    },
    Prepared {
        address: String,
    },
    /// The engine is starting it; a wish to stop is kept until it answers.
    Starting {
        stop: Option<StopBy>,
    },
    Running {
        started_at: Moment,
    },
    /// SIGTERM was sent at `since`; or SIGKILL, if `killed`.
    Stopping {
        started_at: Moment,
        by: StopBy,
        since: Moment,
        killed: bool,
    },
    Ended {
        end: RankEnd,
        age_ms: u64,
    },
    Failed {
        reason: String,
        retry: bool,
    },
    /// The engine is removing it; `last` is what is reported until it is gone.
    Removing {
        last: RankState,
    },
}

impl Phase {
    /// Whether a process of this rank may exist.
    pub(super) fn may_live(&self) -> bool {
        matches!(self, Self::Starting { .. } | Self::Running { .. } | Self::Stopping { .. })
    }
}

#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) phase: Phase,
    pub(super) time_limit_ms: Option<u64>,
}

impl Held {
    /// Takes over what runs, without asking whether it fits.
    pub(super) fn adopt(adopted: &Adopted) -> Option<Self> {
        let phase = match &adopted.observation {
            Observation::Prepared { address } => Phase::Prepared { address: address.clone() },
            Observation::Started { started_at } => Phase::Running { started_at: *started_at },
            Observation::Ended { end, age_ms } => {
                // The agent may have died between its own SIGTERM and the end it caused.
                let late = adopted.time_limit_ms.is_some_and(|limit_ms| *age_ms >= limit_ms);
                let end = if late && *end != (RankEnd::Exited { code: 0 }) {
                    StopBy::TimeLimit.end(end)
                } else {
                    end.clone()
                };
                Phase::Ended { end, age_ms: *age_ms }
            }
            Observation::PrepareFailed { reason, retry } | Observation::StartFailed { reason, retry } => {
                Phase::Failed { reason: reason.clone(), retry: *retry }
            }
            Observation::Removed => return None,
        };
        Some(Self { phase, time_limit_ms: adopted.time_limit_ms })
    }

    /// What the engine saw moves the rank on. An observation that does not fit the phase is stale and is dropped.
    pub(super) fn observe(&mut self, now: Moment, key: &RankKey, seen: Observation, effects: &mut Vec<AgentEffect>) {
        match (&self.phase, seen) {
            (
                Phase::Preparing { remove: true, .. },
                Observation::Prepared { .. } | Observation::PrepareFailed { .. },
            ) => {
                self.phase = Phase::Ended { end: RankEnd::Stopped, age_ms: 0 };
                self.begin_removal();
                effects.push(AgentEffect::Remove(key.clone()));
            }
            (Phase::Preparing { stop: true, .. }, Observation::Prepared { .. }) => {
                self.phase = Phase::Ended { end: RankEnd::Stopped, age_ms: 0 };
            }
            (Phase::Preparing { .. }, Observation::Prepared { address }) => self.phase = Phase::Prepared { address },
            (Phase::Preparing { .. }, Observation::PrepareFailed { reason, retry })
            | (Phase::Starting { .. }, Observation::StartFailed { reason, retry }) => {
                self.phase = Phase::Failed { reason, retry };
            }
            (Phase::Starting { stop: None }, Observation::Started { started_at }) => {
                self.phase = Phase::Running { started_at };
            }
            (Phase::Starting { stop: Some(by) }, Observation::Started { started_at }) => {
                self.phase = Phase::Stopping { started_at, by: *by, since: now, killed: false };
                effects.push(AgentEffect::Terminate(key.clone()));
            }
            (Phase::Stopping { by, .. }, Observation::Ended { end, age_ms }) => {
                self.phase = Phase::Ended { end: by.end(&end), age_ms };
            }
            (Phase::Starting { .. } | Phase::Running { .. }, Observation::Ended { end, age_ms }) => {
                self.phase = Phase::Ended { end, age_ms };
            }
            _ => {}
        }
    }

    /// Keeps reporting what it was until the engine says that it is gone.
    pub(super) fn begin_removal(&mut self) {
        self.phase = Phase::Removing { last: self.state(Moment::default()) };
    }

    /// When something is due by time alone.
    pub(super) fn deadline(&self, grace_ms: u64) -> Option<Moment> {
        match &self.phase {
            Phase::Running { started_at } => Some(started_at.plus_ms(self.time_limit_ms?)),
            Phase::Stopping { since, killed: false, .. } => Some(since.plus_ms(grace_ms)),
            Phase::Stopping { since, killed: true, .. } => Some(since.plus_ms(KILL_AGAIN_MS)),
            _ => None,
        }
    }

    pub(super) fn report(&self, key: &RankKey, now: Moment) -> RankReport {
        RankReport { key: key.clone(), state: self.state(now), time_limit_ms: self.time_limit_ms }
    }

    fn state(&self, now: Moment) -> RankState {
        match &self.phase {
            Phase::Preparing { .. } => RankState::Preparing,
            Phase::Prepared { address } => RankState::Prepared { address: address.clone() },
            // Not yet seen to run; its address is known to the leader, which waits for `Running`.
            Phase::Starting { .. } => RankState::Starting,
            Phase::Running { started_at } | Phase::Stopping { started_at, .. } => {
                RankState::Running { age_ms: now.since_ms(*started_at) }
            }
            Phase::Ended { end, age_ms } => RankState::Ended { end: end.clone(), age_ms: *age_ms },
            Phase::Failed { reason, retry } => RankState::Failed { reason: reason.clone(), retry: *retry },
            Phase::Removing { last } => last.clone(),
        }
    }
}
