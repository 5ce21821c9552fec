//! Waiting longer after each failure, and never in step with others.

use rand::Rng;
use std::time::Duration;

/// Doubles from `first` to `most`; each wait is between half and all of it.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits that begin with `first`.
    pub(crate) const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// For calls to the engine: 0.2 to 5 s.
    pub(crate) const fn engine() -> Self {
        Self::new(Duration::from_millis(200), Duration::from_secs(5))
    }

    /// For coordinators: 0.1 to 2 s.
    pub(crate) const fn coordinator() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(2))
    }

    /// How long to wait now.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.most);
        wait.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// All is well again.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_to_its_limit_and_starts_again() {
        let mut backoff = Backoff::coordinator();
        let mut waits = Vec::new();
        for _ in 0..10 {
            waits.push(backoff.next());
        }
        assert!(waits[0] >= Duration::from_millis(50) && waits[0] <= Duration::from_millis(100));
        assert!(waits[9] >= Duration::from_secs(1) && waits[9] <= Duration::from_secs(2));
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(100));
    }
}
