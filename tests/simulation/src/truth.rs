//! What really happened, known to no brain: which containers live, and everything that ever was committed.

use crate::fault::CrashPoint;
use muster_domain::accounting::Charge;
use muster_domain::id::{Attempt, JobId, Rank, RankKey, Term};
use muster_domain::job::{Job, Life, Placement};
use muster_domain::outbox::Notice;
use muster_domain::rank::RankState;
use muster_domain::worker::Report;
use std::collections::{BTreeMap, BTreeSet};

/// One container's life, in true time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) start: u64,
    pub(crate) end: Option<u64>,
    /// Nobody saw it end: its machine or its engine took it along.
    pub(crate) lost: bool,
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

    /// It ends, and nobody sees it.
    pub(crate) fn is_lost(&mut self, key: &RankKey, t: u64) {
        if let Some(run) = self.runs.get_mut(key).filter(|run| run.end.is_none()) {
            run.lost = true;
        }
        self.ends(key, t);
    }

    /// From when the whole gang ran, and until when rank 0 did and no rank was lost.
    pub(crate) fn gang(&self, job: &JobId, attempt: Attempt, replicas: Rank, now: u64) -> Option<(u64, u64)> {
        let run = |rank| self.runs.get(&RankKey { job: job.clone(), rank, attempt });
        let (mut from, mut until) = (0, run(0)?.end.unwrap_or(now));
        for rank in 0..replicas {
            from = from.max(run(rank)?.start);
            until =
                run(rank)?.end.filter(|_| run(rank).is_some_and(|run| run.lost)).map_or(until, |end| until.min(end));
        }
        Some((from, until.max(from)))
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
            Life::Queued => {
                if job.attempt > 0 {
                    history.undone.insert(job.attempt);
                }
            }
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
