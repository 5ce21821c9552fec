//! A coordinator's process: the real brain of leadership, and while it leads the real cluster. The shell between them and
//! the world does what `coordinator/src` does, in the same order.

use crate::clock::Clock;
use crate::core::{Asked, Item};
use crate::mutant::Shell;
use crate::store::{StoreAnswer, StoreCall};
use crate::stream::Down;
use crate::world::{What, World, say};
use muster_domain::cluster::Cluster;
use muster_domain::commit::{Batch, Decision, Ledger, Revision, Transaction};
use muster_domain::event::Event;
use muster_domain::id::{JobId, RequestId, SessionId, Term};
use muster_domain::leadership::{Leadership, LeadershipEffect, LeadershipEvent, LeadershipSettings, LeaseId, term_of};
use muster_domain::time::Moment;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// Between two rounds of house-keeping.
pub(crate) const HOUSE_MS: u64 = 1_000;
/// A request to the store that is not answered is made again.
pub(crate) const STORE_AGAIN_MS: u64 = 1_000;

/// What an answer of the store is the answer to.
#[derive(Debug)]
pub(crate) enum Pending {
    Grant { sent_at: Moment },
    Keep { lease: LeaseId, sent_at: Moment },
    Saw,
    List,
    Commit,
}

pub(crate) struct Commit {
    pub(crate) batch: Batch<Asked>,
    pub(crate) transaction: Rc<Transaction>,
    pub(crate) in_doubt: bool,
    /// The store had no room for it.
    pub(crate) full: bool,
    pub(crate) ticket: u64,
    pub(crate) sent_at: Moment,
}

/// Something on its way to Core, until it is answered.
pub(crate) struct Outgoing {
    pub(crate) item: Item,
    pub(crate) ticket: u64,
    pub(crate) tries: u32,
    pub(crate) again_at: Moment,
}

/// What lives only while this process leads.
pub(crate) struct Brain {
    pub(crate) term: Term,
    pub(crate) revision: Revision,
    pub(crate) since: u64,
    pub(crate) cluster: Cluster,
    pub(crate) ledger: Ledger,
    pub(crate) leads: bool,
    pub(crate) queue: VecDeque<Decision<Asked>>,
    /// One, and while the store is full one of removals that goes ahead.
    pub(crate) commits: Vec<Commit>,
    /// Effects of a batch are leaving.
    pub(crate) releasing: bool,
    pub(crate) sessions: BTreeMap<SessionId, usize>,
    pub(crate) requests: BTreeMap<RequestId, Asked>,
    /// By job and whether it is a charge.
    pub(crate) outbox: BTreeMap<(JobId, bool), Outgoing>,
    /// When each worker was last heard, in true time, and its boot, clock and stream then.
    pub(crate) heard: BTreeMap<usize, (u64, u32, u64, SessionId)>,
}

pub(crate) struct Coordinator {
    pub(crate) clock: Clock,
    pub(crate) process: u32,
    pub(crate) up: bool,
    pub(crate) paused: bool,
    /// The whole machine is away: nothing refuses.
    pub(crate) host_gone: bool,
    pub(crate) listener_dead: bool,
    /// When it may be started again.
    pub(crate) start_at: u64,
    pub(crate) inbox: Vec<What>,
    pub(crate) leadership: Leadership,
    pub(crate) brain: Option<Box<Brain>>,
    restoring: Option<(Revision, u64, Moment)>,
    pub(crate) pending: BTreeMap<u64, Pending>,
    pub(crate) next_session: SessionId,
    pub(crate) next_request: RequestId,
    pub(crate) yielded_at: Option<u64>,
    armed: u64,
}

impl Coordinator {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            process: 0,
            up: false,
            paused: false,
            host_gone: false,
            listener_dead: false,
            start_at: 0,
            inbox: Vec::new(),
            leadership: Leadership::new(LeadershipSettings::default()),
            brain: None,
            restoring: None,
            pending: BTreeMap::new(),
            next_session: 1,
            next_request: 1,
            yielded_at: None,
            armed: u64::MAX,
        }
    }

    /// Whether it leads and may speak.
    pub(crate) fn speaks(&self, t: u64) -> bool {
        self.leadership.is_valid(self.clock.read(t)) && self.brain.as_ref().is_some_and(|brain| brain.leads)
    }
}

impl World {
    pub(crate) fn coordinator_starts(&mut self, index: usize) {
        if self.coordinators[index].up || self.coordinators[index].start_at > self.t {
            return;
        }
        let process = self.process();
        let old = &self.coordinators[index];
        let fresh = Coordinator { process, up: true, ..Coordinator::new(old.clock) };
        self.coordinators[index] = fresh;
        say!(self, "c{index} starts");
        let house = self.random.below(HOUSE_MS);
        self.after(house, What::House(index, process));
        self.lead(index, LeadershipEvent::Tick);
    }

    /// The process is gone, and all it knew. What it has sent is still on its way.
    pub(crate) fn coordinator_dies(&mut self, index: usize, away_ms: u64, host_gone: bool) {
        let start_at = self.t + away_ms;
        let coordinator = &mut self.coordinators[index];
        if !coordinator.up {
            return;
        }
        let process = coordinator.process;
        (coordinator.up, coordinator.paused, coordinator.host_gone) = (false, false, host_gone);
        coordinator.start_at = start_at;
        coordinator.brain = None;
        coordinator.inbox.clear();
        coordinator.pending.clear();
        say!(self, "c{index} dies{}", if host_gone { " with its machine" } else { "" });
        if !host_gone {
            for stream in 0..self.streams.len() {
                if self.streams[stream].coordinator == index && self.streams[stream].coordinator_process == process {
                    self.send_down(stream, Down::End);
                }
            }
        }
        self.queue.push(start_at, What::CoordinatorUp(index));
    }

    pub(crate) fn reach_coordinator(&mut self, index: usize, process: u32, what: What) {
        let there = &mut self.coordinators[index];
        if !there.up || there.process != process {
            return;
        }
        if there.paused {
            there.inbox.push(what);
            return;
        }
        match what {
            What::FromStore(_, _, ticket, answer) => self.store_answers(index, ticket, *answer),
            What::Watch(_, _, key) => self.lead(index, LeadershipEvent::Saw(key)),
            What::Stopped(..) => self.lead(index, LeadershipEvent::Stopped),
            What::FromCore(_, _, ticket, answer) => self.core_answers(index, ticket, answer),
            _ => {}
        }
        self.arm_coordinator(index);
    }

    pub(crate) fn coordinator_resumes(&mut self, index: usize, process: u32) {
        let there = &mut self.coordinators[index];
        if !there.up || there.process != process || !there.paused {
            return;
        }
        there.paused = false;
        there.armed = u64::MAX;
        let inbox = std::mem::take(&mut there.inbox);
        say!(self, "c{index} goes on, with {} messages waiting", inbox.len());
        let timers_first = self.random.chance(300);
        if timers_first {
            self.arm_coordinator(index);
        }
        for what in inbox {
            self.queue.push(self.t, what);
        }
        if !timers_first {
            // Time is noticed once everything that waited was taken in.
            self.coordinators[index].armed = self.t;
            self.queue.push(self.t, What::WakeCoordinator(index));
        }
    }

    /// One event for the brain of leadership, and what it says.
    pub(crate) fn lead(&mut self, index: usize, event: LeadershipEvent) {
        let now = self.coordinators[index].clock.read(self.t);
        let effects = self.coordinators[index].leadership.apply(now, event);
        for effect in effects {
            self.lead_one(index, now, effect);
        }
        self.arm_coordinator(index);
    }

    fn lead_one(&mut self, index: usize, now: Moment, effect: LeadershipEffect) {
        let (call, pending) = match effect {
            LeadershipEffect::Grant => (StoreCall::Grant, Pending::Grant { sent_at: now }),
            LeadershipEffect::Keep(lease) => (StoreCall::Keep(lease), Pending::Keep { lease, sent_at: now }),
            LeadershipEffect::Campaign(lease) => (StoreCall::Campaign(lease), Pending::Saw),
            LeadershipEffect::Look => (StoreCall::Look, Pending::Saw),
            LeadershipEffect::Revoke(lease) => {
                say!(self, "c{index} ends the lease of the absent leader");
                (StoreCall::Revoke(lease, true), Pending::Saw)
            }
            LeadershipEffect::Release(lease) => {
                self.ask_store(index, StoreCall::Revoke(lease, false));
                return;
            }
            LeadershipEffect::Restore { revision } => {
                say!(self, "c{index} has won, revision {revision}");
                return self.list(index, revision, now);
            }
            LeadershipEffect::Lead { .. } => {
                say!(self, "c{index} leads");
                if let Some(brain) = self.coordinators[index].brain.as_mut() {
                    brain.leads = true;
                }
                return self.pump(index);
            }
            LeadershipEffect::StepDown(why) => {
                say!(self, "c{index} steps down: {why}");
                return self.step_down(index);
            }
            LeadershipEffect::Resigned => {
                let away_ms = self.random.between(500, 10_000);
                return self.coordinator_dies(index, away_ms, false);
            }
        };
        let ticket = self.ask_store(index, call);
        self.coordinators[index].pending.insert(ticket, pending);
    }

    fn list(&mut self, index: usize, revision: Revision, now: Moment) {
        let ticket = self.ask_store(index, StoreCall::List);
        let there = &mut self.coordinators[index];
        there.pending.insert(ticket, Pending::List);
        there.restoring = Some((revision, ticket, now));
    }

    /// Everything that served the leadership ends; what was sent stays sent.
    fn step_down(&mut self, index: usize) {
        let there = &mut self.coordinators[index];
        there.restoring = None;
        let process = there.process;
        if let Some(brain) = there.brain.take() {
            for stream in brain.sessions.into_values() {
                self.streams[stream].session = None;
                self.send_down(stream, Down::End);
            }
            for call in brain.requests.into_values() {
                if self.random.chance(500) {
                    self.reply(index, call, None);
                }
            }
        }
        let takes = self.random.below(200);
        self.after(takes, What::Stopped(index, process));
    }

    fn store_answers(&mut self, index: usize, ticket: u64, answer: StoreAnswer) {
        let Some(pending) = self.coordinators[index].pending.remove(&ticket) else { return };
        let now = self.coordinators[index].clock.read(self.t);
        match (pending, answer) {
            (Pending::Grant { sent_at }, StoreAnswer::Granted(lease)) => {
                self.lead(index, LeadershipEvent::Granted { lease, sent_at });
            }
            (Pending::Keep { lease, sent_at }, StoreAnswer::Kept(alive)) => {
                let sent_at = if self.without(Shell::KeepaliveSendTime) { now } else { sent_at };
                self.lead(index, LeadershipEvent::Kept { lease, sent_at, alive });
            }
            (Pending::Saw, StoreAnswer::Saw(key)) => self.lead(index, LeadershipEvent::Saw(key)),
            (Pending::List, StoreAnswer::Listed(documents, revisions)) => {
                let there = &mut self.coordinators[index];
                let Some((revision, expected, _)) = there.restoring.take() else { return };
                if expected != ticket {
                    there.restoring = Some((revision, expected, now));
                    return;
                }
                let term = term_of(1, revision);
                let settings = self.core.settings.clone();
                let now = self.coordinators[index].clock.now(self.t);
                let (cluster, effects) = Cluster::restore(settings, term, now, documents);
                let brain = Brain {
                    term,
                    revision,
                    since: self.t,
                    cluster,
                    ledger: Ledger::new(revisions),
                    leads: false,
                    queue: VecDeque::new(),
                    commits: Vec::new(),
                    releasing: false,
                    sessions: BTreeMap::new(),
                    requests: BTreeMap::new(),
                    outbox: BTreeMap::new(),
                    heard: BTreeMap::new(),
                };
                self.coordinators[index].brain = Some(Box::new(brain));
                self.decide(index, effects, None);
                self.lead(index, LeadershipEvent::Restored);
            }
            (Pending::Commit, StoreAnswer::Committed(answer)) => self.commit_answered(index, ticket, &answer),
            _ => {}
        }
    }

    pub(crate) fn coordinator_wakes(&mut self, index: usize) {
        let there = &mut self.coordinators[index];
        if there.armed != self.t {
            return;
        }
        there.armed = u64::MAX;
        if !there.up || there.paused {
            return;
        }
        let now = there.clock.read(self.t);
        if there.leadership.next_wakeup().is_some_and(|at| at <= now) {
            self.lead(index, LeadershipEvent::Tick);
        }
        if let Some((revision, _, _)) =
            self.coordinators[index].restoring.filter(|(_, _, at)| now.since_ms(*at) >= STORE_AGAIN_MS)
        {
            self.list(index, revision, now);
        }
        if let Some(brain) = self.coordinators[index].brain.as_ref().filter(|brain| brain.leads) {
            let due = brain.cluster.next_wakeup().is_some_and(|at| at <= now);
            let unanswered = brain.commits.iter().any(|commit| now.since_ms(commit.sent_at) >= STORE_AGAIN_MS);
            let outgoing = brain.outbox.values().any(|outgoing| outgoing.again_at <= now);
            if due {
                self.feed(index, Event::Tick, None);
            }
            if unanswered {
                self.commits_unanswered(index);
            }
            if outgoing {
                self.send_again(index, now);
            }
        }
        self.arm_coordinator(index);
    }

    /// The next timer.
    pub(crate) fn arm_coordinator(&mut self, index: usize) {
        let there = &self.coordinators[index];
        if !there.up || there.paused {
            return;
        }
        let mut next = there.leadership.next_wakeup();
        let mut earlier = |at: Option<Moment>| next = [next, at].into_iter().flatten().min();
        earlier(there.restoring.map(|(_, _, at)| at.plus_ms(STORE_AGAIN_MS)));
        if let Some(brain) = there.brain.as_ref().filter(|brain| brain.leads) {
            earlier(brain.cluster.next_wakeup());
            earlier(brain.commits.iter().map(|commit| commit.sent_at.plus_ms(STORE_AGAIN_MS)).min());
            earlier(brain.outbox.values().map(|outgoing| outgoing.again_at).min());
        }
        let Some(next) = next else { return };
        let at = there.clock.when(next).max(self.t + 1);
        if at < there.armed {
            self.coordinators[index].armed = at;
            self.queue.push(at, What::WakeCoordinator(index));
        }
    }
}
