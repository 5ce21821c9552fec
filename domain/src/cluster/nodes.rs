//! Workers come, report and go.

use super::track::Word;
use super::{Cluster, Settings};
use crate::effect::{Effect, ToWorker};
use crate::guard::{self, Guard};
use crate::id::{JobId, NodeName, Rank, RankKey, SessionId};
use crate::job::{Job, Life};
use crate::rank::{Command, RankReport, RankState};
use crate::resources::Resources;
use crate::time::{Moment, Now};
use crate::worker::{Hello, Report};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// So long after its engine is back a worker may not have heard yet which ranks have ended meanwhile: it asks again after 5 s at
/// most. Until then it only believes that they run.
const ENGINE_BACK_MS: u64 = 10_000;
/// A worker of which nothing was heard for longer than this, twice its heartbeat, may have stood still.
const GAP_MS: u64 = 4_000;
/// Most commands of one stream whose time of sending is remembered (I12).
const MOST_UNANSWERED: usize = 4_096;

/// A node, as the leader knows it.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Its boot as it said in this term; `None`: so far only documents name it.
    boot_id: Option<String>,
    pub(super) session: Option<SessionId>,
    /// Number of the last command on this stream.
    sequence: u64,
    /// Commands that no report has counted in yet, and when they were sent.
    unanswered: VecDeque<(u64, Moment)>,
    /// When the welcome, or the newest command that was counted in, was sent: later reports are younger than that.
    answers: Moment,
    /// When its last report was heard, in this term.
    pub(super) heard: Option<Moment>,
    /// Its own clock at the last heartbeat that was answered; start deadlines are counted from it.
    answered_at_ms: u64,
    pub(super) engine_ok: bool,
    /// Since when its engine answers, for all that its worker said on this stream.
    engine_back: Moment,
    /// When its silence was noticed, while it lasts.
    pub(super) silent: Option<Moment>,
    /// When operators last decided about it, or when it was last noted how long a drain has gone on, or this leader's
    /// take-over: what is left of the deadline counts from here.
    pub(super) decided: Moment,
    /// Given to ranks.
    pub(super) used: Resources,
    /// The ranks that hold room on it.
    pub(super) placed: BTreeSet<RankKey>,
    /// Containers with our labels that no document accounts for. Left alone (I9).
    pub(super) unknown: BTreeSet<RankKey>,
    /// Left-overs of known jobs that were told to go, and when.
    pub(super) strays: BTreeMap<RankKey, Moment>,
}

impl Node {
    /// A node that a new leader knows from documents.
    pub(super) fn restored(now: Moment) -> Self {
        Self { decided: now, ..Self::default() }
    }

    /// After which moment a report was made that counts in so many commands.
    fn answered_after(&mut self, applied: u64) -> Moment {
        while let Some((_, sent_at)) = self.unanswered.pop_front_if(|(sequence, _)| *sequence <= applied) {
            self.answers = sent_at;
        }
        self.answers
    }

    /// Whether it could take ranks now, as far as it says itself.
    pub(super) fn is_online(&self) -> bool {
        self.session.is_some() && self.silent.is_none() && self.engine_ok
    }

    /// When its silence must be noticed. A time in which this leader did not listen itself does not count.
    pub(super) fn goes_offline_at(&self, settings: &Settings, awake_since: Moment) -> Option<Moment> {
        let heard = self.heard.filter(|_| self.silent.is_none())?;
        Some(heard.max(awake_since).plus_ms(settings.offline_after_ms))
    }

    fn is_on(&self, session: SessionId) -> bool {
        self.session == Some(session)
    }
}

impl Cluster {
    pub(super) fn on_hello(&mut self, now: Now, session: SessionId, mut hello: Hello) {
        if hello.last_term > self.term {
            let reason = format!(
                "this worker has obeyed term {}, but this coordinator leads with term {}: its store was replaced or is \
                 older; restore the right store, or clear the worker's state directory once nothing of the other runs",
                hello.last_term, self.term
            );
            self.effects.push(Effect::Close { session, reason });
            return;
        }
        if let Some(reason) = self.contradiction(&hello).or_else(|| self.no_room_for(&hello)) {
            self.effects.push(Effect::Close { session, reason: reason.clone() });
            self.alarm(format!("a worker was turned away: {reason}"));
            return;
        }
        self.notice_boot(&hello);
        self.remember(&hello);
        let name = hello.node.clone();
        let ranks = std::mem::take(&mut hello.ranks);
        let sent_at_ms = hello.sent_at_ms;
        let node = self.nodes.entry(name.clone()).or_default();
        if let Some(old) = node.session.replace(session) {
            self.sessions.remove(&old);
            let reason = "a newer stream of this node was opened".to_owned();
            self.effects.push(Effect::Close { session: old, reason });
        }
        node.sequence = 0;
        node.engine_back = now.moment;
        node.unanswered.clear();
        node.answers = now.moment;
        node.heard = Some(now.moment);
        node.answered_at_ms = sent_at_ms;
        node.engine_ok = true;
        node.silent = None;
        node.strays.clear();
        node.boot_id = Some(hello.boot_id);
        self.sessions.insert(session, name.clone());
        let message = ToWorker::Welcome { term: self.term };
        self.effects.push(Effect::Send { session, message, traceparent: None });
        self.replan = true;
        // It may come late, from a stream that its worker has given up: what runs is believed, that anything does not is not.
        let word = Word { confirms: false, proves: false, sent_at_ms, after: Moment(0) };
        self.take_in(now, &name, ranks, word, false, 0);
    }

    /// Nothing that was placed on a machine outlives its boot.
    fn notice_boot(&mut self, hello: &Hello) {
        let booted = self.records.get(&hello.node).is_some_and(|record| record.boot_id != hello.boot_id);
        for key in self.nodes.get(&hello.node).into_iter().filter(|_| booted).flat_map(|node| &node.placed) {
            if let Some(seen) = self.jobs.get_mut(&key.job).and_then(|job| job.seen.get_mut(key.rank as usize)) {
                seen.rebooted = true;
            }
        }
    }

    /// Why a hello cannot be the next word of the node that it names: its inventory would be taken for that node's.
    fn contradiction(&self, hello: &Hello) -> Option<String> {
        let node = self.nodes.get(&hello.node)?;
        let here = node.session.is_some() && node.silent.is_none();
        if *node.boot_id.as_ref()? == hello.boot_id {
            // A stream that was given up, whose words came after those of its successor.
            let late = hello.sent_at_ms < node.answered_at_ms && guard::stands(Guard::LateHello);
            return late.then(|| format!("node {} has spoken since this hello was sent", hello.node));
        }
        here.then(|| {
            format!("another machine is connected as node {}; give each node a name of its own (node.name)", hello.node)
        })
    }

    pub(super) fn on_report(&mut self, now: Now, session: SessionId, report: Report) {
        let Some(name) = self.sessions.get(&session).cloned() else {
            return;
        };
        let Some(node) = self.nodes.get_mut(&name) else {
            return;
        };
        let was_online = node.is_online();
        // Back since its worker says so again, not since it said last that it is away: it may have been silent in between. A
        // worker that stood still does not know yet what its engine saw meanwhile.
        let gap = node.heard.is_none_or(|heard| now.moment.since_ms(heard) > GAP_MS);
        if !report.engine_ok || !node.engine_ok || gap {
            node.engine_back = now.moment;
        }
        let proves = report.engine_ok && now.moment.since_ms(node.engine_back) >= ENGINE_BACK_MS;
        let after = node.answered_after(report.applied_sequence);
        node.heard = Some(now.moment);
        node.silent = None;
        if report.complete {
            node.engine_ok = report.engine_ok;
            node.answered_at_ms = report.sent_at_ms;
            let heard = ToWorker::Heard { sent_at_ms: report.sent_at_ms, term: self.term };
            self.effects.push(Effect::Send { session, message: heard, traceparent: None });
        }
        self.replan |= node.is_online() && !was_online;
        let complete = report.complete || !guard::stands(Guard::CompleteReport);
        let word = Word { confirms: true, proves, sent_at_ms: report.sent_at_ms, after };
        self.take_in(now, &name, report.ranks, word, complete, report.applied_sequence);
    }

    pub(super) fn on_gone(&mut self, _now: Now, session: SessionId) {
        let Some(name) = self.sessions.remove(&session) else {
            return;
        };
        if let Some(node) = self.nodes.get_mut(&name).filter(|node| node.is_on(session)) {
            node.session = None;
        }
    }

    /// A worker affects only what is assigned to it (I10): lines about anything else change no job.
    fn take_in(&mut self, now: Now, name: &NodeName, ranks: Vec<RankReport>, word: Word, complete: bool, applied: u64) {
        let Some(node) = self.nodes.get_mut(name) else {
            return;
        };
        let (session, complete_now) = (node.session, complete);
        let mut listed: BTreeSet<RankKey> = BTreeSet::new();
        let mut touched: BTreeSet<RankKey> = BTreeSet::new();
        let mut strays: Vec<RankReport> = Vec::new();
        for line in ranks {
            if line.state != RankState::Removed {
                listed.insert(line.key.clone());
            }
            if !node.placed.contains(&line.key) && guard::stands(Guard::AssignedOnly) {
                strays.push(line);
                continue;
            }
            let Some(tracked) = self.jobs.get_mut(&line.key.job) else { continue };
            let runs = matches!(tracked.job.life, Life::Running { .. });
            let Some(seen) = tracked.seen.get_mut(line.key.rank as usize) else { continue };
            // Most of what a heartbeat says is that all goes on; the account is looked at when rank 0 says so.
            let goes_on = |state: &RankState| matches!(state, RankState::Running { .. });
            let quiet = runs
                && line.key.rank != 0
                && goes_on(&line.state)
                && seen.state.as_ref().is_some_and(goes_on)
                && seen.time_limit_ms == line.time_limit_ms;
            seen.report(now.moment, word, line.state, line.time_limit_ms);
            if complete {
                seen.settle_start(session, applied);
            }
            if !quiet {
                touched.insert(line.key);
            }
        }
        if complete_now {
            for key in node.placed.difference(&listed) {
                let Some(seen) = self.jobs.get_mut(&key.job).and_then(|job| job.seen.get_mut(key.rank as usize)) else {
                    continue;
                };
                let counted = |sent: &super::track::Sent| Some(sent.session) != session || sent.sequence <= applied;
                let counted = seen.sent.as_ref().is_none_or(counted) || !guard::stands(Guard::CountedCommands);
                if counted && !seen.is_gone() {
                    seen.absent();
                    touched.insert(key.clone());
                }
            }
            let unknown = node.unknown.len();
            node.unknown.retain(|key| listed.contains(key));
            self.replan |= node.unknown.len() < unknown;
            node.strays.retain(|key, _| listed.contains(key));
        }
        for line in strays {
            self.on_stray(now, name, &line);
        }
        let jobs: BTreeSet<_> = touched.into_iter().map(|key| key.job).collect();
        for job in jobs {
            self.drive(now, &job);
        }
    }

    /// Sends a command on the node's stream. Answers stream and number, or `None` if no stream is open.
    pub(super) fn command(&mut self, name: &NodeName, command: Command) -> Option<(SessionId, u64)> {
        let node = self.nodes.get_mut(name)?;
        let session = node.session?;
        node.sequence += 1;
        let sequence = node.sequence;
        if node.unanswered.len() < MOST_UNANSWERED {
            node.unanswered.push_back((sequence, self.moment));
        }
        let traceparent = self.jobs.get(&command.key().job).and_then(|tracked| tracked.job.spec.traceparent.clone());
        let message = ToWorker::Command { sequence, term: self.term, command };
        self.effects.push(Effect::Send { session, message, traceparent });
        Some((session, sequence))
    }

    /// The deadline of a start, on the worker's own clock.
    pub(super) fn start_deadline_ms(&self, name: &NodeName) -> u64 {
        let answered_at_ms = self.nodes.get(name).map_or(0, |node| node.answered_at_ms);
        let since_ms =
            if guard::stands(Guard::StartDeadlineOrigin) { 0 } else { self.moment.since_ms(self.silent_since(name)) };
        answered_at_ms.saturating_add(self.settings.start_lease_ms + since_ms)
    }

    /// Books the room of a job's present placement (I7).
    pub(super) fn take_room(&mut self, job: &Job) {
        for (rank, name) in (0..).zip(job.life.placement().into_iter().flat_map(|placement| &placement.0)) {
            let node = self.nodes.entry(name.clone()).or_default();
            if node.placed.insert(RankKey { job: job.spec.id.clone(), rank, attempt: job.attempt }) {
                node.used = node.used.plus(&job.spec.per_rank);
            }
        }
    }

    /// Gives back the room of those ranks of an ended job that are certainly gone; the others may be on a node that never
    /// comes back, and must not keep the rest of the gang's room.
    pub(super) fn give_room_of_the_gone(&mut self, id: &JobId) {
        let Some(tracked) = self.jobs.get(id) else { return };
        let gone = (0..).zip(&tracked.seen).filter(|(_, seen)| seen.is_gone()).map(|(rank, _)| rank);
        for rank in gone {
            self.replan |= free_rank(&mut self.nodes, &tracked.job, rank);
        }
    }

    /// Gives it back.
    pub(super) fn give_room(&mut self, job: &Job) {
        for rank in 0..job.spec.replicas {
            free_rank(&mut self.nodes, job, rank);
        }
        self.replan = true;
    }
}

/// Takes one rank off the books of its node. Answers whether it was on them.
fn free_rank(nodes: &mut BTreeMap<NodeName, Node>, job: &Job, rank: Rank) -> bool {
    let Some(node) = job.node_of(rank).and_then(|name| nodes.get_mut(name)) else { return false };
    let freed = node.placed.remove(&RankKey { job: job.spec.id.clone(), rank, attempt: job.attempt });
    if freed {
        node.used = node.used.minus(&job.spec.per_rank);
    }
    freed
}
