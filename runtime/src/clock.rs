//! The two clocks of the shells. The brains in `domain` get their readings as arguments.

use muster_domain::time::{Moment, Now};
use std::time::{SystemTime, UNIX_EPOCH};

/// `CLOCK_BOOTTIME`: monotonic, and goes on while the machine sleeps, unlike `Instant` (reliability F15).
#[must_use]
pub fn boottime() -> Moment {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let ms = time.tv_sec.unsigned_abs() * 1000 + time.tv_nsec.unsigned_abs() / 1_000_000;
    Moment(ms)
}

/// Both clocks, for an event.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the place that reads the wall clock")]
pub fn now() -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { moment: boottime(), wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX) }
}
