//! The clock of one machine: its own beginning, its own rate. It goes on while a process is stopped or the machine sleeps.

use muster_domain::time::{Moment, Now};

/// Milliseconds since the epoch at the beginning of a world.
const EPOCH_MS: u64 = 1_700_000_000_000;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// True time at which it showed `from_ms`.
    since: u64,
    from_ms: u64,
    /// Parts per million by which it is fast.
    ppm: i64,
}

impl Clock {
    pub(crate) fn new(since: u64, from_ms: u64, ppm: i64) -> Self {
        Self { since, from_ms, ppm }
    }

    /// What it shows.
    pub(crate) fn read(&self, t: u64) -> Moment {
        let passed = i128::from(t.saturating_sub(self.since)) * i128::from(1_000_000 + self.ppm) / 1_000_000;
        Moment(self.from_ms + u64::try_from(passed).unwrap_or(0))
    }

    pub(crate) fn now(&self, t: u64) -> Now {
        Now { moment: self.read(t), wall_ms: EPOCH_MS + t }
    }

    /// The first true time at which it shows `moment` or later.
    pub(crate) fn when(&self, moment: Moment) -> u64 {
        let ahead = i128::from(moment.0.saturating_sub(self.from_ms));
        let rate = i128::from(1_000_000 + self.ppm);
        let passed = (ahead * 1_000_000 + rate - 1) / rate;
        self.since.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX / 2))
    }

    /// From now on it has another rate.
    pub(crate) fn drift(&mut self, t: u64, ppm: i64) {
        self.from_ms = self.read(t).0;
        self.since = t;
        self.ppm = ppm;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_shows_and_when_it_shows_it_agree() {
        for ppm in [-10_000, -200, 0, 137, 10_000] {
            let clock = Clock::new(1_000, 77_777, ppm);
            for ms in [77_777, 77_778, 90_001, 5_000_000] {
                let t = clock.when(Moment(ms));
                assert!(clock.read(t).0 >= ms && (t == 1_000 || clock.read(t - 1).0 < ms), "{ppm} {ms}");
            }
        }
    }
}
