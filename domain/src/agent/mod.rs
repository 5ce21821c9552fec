//! The worker's brain: what is wanted against what runs.
//!
//! [`Agent::apply`] takes commands of the leader and observations of the engine, and answers with what the engine
//! should do and what the leader should hear. It refuses older terms, starts past their deadline, and a start for a
//! (job, rank) that still has a live container; it ends ranks whose time is up, leader or no leader.
//!
//! A container dies here for three reasons only (I9): by its own exit or limits, by a stop of the current term, by its
//! time limit. Silence of the leader, a restart of the agent or an engine that does not answer are none of them.

mod held;
#[cfg(test)]
mod tests;

use crate::guard::{self, Guard};
use crate::id::{RankKey, Term};
use crate::peers::PeerFiles;
use crate::rank::{Assignment, Command, RankEnd, RankReport, RankState};
use crate::time::Moment;
use held::{Held, Phase, StopBy};
use std::collections::BTreeMap;

/// What the engine saw, told to the brain by the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// The container exists and is ready to start.
    Prepared {
        /// The address under which the other ranks reach this one.
        address: String,
    },
    /// It could not be made. Whatever was made is undone.
    PrepareFailed {
        /// In words for the job's user.
        reason: String,
        /// Whether another node may do better.
        retry: bool,
    },
    /// It runs.
    Started {
        /// When it started, on this machine's `CLOCK_BOOTTIME`.
        started_at: Moment,
    },
    /// It could not be started.
    StartFailed {
        /// In words for the job's user.
        reason: String,
        /// Whether another node may do better.
        retry: bool,
    },
    /// It ended.
    Ended {
        /// How, as the engine saw it. The brain knows whether it was asked for.
        end: RankEnd,
        /// How long it ran, in milliseconds of monotonic time.
        age_ms: u64,
    },
    /// Container and files are gone.
    Removed,
}

/// A rank found on this machine after the agent's own restart. Adopted without asking whether it fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// Which container.
    pub key: RankKey,
    /// From its label.
    pub term: Term,
    /// What the engine says about it.
    pub observation: Observation,
    /// From the journal, if it is still there.
    pub time_limit_ms: Option<u64>,
}

/// What happened on the worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentEvent {
    /// The leader commands.
    Command {
        /// Its number on this stream.
        sequence: u64,
        /// The leader's term.
        term: Term,
        /// What it wants.
        command: Command,
    },
    /// A new stream was accepted by a leader of this term; command numbers begin again.
    Connected {
        /// The leader's term.
        term: Term,
    },
    /// The engine observed something.
    Observed {
        /// Which container.
        key: RankKey,
        /// What.
        observation: Observation,
    },
    /// At start: what the engine found. Comes before everything else.
    Adopt(Vec<Adopted>),
    /// Time passed: [`Agent::next_wakeup`] was reached.
    Tick,
}

/// What the worker's shell must do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentEffect {
    /// Keep this over restarts, durably, before anything that follows.
    SaveTerm(Term),
    /// Keep this over restarts, durably, before anything that follows.
    SaveTimeLimit {
        /// Which container.
        key: RankKey,
        /// The limit.
        time_limit_ms: Option<u64>,
    },
    /// Engine: make the container. Answer with `Prepared` or `PrepareFailed`.
    Prepare(Box<Assignment>),
    /// Engine: write the files, start. Answer with `Started` or `StartFailed`, later with `Ended`.
    Start {
        /// Which container.
        key: RankKey,
        /// What to write.
        files: PeerFiles,
        /// Not later than this, on this machine's `CLOCK_BOOTTIME`: afterwards the leader may have given the rank up.
        not_after: Moment,
    },
    /// Engine: ask it to end (SIGTERM to the container's first process).
    Terminate(RankKey),
    /// Engine: end it (SIGKILL to all of it).
    Kill(RankKey),
    /// Engine: save its logs, remove container, files, and the network with its last rank. Answer with `Removed`.
    Remove(RankKey),
    /// Send the leader these news at once.
    Report(Vec<RankReport>),
    /// A command was refused; log and count it.
    Refused {
        /// Which container.
        key: RankKey,
        /// Why.
        reason: String,
    },
}

/// After SIGKILL, how long until it is sent again to a rank that does not end.
const KILL_AGAIN_MS: u64 = 10_000;

/// What the operator may tune about the agent's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentSettings {
    /// Milliseconds between SIGTERM and SIGKILL.
    pub grace_ms: u64,
}

/// The worker's state. See the module's text.
#[derive(Clone, Debug)]
pub struct Agent {
    settings: AgentSettings,
    last_term: Term,
    applied_sequence: u64,
    ranks: BTreeMap<RankKey, Held>,
}

impl Agent {
    /// An agent that runs nothing and has obeyed terms up to `last_term` (from the journal; 0 if there is none).
    #[must_use]
    pub fn new(settings: AgentSettings, last_term: Term) -> Self {
        Self { settings, last_term, applied_sequence: 0, ranks: BTreeMap::new() }
    }

    /// Takes one event and says what to do about it.
    pub fn apply(&mut self, now: Moment, event: AgentEvent) -> Vec<AgentEffect> {
        let mut effects = Vec::new();
        match event {
            AgentEvent::Connected { term } => {
                self.applied_sequence = 0;
                self.obey(term, &mut effects);
            }
            AgentEvent::Command { sequence, term, command } => {
                self.applied_sequence = sequence;
                self.on_command(now, term, command, &mut effects);
            }
            AgentEvent::Observed { key, observation } => self.on_observed(now, key, observation, &mut effects),
            AgentEvent::Adopt(found) => self.on_adopt(now, found, &mut effects),
            AgentEvent::Tick => self.on_tick(now, &mut effects),
        }
        effects
    }

    /// When [`AgentEvent::Tick`] is due, if nothing happens before.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Moment> {
        self.ranks.values().filter_map(|held| held.deadline(self.settings.grace_ms)).min()
    }

    /// Every rank this worker has, for a heartbeat.
    #[must_use]
    pub fn reports(&self, now: Moment) -> Vec<RankReport> {
        self.ranks.iter().map(|(key, held)| held.report(key, now)).collect()
    }

    /// The newest term obeyed.
    #[must_use]
    pub fn last_term(&self) -> Term {
        self.last_term
    }

    /// Number of the last command of this stream that was taken in.
    #[must_use]
    pub fn applied_sequence(&self) -> u64 {
        self.applied_sequence
    }

    /// Whether `term` may command; a newer one is remembered before it is obeyed.
    fn obey(&mut self, term: Term, effects: &mut Vec<AgentEffect>) -> bool {
        if term > self.last_term {
            self.last_term = term;
            effects.push(AgentEffect::SaveTerm(term));
        }
        term == self.last_term || !guard::stands(Guard::WorkerTerm)
    }

    fn on_command(&mut self, now: Moment, term: Term, command: Command, effects: &mut Vec<AgentEffect>) {
        let key = command.key().clone();
        if !self.obey(term, effects) {
            let reason = format!("the {} is of term {term}, but term {} is obeyed", command.name(), self.last_term);
            effects.push(AgentEffect::Refused { key, reason });
            return;
        }
        let outcome = match command {
            Command::Prepare(assignment) => self.prepare(*assignment, effects),
            Command::Start { key, files, time_limit_ms, not_after_ms } => {
                self.start(now, key, files, time_limit_ms, not_after_ms, effects)
            }
            Command::SetTimeLimit { key, time_limit_ms } => self.set_time_limit(&key, time_limit_ms, effects),
            Command::Stop { key } => self.stop(now, &key, StopBy::Leader, effects),
            Command::Remove { key } => self.remove(&key, effects),
        };
        match outcome {
            Ok(true) => self.report(now, &key, effects),
            Ok(false) => {}
            Err(reason) => effects.push(AgentEffect::Refused { key, reason }),
        }
    }

    /// Each command answers whether it changed something, or why it is refused.
    fn prepare(&mut self, assignment: Assignment, effects: &mut Vec<AgentEffect>) -> Result<bool, String> {
        let key = &assignment.key;
        if self.ranks.contains_key(key) {
            return Ok(false);
        }
        if let Some(newer) = self.others(key).find(|(other, _)| other.attempt > key.attempt) {
            return Err(format!("attempt {} of this rank is here already", newer.0.attempt));
        }
        let held = Held { phase: Phase::Preparing { stop: false, remove: false }, time_limit_ms: None };
        self.ranks.insert(key.clone(), held);
        effects.push(AgentEffect::Prepare(Box::new(assignment)));
        Ok(true)
    }

    fn start(
        &mut self,
        now: Moment,
        key: RankKey,
        files: PeerFiles,
        time_limit_ms: Option<u64>,
        not_after_ms: u64,
        effects: &mut Vec<AgentEffect>,
    ) -> Result<bool, String> {
        let Some(held) = self.ranks.get(&key) else {
            return Err("it is not prepared here".to_owned());
        };
        if !matches!(held.phase, Phase::Prepared { .. }) {
            return Ok(false);
        }
        if now.0 > not_after_ms && guard::stands(Guard::StartDeadline) {
            return Err(format!("the start came {} ms after its deadline", now.0 - not_after_ms));
        }
        if let Some((other, _)) = self.others(&key).find(|(_, held)| held.phase.may_live())
            && guard::stands(Guard::OneAttemptLives)
        {
            return Err(format!("attempt {} of this rank still lives here", other.attempt));
        }
        if let Some(held) = self.ranks.get_mut(&key) {
            held.phase = Phase::Starting { stop: None };
            held.time_limit_ms = time_limit_ms;
        }
        effects.push(AgentEffect::SaveTimeLimit { key: key.clone(), time_limit_ms });
        effects.push(AgentEffect::Start { key, files, not_after: Moment(not_after_ms) });
        Ok(true)
    }

    fn set_time_limit(
        &mut self,
        key: &RankKey,
        time_limit_ms: Option<u64>,
        effects: &mut Vec<AgentEffect>,
    ) -> Result<bool, String> {
        let held = self.ranks.get_mut(key).ok_or("it is not here")?;
        if held.time_limit_ms == time_limit_ms {
            return Ok(false);
        }
        held.time_limit_ms = time_limit_ms;
        effects.push(AgentEffect::SaveTimeLimit { key: key.clone(), time_limit_ms });
        Ok(true)
    }

    fn stop(&mut self, now: Moment, key: &RankKey, by: StopBy, effects: &mut Vec<AgentEffect>) -> Result<bool, String> {
        let Some(held) = self.ranks.get_mut(key) else {
            return Ok(false);
        };
        match &mut held.phase {
            Phase::Preparing { stop, .. } => *stop = true,
            Phase::Prepared { .. } => held.phase = Phase::Ended { end: RankEnd::Stopped, age_ms: 0 },
            Phase::Starting { stop } => *stop = Some(by),
            Phase::Running { started_at } => {
                held.phase = Phase::Stopping { started_at: *started_at, by, since: now, killed: false };
                effects.push(AgentEffect::Terminate(key.clone()));
            }
            Phase::Stopping { .. } | Phase::Ended { .. } | Phase::Failed { .. } | Phase::Removing { .. } => {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn remove(&mut self, key: &RankKey, effects: &mut Vec<AgentEffect>) -> Result<bool, String> {
        let Some(held) = self.ranks.get_mut(key) else {
            return Ok(false);
        };
        match &mut held.phase {
            Phase::Preparing { stop, remove } => (*stop, *remove) = (true, true),
            Phase::Starting { .. } | Phase::Running { .. } | Phase::Stopping { .. } => {
                return Err("it still runs; it must be stopped first".to_owned());
            }
            Phase::Removing { .. } => return Ok(false),
            Phase::Prepared { .. } | Phase::Ended { .. } | Phase::Failed { .. } => {
                held.begin_removal();
                effects.push(AgentEffect::Remove(key.clone()));
            }
        }
        Ok(false)
    }

    fn on_observed(&mut self, now: Moment, key: RankKey, observation: Observation, effects: &mut Vec<AgentEffect>) {
        if observation == Observation::Removed {
            if self.ranks.remove(&key).is_some() {
                let gone = RankReport { key, state: RankState::Removed, time_limit_ms: None };
                effects.push(AgentEffect::Report(vec![gone]));
            }
            return;
        }
        let Some(held) = self.ranks.get_mut(&key) else {
            return;
        };
        held.observe(now, &key, observation, effects);
        self.report(now, &key, effects);
    }

    fn on_adopt(&mut self, now: Moment, found: Vec<Adopted>, effects: &mut Vec<AgentEffect>) {
        for adopted in found {
            if let Some(held) = Held::adopt(&adopted) {
                self.ranks.insert(adopted.key, held);
            }
        }
        self.on_tick(now, effects);
    }

    fn on_tick(&mut self, now: Moment, effects: &mut Vec<AgentEffect>) {
        let grace_ms = self.settings.grace_ms;
        let due: Vec<RankKey> = self
            .ranks
            .iter()
            .filter(|(_, held)| held.deadline(grace_ms).is_some_and(|deadline| deadline <= now))
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            let Some(held) = self.ranks.get_mut(&key) else {
                continue;
            };
            if let Phase::Stopping { since, killed, .. } = &mut held.phase {
                (*since, *killed) = (now, true);
                effects.push(AgentEffect::Kill(key));
            } else if self.stop(now, &key, StopBy::TimeLimit, effects) == Ok(true) {
                self.report(now, &key, effects);
            }
        }
    }

    fn report(&self, now: Moment, key: &RankKey, effects: &mut Vec<AgentEffect>) {
        if let Some(held) = self.ranks.get(key) {
            effects.push(AgentEffect::Report(vec![held.report(key, now)]));
        }
    }

    /// Other attempts of the same (job, rank).
    fn others<'a>(&'a self, key: &'a RankKey) -> impl Iterator<Item = (&'a RankKey, &'a Held)> {
        self.ranks
            .iter()
            .filter(move |(other, _)| other.job == key.job && other.rank == key.rank && other.attempt != key.attempt)
    }
}
