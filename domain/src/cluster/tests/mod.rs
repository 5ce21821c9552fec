//! The cluster's rules as timelines: a real brain of the coordinator, real brains of workers, a scripted engine and a
//! scripted Core, and a clock that only the test moves. Invariants are checked after every event.

mod accounting;
mod brake;
mod core;
mod faults;
mod orders;
mod road;
mod takeover;
mod worker;

use super::*;
use crate::accounting::Charge;
use crate::agent::{Agent, AgentEvent, AgentSettings, Observation};
use crate::effect::ToWorker;
use crate::event::{ChargeAnswer, Delivery};
use crate::id::{ClusterName, ProviderId, RankKey};
use crate::invariants::{check_change, check_cluster};
use crate::job::spec::{ContainerSpec, JobSpec, Owner, Price};
use crate::job::{EndCause, Job, Life};
use crate::outbox::Notice;
use crate::product::{Period, ProductRef};
use crate::rank::{Command, RankEnd};
use crate::resources::Resources;
use crate::view::NodeView;
use crate::worker::{Hello, Report};
use worker::Worker;

pub(super) const MINUTE: u64 = 60_000;

pub(super) fn id(text: &str) -> JobId {
    JobId::new(text).unwrap()
}

pub(super) fn spec(job: &str, replicas: u32) -> JobSpec {
    let provider = ProviderId::new("example").unwrap();
    JobSpec {
        id: id(job),
        owner: Owner { created_by: "user".into(), project: None },
        name: None,
        application: "acme-batch 1.0.0".into(),
        product: ProductRef { id: "small".into(), category: "compute".into(), provider },
        replicas,
        time_limit_ms: Some(60 * MINUTE),
        container: ContainerSpec {
            image: "acme/batch:1.0.0".into(),
            argv: vec!["acme-batch".into()],
            ..Default::default()
        },
        per_rank: Resources { cores: 1, memory_bytes: 1 << 30, gpus: 0 },
        price: Price { period: Period::Minute, units_per_period: 1, window_periods: 1 },
        traceparent: None,
    }
}

fn settings() -> Settings {
    Settings {
        cluster: ClusterName::new("test").unwrap(),
        provider: ProviderId::new("example").unwrap(),
        version: "0".into(),
        attempts: 3,
        offline_after_ms: 6_000,
        lost_after_ms: 30 * MINUTE,
        prepare_timeout_ms: 10 * MINUTE,
        start_lease_ms: 20_000,
        resend_ms: 5_000,
        retention_ms: 24 * 60 * MINUTE,
        round_up: false,
        no_credit_confirmations: 1,
    }
}

/// A whole cluster under test.
pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) now_ms: u64,
    pub(super) workers: BTreeMap<String, Worker>,
    next_session: SessionId,
    next_request: RequestId,
    /// The store: what a successor would find.
    pub(super) store: BTreeMap<JobId, Job>,
    pub(super) nodes: BTreeMap<NodeName, NodeRecord>,
    pub(super) replies: BTreeMap<RequestId, Reply>,
    /// What Core was told and accepted, per job.
    pub(super) told: BTreeMap<JobId, Vec<Notice>>,
    pub(super) charges: Vec<Charge>,
    pub(super) disowned: Vec<JobId>,
    pub(super) alarms: Vec<String>,
    pub(super) yields: usize,
    /// Documents that were written or removed.
    pub(super) writes: usize,
    /// Jobs that Core denies.
    pub(super) unknown_to_core: BTreeSet<JobId>,
    /// Jobs whose wallet is empty.
    pub(super) broke: BTreeSet<JobId>,
    /// Workers that hear everything and are not heard.
    pub(super) deaf_to: BTreeSet<String>,
    /// The worker whose engine does not answer a start.
    pub(super) hold_start: Option<String>,
    /// Whether the workers' engines answer.
    pub(super) engine_ok: bool,
    /// Whether Core answers at all.
    pub(super) core_is_up: bool,
    pub(super) unanswered: Vec<Effect>,
    /// The coordinator dies after this many more writes, before anything that follows them goes out.
    pub(super) writes_until_crash: Option<usize>,
    term: Term,
    /// What is under way between the parts; delivered in order.
    under_way: VecDeque<Delivered>,
}

/// Something on its way to one of the brains.
enum Delivered {
    Coordinator(Event),
    Worker(String, AgentEvent),
}

impl World {
    pub(super) fn new(workers: &[(&str, u32)]) -> Self {
        let (cluster, effects) = Cluster::restore(settings(), 1, Now::default(), Documents::default());
        assert_eq!(effects, vec![]);
        let mut world = Self {
            cluster,
            now_ms: 1_000,
            workers: BTreeMap::new(),
            next_session: 1,
            next_request: 1,
            store: BTreeMap::new(),
            nodes: BTreeMap::new(),
            replies: BTreeMap::new(),
            told: BTreeMap::new(),
            charges: vec![],
            disowned: vec![],
            alarms: vec![],
            yields: 0,
            writes: 0,
            unknown_to_core: BTreeSet::new(),
            broke: BTreeSet::new(),
            deaf_to: BTreeSet::new(),
            hold_start: None,
            engine_ok: true,
            core_is_up: true,
            unanswered: vec![],
            writes_until_crash: None,
            term: 1,
            under_way: VecDeque::new(),
        };
        for (name, cores) in workers {
            let agent = Agent::new(AgentSettings { grace_ms: 10_000 }, 0);
            let worker = Worker {
                agent,
                session: 0,
                connected: false,
                refuses: None,
                keeps_everything: false,
                commands: vec![],
                cores: *cores,
                boot: 1,
            };
            world.workers.insert((*name).to_owned(), worker);
            world.connect(name);
        }
        world
    }

    pub(super) fn now(&self) -> Now {
        Now { moment: Moment(self.now_ms), wall_ms: 1_700_000_000_000 + self.now_ms }
    }

    /// An event, everything that follows from it, and the invariants.
    pub(super) fn event(&mut self, event: Event) {
        self.send(event);
        self.settle();
    }

    pub(super) fn agent(&mut self, name: &str, event: AgentEvent) {
        self.under_way.push_back(Delivered::Worker(name.to_owned(), event));
        self.settle();
    }

    fn send(&mut self, event: Event) {
        self.under_way.push_back(Delivered::Coordinator(event));
    }

    fn settle(&mut self) {
        while let Some(next) = self.under_way.pop_front() {
            match next {
                Delivered::Coordinator(event) => {
                    let effects = self.cluster.apply(self.now(), event);
                    self.perform(effects);
                }
                Delivered::Worker(name, event) => {
                    let now = Moment(self.now_ms);
                    let effects = self.workers.get_mut(&name).unwrap().agent.apply(now, event);
                    self.perform_on_worker(&name, effects);
                }
            }
        }
    }

    /// Performs what was held back, and everything that follows.
    pub(super) fn perform_all(&mut self, effects: Vec<Effect>) {
        self.perform(effects);
        self.settle();
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        assert_eq!(check_cluster(&self.cluster), vec![]);
        let writes = effects.iter().filter(|effect| matches!(effect, Effect::Write { .. })).count();
        let dies = self.writes_until_crash.is_some_and(|left| left <= writes);
        self.writes_until_crash = self.writes_until_crash.map(|left| left.saturating_sub(writes));
        self.writes += writes;
        for effect in effects {
            match effect {
                effect if dies && !matches!(effect, Effect::Write { .. }) => {}
                Effect::Write { write: Write::Job(job), .. } => {
                    assert_eq!(check_change(self.store.get(&job.spec.id), &job), vec![]);
                    self.store.insert(job.spec.id.clone(), *job);
                }
                Effect::Write { write: Write::Node(node), .. } => {
                    self.nodes.insert(node.name.clone(), *node);
                }
                Effect::Write { write: Write::ForgetNode(node), .. } => {
                    self.nodes.remove(&node);
                }
                Effect::Write { write: Write::ForgetJob(job), .. } => {
                    self.store.remove(&job);
                }
                Effect::Reply { request, reply } => {
                    self.replies.insert(request, reply);
                }
                Effect::Send { session, message, .. } => self.deliver(session, message),
                Effect::Close { .. } | Effect::Changed { .. } => {}
                Effect::Disown { job } => self.disowned.push(job),
                Effect::Alarm { message } => self.alarms.push(message),
                Effect::Yield { .. } => self.yields += 1,
                effect @ (Effect::Tell { .. } | Effect::Charge { .. }) if !self.core_is_up => {
                    self.unanswered.push(effect)
                }
                Effect::Tell { job, number, notice, .. } => {
                    let delivery = if self.unknown_to_core.contains(&job) {
                        Delivery::UnknownJob
                    } else {
                        self.told.entry(job.clone()).or_default().push(notice);
                        Delivery::Accepted
                    };
                    self.send(Event::Told { job, number, delivery });
                }
                Effect::Charge { charge, .. } => {
                    let (job, window) = (charge.job.clone(), charge.window);
                    let answer = if self.unknown_to_core.contains(&job) {
                        ChargeAnswer::UnknownJob
                    } else {
                        self.charges.push(charge);
                        let broke = self.broke.contains(&job);
                        if broke { ChargeAnswer::InsufficientFunds } else { ChargeAnswer::Booked }
                    };
                    self.send(Event::Charged { job, window, answer });
                }
            }
        }
        if dies {
            self.writes_until_crash = None;
            self.under_way.clear();
            self.restart();
        }
    }

    fn deliver(&mut self, session: SessionId, message: ToWorker) {
        let Some((name, worker)) = self.workers.iter_mut().find(|(_, w)| w.session == session && w.connected) else {
            return;
        };
        if let ToWorker::Command { sequence, term, command } = message {
            worker.commands.push(command.clone());
            let event = AgentEvent::Command { sequence, term, command };
            self.under_way.push_back(Delivered::Worker(name.clone(), event));
        }
    }

    /// Time passes in steps of a second, with heartbeats and timers as they fall due.
    pub(super) fn pass(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        while self.now_ms < until {
            self.now_ms = (self.now_ms + 1_000).min(until);
            let names: Vec<String> = self.workers.keys().cloned().collect();
            for name in names {
                let due = self.workers[&name].agent.next_wakeup().is_some_and(|at| at.0 <= self.now_ms);
                if due {
                    self.agent(&name, AgentEvent::Tick);
                }
                if self.now_ms.is_multiple_of(2_000) {
                    self.heartbeat(&name);
                }
            }
            if self.cluster.next_wakeup().is_some_and(|at| at.0 <= self.now_ms) {
                self.event(Event::Tick);
            }
        }
    }

    fn request(&mut self) -> RequestId {
        self.next_request += 1;
        self.next_request
    }

    pub(super) fn create(&mut self, jobs: Vec<JobSpec>) -> Reply {
        let request = self.request();
        self.event(Event::Create { request, jobs });
        self.replies.remove(&request).expect("every request is answered")
    }

    pub(super) fn terminate(&mut self, job: &str) {
        let request = self.request();
        self.event(Event::Terminate { request, jobs: vec![id(job)] });
        assert_eq!(self.replies.remove(&request), Some(Ok(())));
    }

    /// An operator's order.
    pub(super) fn order(&mut self, order: impl FnOnce(RequestId) -> Event) -> Reply {
        let request = self.request();
        self.event(order(request));
        self.replies.remove(&request).expect("every request is answered")
    }

    pub(super) fn drain(&mut self, node: &str, deadline_ms: Option<u64>) {
        let node = NodeName::new(node).unwrap();
        assert_eq!(self.order(|request| Event::Drain { request, node, deadline_ms }), Ok(()));
    }

    pub(super) fn view(&self, node: &str) -> NodeView {
        self.cluster.node_views(self.now()).into_iter().find(|view| view.name == node).unwrap()
    }

    pub(super) fn extend(&mut self, job: &str, add_ms: u64) -> Reply {
        let request = self.request();
        self.event(Event::Extend { request, items: vec![crate::event::Extension { job: id(job), add_ms }] });
        self.replies.remove(&request).expect("every request is answered")
    }

    /// A rank ends by itself.
    pub(super) fn rank_ends(&mut self, job: &str, rank: u32, end: RankEnd) {
        let node = self.node_of(job, rank);
        let key = RankKey { job: id(job), rank, attempt: self.store[&id(job)].attempt };
        let age_ms = self.age(&node, &key);
        self.agent(&node, AgentEvent::Observed { key, observation: Observation::Ended { end, age_ms } });
    }

    pub(super) fn node_of(&self, job: &str, rank: u32) -> String {
        self.store[&id(job)].node_of(rank).unwrap().to_string()
    }

    pub(super) fn life(&self, job: &str) -> &'static str {
        self.store[&id(job)].life.name()
    }

    pub(super) fn cause(&self, job: &str) -> Option<EndCause> {
        match &self.store[&id(job)].life {
            Life::Ended { cause, .. } | Life::Stopping { cause, .. } => Some(cause.clone()),
            _ => None,
        }
    }

    pub(super) fn released(&self, job: &str) -> bool {
        !self.store[&id(job)].life.holds_room()
    }

    /// The coordinator dies; a successor reads the store, workers come back.
    pub(super) fn restart(&mut self) {
        self.term += 1;
        self.unanswered.clear();
        let documents =
            Documents { jobs: self.store.values().cloned().collect(), nodes: self.nodes.values().cloned().collect() };
        let (cluster, effects) = Cluster::restore(settings(), self.term, self.now(), documents);
        self.cluster = cluster;
        self.perform_all(effects);
        let names: Vec<String> = self.workers.keys().cloned().collect();
        for name in names {
            if self.workers[&name].connected {
                self.connect(&name);
            }
        }
    }

    pub(super) fn told(&self, job: &str) -> &[Notice] {
        self.told.get(&id(job)).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn periods_charged(&self, job: &str) -> u32 {
        let mut windows = BTreeMap::new();
        for charge in self.charges.iter().filter(|charge| charge.job == id(job)) {
            let first = windows.entry(charge.window).or_insert_with(|| charge.clone());
            assert_eq!(first, charge, "I6: an amount never changes");
        }
        windows.values().map(|charge| charge.periods).sum()
    }
}
