//! Safety: what is compared with the truth at every commit, every message of consequence, and every move of a container.

use crate::core::Core;
use crate::store::Document;
use crate::truth::{Run, VerdictKind, Whole};
use crate::world::World;
use muster_domain::accounting::Charge;
use muster_domain::effect::{DocumentKey, Effect, Write};
use muster_domain::id::{JobId, NodeName, RankKey, Term};
use muster_domain::invariants::{check_change, check_cluster};
use muster_domain::job::{EndCause, Job, Life};
use muster_domain::outbox::Notice;
use muster_domain::rank::{Command, RankEnd};
use muster_domain::resources::Resources;
use std::collections::BTreeMap;

const PERIOD_MS: u64 = 60_000;
/// By how much two clocks of a world may disagree, and some.
const RATE_PER_MILLE: u64 = 22;
/// What the brain itself tolerates of a worker's clock (one heartbeat), and rounding.
const CLAMP_MS: u64 = 2_100;
/// Two heartbeats at either end, and the delivery of a report (reliability B.4).
const HEARTBEATS_MS: u64 = 9_000;

pub(crate) fn worker_of(node: &NodeName) -> usize {
    node.as_str()[1..].parse().unwrap_or(0)
}

impl World {
    /// A document is about to be replaced in the store.
    pub(crate) fn committed(&mut self, index: usize, term: Term, write: &Write) {
        let key = write.key();
        let before = self.store.documents.get(&key).and_then(Document::job);
        match write {
            Write::Job(job) => {
                let mut wrong: Vec<(&'static str, String)> = Vec::new();
                for violation in check_change(before, job) {
                    wrong.push((violation.invariant, violation.what));
                }
                let edge = (before.map_or("new", |job| job.life.name()), job.life.name());
                let settled = job.account.settled && before.is_none_or(|before| !before.account.settled);
                let released = |job: &Job| matches!(job.life, Life::Ended { released: true, .. });
                let freed = released(job) && before.is_some_and(|before| !released(before));
                if before.is_none() && self.truth.jobs.get(&job.spec.id).is_some_and(|history| history.forgotten) {
                    wrong.push(("I3", format!("job id {} is used again", job.spec.id)));
                }
                if let Some(history) = self.truth.jobs.get(&job.spec.id) {
                    for (charge, known) in job.account.charges(&job.spec).zip(&history.charges) {
                        if charge != *known {
                            wrong.push(("I6", format!("a sealed charge changed: {known:?} to {charge:?}")));
                        }
                    }
                }
                self.coverage.edge(edge);
                say_commit(self, index, term, job, edge);
                self.truth.commit(self.t, job);
                for (invariant, what) in wrong {
                    self.violated(invariant, what);
                }
                if settled {
                    self.check_settlement(job);
                }
                if freed {
                    self.check_freed(job);
                }
            }
            Write::ForgetJob(id) => {
                // That nothing is owed any more may be written along with this: Core has taken all, or denied it often.
                let at_core = &self.core.jobs[Core::number(id)];
                let taken = |job: &Job| at_core.denials.len() >= 3 || at_core.has_all(job);
                let fine = before.is_some_and(|job| job.life.has_ended() && (job.owed() == 0 || taken(job)));
                if let Some(history) = self.truth.jobs.get_mut(id) {
                    history.forgotten = true;
                }
                if !fine {
                    self.violated("I2", format!("job {id} is forgotten before all is told and paid"));
                }
            }
            _ => {}
        }
    }

    /// I7, from what is committed: what was given away of each node.
    pub(crate) fn check_room(&mut self) {
        let mut used: BTreeMap<usize, Resources> = BTreeMap::new();
        for job in self.store.jobs().filter(|job| job.life.holds_room() && !job.life.has_ended()) {
            for node in job.life.placement().into_iter().flat_map(|placement| &placement.0) {
                let used = used.entry(worker_of(node)).or_default();
                *used = used.plus(&job.spec.per_rank);
            }
        }
        let over = used.into_iter().find(|(worker, used)| !self.workers[*worker].capacity().holds(used));
        if let Some((worker, used)) = over {
            self.violated("I7", format!("{used} of w{worker} are given away"));
        }
    }

    /// I7: room is freed only when nothing is left.
    fn check_freed(&mut self, job: &Job) {
        let Some(placement) = job.life.placement() else { return };
        for (rank, node) in (0..).zip(&placement.0) {
            let key = RankKey { job: job.spec.id.clone(), rank, attempt: job.attempt };
            let worker = &self.workers[worker_of(node)];
            if worker.host_up && worker.engine.containers.contains_key(&key) {
                return self.violated("I7", format!("room of {key} is free, but its container is there"));
            }
        }
    }

    /// I6 at the end: whole periods of what is proven, and not more than one of them less.
    fn check_settlement(&mut self, job: &Job) {
        let Life::Ended { ranks, .. } = &job.life else { return };
        let Some(history) = self.truth.jobs.get(&job.spec.id) else { return };
        let proven = ranks.iter().all(|rank| rank.end.as_ref().is_some_and(|end| *end != RankEnd::Vanished));
        let (Some(running_at), true, false) = (history.running_at, proven, history.void) else { return };
        let gang = self.truth.gang(&job.spec.id, job.attempt, job.spec.replicas, self.t);
        let Some(gang) = gang else { return };
        let from = gang.from;
        let periods: u64 = job.account.charges(&job.spec).map(|charge| u64::from(charge.periods)).sum();
        let ran = gang.whole_until - from;
        // An age counts from the first report that a leader hears: what that was late by is not proven.
        let first = job.life.placement().and_then(|placement| placement.0.first()).map_or(0, worker_of);
        let late = self.truth.lateness.get(&first).copied().unwrap_or(0);
        // How much earlier or later than rank 0 another one started is known as well as its start was quick.
        let placed = history.placements.get(&job.attempt).map_or(from, |(_, at)| *at);
        let vague = if gang.whole_until < gang.until { from.saturating_sub(placed) } else { 0 };
        let least = (ran - ran * RATE_PER_MILLE / 1_000)
            .saturating_sub(PERIOD_MS + HEARTBEATS_MS + late + vague + running_at.saturating_sub(from));
        if periods * PERIOD_MS < least {
            self.violated(
                "I6",
                format!("job {} ran {ran} ms and is charged {periods} periods; {ranks:?}", job.spec.id),
            );
        }
    }

    /// What a leader has just decided.
    pub(crate) fn decided(&mut self, index: usize, effects: &[Effect]) {
        if effects.is_empty() {
            return;
        }
        let Some(brain) = &self.coordinators[index].brain else { return };
        if let Some(violation) = check_cluster(&brain.cluster).into_iter().next() {
            return self.violated(violation.invariant, violation.what);
        }
        for effect in effects {
            let Effect::Write { write: Write::Job(job), .. } = effect else { continue };
            let (Life::Stopping { cause, .. } | Life::Ended { cause, .. }) = &job.life else { continue };
            let key = DocumentKey::Job(job.spec.id.clone());
            let known = self.store.documents.get(&key).and_then(Document::job);
            if known.is_some_and(|known| matches!(known.life, Life::Stopping { .. } | Life::Ended { .. })) {
                continue;
            }
            self.check_verdict(index, job, cause);
        }
    }

    /// I9, I10 and I11: an end needs its evidence, and there are not too many verdicts of a kind.
    fn check_verdict(&mut self, index: usize, job: &Job, cause: &EndCause) {
        let Some(brain) = &self.coordinators[index].brain else { return };
        let (term, since) = (brain.term, brain.since);
        let id = &job.spec.id;
        let kind = match cause {
            EndCause::NodeLost { node, rank } => {
                let worker = node[1..].parse().unwrap_or(0);
                let heard = brain.heard.get(&worker).map_or(0, |heard| heard.0).max(since);
                let least = self.plan.lost_after_ms - self.plan.lost_after_ms * RATE_PER_MILLE / 1_000;
                if self.t - heard < least.saturating_sub(100) {
                    let lives =
                        self.truth.live.get(&(id.clone(), *rank)).is_some_and(|(key, _)| key.attempt == job.attempt);
                    if lives {
                        let what = format!("job {id} is called lost, but rank {rank} lives and w{worker} was heard");
                        self.violated("I9", what);
                    }
                }
                // What a reboot took along is no verdict.
                let key = RankKey { job: id.clone(), rank: *rank, attempt: job.attempt };
                let started_at = self.truth.runs.get(&key).map_or(0, |run| run.start);
                if self.workers[worker].booted_at >= started_at {
                    return;
                }
                VerdictKind::Lost
            }
            EndCause::Exited { rank, .. } | EndCause::OutOfMemory { rank } | EndCause::Killed { rank, .. } => {
                let key = RankKey { job: id.clone(), rank: *rank, attempt: job.attempt };
                if self.truth.runs.get(&key).is_none_or(|run| run.end.is_none()) {
                    let what = format!("job {id} ends by what rank {rank} is said to have done, which has not ended");
                    self.violated("I10", what);
                }
                return;
            }
            EndCause::Orphaned => {
                let denials = &self.core.jobs[Core::number(id)].denials;
                let span = denials.last().unwrap_or(&0) - denials.first().unwrap_or(&0);
                if denials.len() < 3 || span + 60_000 * RATE_PER_MILLE / 1_000 + 30_000 < 60_000 {
                    let what = format!("job {id} is called an orphan after {} denials in {span} ms", denials.len());
                    return self.violated("I9", what);
                }
                VerdictKind::Orphan
            }
            EndCause::NoCredit => VerdictKind::NoCredit,
            EndCause::Drained { .. } => VerdictKind::Drain,
            _ => return,
        };
        let verdicts = &mut self.truth.verdicts;
        if verdicts.iter().any(|(t, k, job, _)| *t == term && *k == kind && job == id) {
            return;
        }
        verdicts.push((term, kind, id.clone(), self.t));
        let window = 300_000 - 300_000 * RATE_PER_MILLE / 1_000;
        let now = self.t;
        let recent = verdicts.iter().filter(|(t, k, _, at)| *t == term && *k == kind && now - at < window).count();
        if recent > (self.plan.jobs.len() / 10).max(3) {
            self.violated("I11", format!("{recent} verdicts {kind:?} of one leader in five minutes"));
        }
    }

    /// I5 for commands: derivable from what is committed.
    pub(crate) fn check_command(&mut self, index: usize, command: &Command) {
        let key = command.key();
        let Some(history) = self.truth.jobs.get(&key.job) else {
            return self.violated("I5", format!("a {} of {key}, whose job was never committed", command.name()));
        };
        let placed = history.placements.get(&key.attempt).is_some_and(|(placement, _)| {
            placement.0.get(key.rank as usize).is_some_and(|node| worker_of(node) == index)
        });
        let over = history.stopping || history.undone.contains(&key.attempt) || key.attempt < history.attempt;
        // Moves that share a batch are written as one: an attempt that was made and undone in it leaves only its number.
        let superseded = history.undone.contains(&key.attempt) || key.attempt < history.attempt;
        let fine = match command {
            Command::Prepare(_) => placed || superseded,
            Command::Start { time_limit_ms, .. } => {
                let fixed = placed && history.starting.contains(&key.attempt);
                (fixed || superseded) && history.limits.contains(time_limit_ms)
            }
            Command::SetTimeLimit { time_limit_ms, .. } => placed && history.limits.contains(time_limit_ms),
            Command::Stop { .. } => over,
            // Never ends what runs; the agent sees to that.
            Command::Remove { .. } => over,
        };
        if !fine {
            self.violated("I5", format!("w{index} hears {} {key}, which nothing committed asks for", command.name()));
        }
    }

    /// I3: at most one live container of a rank; and none starts after its attempt was given up.
    pub(crate) fn rank_started(&mut self, index: usize, key: &RankKey) {
        let place = (key.job.clone(), key.rank);
        if let Some((other, worker)) = self.truth.live.get(&place) {
            let place = if *worker == index { "there" } else { "elsewhere" };
            let what = format!("{key} starts on w{index} while {other} lives {place}, on w{worker}");
            return self.violated("I3", what);
        }
        self.truth.live.insert(place, (key.clone(), index));
        self.truth.runs.insert(key.clone(), Run { start: self.t, end: None, whole: Whole::Stays });
        let Some(history) = self.truth.jobs.get(&key.job) else { return };
        if history.ended || history.attempt != key.attempt || history.undone.contains(&key.attempt) && !history.stopping
        {
            let undoing = history.phase == "undoing" && history.attempt == key.attempt;
            if !undoing {
                self.violated("I3", format!("{key} starts although its attempt was given up"));
            }
        }
        let room = Resources::default();
        let used = self
            .truth
            .live
            .values()
            .filter(|(_, worker)| *worker == index)
            .fold(room, |used, (key, _)| used.plus(&self.core.jobs[Core::number(&key.job)].spec.per_rank));
        if !self.workers[index].capacity().holds(&used) {
            self.violated("I7", format!("{used} run on w{index}, more than it has"));
        }
    }

    /// I9: a container is ended only for its job's committed end, or its time limit.
    pub(crate) fn check_kill(&mut self, index: usize, key: &RankKey) {
        let Some(history) = self.truth.jobs.get(&key.job) else { return };
        let over = history.stopping || history.undone.contains(&key.attempt) || key.attempt < history.attempt;
        let age_ms = self.truth.runs.get(key).map_or(0, |run| self.t - run.start);
        let fast = age_ms + age_ms * (RATE_PER_MILLE + self.load_rate_per_mille()) / 1_000 + 50;
        let up = history.limits.iter().flatten().any(|limit_ms| fast >= *limit_ms);
        if !over && !up {
            self.violated("I9", format!("w{index} ends {key}, which nothing committed asks for"));
        }
    }

    /// I5 for updates.
    pub(crate) fn check_told(&mut self, id: &JobId, number: u32, notice: &Notice) {
        let history = self.truth.jobs.get(id);
        let known = history.and_then(|history| history.notices.get(number as usize));
        if !known.is_some_and(|known| known.contains(notice)) {
            self.violated("I5", format!("Core is told about job {id} what is not committed: {notice:?}"));
        }
    }

    /// I5 and I6 for charges: sealed before they are sent, and never ahead of what ran.
    pub(crate) fn check_charge(&mut self, charge: &Charge) {
        let id = &charge.job;
        let Some(history) = self.truth.jobs.get(id) else {
            return self.violated("I5", format!("Core is charged for job {id}, which was never committed"));
        };
        if history.charges.get(charge.window as usize) != Some(charge) {
            return self.violated("I6", format!("Core is sent a charge that is not sealed: {charge:?}"));
        }
        if history.told == 0 {
            return self.violated("I6", format!("Core is charged for job {id}, which it never showed to know"));
        }
        let periods: u64 =
            history.charges[..=charge.window as usize].iter().map(|charge| u64::from(charge.periods)).sum();
        let ran = self.truth.gang(id, history.attempt, charge.ranks, self.t).map_or(0, |gang| gang.until - gang.from);
        let placed = history.placements.get(&history.attempt).map_or(0, |(_, at)| *at);
        let first = RankKey { job: id.clone(), rank: 0, attempt: history.attempt };
        // A clock that is very fast may hide between placement and start.
        let hidden = match self.truth.runs.get(&first) {
            Some(run) if self.load_rate_per_mille() > 0 => run.start.saturating_sub(placed),
            _ => 0,
        };
        let most = ran + ran * RATE_PER_MILLE / 1_000 + CLAMP_MS + hidden;
        if periods * PERIOD_MS > most {
            self.violated("I6", format!("job {id} ran {ran} ms as a whole and is charged {periods} periods"));
        }
    }
}

fn say_commit(world: &mut World, index: usize, term: Term, job: &Job, edge: (&str, &str)) {
    use crate::world::say;
    let Job { spec, attempt, account, told, notices, .. } = job;
    let revision = muster_domain::leadership::revision_of(term);
    say!(
        world,
        "store: c{index} ({revision}) writes job {}: {} -> {}, attempt {attempt}, on {:?}, sealed {} acked {}, told {told} of {}{}",
        spec.id,
        edge.0,
        edge.1,
        job.life.placement().map(|placement| placement.0.iter().map(NodeName::as_str).collect::<Vec<_>>()),
        account.sealed,
        account.acked,
        notices.len(),
        if let Life::Stopping { cause, .. } | Life::Ended { cause, .. } = &job.life {
            format!(", {cause:?}")
        } else {
            String::new()
        }
    );
}
