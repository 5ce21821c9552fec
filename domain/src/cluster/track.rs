//! What the leader remembers about a job and its ranks beside the document: evidence, commands under way, timers.
//! All of it can be lost with the leader; the next one learns it again from the workers' reports.

use crate::brake::Verdict;
use crate::guard::{self, Guard};
use crate::id::SessionId;
use crate::job::Job;
use crate::rank::{RankEnd, RankState};
use crate::schedule::Wait;
use crate::time::Moment;

/// How far a worker's clock may run ahead of what the leader saw of a rank: one heartbeat (design section 7).
const CLAMP_TOLERANCE_MS: u64 = 2_000;

/// A command on its way to a rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) name: &'static str,
    pub(super) time_limit_ms: Option<u64>,
    pub(super) session: SessionId,
    pub(super) sequence: u64,
    pub(super) at: Moment,
}

/// What a worker's word is worth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    /// It was said on a stream that this leader has welcomed, so after everything that an earlier leader made it do.
    pub(super) confirms: bool,
    /// Its engine answers, so that what it says to run does run.
    pub(super) proves: bool,
    /// When it was said, on the worker's clock.
    pub(super) sent_at_ms: u64,
    /// It was said after this moment: it answers something that was sent then.
    pub(super) after: Moment,
}

/// When a rank was started, as far as reports tell. Signed: it may be older than a machine's clock.
#[derive(Clone, Copy, Debug)]
struct Started {
    /// On the leader's clock.
    not_before: i128,
    not_after: i128,
    /// On the worker's.
    at: Option<i128>,
}

/// What is known of one rank of the present attempt.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// What its worker said last; `None`: its worker does not have it.
    pub(super) state: Option<RankState>,
    /// Whether `state` was learned in this term, or follows from the placement being new.
    pub(super) known: bool,
    pub(super) time_limit_ms: Option<u64>,
    /// The last command, until a report shows that it was taken in.
    pub(super) sent: Option<Sent>,
    /// Stream and number of the last start that was sent, until it is certain that it came to nothing or to an end.
    pub(super) start_sent: Option<(SessionId, u64)>,
    /// When the last report about it came.
    pub(super) heard: Moment,
    /// How long it has run, as far as an engine that answered has shown. An agent whose engine is away only believes.
    proven_ms: u64,
    /// Whether its worker has said so on a stream that was welcomed in this term. A hello was sent before that, and may be
    /// one that its worker has given up long ago.
    confirmed: bool,
    started: Option<Started>,
    /// Whether its machine has booted since anything of it was there: then nothing of it can be left.
    pub(super) rebooted: bool,
    /// The first age seen in this term, and when: what the leader itself can vouch for.
    anchor: Option<(Moment, u64)>,
}

impl Seen {
    /// A rank that was placed this moment: its worker cannot have it yet, and it cannot be older than the placement.
    pub(super) fn fresh(now: Moment) -> Self {
        Self { known: true, confirmed: true, anchor: Some((now, 0)), ..Self::default() }
    }

    /// Takes in a report's line.
    pub(super) fn report(&mut self, now: Moment, word: Word, state: RankState, time_limit_ms: Option<u64>) {
        self.learn_start(now, word, &state);
        let state = match state {
            RankState::Removed => return self.absent(),
            RankState::Running { age_ms } => {
                let age_ms = self.clamp(now, word, age_ms).max(self.age_ms());
                if word.proves {
                    self.proven_ms = self.proven_ms.max(age_ms);
                }
                RankState::Running { age_ms }
            }
            RankState::Ended { end, age_ms } => {
                // It may have ended before an age that was only believed; and does not grow older by being told again.
                if !matches!(self.state, Some(RankState::Ended { .. })) {
                    self.proven_ms = self.clamp(now, word, age_ms).max(self.proven_ms);
                }
                RankState::Ended { end, age_ms: self.proven_ms }
            }
            other => other,
        };
        self.confirmed = word.confirms;
        // What was made or started after the boot is not taken along by it.
        self.rebooted &= !word.confirms || matches!(state, RankState::Ended { .. } | RankState::Failed { .. });
        if matches!(state, RankState::Ended { .. } | RankState::Failed { .. }) {
            self.start_sent = None;
        }
        self.state = Some(state);
        self.known = true;
        self.time_limit_ms = time_limit_ms;
        self.heard = now;
    }

    fn learn_start(&mut self, now: Moment, word: Word, state: &RankState) {
        let (age_ms, runs) = match state {
            RankState::Running { age_ms } => (*age_ms, true),
            RankState::Ended { age_ms, .. } => (*age_ms, false),
            _ => return,
        };
        if !word.confirms || (!runs && self.started.is_some()) {
            return;
        }
        let (raw, clamped) = (i128::from(age_ms), i128::from(self.clamp(now, word, age_ms)));
        let not_before = if runs { i128::from(word.after.0) - raw } else { i128::MIN };
        let not_after = i128::from(now.0) - clamped;
        let at = runs.then(|| i128::from(word.sent_at_ms) - raw);
        let known = self.started.get_or_insert(Started { not_before, not_after, at });
        known.not_before = known.not_before.max(not_before);
        known.not_after = known.not_after.min(not_after);
        known.at = at.or(known.at);
    }

    /// How much later than `first` this rank was started, at most: what was charged before would be charged too early. On one
    /// machine its own clock says; else it is the time between what the one answers and what the other was heard at.
    pub(super) fn behind_ms(&self, first: &Self, same_machine: bool) -> u64 {
        let (Some(this), Some(first)) = (self.started, first.started) else { return u64::MAX };
        let behind = match (this.at, first.at) {
            (Some(this), Some(first)) if same_machine => this.saturating_sub(first),
            _ => this.not_after.saturating_sub(first.not_before),
        };
        u64::try_from(behind.max(0)).unwrap_or(u64::MAX)
    }

    /// How old `first` was, at least, when this rank was last proven to run. A rank that failed before this leader heard of it
    /// at all does not tell when it had started; then nothing follows from it, and rank 0 speaks for the gang.
    pub(super) fn reaches_ms(&self, first: &Self, same_machine: bool) -> u64 {
        let failed = matches!(&self.state, Some(RankState::Ended { end, .. }) if *end != RankEnd::Vanished);
        let known = self.started.filter(|started| started.not_before > i128::MIN);
        let (Some(this), Some(first)) = (known, first.started) else { return if failed { u64::MAX } else { 0 } };
        let behind = match (this.at, first.at) {
            (Some(this), Some(first)) if same_machine => this.saturating_sub(first),
            _ => this.not_before.saturating_sub(first.not_after),
        };
        u64::try_from(behind.saturating_add(i128::from(self.proven_ms)).max(0)).unwrap_or(u64::MAX)
    }

    /// Whether it has done its part: ended well, or when its time was up, or by our order at the end of the gang.
    fn has_served(&self) -> bool {
        let end = match &self.state {
            Some(RankState::Ended { end, .. }) => end,
            _ => return false,
        };
        matches!(end, RankEnd::Exited { code: 0 } | RankEnd::TimeLimit | RankEnd::Stopped)
    }

    /// Neither clock alone can inflate an age: it grows no faster than the leader saw time pass (reliability B.4).
    fn clamp(&mut self, now: Moment, word: Word, age_ms: u64) -> u64 {
        if !guard::stands(Guard::ClampedAge) {
            return age_ms;
        }
        // A hello may be so old that what follows it would be cut off.
        if word.confirms {
            self.anchor.get_or_insert((now, age_ms));
        }
        let Some((at, first_ms)) = self.anchor else { return age_ms };
        age_ms.min(first_ms.saturating_add(now.since_ms(at)).saturating_add(CLAMP_TOLERANCE_MS))
    }

    /// A report that lists everything does not list it, and every command about it was taken in: it is gone.
    pub(super) fn absent(&mut self) {
        self.state = None;
        self.known = true;
        self.sent = None;
        self.start_sent = None;
    }

    /// Whether what is known was said after this leader's welcome.
    pub(super) fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// Whether its worker certainly does not have it and no command can bring it back.
    pub(super) fn is_gone(&self) -> bool {
        self.known && self.state.is_none() && self.sent.is_none()
    }

    /// Whether it was started: it runs, or it ended after it ran.
    pub(super) fn has_started(&self) -> bool {
        self.confirmed && matches!(self.state, Some(RankState::Running { .. } | RankState::Ended { .. }))
    }

    /// Whether it may be running for all we know. A start that was sent may have been taken in by a worker that we do not
    /// hear, whatever was sent after it.
    pub(super) fn may_run(&self) -> bool {
        match &self.state {
            Some(RankState::Starting | RankState::Running { .. }) => true,
            Some(RankState::Ended { .. } | RankState::Failed { .. }) => false,
            Some(_) => self.start_sent.is_some() || !self.confirmed,
            None => !self.known || self.start_sent.is_some(),
        }
    }

    /// A worker that has taken in everything up to `applied` says that the rank is only prepared: the start was refused.
    pub(super) fn settle_start(&mut self, session: Option<SessionId>, applied: u64) {
        let refused = matches!(self.state, Some(RankState::Preparing | RankState::Prepared { .. }));
        if refused && self.start_sent.is_some_and(|(on, sequence)| Some(on) != session || sequence <= applied) {
            self.start_sent = None;
        }
    }

    /// How long it has run, as far as proven.
    pub(super) fn proven_ms(&self) -> u64 {
        self.proven_ms
    }

    /// How long it has run, as its worker believes.
    pub(super) fn age_ms(&self) -> u64 {
        match self.state {
            Some(RankState::Running { age_ms } | RankState::Ended { age_ms, .. }) => age_ms,
            _ => 0,
        }
    }
}

/// Core said that it does not know the job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Denied {
    pub(super) times: u32,
    pub(super) first: Moment,
}

/// A job as the leader holds it.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) job: Job,
    /// One per rank of the present attempt; empty without a placement.
    pub(super) seen: Vec<Seen>,
    /// When the present phase began, in this term.
    pub(super) since: Moment,
    /// Why it waits, from the last scheduling pass.
    pub(super) wait: Option<Wait>,
    /// Number of the notice that is on its way to Core.
    pub(super) telling: Option<u32>,
    /// Number of the window that is on its way to Core.
    pub(super) charging: Option<u32>,
    /// Not before this moment is Core told again.
    pub(super) tell_after: Option<Moment>,
    /// Not before this moment is Core charged again.
    pub(super) charge_after: Option<Moment>,
    pub(super) denied: Option<Denied>,
    /// What the brake holds back.
    pub(super) held_back: Option<Verdict>,
    /// Its entry in the cluster's timers.
    pub(super) wake: Option<Moment>,
}

impl Tracked {
    pub(super) fn new(job: Job, now: Moment) -> Self {
        let ranks = if job.life.holds_room() { job.spec.replicas as usize } else { 0 };
        Self {
            job,
            seen: vec![Seen::default(); ranks],
            since: now,
            wait: None,
            telling: None,
            charging: None,
            tell_after: None,
            charge_after: None,
            denied: None,
            held_back: None,
            wake: None,
        }
    }

    /// Milliseconds that the whole gang has run, as far as it is proven: on rank 0's own clock, and no further than where
    /// every other rank that has not done its part was seen last, or failed (reliability B.5: a lost node is charged to its
    /// last evidence).
    pub(super) fn run_ms(&self, offset_ms: u64) -> u64 {
        let Some((first, others)) = self.seen.split_first() else { return 0 };
        let home = self.job.node_of(0);
        let reached = (1..).zip(others).filter(|(_, seen)| !seen.has_served() && guard::stands(Guard::EvidenceOfAll));
        let reached = reached.map(|(rank, seen)| seen.reaches_ms(first, self.job.node_of(rank) == home));
        reached.fold(first.proven_ms(), u64::min).saturating_sub(offset_ms)
    }
}
