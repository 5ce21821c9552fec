//! What Core is owed, what it answers, and what it believes in.

use super::Cluster;
use super::track::Denied;
use crate::brake::{Verdict, bound};
use crate::effect::{Effect, Milestone};
use crate::event::{ChargeAnswer, Delivery};
use crate::guard::{self, Guard};
use crate::id::JobId;
use crate::job::{EndCause, Life};
use crate::time::{Moment, Now};
use std::collections::BTreeMap;

/// A job that Core denies is asked about again after this time.
const DENIED_AGAIN_MS: u64 = 30_000;
/// So often, over at least this time, Core must deny a job before it is an orphan (`protocol.md` 16.6).
const DENIED_TIMES: u32 = 3;
const DENIED_FOR_MS: u64 = 60_000;
/// A charge that Core refuses for a reason of its own is sent again after this time: no charge is dropped.
const REFUSED_AGAIN_MS: u64 = 300_000;
/// Time after a take-over in which an unknown job is not called unknown at its first mention (`protocol.md` 16.4).
const TAKE_OVER_MS: u64 = 120_000;
/// A second round that says the same counts only after this time.
const SECOND_ROUND_MS: u64 = 60_000;
/// A first round is remembered for this time; Core asks about each job every 5 minutes or so.
const STRANGER_FOR_MS: u64 = 900_000;
/// A leader that was called absent although it lives stops within its lease's time to live, which is less than this.
const CERTAIN_AFTER_MS: u64 = 10_000;
/// Most unknown jobs that are remembered between two rounds (I12).
const MOST_STRANGERS: usize = 10_000;

/// Jobs that Core asked about and that are not known here.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    first_asked: BTreeMap<JobId, Moment>,
    /// Those that are called unknown at this moment, unless they are known by then.
    disowned: BTreeMap<JobId, Moment>,
}

impl Cluster {
    /// Sends the next notice and the next charge of a job, one of each at a time, in order (I8).
    pub(super) fn owe(&mut self, now: Now, id: &JobId) {
        let Some(tracked) = self.jobs.get_mut(id) else {
            return;
        };
        let due = |after: Option<Moment>| after.is_none_or(|moment| moment <= now.moment);
        if tracked.telling.is_none()
            && due(tracked.tell_after)
            && let Some((number, notice)) = tracked.job.owed_notice()
        {
            tracked.telling = Some(number);
            tracked.tell_after = None;
            self.effects.push(Effect::Tell {
                job: id.clone(),
                number,
                notice: notice.clone(),
                traceparent: tracked.job.spec.traceparent.clone(),
            });
        }
        // A charge costs money at Core: only for a job that Core has shown to know (reliability B.3, "orphan").
        if tracked.charging.is_none()
            && due(tracked.charge_after)
            && (tracked.job.told > 0 || !guard::stands(Guard::KnownJobsPay))
            && let Some(charge) = tracked.job.account.owed(&tracked.job.spec)
        {
            tracked.charging = Some(charge.window);
            tracked.charge_after = None;
            let acked =
                if guard::stands(Guard::AckAfterAnswer) { tracked.job.account.acked } else { charge.window + 1 };
            tracked.job.account.acked = acked;
            let traceparent = tracked.job.spec.traceparent.clone();
            self.effects.push(Effect::Charge { charge, traceparent });
        }
        // Also if a node never came back to confirm that its rank is gone.
        if tracked.job.life.has_ended() && tracked.job.owed() == 0 {
            let until_ms = tracked.job.ended_at_ms.unwrap_or(0).saturating_add(self.settings.retention_ms);
            self.retention.insert((until_ms, id.clone()));
        }
    }

    pub(super) fn on_told(&mut self, now: Now, id: &JobId, number: u32, delivery: Delivery) {
        let Some(tracked) = self.jobs.get_mut(id).filter(|tracked| tracked.telling == Some(number)) else {
            return;
        };
        tracked.telling = None;
        match delivery {
            Delivery::Accepted => {
                tracked.denied = None;
                tracked.job.told = number + 1;
                self.save(id, Milestone::Acknowledged);
                self.take_back(id, &[Verdict::Orphan]);
            }
            Delivery::UnknownJob => {
                tracked.tell_after = Some(now.moment.plus_ms(DENIED_AGAIN_MS));
                self.on_denied(now, id);
            }
            Delivery::Rejected { why } if tracked.job.must_be_told_again() => {
                tracked.tell_after = Some(now.moment.plus_ms(REFUSED_AGAIN_MS));
                self.alarm(format!(
                    "Core refuses an update of job {id} that changes its state; it is sent again every {} min: {why}",
                    REFUSED_AGAIN_MS / 60_000
                ));
            }
            Delivery::Rejected { why } => {
                tracked.job.told = number + 1;
                self.save(id, Milestone::Acknowledged);
                self.alarm(format!("Core refused an update of job {id}, which is dropped: {why}"));
            }
        }
        self.drive(now, id);
    }

    pub(super) fn on_charged(&mut self, now: Now, id: &JobId, window: u32, answer: ChargeAnswer) {
        let Some(tracked) = self.jobs.get_mut(id).filter(|tracked| tracked.charging == Some(window)) else {
            return;
        };
        tracked.charging = None;
        match answer {
            ChargeAnswer::Booked => {
                tracked.denied = None;
                tracked.job.account.acked = window + 1;
                self.save(id, Milestone::Acknowledged);
                self.take_back(id, &[Verdict::Orphan, Verdict::NoCredit]);
            }
            ChargeAnswer::InsufficientFunds => {
                // Booked all the same: it is never sent again (`protocol.md` 7.1, 16.2).
                tracked.job.account.acked = window + 1;
                tracked.job.account.refusals += 1;
                let refusals = tracked.job.account.refusals;
                self.save(id, Milestone::Acknowledged);
                self.on_no_credit(now, id, refusals);
            }
            ChargeAnswer::UnknownJob => {
                tracked.charge_after = Some(now.moment.plus_ms(DENIED_AGAIN_MS));
                self.on_denied(now, id);
            }
            ChargeAnswer::Rejected { why } => {
                tracked.charge_after = Some(now.moment.plus_ms(REFUSED_AGAIN_MS));
                self.alarm(format!(
                    "Core refuses window {window} of job {id}; it is sent again every {} min until Core takes it: {why}",
                    REFUSED_AGAIN_MS / 60_000
                ));
            }
        }
        self.drive(now, id);
    }

    fn on_no_credit(&mut self, now: Now, id: &JobId, refusals: u32) {
        let Some(tracked) = self.jobs.get(id) else {
            return;
        };
        let over = matches!(tracked.job.life, Life::Stopping { .. } | Life::Ended { .. });
        if over || refusals < self.settings.no_credit_confirmations {
            return;
        }
        self.judge(now, id, Verdict::NoCredit, EndCause::NoCredit);
    }

    /// Core does not know a job that we accepted: it gave up waiting for our answer, say (reliability F3).
    fn on_denied(&mut self, now: Now, id: &JobId) {
        let Some(tracked) = self.jobs.get_mut(id) else {
            return;
        };
        let denied = tracked.denied.get_or_insert(Denied { times: 0, first: now.moment });
        denied.times += 1;
        let early = denied.times < DENIED_TIMES || now.moment.since_ms(denied.first) < DENIED_FOR_MS;
        if early && guard::stands(Guard::PatientOrphan) {
            return;
        }
        self.judge(now, id, Verdict::Orphan, EndCause::Orphaned);
    }

    /// Core lists jobs it believes in; those unknown here are failed there, with care after a take-over.
    pub(super) fn on_verify(&mut self, now: Now, ids: &[JobId]) {
        self.strangers.forget_old(now.moment);
        let unknown: Vec<&JobId> = ids.iter().filter(|id| !self.jobs.contains_key(id)).collect();
        let careful = unknown.len() > bound(ids.len()) || now.moment.since_ms(self.restored_at) < TAKE_OVER_MS;
        for id in unknown {
            if !careful || self.strangers.asked_again(now.moment, id) {
                self.disown(now, id);
            }
        }
        if careful && !self.strangers.first_asked.is_empty() {
            let count = self.strangers.first_asked.len();
            self.alarm(format!(
                "Core asks about {count} jobs that are not known here; they are failed when it asks again after a minute. \
                 If the store was restored from an old copy, stop this coordinator now"
            ));
        }
    }

    /// Tells Core that a job is unknown, once that is certain: nothing durable proves it, so a leader whose key was taken away
    /// could say it of a job that its successor has just accepted. It has stopped leading before this is due.
    pub(super) fn disown(&mut self, now: Now, id: &JobId) {
        self.strangers.first_asked.remove(id);
        if self.strangers.disowned.len() < MOST_STRANGERS {
            self.strangers.disowned.entry(id.clone()).or_insert(now.moment.plus_ms(CERTAIN_AFTER_MS));
        }
    }

    /// When the next job is disowned.
    pub(super) fn disowns_at(&self) -> Option<Moment> {
        self.strangers.disowned.values().min().copied()
    }

    /// Disowns what is unknown still.
    pub(super) fn disown_strangers(&mut self, now: Now) {
        let due = |at: &Moment| *at <= now.moment;
        let ids: Vec<JobId> =
            self.strangers.disowned.iter().filter(|(_, at)| due(at)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.strangers.disowned.remove(&id);
            if !self.jobs.contains_key(&id) {
                self.effects.push(Effect::Disown { job: id });
            }
        }
    }
}

impl Strangers {
    /// Jobs that Core does not ask about any more.
    fn forget_old(&mut self, now: Moment) {
        self.first_asked.retain(|_, first| now.since_ms(*first) < STRANGER_FOR_MS);
    }

    /// Whether this is a second round about the job, long enough after the first.
    fn asked_again(&mut self, now: Moment, id: &JobId) -> bool {
        if let Some(first) = self.first_asked.get(id) {
            return now.since_ms(*first) >= SECOND_ROUND_MS;
        }
        if self.first_asked.len() < MOST_STRANGERS {
            self.first_asked.insert(id.clone(), now);
        }
        false
    }
}
