//! What Core is sent: updates and charges, each compared with what is committed, taken, refused, or denied.

use crate::core::{Answer, Core, Item};
use crate::fault::Fault;
use crate::network::Place;
use crate::world::{What, World, say};
use muster_domain::accounting::Charge;
use muster_domain::event::{ChargeAnswer, Delivery};
use muster_domain::id::JobId;
use muster_domain::outbox::Notice;

impl World {
    pub(crate) fn at_core(&mut self, index: usize, process: u32, ticket: u64, item: Item) {
        if self.core.down_until > self.t {
            return;
        }
        let answer = match item {
            Item::Tell { job, number, notice } => Answer::Told(self.core_is_told(&job, number, &notice)),
            Item::Charge(charge) => Answer::Charged(self.core_is_charged(&charge)),
            Item::Disown(job) => return self.core_hears_disown(&job),
        };
        if ticket == 0 || self.goes_wrong(self.plan.chances.core_answer_lost, Fault::CoreAnswerLost) {
            return;
        }
        if let Some(takes) = self.passes(Place::Core, Place::Coordinator(index)) {
            self.after(takes, What::FromCore(index, process, ticket, answer));
        }
    }

    /// Whether Core denies the job, for good or for a while.
    fn denies(&mut self, job: usize) -> bool {
        let now = self.t;
        let there = &mut self.core.jobs[job];
        let for_a_while =
            self.plan.jobs[job].denied.is_some_and(|(from, lasts_ms)| (from..from + lasts_ms).contains(&now));
        if there.known && !for_a_while {
            return false;
        }
        there.denials.push(now);
        if there.known {
            self.fault(Fault::CoreDenies);
        }
        true
    }

    fn core_is_told(&mut self, id: &JobId, number: u32, notice: &Notice) -> Delivery {
        say!(self, "Core is told about job {id}, number {number}: {notice:?}");
        self.check_told(id, number, notice);
        let job = Core::number(id);
        if self.denies(job) {
            return Delivery::UnknownJob;
        }
        if number > self.core.jobs[job].next {
            self.violated("I8", format!("Core hears update {number} of job {id} before those in front of it"));
        }
        self.core.jobs[job].next = self.core.jobs[job].next.max(number + 1);
        if !self.core.jobs[job].rejected && self.goes_wrong(self.plan.chances.core_rejects, Fault::CoreRejects) {
            self.core.jobs[job].rejected = true;
            return Delivery::Rejected { why: "no".into() };
        }
        if let Notice::Ended { cause } = notice {
            let first = self.core.jobs[job].ended.get_or_insert_with(|| cause.clone()).clone();
            if first != *cause {
                self.violated("I4", format!("Core hears two ends of job {id}: {first:?} and {cause:?}"));
            }
        }
        Delivery::Accepted
    }

    fn core_is_charged(&mut self, charge: &Charge) -> ChargeAnswer {
        say!(self, "Core is charged for job {}, window {}, {} periods", charge.job, charge.window, charge.periods);
        self.check_charge(charge);
        let job = Core::number(&charge.job);
        if self.denies(job) {
            return ChargeAnswer::UnknownJob;
        }
        if !self.core.jobs[job].rejected && self.goes_wrong(self.plan.chances.core_rejects, Fault::CoreRejects) {
            self.core.jobs[job].rejected = true;
            return ChargeAnswer::Rejected { why: "no".into() };
        }
        let known = self.core.jobs[job].charges.entry(charge.window).or_insert_with(|| charge.clone()).clone();
        if known != *charge {
            self.violated("I6", format!("two amounts under one id: {known:?} and {charge:?}"));
        }
        if self.plan.jobs[job].broke_from.is_some_and(|from| charge.window >= from) {
            self.fault(Fault::NoFunds);
            return ChargeAnswer::InsufficientFunds;
        }
        ChargeAnswer::Booked
    }

    fn core_hears_disown(&mut self, id: &JobId) {
        let job = &self.core.jobs[Core::number(id)];
        say!(self, "Core hears that job {id} is unknown");
        let void = self.truth.jobs.get(id).is_some_and(|history| history.void && history.forgotten);
        if job.known && job.accepted && job.ended.is_none() && !void {
            self.violated("I2", format!("Core hears that the accepted job {id} is unknown"));
        }
    }
}
