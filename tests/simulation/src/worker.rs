//! A worker: the real brain of the agent, its journal, its machine, and its one stream to whoever leads. The shell does what
//! `worker/src/driver` and `worker/src/link` do.

use crate::clock::Clock;
use crate::engine::{Container, Engine, Lane};
use crate::fault::Fault;
use crate::mutant::Shell;
use crate::stream::{Down, Up};
use crate::truth::Whole;
use crate::world::{COORDINATORS, What, World, say};
use muster_domain::agent::{Adopted, Agent, AgentEvent, AgentSettings, Observation};
use muster_domain::effect::ToWorker;
use muster_domain::id::{NodeName, RankKey, Term};
use muster_domain::rank::{RankEnd, RankReport};
use muster_domain::resources::Resources;
use muster_domain::time::Moment;
use muster_domain::worker::{Hello, Report};
use std::collections::{BTreeMap, BTreeSet};

const SETTINGS: AgentSettings = AgentSettings { grace_ms: 10_000 };
const HEARTBEAT_MS: u64 = 2_000;
/// Heartbeats of a thousand that speak of somebody else's rank.
const ALIEN_PER_MILLE: u64 = 2;
/// A stream that brings no welcome, or later nothing at all, for so long is given up.
const SILENCE_MS: u64 = 10_000;

/// What the agent keeps over restarts.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    pub(crate) term: Term,
    pub(crate) limits: BTreeMap<RankKey, u64>,
}

/// The stream, or when the next is opened.
#[derive(Clone, Copy, Debug)]
enum Link {
    Waiting { until: Moment },
    Open { stream: usize, welcomed: bool, heard: Moment },
}

pub(crate) struct Worker {
    pub(crate) name: NodeName,
    cores: u32,
    pub(crate) clock: Clock,
    pub(crate) boot: u32,
    /// When, in true time.
    pub(crate) booted_at: u64,
    pub(crate) process: u32,
    pub(crate) host_up: bool,
    pub(crate) agent_up: bool,
    pub(crate) paused: bool,
    /// When the machine, and the agent, may be back.
    pub(crate) back_at: u64,
    pub(crate) inbox: Vec<What>,
    pub(crate) agent: Agent,
    pub(crate) journal: Journal,
    pub(crate) engine: Engine,
    pub(crate) lanes: BTreeMap<RankKey, Lane>,
    pub(crate) watched: BTreeSet<RankKey>,
    link: Option<Link>,
    heartbeat_at: Moment,
    next_coordinator: usize,
    failures: u32,
    /// The newest term that any agent of this node has obeyed.
    pub(crate) newest_term: Term,
    armed: u64,
}

impl Worker {
    pub(crate) fn new(index: usize, cores: u32, clock: Clock) -> Self {
        Self {
            name: NodeName::new(format!("w{index}")).expect("a name"),
            cores,
            clock,
            boot: 1,
            booted_at: 0,
            process: 0,
            host_up: true,
            agent_up: false,
            paused: false,
            back_at: 0,
            inbox: Vec::new(),
            agent: Agent::new(SETTINGS, 0),
            journal: Journal::default(),
            engine: Engine::default(),
            lanes: BTreeMap::new(),
            watched: BTreeSet::new(),
            link: None,
            heartbeat_at: Moment(0),
            next_coordinator: index,
            failures: 0,
            newest_term: 0,
            armed: u64::MAX,
        }
    }

    pub(crate) fn capacity(&self) -> Resources {
        Resources { cores: self.cores, memory_bytes: 1 << 40, gpus: 0 }
    }
}

impl World {
    pub(crate) fn agent_starts(&mut self, index: usize) {
        let process = self.process();
        let forgets = self.without(Shell::TermOverRestart);
        let worker = &mut self.workers[index];
        if worker.agent_up || !worker.host_up || worker.back_at > self.t {
            return;
        }
        (worker.agent_up, worker.paused, worker.process) = (true, false, process);
        worker.agent = Agent::new(SETTINGS, if forgets { 0 } else { worker.journal.term });
        worker.lanes.clear();
        worker.watched.clear();
        worker.inbox.clear();
        worker.link = None;
        worker.armed = u64::MAX;
        (worker.failures, worker.next_coordinator) = (0, index);
        say!(self, "w{index}: the agent starts");
        let takes = self.random.between(50, 600);
        self.after(takes, What::AgentListed(index, process));
    }

    /// The agent is gone; what runs goes on.
    pub(crate) fn agent_dies(&mut self, index: usize, away_ms: u64) {
        let worker = &mut self.workers[index];
        if !worker.agent_up {
            return;
        }
        (worker.agent_up, worker.paused) = (false, false);
        worker.inbox.clear();
        worker.back_at = worker.back_at.max(self.t + away_ms);
        let back_at = worker.back_at;
        say!(self, "w{index}: the agent dies");
        // The machine resets its connections.
        if let Some(Link::Open { stream, .. }) = self.workers[index].link.take() {
            self.send_up(stream, Up::End);
        }
        self.queue.push(back_at, What::AgentUp(index));
    }

    /// The machine is gone, and with it everything that ran there.
    pub(crate) fn host_dies(&mut self, index: usize, away_ms: u64) {
        let remembers = self.plan.engine_remembers;
        let worker = &mut self.workers[index];
        if !worker.host_up {
            return;
        }
        say!(self, "w{index}: the machine is gone");
        let now = worker.clock.read(self.t);
        (worker.host_up, worker.agent_up, worker.paused) = (false, false, false);
        worker.inbox.clear();
        worker.link = None;
        worker.back_at = self.t + away_ms;
        for (key, container) in &mut worker.engine.containers {
            if let Container::Running { started_at } = container {
                let age_ms = now.since_ms(*started_at);
                *container = Container::Ended { end: RankEnd::Vanished, age_ms };
                self.truth.breaks(key, self.t, Whole::Lost);
            }
        }
        if !remembers {
            self.workers[index].engine.containers.clear();
        }
        self.after(away_ms, What::HostUp(index));
    }

    pub(crate) fn host_starts(&mut self, index: usize) {
        if self.workers[index].host_up || self.workers[index].back_at > self.t {
            return;
        }
        let since = self.t - 1_000;
        let ppm = i64::try_from(self.random.below(400)).unwrap_or(0) - 200;
        let worker = &mut self.workers[index];
        worker.host_up = true;
        worker.boot += 1;
        worker.booted_at = self.t;
        // The clock of a machine counts from its boot.
        worker.clock = Clock::new(since, 0, ppm);
        self.agent_starts(index);
    }

    pub(crate) fn worker_resumes(&mut self, index: usize, process: u32) {
        let worker = &mut self.workers[index];
        if !worker.agent_up || worker.process != process || !worker.paused {
            return;
        }
        (worker.paused, worker.armed) = (false, u64::MAX);
        let inbox = std::mem::take(&mut worker.inbox);
        say!(self, "w{index}: the agent goes on, with {} messages waiting", inbox.len());
        for what in inbox {
            self.queue.push(self.t, what);
        }
        self.arm_worker(index);
    }

    pub(crate) fn reach_worker(&mut self, index: usize, process: u32, what: What) {
        let worker = &mut self.workers[index];
        if !worker.agent_up || worker.process != process {
            return;
        }
        if worker.paused {
            worker.inbox.push(what);
            return;
        }
        match what {
            What::EngineAnswer(_, _, call) => self.engine_answered(index, *call),
            What::RankEnded(_, _, key) => self.rank_ended(index, key),
            What::AgentListed(..) => self.agent_listed(index),
            _ => {}
        }
        self.arm_worker(index);
    }

    /// The new agent adopts what the engine has, then looks for a leader.
    fn agent_listed(&mut self, index: usize) {
        let worker = &self.workers[index];
        if worker.engine.down_until > self.t {
            let process = worker.process;
            self.after(1_000, What::AgentListed(index, process));
            return;
        }
        let mut found = Vec::new();
        for (key, container) in &worker.engine.containers {
            let observation = match container {
                Container::Created => Observation::Prepared { address: format!("10.{index}.0.{}", key.rank) },
                Container::Running { started_at } => Observation::Started { started_at: *started_at },
                Container::Ended { end, age_ms } => Observation::Ended { end: end.clone(), age_ms: *age_ms },
            };
            let time_limit_ms = worker.journal.limits.get(key).copied();
            found.push(Adopted { key: key.clone(), term: worker.journal.term, observation, time_limit_ms });
        }
        let running: Vec<RankKey> = found
            .iter()
            .filter(|found| matches!(found.observation, Observation::Started { .. }))
            .map(|found| found.key.clone())
            .collect();
        let keys: BTreeSet<RankKey> = found.iter().map(|found| found.key.clone()).collect();
        self.workers[index].journal.limits.retain(|key, _| keys.contains(key));
        for key in &running {
            self.watch(index, key);
        }
        say!(self, "w{index}: adopts {} containers", keys.len());
        self.agent(index, AgentEvent::Adopt(found));
        self.dial(index);
    }

    fn dial(&mut self, index: usize) {
        let now = self.workers[index].clock.read(self.t);
        let coordinator = self.workers[index].next_coordinator % COORDINATORS;
        let stream = self.open_stream(index, coordinator);
        let worker = &mut self.workers[index];
        worker.link = Some(Link::Open { stream, welcomed: false, heard: now });
        let hello = Hello {
            node: worker.name.clone(),
            boot_id: format!("boot-{}", worker.boot),
            capacity: worker.capacity(),
            categories: Vec::new(),
            labels: BTreeMap::new(),
            network_zone: "z".into(),
            engine: "model".into(),
            engine_version: "1".into(),
            version: "0".into(),
            last_term: worker.agent.last_term(),
            sent_at_ms: now.0,
            ranks: worker.agent.reports(now),
        };
        self.send_up(stream, Up::Hello(Box::new(hello)));
    }

    /// The stream is over, for whatever reason; another follows.
    fn link_ends(&mut self, index: usize, leader: Option<usize>) {
        let now = self.workers[index].clock.read(self.t);
        let worker = &mut self.workers[index];
        let Some(Link::Open { stream, welcomed, .. }) = worker.link else { return };
        if welcomed {
            worker.failures = 0;
        } else {
            worker.failures += 1;
            worker.next_coordinator = leader.unwrap_or(worker.next_coordinator + 1);
        }
        let most = (100_u64 << worker.failures.min(5)).min(2_000);
        let wait = self.random.between(most / 2, most);
        self.workers[index].link = Some(Link::Waiting { until: now.plus_ms(wait) });
        self.send_up(stream, Up::End);
        self.arm_worker(index);
    }

    pub(crate) fn worker_hears(&mut self, index: usize, stream: usize, message: Down) {
        let now = self.workers[index].clock.read(self.t);
        let any = self.without(Shell::CurrentStream);
        let Some(Link::Open { stream: ours, welcomed, heard }) = &mut self.workers[index].link else { return };
        if *ours != stream && !(any && matches!(message, Down::Say(ToWorker::Command { .. }))) {
            return;
        }
        *heard = now;
        match message {
            Down::Refused(leader) => self.link_ends(index, leader),
            Down::End => self.link_ends(index, None),
            Down::Say(ToWorker::Welcome { term }) => {
                *welcomed = true;
                self.workers[index].heartbeat_at = now;
                self.agent(index, AgentEvent::Connected { term });
            }
            Down::Say(ToWorker::Command { sequence, term, command }) if *welcomed => {
                self.check_command(index, &command);
                self.agent(index, AgentEvent::Command { sequence, term, command });
            }
            Down::Say(_) => {}
        }
        self.arm_worker(index);
    }

    pub(crate) fn say_ranks(&mut self, index: usize, now: Moment, complete: bool, mut ranks: Vec<RankReport>) {
        if complete && self.goes_wrong(ALIEN_PER_MILLE, Fault::AlienRank) {
            ranks.extend(self.alien_rank(index));
        }
        let early = self.without(Shell::WelcomeFirst);
        let worker = &self.workers[index];
        let Some(Link::Open { stream, welcomed, .. }) = worker.link else { return };
        if !welcomed && !early {
            return;
        }
        let report = Report {
            sent_at_ms: now.0,
            applied_sequence: if welcomed { worker.agent.applied_sequence() } else { 0 },
            complete,
            ranks,
            engine_ok: worker.engine.down_until <= self.t,
        };
        if !report.engine_ok {
            self.fault(Fault::EngineDown);
        }
        self.send_up(stream, Up::Report(report));
    }

    pub(crate) fn worker_wakes(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        if worker.armed != self.t {
            return;
        }
        worker.armed = u64::MAX;
        if !worker.agent_up || worker.paused {
            return;
        }
        let now = worker.clock.read(self.t);
        match worker.link {
            Some(Link::Waiting { until }) if until <= now => self.dial(index),
            Some(Link::Open { heard, .. }) if now.since_ms(heard) >= SILENCE_MS => {
                say!(self, "w{index} gives up a stream on which nothing is heard");
                self.link_ends(index, None);
            }
            Some(Link::Open { welcomed: true, .. }) if worker.heartbeat_at <= now => {
                worker.heartbeat_at = now.plus_ms(HEARTBEAT_MS);
                let ranks = worker.agent.reports(now);
                self.say_ranks(index, now, true, ranks);
            }
            _ => {}
        }
        if self.workers[index].agent.next_wakeup().is_some_and(|at| at <= now) {
            self.agent(index, AgentEvent::Tick);
        }
        self.arm_worker(index);
    }

    fn arm_worker(&mut self, index: usize) {
        let worker = &self.workers[index];
        if !worker.agent_up || worker.paused {
            return;
        }
        let link = match worker.link {
            Some(Link::Waiting { until }) => Some(until),
            Some(Link::Open { welcomed: true, heard, .. }) => Some(worker.heartbeat_at.min(heard.plus_ms(SILENCE_MS))),
            Some(Link::Open { heard, .. }) => Some(heard.plus_ms(SILENCE_MS)),
            None => None,
        };
        let Some(next) = [link, worker.agent.next_wakeup()].into_iter().flatten().min() else { return };
        let at = worker.clock.when(next).max(self.t + 1);
        if at < worker.armed {
            self.workers[index].armed = at;
            self.queue.push(at, What::WakeWorker(index));
        }
    }
}
