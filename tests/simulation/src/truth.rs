//! What really happened, known to no brain: which containers live, and everything that ever was committed.

use crate::fault::CrashPoint;
use muster_domain::accounting::Charge;
use muster_domain::id::{Attempt, JobId, Rank, RankKey, Term};
use muster_domain::job::{Job, Life, Placement};
use muster_domain::outbox::Notice;
use muster_domain::rank::RankState;
use muster_domain::worker::Report;
use std::collections::{BTreeMap, BTreeSet};

/// What the end of a rank makes of its gang.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whole {
    /// It ended well, or by order.
    Stays,
    /// It failed by itself. A leader that hears of it late may count until rank 0 ends.
    Fails,
    /// Its machine or its engine took it along.
    Lost,
}

/// A gang in true time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gang {
    /// Its last rank starts.
    pub(crate) from: u64,
    /// Rank 0 ends, or another rank is lost.
    pub(crate) until: u64,
    /// As `until`, or another rank fails.
    pub(crate) whole_until: u64,
}

/// One container's life, in true time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) start: u64,
    pub(crate) end: Option<u64>,
    /// Whether the gang was whole without it, since it ended well or by order.
    pub(crate) whole: Whole,
}

/// Everything that was ever committed about a job.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Where each attempt was placed, and when.
    pub(crate) placements: BTreeMap<Attempt, (Placement, u64)>,
    /// Attempts whose peer files were fixed.
    pub(crate) starting: BTreeSet<Attempt>,
    /// Attempts that were given up.
    pub(crate) undone: BTreeSet<Attempt>,
    pub(crate) attempt: Attempt,
    pub(crate) stopping: bool,
    pub(crate) ended: bool,
    pub(crate) forgotten: bool,
    /// By number; a notice that was not sent yet may have been replaced.
    pub(crate) notices: Vec<Vec<Notice>>,
    pub(crate) charges: Vec<Charge>,
    pub(crate) limits: Vec<Option<u64>>,
    pub(crate) told: u32,
    pub(crate) void: bool,
    pub(crate) phase: &'static str,
    pub(crate) phase_since: u64,
    /// When it was committed that every rank runs.
    pub(crate) running_at: Option<u64>,
}

/// An automatic verdict of one leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VerdictKind {
    Lost,
    Orphan,
    NoCredit,
    Drain,
}

#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) live: BTreeMap<(JobId, Rank), (RankKey, usize)>,
    pub(crate) runs: BTreeMap<RankKey, Run>,
    pub(crate) jobs: BTreeMap<JobId, History>,
    /// How late the latest word of each worker was that a leader took in, in milliseconds.
    pub(crate) lateness: BTreeMap<usize, u64>,
    pub(crate) verdicts: Vec<(Term, VerdictKind, JobId, u64)>,
}

impl Truth {
    pub(crate) fn is_committed(&self, job: &JobId) -> bool {
        self.jobs.contains_key(job)
    }

    pub(crate) fn ends(&mut self, key: &RankKey, t: u64) {
        self.live.remove(&(key.job.clone(), key.rank));
        if let Some(run) = self.runs.get_mut(key) {
            run.end.get_or_insert(t);
        }
    }

    /// It ends, and its gang is not whole any more.
    pub(crate) fn breaks(&mut self, key: &RankKey, t: u64, whole: Whole) {
        if let Some(run) = self.runs.get_mut(key).filter(|run| run.end.is_none()) {
            run.whole = whole;
        }
        self.ends(key, t);
    }

    pub(crate) fn gang(&self, job: &JobId, attempt: Attempt, replicas: Rank, now: u64) -> Option<Gang> {
        let runs = (0..replicas).map(|rank| self.runs.get(&RankKey { job: job.clone(), rank, attempt }));
        let runs: Vec<&Run> = runs.collect::<Option<_>>()?;
        let from = runs.iter().map(|run| run.start).max()?;
        let first = runs.first()?.end.unwrap_or(now);
        let end = |counts: fn(Whole) -> bool| {
            let ends = runs.iter().filter(|run| counts(run.whole)).filter_map(|run| run.end);
            ends.fold(first, u64::min).max(from)
        };
        let (until, whole_until) = (end(|whole| whole == Whole::Lost), end(|whole| whole != Whole::Stays));
        Some(Gang { from, until, whole_until })
    }

    /// Takes in a document that was committed.
    pub(crate) fn commit(&mut self, t: u64, job: &Job) {
        let history = self.jobs.entry(job.spec.id.clone()).or_default();
        history.attempt = job.attempt;
        history.told = job.told;
        history.void = job.account.void;
        if let Some(placement) = job.life.placement() {
            history.placements.entry(job.attempt).or_insert_with(|| (placement.clone(), t));
        }
        if !job.life.addresses().is_empty() {
            history.starting.insert(job.attempt);
        }
        match &job.life {
            Life::Preparing { .. } | Life::Starting { .. } => {}
            Life::Running { .. } => {
                history.running_at.get_or_insert(t);
            }
            Life::Undoing { .. } => {
                history.undone.insert(job.attempt);
            }
            Life::Stopping { .. } => history.stopping = true,
            Life::Ended { .. } => (history.stopping, history.ended) = (true, true),
            Life::Queued => {}
        }
        // It was given up, whether or not that was ever a document of its own.
        if job.attempt > 0 && job.life.placement().is_none() {
            history.undone.insert(job.attempt);
        }
        for (number, notice) in job.notices.iter().enumerate() {
            if history.notices.len() == number {
                history.notices.push(Vec::new());
            }
            let known = &mut history.notices[number];
            if known.last() != Some(notice) {
                known.push(notice.clone());
            }
        }
        if history.charges.len() < job.account.sealed as usize {
            let fresh: Vec<Charge> = job.account.charges(&job.spec).skip(history.charges.len()).collect();
            history.charges.extend(fresh);
        }
        if history.limits.last() != Some(&job.time_limit_ms) {
            history.limits.push(job.time_limit_ms);
        }
        let phase = match &job.life {
            Life::Ended { released: true, .. } => "released",
            life => life.name(),
        };
        if history.phase != phase {
            (history.phase, history.phase_since) = (phase, t);
        }
    }

    /// Which rows of B.3 a report brings a job to.
    pub(crate) fn points_of(&self, report: &Report) -> Vec<CrashPoint> {
        let mut points = Vec::new();
        for line in report.ranks.iter().filter(|line| line.key.rank == 0) {
            let Some(history) = self.jobs.get(&line.key.job) else { continue };
            match line.state {
                RankState::Ended { .. } if history.phase == "running" => points.push(CrashPoint::EndSeen),
                RankState::Running { age_ms } if age_ms >= 60_000 * (history.charges.len() as u64 + 1) => {
                    points.push(CrashPoint::WindowEnded);
                }
                _ => {}
            }
        }
        points
    }
}
