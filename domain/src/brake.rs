//! I11: no automatic verdict (lost, unknown, orphan, no credit) hits more than max(3, 10 %) of its population in five
//! minutes. A fault of our own must not end everybody's jobs; beyond the bound verdicts wait and an operator is told.

use crate::time::Moment;
use std::collections::VecDeque;

/// The time over which verdicts are counted.
const WINDOW_MS: u64 = 5 * 60_000;

/// Counts one kind of verdict.
#[derive(Clone, Debug, Default)]
pub struct Brake {
    verdicts: VecDeque<Moment>,
}

impl Brake {
    /// Whether one more verdict may act on a population of this size; counts it if so.
    pub fn allow(&mut self, now: Moment, population: usize) -> bool {
        while self.verdicts.front().is_some_and(|first| now.since_ms(*first) >= WINDOW_MS) {
            self.verdicts.pop_front();
        }
        let most = bound(population);
        if self.verdicts.len() >= most {
            return false;
        }
        self.verdicts.push_back(now);
        true
    }

    /// When the next verdict may be allowed, if the brake holds now.
    #[must_use]
    pub fn frees_at(&self) -> Option<Moment> {
        self.verdicts.front().map(|first| first.plus_ms(WINDOW_MS))
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
}
