//! How long etcd takes for a keepalive, and when that endangers leaderships: a lease that is kept slowly is lost at the next
//! hiccup, long after the disks or the network began to be slow.

use crate::metrics::Metrics;
use muster_domain::time::Moment;
use std::collections::VecDeque;
use std::time::Duration;

/// Keepalives that are looked at.
const WINDOW: usize = 100;
/// At least between two warnings.
const SAY_EVERY_MS: u64 = 10 * 60_000;

/// The round trips of keepalives. One that gets no answer counts until the next answer comes, or until now, and as no
/// longer than a lease lasts.
#[derive(Debug)]
pub(super) struct Pulse {
    lease_ttl_ms: u64,
    /// The last ones, in milliseconds.
    took_ms: VecDeque<u64>,
    /// When the first keepalive since the last answer was sent.
    waits_since: Option<Moment>,
    /// The last one was refused, or no connection came about: whatever is wrong, it is not that etcd is slow.
    refused: bool,
    said_at: Option<Moment>,
}

/// Of 100 keepalives, one or more take longer than a third of the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slow {
    /// The 99th of the last hundred by time; of fewer, the slowest.
    p99_ms: u64,
    lease_ttl_ms: u64,
}

impl Slow {
    /// Calls an operator.
    pub(super) fn tell(self, metrics: &Metrics) {
        let Self { p99_ms, lease_ttl_ms } = self;
        metrics.alarm();
        tracing::warn!(
            p99_ms,
            lease_ttl_ms,
            "etcd takes more than a third of the lease's life for keepalives, and leaderships may be lost: look at the disks \
             of etcd (its metric etcd_disk_wal_fsync_duration_seconds), its load, and the network between; it wants a disk of \
             its own. A longer store.etcd.lease_ttl_ms bears more"
        );
    }
}

impl Pulse {
    pub(super) fn new(lease_ttl_ms: u64) -> Self {
        let took_ms = VecDeque::with_capacity(WINDOW);
        Self { lease_ttl_ms, took_ms, waits_since: None, refused: false, said_at: None }
    }

    /// A keepalive is sent. Answers what an operator is to be told.
    pub(super) fn sent(&mut self, now: Moment) -> Option<Slow> {
        let since = *self.waits_since.get_or_insert(now);
        if self.refused {
            return None;
        }
        self.judge(now, Some(self.capped(since, now)))
    }

    /// One was refused, or was never sent.
    pub(super) fn refused(&mut self) {
        self.refused = true;
        self.waits_since = None;
    }

    /// One that was sent then is answered, or another lease is granted. Answers how long etcd took, and what an operator is to
    /// be told.
    pub(super) fn answered(&mut self, now: Moment, sent_at: Moment) -> (Duration, Option<Slow>) {
        self.refused = false;
        let since = self.waits_since.take().map_or(sent_at, |since| since.min(sent_at));
        let took_ms = self.capped(since, now);
        if self.took_ms.len() == WINDOW {
            self.took_ms.pop_front();
        }
        self.took_ms.push_back(took_ms);
        (Duration::from_millis(took_ms), self.judge(now, None))
    }

    /// Whether a keepalive has got no answer yet.
    pub(super) fn waits(&self) -> bool {
        self.waits_since.is_some()
    }

    fn capped(&self, since: Moment, now: Moment) -> u64 {
        now.since_ms(since).min(self.lease_ttl_ms)
    }

    fn judge(&mut self, now: Moment, waits_ms: Option<u64>) -> Option<Slow> {
        let mut sorted: Vec<u64> = self.took_ms.iter().copied().chain(waits_ms).collect();
        sorted.sort_unstable();
        let p99_ms = *sorted.get((sorted.len() * 99).div_ceil(100).checked_sub(1)?)?;
        let is_slow = p99_ms > self.lease_ttl_ms / 3;
        if !is_slow || self.said_at.is_some_and(|at| now.since_ms(at) < SAY_EVERY_MS) {
            return None;
        }
        self.said_at = Some(now);
        Some(Slow { p99_ms, lease_ttl_ms: self.lease_ttl_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow(p99_ms: u64) -> Slow {
        Slow { p99_ms, lease_ttl_ms: 9_000 }
    }

    /// Sends one at `at` that takes so long.
    fn beat(pulse: &mut Pulse, at: u64, took_ms: u64) -> Option<Slow> {
        let early = pulse.sent(Moment(at));
        let (took, slow) = pulse.answered(Moment(at + took_ms), Moment(at));
        assert_eq!(took, Duration::from_millis(took_ms));
        early.or(slow)
    }

    #[test]
    fn one_slow_keepalive_of_few_is_told_and_one_of_a_hundred_is_not() {
        let mut pulse = Pulse::new(9_000);
        assert_eq!(beat(&mut pulse, 1_000, 3_000), None, "a third is not too long");
        assert_eq!(beat(&mut pulse, 5_000, 3_001), Some(slow(3_001)));
        let mut pulse = Pulse::new(9_000);
        for number in 0..100 {
            assert_eq!(beat(&mut pulse, number * 2_000, 5), None);
        }
        assert_eq!(beat(&mut pulse, 200_000, 4_000), None);
        assert_eq!(beat(&mut pulse, 210_000, 5_000), Some(slow(4_000)));
    }

    #[test]
    fn an_operator_is_told_at_most_once_in_ten_minutes() {
        let mut pulse = Pulse::new(9_000);
        let told = (0..300).filter(|number| beat(&mut pulse, number * 5_000, 4_000).is_some());
        let told: Vec<u64> = told.collect();
        assert_eq!(told, [0, 120, 240]);
    }

    #[test]
    fn a_refusal_is_not_taken_for_slowness() {
        let mut pulse = Pulse::new(9_000);
        for at in (1_000..60_000).step_by(2_000) {
            assert_eq!(pulse.sent(Moment(at)), None);
            pulse.refused();
        }
        assert_eq!(pulse.sent(Moment(61_000)), None);
        assert_eq!(pulse.sent(Moment(71_000)), None, "still nothing but refusals is known");
        assert_eq!(pulse.answered(Moment(71_010), Moment(71_000)).1, Some(slow(9_000)), "from here on it was slow");
    }

    #[test]
    fn without_answers_it_is_told_before_the_lease_is_lost() {
        let mut pulse = Pulse::new(9_000);
        assert_eq!(pulse.sent(Moment(1_000)), None);
        assert_eq!(pulse.sent(Moment(3_000)), None);
        assert_eq!(pulse.sent(Moment(5_000)), Some(slow(4_000)));
        // The answer to a later one tells how long etcd was silent; what was on its way then counts for itself.
        assert!(pulse.waits());
        assert_eq!(pulse.answered(Moment(5_100), Moment(5_000)).0, Duration::from_millis(4_100));
        assert_eq!(pulse.answered(Moment(5_200), Moment(3_000)).0, Duration::from_millis(2_200));
        // Away for long: no more than that the lease was lost.
        assert!(!pulse.waits());
        pulse.sent(Moment(10_000));
        assert_eq!(pulse.answered(Moment(90_000), Moment(90_000)).0, Duration::from_millis(9_000));
    }
}
