//! How long to wait before a call to Core is repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Bounds of the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Before the first repetition.
    pub first: Duration,
    /// At most.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(500), most: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// The wait after `failures` failures in a row: doubled each time, then anywhere between half and all of it, so that
    /// many callers do not come back together.
    #[must_use]
    pub fn after(&self, failures: u32) -> Duration {
        let doubled = self.first.saturating_mul(1_u32 << failures.saturating_sub(1).min(16)).min(self.most);
        doubled.mul_f64(rand::random_range(0.5..=1.0))
    }
}

/// What all callers know together: how long Core has been away, and that it is back.
#[derive(Clone, Debug, Default)]
pub struct Recovery(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    back: Notify,
    failures: AtomicU32,
}

impl Recovery {
    /// A call got through. Answers how many failed in a row before it.
    pub fn noticed(&self) -> u32 {
        self.0.back.notify_waiters();
        self.0.failures.swap(0, Ordering::Relaxed)
    }

    /// A call did not get through. Answers how many in a row that makes.
    pub fn failed(&self) -> u32 {
        self.0.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Waits that long, or until a call got through.
    pub async fn wait(&self, wait: Duration) {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.0.back.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_spread() {
        let backoff = Backoff::default();
        for failures in 1..100 {
            let wait = backoff.after(failures);
            assert!(wait >= Duration::from_millis(250) && wait <= Duration::from_secs(60), "{failures}: {wait:?}");
        }
        assert!(backoff.after(1) <= Duration::from_millis(500));
        assert!(backoff.after(50) >= Duration::from_secs(30));
    }
}
