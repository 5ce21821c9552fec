//! Charges: a pure function of integers (design section 7, reliability B.4).
//!
//! A job runs for a number of milliseconds that its workers' own clocks prove. That time is cut into windows of a
//! fixed number of whole periods. A window is **sealed**, by a durable write, only when the evidence covers it, and is
//! sent only when it is sealed; from then on its amount never changes (I6). At the end the whole periods that are left
//! are sealed as the last window. What is owed is two counters, `sealed` and `acked`: there is no queue to lose.

use crate::guard::{self, Guard};
use crate::id::JobId;
use crate::job::spec::{JobSpec, Price};
use serde::{Deserialize, Serialize};

/// A sealed charge, immutable for ever. The dialect turns it into units and an id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// The job.
    pub job: JobId,
    /// Number of the window, from 0. With job and provider it makes the charge's id.
    pub window: u32,
    /// Whole periods of the product's price unit that this window holds; at least 1.
    pub periods: u32,
    /// Units of one rank and one period.
    pub units_per_period: u32,
    /// Ranks that ran.
    pub ranks: u32,
}

/// What a job has used and what of it Core knows. Part of the job's document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Windows whose amount is fixed for ever.
    pub sealed: u32,
    /// Sealed windows that Core has acknowledged.
    pub acked: u32,
    /// Periods of the last window, if it is shorter than the others. Set once, when the account is settled.
    pub last_periods: Option<u32>,
    /// Milliseconds of running that were proven when this document was written. Only grows.
    pub evidence_ms: u64,
    /// Whether the job has ended and nothing will be sealed any more.
    pub settled: bool,
    /// Whether Core does not know the job, so that nothing may be charged any more.
    pub void: bool,
    /// How often Core answered "insufficient funds".
    pub refusals: u32,
}

impl Account {
    /// Seals every window that `run_ms` of proven running covers. Answers whether there is a new one.
    pub fn seal(&mut self, price: &Price, run_ms: u64) -> bool {
        self.evidence_ms = self.evidence_ms.max(run_ms);
        if self.settled || self.void {
            return false;
        }
        let covered = u32::try_from(self.evidence_ms / window_ms(price)).unwrap_or(u32::MAX);
        let grew = covered > self.sealed;
        self.sealed = self.sealed.max(covered);
        grew
    }

    /// Fixes what the job used, for ever. Whole periods only, rounded once: down, or up if `round_up`
    /// (`protocol.md` 16.1). Called again it changes nothing.
    pub fn settle(&mut self, price: &Price, run_ms: u64, round_up: bool) {
        if self.settled {
            return;
        }
        self.seal(price, run_ms);
        self.settled = true;
        if self.void {
            return;
        }
        let period_ms = price.period.ms();
        let periods = if round_up { self.evidence_ms.div_ceil(period_ms) } else { self.evidence_ms / period_ms };
        let left = periods.saturating_sub(u64::from(self.sealed) * u64::from(price.window_periods.max(1)));
        // Rounding up may complete the window; it is then a last window of full length.
        if let Ok(left @ 1..) = u32::try_from(left) {
            self.last_periods = Some(left);
            self.sealed = self.sealed.saturating_add(1);
        }
    }

    /// The oldest sealed charge that Core has not acknowledged.
    #[must_use]
    pub fn owed(&self, spec: &JobSpec) -> Option<Charge> {
        let sealed = self.acked < self.sealed || (!guard::stands(Guard::SealFirst) && self.evidence_ms > 0);
        (!self.void && sealed).then(|| self.charge(spec, self.acked))
    }

    /// Every sealed charge, in order.
    pub fn charges(&self, spec: &JobSpec) -> impl Iterator<Item = Charge> {
        (0..self.sealed).map(|window| self.charge(spec, window))
    }

    fn charge(&self, spec: &JobSpec, window: u32) -> Charge {
        let last = window + 1 == self.sealed;
        let periods = self.last_periods.filter(|_| last).unwrap_or(spec.price.window_periods.max(1));
        let more = if guard::stands(Guard::FixedAmount) { 0 } else { self.sealed - window - 1 };
        Charge {
            job: spec.id.clone(),
            window,
            periods: periods + more,
            units_per_period: spec.price.units_per_period,
            ranks: spec.replicas,
        }
    }
}

/// The length of one window.
fn window_ms(price: &Price) -> u64 {
    u64::from(price.window_periods.max(1)) * price.period.ms()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ProviderId;
    use crate::job::spec::{ContainerSpec, Owner};
    use crate::product::{Period, ProductRef};
    use crate::resources::Resources;
    use proptest::prelude::*;

    fn spec(window_periods: u32, replicas: u32) -> JobSpec {
        let provider = ProviderId::new("example").unwrap();
        JobSpec {
            id: JobId::new("812").unwrap(),
            owner: Owner::default(),
            name: None,
            application: "a 1".into(),
            product: ProductRef { id: "p".into(), category: "c".into(), provider },
            replicas,
            time_limit_ms: None,
            container: ContainerSpec::default(),
            per_rank: Resources::default(),
            price: Price { period: Period::Minute, units_per_period: 4, window_periods },
            traceparent: None,
        }
    }

    const MINUTE: u64 = 60_000;

    #[test]
    fn a_window_is_sealed_only_on_evidence_and_sent_only_when_sealed() {
        let spec = spec(5, 2);
        let mut account = Account::default();
        assert!(!account.seal(&spec.price, 5 * MINUTE - 1));
        assert_eq!(account.owed(&spec), None);
        assert!(account.seal(&spec.price, 5 * MINUTE));
        let first = account.owed(&spec).unwrap();
        assert_eq!((first.window, first.periods, first.units_per_period, first.ranks), (0, 5, 4, 2));
        account.settle(&spec.price, 12 * MINUTE + 59_999, false);
        let periods: Vec<u32> = account.charges(&spec).map(|charge| charge.periods).collect();
        assert_eq!(periods, [5, 5, 2]);
        assert_eq!(account.owed(&spec), Some(first), "an amount never changes");
    }

    #[test]
    fn less_than_a_period_costs_nothing_unless_rounding_is_up() {
        let spec = spec(5, 1);
        let mut down = Account::default();
        down.settle(&spec.price, MINUTE - 1, false);
        assert_eq!(down.charges(&spec).count(), 0);
        let mut up = Account::default();
        up.settle(&spec.price, 4 * MINUTE + 1, true);
        assert_eq!(up.charges(&spec).map(|charge| charge.periods).collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn an_end_before_what_is_sealed_does_not_take_it_back() {
        let spec = spec(1, 1);
        let mut account = Account::default();
        account.seal(&spec.price, 3 * MINUTE);
        account.settle(&spec.price, 2 * MINUTE, false);
        assert_eq!(account.charges(&spec).count(), 3);
    }

    #[test]
    fn nothing_is_owed_for_a_job_that_core_does_not_know() {
        let spec = spec(1, 1);
        let mut account = Account::default();
        account.seal(&spec.price, 3 * MINUTE);
        account.void = true;
        assert_eq!(account.owed(&spec), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        /// I6: whatever the reports and in whatever order, the sum of the charges equals the exact time in whole
        /// periods once settled, is never ahead of the evidence, and no amount that was sealed ever changes.
        #[test]
        fn the_sum_of_charges_equals_the_exact_time(
            window_periods in 1..8_u32,
            mut reports in prop::collection::vec(0..40 * MINUTE, 1..40),
            shuffled in any::<bool>(),
        ) {
            if !shuffled {
                reports.sort_unstable();
            }
            let spec = spec(window_periods, 3);
            let mut account = Account::default();
            let mut seen: Vec<Charge> = Vec::new();
            let mut proven = 0;
            for report in &reports {
                account.seal(&spec.price, *report);
                proven = proven.max(*report);
                let now: Vec<Charge> = account.charges(&spec).collect();
                prop_assert_eq!(&now[..seen.len()], &seen[..]);
                let charged: u64 = now.iter().map(|charge| u64::from(charge.periods) * MINUTE).sum();
                prop_assert!(charged <= proven);
                seen = now;
            }
            account.settle(&spec.price, proven, false);
            account.settle(&spec.price, proven + 10 * MINUTE, false);
            let charges: Vec<Charge> = account.charges(&spec).collect();
            prop_assert_eq!(&charges[..seen.len()], &seen[..]);
            let periods: u64 = charges.iter().map(|charge| u64::from(charge.periods)).sum();
            prop_assert_eq!(periods, proven / MINUTE);
            prop_assert!(charges.iter().all(|charge| charge.periods >= 1 && charge.periods <= window_periods));
        }
    }
}
