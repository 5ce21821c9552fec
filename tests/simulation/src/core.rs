//! The model of UCloud/Core: it asks for jobs, repeats itself, gives up, forgets; it takes updates and charges and checks
//! each against what is committed.

use crate::fault::Fault;
use crate::network::Place;
use crate::plan::Plan;
use crate::world::{COORDINATORS, CoreAct, What, World, say};
use muster_domain::accounting::Charge;
use muster_domain::cluster::Settings;
use muster_domain::effect::{RefusalKind, Reply};
use muster_domain::event::{ChargeAnswer, Delivery, Event, Extension};
use muster_domain::id::{ClusterName, JobId, ProviderId, RequestId};
use muster_domain::job::spec::{ContainerSpec, JobSpec, Owner, Price};
use muster_domain::job::{EndCause, Job};
use muster_domain::outbox::Notice;
use muster_domain::product::{Period, ProductRef};
use muster_domain::resources::Resources;
use std::collections::BTreeMap;

/// Core gives a call up after this time (F1), and repeats it so often when it was answered with 503 (F2).
const GIVES_UP_MS: u64 = 5_000;
const MOST_TRIES: u32 = 6;
const AGAIN_MS: u64 = 500;
const VERIFY_MS: u64 = 45_000;

/// One try of one call of Core's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) call: usize,
    pub(crate) number: u32,
}

/// Something for Core.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Tell { job: JobId, number: u32, notice: Notice },
    Charge(Charge),
    Disown(JobId),
}

impl Item {
    pub(crate) fn job(&self) -> Option<&JobId> {
        match self {
            Self::Tell { job, .. } | Self::Disown(job) => Some(job),
            Self::Charge(charge) => Some(&charge.job),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Told(Delivery),
    Charged(ChargeAnswer),
}

#[derive(Clone, Debug)]
enum Kind {
    Create(usize),
    Terminate(usize),
    Extend(usize),
    Verify(Vec<JobId>),
}

#[derive(Debug)]
struct Call {
    kind: Kind,
    number: u32,
    tries: u32,
    open: bool,
}

/// A job, as Core has it.
#[derive(Debug)]
pub(crate) struct CoreJob {
    pub(crate) spec: JobSpec,
    /// Core has it: registered, and not given up.
    pub(crate) known: bool,
    pub(crate) accepted: bool,
    pub(crate) ended: Option<EndCause>,
    /// The next update that may come.
    pub(crate) next: u32,
    pub(crate) charges: BTreeMap<u32, Charge>,
    /// When it was denied.
    pub(crate) denials: Vec<u64>,
    pub(crate) rejected: bool,
}

impl CoreJob {
    /// Whether it has heard every notice and has every charge.
    pub(crate) fn has_all(&self, job: &Job) -> bool {
        self.next as usize >= job.notices.len() && self.charges.len() >= job.account.sealed as usize
    }
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) jobs: Vec<CoreJob>,
    calls: Vec<Call>,
    pub(crate) down_until: u64,
}

impl Core {
    pub(crate) fn new(plan: &Plan) -> Self {
        let settings = Settings {
            cluster: ClusterName::new("simulated").expect("a name"),
            provider: ProviderId::new("example").expect("a name"),
            version: "0".into(),
            attempts: 3,
            offline_after_ms: 6_000,
            lost_after_ms: plan.lost_after_ms,
            prepare_timeout_ms: plan.prepare_timeout_ms,
            start_lease_ms: 20_000,
            resend_ms: 5_000,
            retention_ms: plan.retention_ms,
            round_up: false,
            no_credit_confirmations: plan.no_credit_confirmations,
        };
        let spec = |number: usize| {
            let job = &plan.jobs[number];
            JobSpec {
                id: JobId::new(format!("{}", 100 + number)).expect("a number"),
                owner: Owner { created_by: "user".into(), project: None },
                name: None,
                application: "acme 1".into(),
                product: ProductRef { id: "p".into(), category: "c".into(), provider: settings.provider.clone() },
                replicas: job.replicas,
                time_limit_ms: job.time_limit_ms,
                container: ContainerSpec { image: "acme".into(), ..ContainerSpec::default() },
                per_rank: Resources { cores: job.cores, memory_bytes: 1 << 30, gpus: 0 },
                price: Price { period: Period::Minute, units_per_period: 1, window_periods: 1 },
                traceparent: None,
            }
        };
        let jobs = (0..plan.jobs.len()).map(|number| CoreJob {
            spec: spec(number),
            known: false,
            accepted: false,
            ended: None,
            next: 0,
            charges: BTreeMap::new(),
            denials: Vec::new(),
            rejected: false,
        });
        let jobs = jobs.collect();
        Self { settings, jobs, calls: Vec::new(), down_until: 0 }
    }

    /// The number of a job in the plan.
    pub(crate) fn number(job: &JobId) -> usize {
        job.as_str().parse::<usize>().unwrap_or(100) - 100
    }

    /// The event that a try is for a leader.
    pub(crate) fn event(&self, asked: Asked, request: RequestId) -> Event {
        let id = |job: usize| self.jobs[job].spec.id.clone();
        match &self.calls[asked.call].kind {
            Kind::Create(job) => Event::Create { request, jobs: vec![self.jobs[*job].spec.clone()] },
            Kind::Terminate(job) => Event::Terminate { request, jobs: vec![id(*job)] },
            Kind::Extend(job) => Event::Extend { request, items: vec![Extension { job: id(*job), add_ms: 30_000 }] },
            Kind::Verify(jobs) => Event::Verify { jobs: jobs.clone() },
        }
    }
}

impl World {
    pub(crate) fn core_begins(&mut self) {
        for (number, job) in self.plan.jobs.iter().enumerate() {
            self.queue.push(job.at, What::CoreAct(CoreAct::Create(number)));
            if job.repeated {
                self.queue.push(job.at + 300, What::CoreAct(CoreAct::Repeat(number)));
            }
            if let Some(at) = job.terminate_at {
                self.queue.push(at, What::CoreAct(CoreAct::Terminate(number)));
            }
            if let Some(at) = job.extend_at {
                self.queue.push(at, What::CoreAct(CoreAct::Extend(number)));
            }
        }
        self.queue.push(VERIFY_MS, What::CoreAct(CoreAct::Verify));
    }

    pub(crate) fn core_acts(&mut self, act: CoreAct) {
        if self.core.down_until > self.t {
            let back = self.core.down_until;
            self.queue.push(back, What::CoreAct(act));
            return;
        }
        let kind = match act {
            CoreAct::Create(job) => {
                self.core.jobs[job].known = true;
                Kind::Create(job)
            }
            CoreAct::Repeat(job) if self.core.jobs[job].known => {
                self.fault(Fault::RepeatedCreate);
                Kind::Create(job)
            }
            CoreAct::Terminate(job) if self.core.jobs[job].accepted && self.core.jobs[job].ended.is_none() => {
                Kind::Terminate(job)
            }
            CoreAct::Extend(job) if self.core.jobs[job].accepted && self.core.jobs[job].ended.is_none() => {
                Kind::Extend(job)
            }
            CoreAct::Verify => {
                self.after(VERIFY_MS, What::CoreAct(CoreAct::Verify));
                let active = |job: &&CoreJob| job.known && job.accepted && job.ended.is_none();
                Kind::Verify(self.core.jobs.iter().filter(active).map(|job| job.spec.id.clone()).collect())
            }
            CoreAct::TerminateAll => {
                for job in 0..self.core.jobs.len() {
                    self.core_acts(CoreAct::Terminate(job));
                }
                return;
            }
            _ => return,
        };
        self.core.calls.push(Call { kind, number: 0, tries: 0, open: true });
        self.core_calls(self.core.calls.len() - 1);
    }

    /// One try, at any coordinator.
    pub(crate) fn core_calls(&mut self, call: usize) {
        let there = &mut self.core.calls[call];
        if !there.open {
            return;
        }
        there.number += 1;
        let number = there.number;
        let asked = Asked { call, number };
        let coordinator = self.random.index(COORDINATORS);
        say!(self, "Core asks c{coordinator}: {:?} (try {number})", self.core.calls[call].kind);
        if let Some(takes) = self.passes(Place::Core, Place::Coordinator(coordinator)) {
            let at = self.t + takes;
            self.queue.push(at, What::Ask(coordinator, asked, at));
        }
        self.after(GIVES_UP_MS, What::CoreTimeOut(asked));
    }

    /// Whether no create is under way any more.
    pub(crate) fn core_is_done(&self) -> bool {
        !self.core.calls.iter().any(|call| call.open && matches!(call.kind, Kind::Create(_)))
    }

    pub(crate) fn core_hears_reply(&mut self, asked: Asked, reply: Option<Reply>) {
        let call = &mut self.core.calls[asked.call];
        if !call.open || call.number != asked.number || self.core.down_until > self.t {
            return;
        }
        let kind = call.kind.clone();
        let later = match &reply {
            None => true,
            Some(Err(refusal)) => refusal.kind == RefusalKind::Unavailable,
            Some(Ok(())) => false,
        };
        if later {
            call.tries += 1;
            if call.tries < MOST_TRIES || matches!(kind, Kind::Terminate(_)) {
                // Until the next try the number must not match.
                call.number += 1;
                self.after(AGAIN_MS, What::CoreAgain(asked.call));
            } else {
                call.open = false;
                self.core_forgets(&kind);
            }
            return;
        }
        call.open = false;
        match (kind, reply) {
            (Kind::Create(job), Some(Ok(()))) => {
                let id = self.core.jobs[job].spec.id.clone();
                say!(self, "Core hears that job {id} is accepted");
                self.core.jobs[job].accepted = true;
                if !self.truth.is_committed(&id) {
                    self.violated("I2", format!("the create of job {id} was answered, but it is not in the store"));
                }
            }
            (Kind::Create(job), Some(Err(refusal))) => {
                let id = self.core.jobs[job].spec.id.clone();
                self.violated("I3", format!("a create of job {id} was refused: {refusal}"));
            }
            _ => {}
        }
    }

    pub(crate) fn core_gives_up(&mut self, asked: Asked) {
        let call = &mut self.core.calls[asked.call];
        if !call.open || call.number != asked.number {
            return;
        }
        let repeats = match call.kind {
            Kind::Terminate(_) => true,
            // Some Cores give up (F3); a front end with patience asks again.
            Kind::Create(_) => !self.plan.time_out_lets_orphans,
            _ => false,
        };
        if repeats {
            self.after(AGAIN_MS, What::CoreAgain(asked.call));
            return;
        }
        call.open = false;
        let kind = call.kind.clone();
        self.core_forgets(&kind);
    }

    /// Core deletes a job whose create did not succeed; whoever made it has an orphan.
    fn core_forgets(&mut self, kind: &Kind) {
        if let Kind::Create(job) = kind
            && !self.core.jobs[*job].accepted
        {
            say!(self, "Core gives job {} up and deletes it", self.core.jobs[*job].spec.id);
            self.core.jobs[*job].known = false;
            if self.truth.is_committed(&self.core.jobs[*job].spec.id) {
                self.fault(Fault::Orphan);
            }
        }
    }
}
