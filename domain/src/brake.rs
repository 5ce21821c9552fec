//! I11: no automatic verdict (lost, orphan, no credit, drain) hits more than max(3, 10 %) of its population in five
//! minutes. A fault of our own must not end everybody's jobs; beyond the bound verdicts wait and an operator is told.

use crate::guard::{self, Guard};
use crate::job::{EndCause, Job, Life};
use crate::time::{Moment, Now};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// The time over which verdicts are counted.
const WINDOW_MS: u64 = 5 * 60_000;
/// How long an operator's release lasts.
const RELEASED_MS: u64 = 5 * 60_000;

/// An automatic end of a job, which a fault of our own or of Core could bring about for many jobs at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A node was silent for too long.
    Lost,
    /// Core does not know the job.
    Orphan,
    /// The wallet is empty.
    NoCredit,
    /// The deadline of a node's drain has passed.
    Drain,
}

impl Verdict {
    /// Every verdict, in the order in which operators see them.
    pub const ALL: [Self; 4] = [Self::Lost, Self::Orphan, Self::NoCredit, Self::Drain];

    /// The verdict that a job was ended by. That a reboot took its ranks along looks the same in its document.
    #[must_use]
    pub fn of(cause: &EndCause) -> Option<Self> {
        match cause {
            EndCause::NodeLost { .. } => Some(Self::Lost),
            EndCause::Orphaned => Some(Self::Orphan),
            EndCause::NoCredit => Some(Self::NoCredit),
            EndCause::Drained { .. } => Some(Self::Drain),
            _ => None,
        }
    }

    /// The word by which operators name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Orphan => "orphan",
            Self::NoCredit => "no_credit",
            Self::Drain => "drain",
        }
    }
}

/// Counts one kind of verdict.
#[derive(Clone, Debug, Default)]
pub struct Brake {
    verdicts: VecDeque<Moment>,
    released_until: Option<Moment>,
}

impl Brake {
    /// Whether one more verdict may act on a population of this size; counts it if so. While an operator has released
    /// the brake everything may act, and nothing is counted.
    pub fn allow(&mut self, now: Moment, population: usize) -> bool {
        if self.released_for_ms(now).is_some() {
            return true;
        }
        while self.verdicts.front().is_some_and(|first| now.since_ms(*first) >= WINDOW_MS) {
            self.verdicts.pop_front();
        }
        let most = bound(population);
        if self.verdicts.len() >= most && guard::stands(Guard::Brake) {
            return false;
        }
        self.verdicts.push_back(now);
        true
    }

    /// An operator has looked: whatever waits may act, for five minutes from now.
    pub fn release(&mut self, now: Moment) {
        self.released_until = Some(now.plus_ms(RELEASED_MS));
    }

    /// For how many milliseconds more it is released; `None` if it is not.
    #[must_use]
    pub fn released_for_ms(&self, now: Moment) -> Option<u64> {
        self.released_until.map(|until| until.since_ms(now)).filter(|left_ms| *left_ms > 0)
    }

    /// Verdicts that count now.
    #[must_use]
    pub fn used(&self, now: Moment) -> usize {
        self.verdicts.iter().filter(|at| now.since_ms(**at) < WINDOW_MS).count()
    }

    /// When the next verdict may be allowed, if the brake holds now.
    #[must_use]
    pub fn frees_at(&self) -> Option<Moment> {
        self.verdicts.front().map(|first| first.plus_ms(WINDOW_MS))
    }
}

/// One brake for each verdict.
#[derive(Clone, Debug, Default)]
pub struct Brakes {
    brakes: BTreeMap<Verdict, Brake>,
}

impl Brakes {
    /// Counts what earlier leaders judged, told by the documents: a take-over does not begin anew. Coordinators whose wall
    /// clocks differ count it for so much longer or shorter.
    #[must_use]
    pub fn restored<'a>(now: Now, jobs: impl Iterator<Item = &'a Job>) -> Self {
        let mut brakes = Self::default();
        for job in jobs {
            let (Life::Stopping { cause, .. } | Life::Ended { cause, .. }) = &job.life else { continue };
            let ago_ms = now.wall_ms.saturating_sub(job.ended_at_ms.unwrap_or(now.wall_ms));
            if let Some(verdict) = Verdict::of(cause).filter(|_| ago_ms < WINDOW_MS) {
                let at = Moment(now.moment.0.saturating_sub(ago_ms));
                brakes.brakes.entry(verdict).or_default().verdicts.push_back(at);
            }
        }
        for brake in brakes.brakes.values_mut() {
            brake.verdicts.make_contiguous().sort_unstable();
        }
        brakes
    }

    /// [`Brake::allow`] of this verdict's brake.
    pub fn allow(&mut self, verdict: Verdict, now: Moment, population: usize) -> bool {
        self.brakes.entry(verdict).or_default().allow(now, population)
    }

    /// [`Brake::release`] of this verdict's brake.
    pub fn release(&mut self, verdict: Verdict, now: Moment) {
        self.brakes.entry(verdict).or_default().release(now);
    }

    /// This verdict's brake; `None` if nothing was ever judged so.
    #[must_use]
    pub fn of(&self, verdict: Verdict) -> Option<&Brake> {
        self.brakes.get(&verdict)
    }
}

/// The most verdicts on a population of this size.
#[must_use]
pub fn bound(population: usize) -> usize {
    (population / 10).max(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_of_a_few_or_a_tenth_of_many_within_five_minutes() {
        let mut brake = Brake::default();
        assert!((0..3).all(|_| brake.allow(Moment(0), 20)));
        assert!(!brake.allow(Moment(WINDOW_MS - 1), 20));
        assert!(brake.allow(Moment(WINDOW_MS), 20));

        let mut brake = Brake::default();
        assert_eq!((0..100).filter(|_| brake.allow(Moment(0), 400)).count(), 40);
    }

    #[test]
    fn a_release_lets_everything_through_for_five_minutes() {
        let mut brake = Brake::default();
        assert_eq!((0..9).filter(|_| brake.allow(Moment(0), 20)).count(), 3);
        brake.release(Moment(1_000));
        assert!((0..9).all(|_| brake.allow(Moment(RELEASED_MS + 999), 20)));
        assert_eq!((brake.used(Moment(1_000)), brake.released_for_ms(Moment(1_000))), (3, Some(RELEASED_MS)));
        assert_eq!(brake.released_for_ms(Moment(RELEASED_MS + 1_000)), None);
        let after = Moment(RELEASED_MS + 1_000);
        assert_eq!((0..9).filter(|_| brake.allow(after, 20)).count(), 3, "it holds again");
    }

    #[test]
    fn a_verdict_is_named_as_it_is_written() {
        for verdict in Verdict::ALL {
            assert_eq!(serde_json::to_value(verdict).unwrap(), verdict.name());
        }
    }
}
