//! Automatic ends of jobs, and the brake on them (I11).

use super::Cluster;
use crate::brake::{Verdict, bound};
use crate::effect::Milestone;
use crate::id::{JobId, RequestId};
use crate::job::{EndCause, Life};
use crate::time::{Moment, Now};
use crate::view::BrakeView;

/// Why a verdict is held back, in words for a job's user and for operators.
pub(super) fn held_words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Lost => "its node is silent or has it no more, but too many jobs were lost in the last five minutes",
        Verdict::Orphan => "Core says that it does not know too many jobs at once",
        Verdict::NoCredit => "Core says that too many wallets are empty at once",
        Verdict::Drain => {
            "its node is drained and its time is up, but too many jobs were ended so in the last five minutes"
        }
    }
}

impl Cluster {
    /// Ends a job by an automatic verdict, unless the brake holds. Answers whether it ended it.
    pub(super) fn judge(&mut self, now: Now, id: &JobId, verdict: Verdict, cause: EndCause) -> bool {
        let population = self.population(verdict);
        if !self.brakes.allow(verdict, now.moment, population) {
            self.hold_back(id, verdict);
            return false;
        }
        self.stop(now, id, cause);
        if let Some(tracked) = self.jobs.get_mut(id) {
            tracked.held_back = None;
            // Also of a job that has ended: Core does not take its last charges.
            tracked.job.account.void |= verdict == Verdict::Orphan;
        }
        if verdict == Verdict::Orphan {
            self.save(id, Milestone::Stopping);
        }
        true
    }

    /// Judges again what the brake held back and what no report brings up again by itself: what Core said.
    pub(super) fn judge_again(&mut self, now: Now, id: &JobId) -> bool {
        let Some(tracked) = self.jobs.get(id) else { return false };
        let over = matches!(tracked.job.life, Life::Stopping { .. } | Life::Ended { .. });
        match tracked.held_back {
            Some(Verdict::NoCredit) if over => {
                self.take_back(id, &[Verdict::NoCredit]);
                false
            }
            Some(Verdict::NoCredit) => self.judge(now, id, Verdict::NoCredit, EndCause::NoCredit),
            Some(Verdict::Orphan) => self.judge(now, id, Verdict::Orphan, EndCause::Orphaned),
            Some(Verdict::Lost | Verdict::Drain) | None => false,
        }
    }

    fn hold_back(&mut self, id: &JobId, verdict: Verdict) {
        if let Some(tracked) = self.jobs.get_mut(id) {
            tracked.held_back = Some(verdict);
        }
        self.alarm(format!(
            "verdicts are held back: {}. Look into it, then `muster brake release {}`; without it they go on a few at a \
             time",
            held_words(verdict),
            verdict.name()
        ));
    }

    /// A verdict that does not hold any more is not waited for.
    pub(super) fn take_back(&mut self, id: &JobId, verdicts: &[Verdict]) {
        if let Some(tracked) = self.jobs.get_mut(id)
            && tracked.held_back.is_some_and(|held| verdicts.contains(&held))
        {
            tracked.held_back = None;
        }
    }

    pub(super) fn on_release_brake(&mut self, now: Now, request: RequestId, verdict: Option<Verdict>) {
        let released = |held: &Verdict| verdict.is_none_or(|verdict| verdict == *held);
        for verdict in Verdict::ALL.into_iter().filter(released) {
            self.brakes.release(verdict, now.moment);
        }
        let held = self.jobs.iter().filter(|(_, tracked)| tracked.held_back.as_ref().is_some_and(released));
        let held: Vec<JobId> = held.map(|(id, _)| id.clone()).collect();
        for id in held {
            self.drive(now, &id);
        }
        self.reply(request, Ok(()));
    }

    /// When a verdict that is held back may be judged again.
    pub(super) fn judged_at(&self, verdict: Verdict) -> Option<Moment> {
        self.brakes.of(verdict)?.frees_at()
    }

    pub(super) fn brake_views(&self, now: Moment) -> Vec<BrakeView> {
        let view = |verdict: Verdict| {
            let allowed = bound(self.population(verdict));
            let brake = self.brakes.of(verdict);
            let used = brake.map_or(0, |brake| brake.used(now));
            let released_for_ms = brake.and_then(|brake| brake.released_for_ms(now));
            let waiting = self.jobs.values().filter(|tracked| tracked.held_back == Some(verdict)).count();
            let held = waiting > 0 && used >= allowed && released_for_ms.is_none();
            BrakeView { verdict: verdict.name().to_owned(), held, allowed, used, waiting, released_for_ms }
        };
        Verdict::ALL.map(view).into()
    }

    /// How many jobs a verdict could hit.
    fn population(&self, verdict: Verdict) -> usize {
        match verdict {
            // Not those that are only kept: their number would loosen the brake with every day.
            Verdict::Orphan => self.queue.len() + self.holding.len(),
            Verdict::Lost | Verdict::NoCredit | Verdict::Drain => self.holding.len(),
        }
    }
}
