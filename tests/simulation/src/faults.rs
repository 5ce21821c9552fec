//! Faults that come at a time of their own, the moment when all of them are over, and what must then come true (I13).

use crate::check::worker_of;
use crate::core::Core;
use crate::fault::Fault;
use crate::network::End;
use crate::plan::{Planned, crash_point};
use crate::world::{COORDINATORS, CoreAct, What, World, say};
use muster_domain::event::Event;
use muster_domain::id::{NodeName, Rank, RankKey};
use muster_domain::job::Life;
use muster_domain::leadership::LeadershipEvent;
use muster_domain::rank::{RankEnd, RankReport, RankState};

/// After the last fault: one leader, every document at rest, nothing owed.
const LEADER_WITHIN_MS: u64 = 15_000;
const STABLE_WITHIN_MS: u64 = 120_000;
/// Brakes free and refused charges go again within five minutes each, so a few of them may pass.
const SETTLED_WITHIN_MS: u64 = 25 * 60_000;
const LOOK_EVERY_MS: u64 = 2_000;

impl World {
    fn leader(&self) -> Option<usize> {
        (0..COORDINATORS).find(|index| self.coordinators[*index].up && self.coordinators[*index].brain.is_some())
    }

    pub(crate) fn fault_comes(&mut self, number: usize) {
        let Planned { fault, lasts_ms, pick, .. } = self.plan.faults[number];
        if !self.faults_on {
            return;
        }
        // Nothing lasts longer than the phase of faults.
        let lasts_ms = lasts_ms.min(self.plan.heal_at.saturating_sub(self.t)).max(1);
        let until = self.t + lasts_ms;
        let any = (pick % COORDINATORS as u64) as usize;
        let leader = self.leader().unwrap_or(any);
        // Most faults are worst at the leader.
        let target = if pick / 16 % 4 < 3 { leader } else { any };
        let worker = (pick / 64 % self.workers.len() as u64) as usize;
        if !self.fault_applies(fault, target, leader, worker) {
            return;
        }
        say!(self, "--- {} (c{target}, w{worker}, {lasts_ms} ms)", fault.name());
        if !matches!(fault, Fault::ArmedCrash | Fault::EngineDown | Fault::EngineSlow) {
            self.fault(fault);
        }
        match fault {
            Fault::LeaderCrash => self.coordinator_dies(leader, lasts_ms, false),
            Fault::FollowerCrash => self.coordinator_dies((leader + 1 + any % 2) % COORDINATORS, lasts_ms, false),
            Fault::CoordinatorHostLoss => self.coordinator_dies(target, lasts_ms, true),
            Fault::ArmedCrash => self.armed.push((crash_point(pick), lasts_ms)),
            Fault::ShortPause | Fault::LongPause => {
                self.coordinators[target].paused = true;
                let process = self.coordinators[target].process;
                self.after(lasts_ms, What::CoordinatorResumes(target, process));
            }
            Fault::Resign => self.lead(target, LeadershipEvent::Resign),
            Fault::DeadListener => {
                self.coordinators[leader].listener_dead = true;
                self.after(lasts_ms, What::DeadListenerEnds(leader));
            }
            Fault::FalseAbsence => self.call_absent(leader),
            Fault::AgentCrash => self.agent_dies(worker, lasts_ms),
            Fault::AgentPause => {
                self.workers[worker].paused = true;
                let process = self.workers[worker].process;
                self.after(lasts_ms, What::WorkerResumes(worker, process));
            }
            Fault::HostReboot | Fault::HostLoss => self.host_dies(worker, lasts_ms),
            Fault::EngineDown => {
                let engine = &mut self.workers[worker].engine;
                engine.down_until = engine.down_until.max(until);
            }
            Fault::EngineForgets => self.engine_forgets(worker),
            Fault::EngineSlow => self.workers[worker].engine.slow_until = until,
            Fault::QuorumLoss | Fault::MemberFault => self.store_goes(lasts_ms),
            Fault::NoSpace => self.store.full_until = until,
            Fault::SlowStore => self.store.slow_until = until,
            Fault::CoreOutage => self.core.down_until = until,
            Fault::ClockDrift => {
                let most = self.plan.most_ppm;
                let ppm = i64::try_from(pick / 1_024 % (most * 2 + 1)).unwrap_or(0) - i64::try_from(most).unwrap_or(0);
                if pick.is_multiple_of(2) {
                    self.coordinators[target].clock.drift(self.t, ppm);
                } else {
                    self.workers[worker].clock.drift(self.t, ppm);
                }
            }
            Fault::StoreNearlyFull => {
                self.feed(leader, Event::StoreSpace { used_bytes: 90, budget_bytes: 100 }, None);
            }
            Fault::Cordon | Fault::Drain => self.operator_orders(leader, worker, fault, lasts_ms),
            _ => self.cut(fault, target, worker, pick, until),
        }
    }

    fn fault_applies(&self, fault: Fault, target: usize, leader: usize, worker: usize) -> bool {
        let alive = |index: usize| self.coordinators[index].up && !self.coordinators[index].paused;
        match fault {
            Fault::ShortPause | Fault::LongPause | Fault::Resign | Fault::CoordinatorHostLoss => alive(target),
            Fault::LeaderCrash
            | Fault::DeadListener
            | Fault::FalseAbsence
            | Fault::StoreNearlyFull
            | Fault::Cordon
            | Fault::Drain => alive(leader) && self.coordinators[leader].brain.is_some(),
            Fault::AgentCrash | Fault::EngineForgets => self.workers[worker].agent_up,
            Fault::AgentPause => self.workers[worker].agent_up && !self.workers[worker].paused,
            Fault::HostReboot | Fault::HostLoss => self.workers[worker].host_up,
            _ => true,
        }
    }

    /// Everybody else is told that the leader's machine refuses connections, which is not so.
    fn call_absent(&mut self, leader: usize) {
        for index in 0..COORDINATORS {
            let there = &self.coordinators[index];
            let seen = there.leadership.seen().filter(|_| index != leader && there.up && !there.paused);
            if let Some(key) = seen {
                self.lead(index, LeadershipEvent::Absent { revision: key.revision });
            }
        }
    }

    /// Whoever gave an order waits for no reply; the nodes are given back when all faults are over.
    fn operator_orders(&mut self, leader: usize, worker: usize, fault: Fault, lasts_ms: u64) {
        let node = self.workers[worker].name.clone();
        let event = match fault {
            Fault::Cordon => Event::Cordon { request: 0, node },
            _ => Event::Drain { request: 0, node, deadline_ms: (lasts_ms > 10_000).then_some(lasts_ms) },
        };
        self.feed(leader, event, None);
    }

    fn cut(&mut self, fault: Fault, coordinator: usize, worker: usize, pick: u64, until: u64) {
        let here = End::Coordinator(coordinator);
        let workers = if (pick / 4_096).is_multiple_of(2) { End::Workers } else { End::Worker(worker) };
        let other = End::Coordinator((coordinator + 1) % COORDINATORS);
        let (ends, both): ((End, End), bool) = match fault {
            Fault::CutStore => ((here, End::Store), true),
            Fault::CutToStore => ((here, End::Store), false),
            Fault::CutFromStore => ((End::Store, here), false),
            Fault::CutWorkers => ((here, workers), true),
            Fault::CutToWorkers => ((here, workers), false),
            Fault::CutFromWorkers => ((workers, here), false),
            Fault::CutCore => ((here, End::Core), true),
            Fault::CutCoordinators => ((here, other), true),
            _ => return,
        };
        // A worker that cannot reach one coordinator cannot reach the others either, half of the times.
        let everywhere = matches!(workers, End::Worker(_)) && (pick / 8_192).is_multiple_of(2);
        for index in 0..COORDINATORS {
            let moved = |end: End| if end == here { End::Coordinator(index) } else { end };
            let worker_cut = matches!(fault, Fault::CutWorkers | Fault::CutToWorkers | Fault::CutFromWorkers);
            if index == coordinator || (everywhere && worker_cut) {
                self.network.cut(moved(ends.0), moved(ends.1), until);
                if both {
                    self.network.cut(moved(ends.1), moved(ends.0), until);
                }
            }
        }
    }

    /// The last fault is over.
    pub(crate) fn heal(&mut self) {
        say!(self, "--- all faults are over");
        self.faults_on = false;
        self.armed.clear();
        self.network.heal(self.t);
        for worker in &mut self.workers {
            worker.engine.down_until = worker.engine.down_until.min(self.t);
            worker.engine.slow_until = 0;
        }
        for index in 0..COORDINATORS {
            self.coordinators[index].listener_dead = false;
            self.feed(index, Event::StoreSpace { used_bytes: 1, budget_bytes: 100 }, None);
            if !self.coordinators[index].up {
                self.coordinators[index].start_at = self.t;
                self.coordinator_starts(index);
            } else if self.coordinators[index].paused {
                let process = self.coordinators[index].process;
                self.coordinator_resumes(index, process);
            }
        }
        for index in 0..self.workers.len() {
            self.workers[index].back_at = self.workers[index].back_at.min(self.t);
            let process = self.workers[index].process;
            self.host_starts(index);
            self.agent_starts(index);
            self.worker_resumes(index, process);
        }
        if self.plan.terminates_all {
            self.after(60_000, What::CoreAct(CoreAct::TerminateAll));
        } else {
            // What would run for ever must be ended by somebody.
            self.after(240_000, What::CoreAct(CoreAct::TerminateAll));
        }
        self.after(LEADER_WITHIN_MS, What::CheckLeader);
    }

    pub(crate) fn check_leader(&mut self) {
        let leaders = (0..COORDINATORS).filter(|index| self.coordinators[*index].speaks(self.t)).count();
        if leaders != 1 {
            self.violated("I13", format!("{leaders} coordinators lead {LEADER_WITHIN_MS} ms after the last fault"));
        }
        for worker in 0..self.workers.len() {
            let node = self.workers[worker].name.clone();
            if let Some(leader) = self.leader() {
                self.feed(leader, Event::Uncordon { request: 0, node }, None);
            }
        }
        self.after(LOOK_EVERY_MS, What::CheckSettled);
    }

    /// A word about a rank that was placed elsewhere.
    pub(crate) fn alien_rank(&mut self, index: usize) -> Option<RankReport> {
        let is_alien = |(rank, node): (Rank, &NodeName)| (worker_of(node) != index).then_some(rank);
        let placed = self.truth.jobs.iter().filter_map(|(job, history)| {
            let (placement, _) = history.placements.get(&history.attempt)?;
            let rank = (0..).zip(&placement.0).find_map(is_alien)?;
            Some(RankKey { job: job.clone(), rank, attempt: history.attempt })
        });
        let keys: Vec<RankKey> = placed.collect();
        let chosen = self.random.below(keys.len().max(1) as u64);
        let key = keys.into_iter().nth(usize::try_from(chosen).unwrap_or(0))?;
        let state = match self.random.below(4) {
            0 => RankState::Ended { end: RankEnd::Exited { code: 1 }, age_ms: 10_000_000 },
            1 => RankState::Running { age_ms: 10_000_000 },
            2 => RankState::Failed { reason: "not mine".into(), retry: false },
            _ => RankState::Removed,
        };
        Some(RankReport { key, state, time_limit_ms: None })
    }

    /// Whether everything has ended; and whether anything stays where nothing should.
    pub(crate) fn check_settled(&mut self) {
        let quiet_since = self.plan.heal_at + LEADER_WITHIN_MS;
        let mut all = true;
        let mut stuck = None;
        for job in self.store.jobs() {
            let done = matches!(job.life, Life::Ended { released: true, .. }) && job.owed() == 0;
            // A job that Core has deleted is found out when it runs, and not while it waits for machines.
            let unasked = job.life == Life::Queued && !self.core.jobs[Core::number(&job.spec.id)].known;
            all &= done || unasked;
            let Some(history) = self.truth.jobs.get(&job.spec.id) else { continue };
            let passing = matches!(history.phase, "preparing" | "starting" | "undoing" | "stopping" | "ended");
            if passing && self.t > history.phase_since.max(quiet_since) + STABLE_WITHIN_MS {
                stuck = Some(format!("job {} is {} since {} ms", job.spec.id, history.phase, history.phase_since));
            }
        }
        if let Some(what) = stuck {
            return self.violated("I13", what);
        }
        let void = |job: &crate::core::CoreJob| self.truth.jobs.get(&job.spec.id).is_some_and(|history| history.void);
        let fair = |job: &crate::core::CoreJob| !job.known || !job.accepted || job.ended.is_some() || void(job);
        all &= self.core.jobs.iter().all(fair) && self.core_is_done();
        if all && self.t > quiet_since + 2_000 {
            self.check_books();
            self.over = true;
            return;
        }
        if self.t > self.plan.heal_at + SETTLED_WITHIN_MS {
            return self.not_settled();
        }
        self.after(LOOK_EVERY_MS, What::CheckSettled);
    }

    /// I13: something never came to its end.
    pub(crate) fn not_settled(&mut self) {
        let owed: Vec<String> = self
            .store
            .jobs()
            .filter(|job| !matches!(job.life, Life::Ended { released: true, .. }) || job.owed() > 0)
            .map(|job| format!("job {} is {}, owes {}", job.spec.id, job.life.name(), job.owed()))
            .collect();
        self.violated("I13", format!("not everything ended: {}", owed.join("; ")));
    }

    /// I6 when all is settled: Core has exactly what was sealed. I4: and the same end.
    fn check_books(&mut self) {
        let mut wrong = None;
        for job in &self.core.jobs {
            let Some(history) = self.truth.jobs.get(&job.spec.id).filter(|history| !history.void) else { continue };
            let booked: Vec<_> = job.charges.values().cloned().collect();
            if job.known && booked != history.charges {
                wrong = Some(format!("job {}: Core has {booked:?}, sealed is {:?}", job.spec.id, history.charges));
            }
        }
        if let Some(what) = wrong {
            self.violated("I6", what);
        }
    }
}
