//! Time as an argument. Nothing in this crate reads a clock.

use serde::{Deserialize, Serialize};

/// A point on the monotonic clock of the machine that runs the brain, in milliseconds.
///
/// The shells read `CLOCK_BOOTTIME`, which goes on while a machine sleeps (reliability F15). Moments of different
/// machines, or of one machine before and after a reboot, must never be compared; durable documents hold none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(pub u64);

impl Moment {
    /// The moment `duration_ms` later.
    #[must_use]
    pub fn plus_ms(self, duration_ms: u64) -> Self {
        Self(self.0.saturating_add(duration_ms))
    }

    /// Milliseconds from `earlier` to this moment; 0 if `earlier` is later.
    #[must_use]
    pub fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// What the shell knows about time when it hands over an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For every duration and every decision.
    pub moment: Moment,
    /// Milliseconds since the Unix epoch. For people to read, and for how long ended jobs are kept; no lease, no limit
    /// and no amount may depend on it.
    pub wall_ms: u64,
}
