//! The model of the engines: containers that outlive their agent and die with their machine, and calls that take time, fail,
//! or are done although they failed. The calls of one rank are made one after another, as `worker/src/calls.rs` does.
//!
//! A call that was under way when its agent died lands before the next agent lists, or never.

use crate::core::Core;
use crate::fault::{CrashPoint, Fault};
use crate::truth::Whole;
use crate::world::{What, World, say};
use muster_domain::agent::{AgentEvent, Observation};
use muster_domain::guard::{self, Guard};
use muster_domain::id::RankKey;
use muster_domain::rank::RankEnd;
use muster_domain::time::Moment;
use std::collections::{BTreeMap, VecDeque};

/// How long preparing and starting are repeated while the engine does not answer.
const PATIENCE_MS: u64 = 15_000;

#[derive(Clone, Debug)]
pub(crate) enum Order {
    Prepare,
    Start(Moment),
    Terminate,
    Kill,
    Remove,
}

impl Order {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Start(_) => "start",
            Self::Terminate => "terminate",
            Self::Kill => "kill",
            Self::Remove => "remove",
        }
    }
}

/// What a call came to.
#[derive(Clone, Debug)]
enum Outcome {
    Done,
    Prepared(String),
    Started(Moment),
    /// No answer: nothing is known.
    Unavailable,
    /// It cannot be done here, or by its own fault nowhere.
    Refused {
        retry: bool,
    },
}

/// One call to an engine.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    process: u32,
    key: RankKey,
    order: Order,
    began: Moment,
    tries: u32,
    /// A start that was given up: whatever became of it is removed.
    undoing: bool,
    /// `None`: to be made again.
    outcome: Option<Outcome>,
}

#[derive(Clone, Debug)]
pub(crate) enum Container {
    Created,
    Running { started_at: Moment },
    Ended { end: RankEnd, age_ms: u64 },
}

/// What one rank waits for.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    waiting: VecDeque<Order>,
    under_way: Option<&'static str>,
}

#[derive(Debug, Default)]
pub(crate) struct Engine {
    pub(crate) containers: BTreeMap<RankKey, Container>,
    pub(crate) down_until: u64,
    pub(crate) slow_until: u64,
}

impl World {
    pub(crate) fn order(&mut self, index: usize, key: RankKey, order: Order) {
        let lane = self.workers[index].lanes.entry(key.clone()).or_default();
        let name = order.name();
        if lane.under_way == Some(name) || lane.waiting.iter().any(|waiting| waiting.name() == name) {
            return;
        }
        lane.waiting.push_back(order);
        self.advance(index, key);
    }

    fn advance(&mut self, index: usize, key: RankKey) {
        let process = self.workers[index].process;
        let began = self.workers[index].clock.read(self.t);
        let Some(lane) = self.workers[index].lanes.get_mut(&key) else { return };
        if lane.under_way.is_some() {
            return;
        }
        let Some(order) = lane.waiting.pop_front() else { return };
        lane.under_way = Some(order.name());
        let call = Call { process, key, order, began, tries: 0, undoing: false, outcome: None };
        self.call_engine(index, call);
    }

    fn call_engine(&mut self, index: usize, mut call: Call) {
        let now = self.workers[index].clock.read(self.t);
        if let (Order::Start(not_after), false) = (&call.order, call.undoing)
            && now > *not_after
            && !Self::start_deadline_is_removed()
        {
            call.outcome = Some(Outcome::Unavailable);
            return self.engine_answered(index, call);
        }
        let engine = &self.workers[index].engine;
        let slow = engine.slow_until > self.t;
        let takes = match call.order {
            _ if slow => self.random.between(500, 9_000),
            Order::Prepare => self.random.between(20, 2_500),
            _ => self.random.between(2, 120),
        };
        if slow {
            self.fault(Fault::EngineSlow);
        }
        let boot = self.workers[index].boot;
        self.after(takes, What::EngineApply(index, boot, Box::new(call)));
    }

    /// The call reaches the engine.
    pub(crate) fn engine_applies(&mut self, index: usize, boot: u32, mut call: Call) {
        let worker = &self.workers[index];
        if !worker.host_up || worker.boot != boot || worker.process != call.process {
            return;
        }
        let process = call.process;
        let outcome = if worker.engine.down_until > self.t
            || self.goes_wrong(self.plan.chances.engine_no_answer, Fault::EngineNoAnswer)
        {
            Outcome::Unavailable
        } else {
            let done = self.engine_does(index, &call);
            let unanswered = self.goes_wrong(self.plan.chances.engine_done_unanswered, Fault::EngineDoneUnanswered);
            if unanswered { Outcome::Unavailable } else { done }
        };
        let point = match (&call.order, &outcome) {
            (Order::Prepare, Outcome::Prepared(_)) => Some(CrashPoint::ContainerCreated),
            (Order::Start(_), Outcome::Started(_)) => Some(CrashPoint::ContainerStarted),
            _ => None,
        };
        if self.workers[index].agent_up
            && let Some(away_ms) = point.and_then(|point| self.dies_at(point))
        {
            return self.agent_dies(index, away_ms);
        }
        call.outcome = Some(outcome);
        let takes = self.random.between(1, 20);
        self.after(takes, What::EngineAnswer(index, process, Box::new(call)));
    }

    fn engine_does(&mut self, index: usize, call: &Call) -> Outcome {
        let key = &call.key;
        let now = self.workers[index].clock.read(self.t);
        let order = if call.undoing { &Order::Remove } else { &call.order };
        let state = self.workers[index].engine.containers.get(key).cloned();
        match (order, state) {
            (Order::Prepare, None) => {
                if self.plan.jobs[Core::number(&key.job)].bad_image {
                    self.fault(Fault::BadImage);
                    return Outcome::Refused { retry: false };
                }
                if self.goes_wrong(self.plan.chances.engine_refuses, Fault::EngineRefuses) {
                    return Outcome::Refused { retry: true };
                }
                self.workers[index].engine.containers.insert(key.clone(), Container::Created);
                Outcome::Prepared(format!("10.{index}.0.{}", key.rank))
            }
            (Order::Prepare, Some(_)) => Outcome::Prepared(format!("10.{index}.0.{}", key.rank)),
            (Order::Start(_), Some(Container::Created)) => {
                if self.goes_wrong(self.plan.chances.engine_refuses, Fault::EngineRefuses) {
                    return Outcome::Refused { retry: true };
                }
                let running = Container::Running { started_at: now };
                self.workers[index].engine.containers.insert(key.clone(), running);
                say!(self, "w{index}: container {key} starts");
                self.rank_started(index, key);
                let plan = &self.plan.jobs[Core::number(&key.job)];
                if let Some(Some((after_ms, _))) = plan.ends.get(key.rank as usize) {
                    let (at, boot) = (self.t + after_ms, self.workers[index].boot);
                    self.queue.push(at, What::RankExits(index, boot, key.clone()));
                }
                Outcome::Started(now)
            }
            (Order::Start(_), Some(Container::Running { started_at })) => Outcome::Started(started_at),
            (Order::Start(_), Some(Container::Ended { age_ms, .. })) => {
                Outcome::Started(Moment(now.0.saturating_sub(age_ms)))
            }
            (Order::Start(_), None) => Outcome::Refused { retry: true },
            (Order::Terminate, Some(Container::Running { .. })) => {
                self.check_kill(index, key);
                // One in ten does not listen.
                if !self.random.chance(100) {
                    self.container_ends(index, key, &RankEnd::Killed { signal: 15 });
                }
                Outcome::Done
            }
            (Order::Kill, Some(Container::Running { .. })) => {
                self.check_kill(index, key);
                self.container_ends(index, key, &RankEnd::Killed { signal: 9 });
                Outcome::Done
            }
            (Order::Remove, state) => {
                if let Some(Container::Running { .. }) = state {
                    if !call.undoing {
                        self.violated("I9", format!("w{index} removes {key}, which runs"));
                    }
                    self.container_ends(index, key, &RankEnd::Killed { signal: 9 });
                }
                if self.workers[index].engine.containers.remove(key).is_some() {
                    say!(self, "w{index}: container {key} is removed");
                }
                Outcome::Done
            }
            (Order::Terminate | Order::Kill, _) => Outcome::Done,
        }
    }

    /// A rank comes to its own end.
    pub(crate) fn rank_exits(&mut self, index: usize, boot: u32, key: &RankKey) {
        let running = matches!(self.workers[index].engine.containers.get(key), Some(Container::Running { .. }));
        if self.workers[index].boot != boot || !self.workers[index].host_up || !running {
            return;
        }
        let plan = &self.plan.jobs[Core::number(&key.job)];
        let code = plan.ends.get(key.rank as usize).copied().flatten().map_or(0, |(_, code)| code);
        let end = if code < 0 { RankEnd::OutOfMemory } else { RankEnd::Exited { code } };
        if code < 0 {
            self.fault(Fault::OutOfMemory);
        }
        if code != 0 {
            self.truth.breaks(key, self.t, Whole::Fails);
        }
        self.container_ends(index, key, &end);
    }

    fn container_ends(&mut self, index: usize, key: &RankKey, end: &RankEnd) {
        let now = self.workers[index].clock.read(self.t);
        let worker = &mut self.workers[index];
        let Some(container) = worker.engine.containers.get_mut(key) else { return };
        let Container::Running { started_at } = *container else { return };
        *container = Container::Ended { end: end.clone(), age_ms: now.since_ms(started_at) };
        say!(self, "w{index}: container {key} ends: {end:?}");
        // An agent that dies after it killed a rank for its time limit does not know any more why it ended.
        let whole = if matches!(end, RankEnd::Killed { .. }) { Whole::Fails } else { Whole::Stays };
        self.truth.breaks(key, self.t, whole);
        self.tell_end(index, key.clone());
    }

    /// The engine comes back with nothing in it, and without anybody having seen an end.
    pub(crate) fn engine_forgets(&mut self, index: usize) {
        let containers = &self.workers[index].engine.containers;
        let running = containers.iter().filter(|(_, container)| matches!(container, Container::Running { .. }));
        let running: Vec<RankKey> = running.map(|(key, _)| key.clone()).collect();
        for key in running {
            self.truth.breaks(&key, self.t, Whole::Lost);
            self.container_ends(index, &key, &RankEnd::Vanished);
        }
    }

    /// Whoever waits for the end of a rank hears of it.
    fn tell_end(&mut self, index: usize, key: RankKey) {
        let worker = &self.workers[index];
        if !worker.agent_up || !worker.watched.contains(&key) {
            return;
        }
        let (process, at) = (worker.process, self.t.max(worker.engine.down_until));
        let takes = self.random.between(1, 50);
        self.queue.push(at + takes, What::RankEnded(index, process, key));
    }

    pub(crate) fn watch(&mut self, index: usize, key: &RankKey) {
        self.workers[index].watched.insert(key.clone());
        if let Some(Container::Ended { .. }) = self.workers[index].engine.containers.get(key) {
            self.tell_end(index, key.clone());
        }
    }

    pub(crate) fn rank_ended(&mut self, index: usize, key: RankKey) {
        if let Some(Container::Ended { end, age_ms }) = self.workers[index].engine.containers.get(&key).cloned() {
            self.agent(index, AgentEvent::Observed { key, observation: Observation::Ended { end, age_ms } });
        }
    }

    /// The engine's answer, or the time to call again.
    pub(crate) fn engine_answered(&mut self, index: usize, mut call: Call) {
        let now = self.workers[index].clock.read(self.t);
        let Some(outcome) = call.outcome.take() else {
            return self.call_engine(index, call);
        };
        let patient = matches!(call.order, Order::Prepare | Order::Start(_)) && !call.undoing;
        let observation = match outcome {
            Outcome::Unavailable if !patient || now.since_ms(call.began) < PATIENCE_MS => {
                return self.call_again(index, call);
            }
            Outcome::Unavailable => match call.order {
                Order::Prepare => {
                    Some(Observation::PrepareFailed { reason: "the engine does not answer".into(), retry: true })
                }
                _ => {
                    // It may run, unseen. "Could not be started" is said when nothing is left that could be.
                    call.undoing = true;
                    return self.call_engine(index, call);
                }
            },
            Outcome::Refused { retry } if matches!(call.order, Order::Prepare) => {
                Some(Observation::PrepareFailed { reason: "refused".into(), retry })
            }
            Outcome::Refused { retry } => Some(Observation::StartFailed { reason: "refused".into(), retry }),
            Outcome::Prepared(address) => Some(Observation::Prepared { address }),
            Outcome::Started(started_at) => Some(Observation::Started { started_at }),
            Outcome::Done if call.undoing => {
                Some(Observation::StartFailed { reason: "the engine does not answer".into(), retry: true })
            }
            Outcome::Done if matches!(call.order, Order::Remove) => Some(Observation::Removed),
            Outcome::Done => None,
        };
        let key = call.key;
        if let Some(lane) = self.workers[index].lanes.get_mut(&key) {
            lane.under_way = None;
            if observation == Some(Observation::Removed) && lane.waiting.is_empty() {
                self.workers[index].lanes.remove(&key);
            }
        }
        self.advance(index, key.clone());
        let Some(observation) = observation else { return };
        match &observation {
            Observation::Started { .. } => self.watch(index, &key),
            Observation::Removed => {
                self.workers[index].watched.remove(&key);
                self.workers[index].journal.limits.remove(&key);
            }
            _ => {}
        }
        self.agent(index, AgentEvent::Observed { key, observation });
    }

    fn call_again(&mut self, index: usize, mut call: Call) {
        call.tries += 1;
        let process = call.process;
        let most = (200_u64 << call.tries.min(5)).min(5_000);
        let wait = self.random.between(most / 2, most);
        self.after(wait, What::EngineAnswer(index, process, Box::new(call)));
    }

    fn start_deadline_is_removed() -> bool {
        !guard::stands(Guard::StartDeadline)
    }
}
