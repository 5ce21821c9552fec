//! One world: its machines, what is under way between them, and the loop that lets the next thing happen.

use crate::clock::Clock;
use crate::coordinator::Coordinator;
use crate::core::{Answer as CoreAnswer, Asked, Core, Item};
use crate::coverage::Coverage;
use crate::engine::Call;
use crate::fault::{CrashPoint, Fault};
use crate::mutant::{Mutant, Shell, Workload};
use crate::network::{Network, Place};
use crate::plan::Plan;
use crate::queue::Queue;
use crate::random::Random;
use crate::store::{Store, StoreAnswer, StoreRequest};
use crate::stream::{Down, Stream, Up};
use crate::trace::Trace;
use crate::truth::Truth;
use crate::worker::Worker;
use muster_domain::effect::Reply;
use muster_domain::id::RankKey;
use muster_domain::leadership::LeaderKey;
use std::collections::BTreeSet;

/// Coordinators of every world.
pub(crate) const COORDINATORS: usize = 3;
/// No world goes on for longer: whatever is owed by then is owed for ever.
const LONGEST_MS: u64 = 40 * 60_000;

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum What {
    /// A timer of a coordinator.
    WakeCoordinator(usize),
    /// A timer of a worker.
    WakeWorker(usize),
    /// A coordinator looks after its streams and probes the leader.
    House(usize, u32),
    AtStore(Box<StoreRequest>),
    FromStore(usize, u32, u64, Box<StoreAnswer>),
    Watch(usize, u32, Option<LeaderKey>),
    LeaseCheck,
    Up(usize, Up),
    Down(usize, Down),
    /// Core asks a coordinator, or another one forwards it; since when it waits.
    Ask(usize, Asked, u64),
    /// The reply to a try of a call of Core's; `None`: 503.
    Replied(Asked, Option<Reply>),
    CoreTimeOut(Asked),
    CoreAgain(usize),
    CoreAct(CoreAct),
    AtCore(usize, u32, u64, Box<Item>),
    FromCore(usize, u32, u64, CoreAnswer),
    EngineApply(usize, u32, Box<Call>),
    EngineAnswer(usize, u32, Box<Call>),
    RankExits(usize, u32, RankKey),
    RankEnded(usize, u32, RankKey),
    AgentListed(usize, u32),
    Fault(usize),
    CoordinatorUp(usize),
    CoordinatorResumes(usize, u32),
    Stopped(usize, u32),
    AgentUp(usize),
    HostUp(usize),
    WorkerResumes(usize, u32),
    DeadListenerEnds(usize),
    Heal,
    CheckLeader,
    CheckSettled,
}

/// What Core does by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CoreAct {
    Create(usize),
    Repeat(usize),
    Terminate(usize),
    Extend(usize),
    Verify,
    TerminateAll,
}

/// A broken invariant.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) invariant: &'static str,
    pub(crate) what: String,
}

pub(crate) struct World {
    pub(crate) t: u64,
    pub(crate) queue: Queue<What>,
    pub(crate) random: Random,
    pub(crate) plan: Plan,
    pub(crate) network: Network,
    pub(crate) coordinators: Vec<Coordinator>,
    pub(crate) store: Store,
    pub(crate) core: Core,
    pub(crate) workers: Vec<Worker>,
    pub(crate) streams: Vec<Stream>,
    pub(crate) truth: Truth,
    pub(crate) coverage: Coverage,
    pub(crate) trace: Trace,
    pub(crate) next_process: u32,
    pub(crate) next_ticket: u64,
    /// Crash points at which the next process that passes dies, for so long.
    pub(crate) armed: Vec<(CrashPoint, u64)>,
    pub(crate) faults_on: bool,
    pub(crate) removed: BTreeSet<Shell>,
    pub(crate) broken: Option<Broken>,
    /// Words that a violation must have to count.
    only: Option<&'static str>,
    pub(crate) over: bool,
    pub(crate) events: u64,
    /// By how much workers' clocks are fast beyond what is assumed of clocks.
    fast_per_mille: u64,
    hash: u64,
}

/// Writes a line of the timeline, if anybody will read it.
macro_rules! say {
    ($world:expr, $($arg:tt)*) => {
        if $world.trace.on {
            let line = format!($($arg)*);
            $world.trace.line($world.t, line);
        }
    };
}
pub(crate) use say;

/// What one seed came to.
pub(crate) struct Ended {
    pub(crate) broken: Option<Broken>,
    pub(crate) hash: u64,
    pub(crate) t: u64,
    pub(crate) events: u64,
    pub(crate) coverage: Coverage,
    pub(crate) trace: Trace,
}

impl World {
    pub(crate) fn new(seed: u64, mutant: Option<&Mutant>, traced: bool) -> Self {
        let mut random = Random::new(seed);
        let usual = Workload::default();
        let load = mutant.map_or(&usual, |mutant| &mutant.workload);
        let plan = Plan::draw(&mut random, load);
        let mut clock = |first: u64| {
            let ppm = i64::try_from(random.below(plan.most_ppm * 2 + 1)).unwrap_or(0);
            let most = i64::try_from(plan.most_ppm).unwrap_or(0);
            Clock::new(0, first + random.below(1_000_000_000), ppm - most)
        };
        let coordinators = (0..COORDINATORS).map(|_| Coordinator::new(clock(0))).collect();
        let store = Store::new(clock(0));
        let fast = if load.fast_workers { 150_000 } else { 0 };
        let workers: Vec<Worker> = (0..plan.worker_cores.len())
            .map(|index| {
                let mut clock = clock(0);
                if fast > 0 {
                    clock.drift(0, fast);
                }
                Worker::new(index, plan.worker_cores[index], clock)
            })
            .collect();
        let removed = mutant.into_iter().flat_map(Mutant::shells).collect();
        let mut world = Self {
            t: 0,
            queue: Queue::new(),
            network: Network::new(plan.latency_ms),
            coordinators,
            store,
            core: Core::new(&plan),
            workers,
            streams: Vec::new(),
            truth: Truth::default(),
            coverage: Coverage::default(),
            trace: Trace::new(traced),
            next_process: 1,
            next_ticket: 1,
            armed: Vec::new(),
            faults_on: true,
            removed,
            broken: None,
            only: mutant.and_then(|mutant| mutant.only),
            over: false,
            events: 0,
            fast_per_mille: u64::try_from(fast / 1_000).unwrap_or(0),
            hash: seed,
            random,
            plan,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for index in 0..self.coordinators.len() {
            let at = self.random.below(300);
            self.queue.push(at, What::CoordinatorUp(index));
        }
        for index in 0..self.workers.len() {
            let at = self.random.below(2_000);
            self.queue.push(at, What::AgentUp(index));
        }
        for (index, planned) in self.plan.faults.iter().enumerate() {
            self.queue.push(planned.at, What::Fault(index));
        }
        self.core_begins();
        self.queue.push(self.plan.heal_at, What::Heal);
    }

    /// Lets everything happen.
    pub(crate) fn run(mut self) -> Ended {
        while let Some((at, what)) = self.queue.pop() {
            debug_assert!(at >= self.t, "time goes back");
            self.t = at;
            self.events += 1;
            let kind = std::mem::discriminant(&what);
            self.happen(what);
            self.mark(kind);
            if self.broken.is_some() || self.over {
                break;
            }
            if self.t > LONGEST_MS {
                self.not_settled();
                break;
            }
        }
        let Self { broken, hash, t, events, coverage, trace, .. } = self;
        Ended { broken, hash, t, events, coverage, trace }
    }

    fn mark(&mut self, kind: std::mem::Discriminant<What>) {
        use std::hash::{Hash, Hasher};
        let mut hasher = Fold(self.hash ^ self.t.rotate_left(32));
        kind.hash(&mut hasher);
        self.hash = (hasher.finish() ^ self.random.mark() ^ self.store.revision).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn happen(&mut self, what: What) {
        match what {
            What::WakeCoordinator(index) => self.coordinator_wakes(index),
            What::WakeWorker(index) => self.worker_wakes(index),
            What::House(index, process) => self.coordinator_keeps_house(index, process),
            What::AtStore(request) => self.at_store(*request),
            What::FromStore(index, process, ..) | What::FromCore(index, process, ..) => {
                self.reach_coordinator(index, process, what);
            }
            What::Watch(index, process, ..) | What::Stopped(index, process) => {
                self.reach_coordinator(index, process, what);
            }
            What::LeaseCheck => self.store_checks_leases(),
            What::Up(stream, message) => self.up_arrives(stream, message),
            What::Down(stream, message) => self.down_arrives(stream, message),
            What::Ask(index, call, since) => self.asked(index, call, since),
            What::Replied(asked, reply) => self.core_hears_reply(asked, reply),
            What::CoreTimeOut(asked) => self.core_gives_up(asked),
            What::CoreAgain(call) => self.core_calls(call),
            What::CoreAct(act) => self.core_acts(act),
            What::AtCore(index, process, ticket, item) => self.at_core(index, process, ticket, *item),
            What::EngineApply(index, boot, call) => self.engine_applies(index, boot, *call),
            What::EngineAnswer(index, process, ..) => self.reach_worker(index, process, what),
            What::RankExits(index, boot, key) => self.rank_exits(index, boot, &key),
            What::RankEnded(index, process, ..) | What::AgentListed(index, process) => {
                self.reach_worker(index, process, what);
            }
            What::Fault(index) => self.fault_comes(index),
            What::CoordinatorUp(index) => self.coordinator_starts(index),
            What::CoordinatorResumes(index, process) => self.coordinator_resumes(index, process),
            What::AgentUp(index) => self.agent_starts(index),
            What::HostUp(index) => self.host_starts(index),
            What::WorkerResumes(index, process) => self.worker_resumes(index, process),
            What::DeadListenerEnds(index) => self.coordinators[index].listener_dead = false,
            What::Heal => self.heal(),
            What::CheckLeader => self.check_leader(),
            What::CheckSettled => self.check_settled(),
        }
    }

    pub(crate) fn after(&mut self, ms: u64, what: What) {
        self.queue.push(self.t + ms, what);
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        self.coverage.fault(fault);
    }

    /// Whether something of this chance goes wrong now; counted if so.
    pub(crate) fn goes_wrong(&mut self, per_mille: u64, fault: Fault) -> bool {
        let wrong = self.faults_on && self.random.chance(per_mille);
        if wrong {
            self.coverage.fault(fault);
        }
        wrong
    }

    pub(crate) fn without(&self, guard: Shell) -> bool {
        self.removed.contains(&guard)
    }

    /// Puts every guard of the shells back.
    pub(crate) fn stand(&mut self) {
        self.removed.clear();
        self.only = None;
    }

    pub(crate) fn load_rate_per_mille(&self) -> u64 {
        self.fast_per_mille
    }

    pub(crate) fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    pub(crate) fn process(&mut self) -> u32 {
        self.next_process += 1;
        self.next_process
    }

    /// The first violation ends the world.
    pub(crate) fn violated(&mut self, invariant: &'static str, what: String) {
        say!(self, "!!! {invariant}: {what}");
        if self.only.is_some_and(|words| !what.contains(words)) {
            return;
        }
        self.broken.get_or_insert(Broken { invariant, what });
    }

    /// How long a message takes that nobody waits for in order; `None`: it is lost.
    pub(crate) fn passes(&mut self, from: Place, to: Place) -> Option<u64> {
        if self.network.blocked(self.t, from, to).is_some() || self.goes_wrong(self.plan.chances.loss, Fault::Loss) {
            return None;
        }
        Some(self.takes())
    }

    /// How long a message takes.
    pub(crate) fn takes(&mut self) -> u64 {
        let usual = self.network.latency(&mut self.random);
        if self.goes_wrong(self.plan.chances.delay, Fault::Delay) {
            let most = self.plan.chances.delay_most_ms;
            return usual + self.random.below(most);
        }
        usual
    }

    /// Whether a process dies here, because a planned crash waits for this step.
    pub(crate) fn dies_at(&mut self, point: CrashPoint) -> Option<u64> {
        let position = self.armed.iter().position(|(armed, _)| *armed == point)?;
        let (_, lasts_ms) = self.armed.swap_remove(position);
        self.coverage.crash(point);
        self.fault(Fault::ArmedCrash);
        Some(lasts_ms)
    }
}

/// Folds bytes into a number; the same on every machine.
struct Fold(u64);

impl std::hash::Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3);
        }
    }
}
