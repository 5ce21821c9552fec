//! What the outside may ask: operators, `retrieveUtilization`, whoever streams logs. Reading only.

use super::Cluster;
use super::nodes::Node;
use super::place::explain;
use super::settings::{JobLocation, RankLocation, Utilization, Wording};
use super::track::{Seen, Tracked};
use super::verdicts::held_words;
use crate::id::{JobId, NodeName, Rank, RankKey};
use crate::invariants::check_cluster;
use crate::job::{Life, RankOutcome};
use crate::node::Admission;
use crate::peers::host_name;
use crate::rank::{RankEnd, RankState};
use crate::resources::Resources;
use crate::time::Now;
use crate::view::{AttemptView, ChargeView, ClusterView, JobStory, JobView, NodeView, RankView, UpdateView};

impl Cluster {
    /// Where a job's ranks are; `None` for a job that is not known.
    #[must_use]
    pub fn location(&self, id: &JobId) -> Option<JobLocation> {
        let tracked = self.jobs.get(id)?;
        let job = &tracked.job;
        let places = job.life.placement().map(|placement| placement.0.as_slice()).unwrap_or_default();
        let rank = |(rank, node): (Rank, &NodeName)| {
            let seen = tracked.seen.get(rank as usize);
            let ran = matches!(&job.life, Life::Ended { ranks, .. } if ranks.get(rank as usize).is_some_and(|r| r.end.is_some()));
            RankLocation {
                key: RankKey { job: id.clone(), rank, attempt: job.attempt },
                node: node.to_string(),
                session: self.nodes.get(node).and_then(|node| node.session),
                started: ran || seen.is_some_and(Seen::has_started),
            }
        };
        let ranks = (0..).zip(places).map(rank).collect();
        Some(JobLocation { ended: job.life.has_ended(), replicas: job.spec.replicas, ranks })
    }

    /// Every node with what it has, if it has ever said so, and what of it is given to ranks (I7). What ended jobs had on
    /// a node that was not heard in this term is left out: an earlier leader may have given it away again, since a
    /// document does not say of each rank whether it is gone.
    pub fn allocations(&self) -> impl Iterator<Item = (&NodeName, Option<Resources>, Resources)> {
        self.nodes.iter().map(|(name, node)| {
            let used = self.surely_used(node);
            (name, self.records.get(name).map(|record| record.capacity), used)
        })
    }

    fn surely_used(&self, node: &Node) -> Resources {
        let placed = node.placed.iter().filter_map(|key| Some((key.rank as usize, self.jobs.get(&key.job)?)));
        let there = placed.filter(|(rank, tracked)| {
            !tracked.job.life.has_ended() || tracked.seen.get(*rank).is_some_and(|seen| seen.is_confirmed())
        });
        there.fold(Resources::default(), |sum, (_, tracked)| sum.plus(&tracked.job.spec.per_rank))
    }

    /// How full the cluster is.
    #[must_use]
    pub fn utilization(&self) -> Utilization {
        let mut sum = Utilization { running: self.running, ..Utilization::default() };
        sum.pending = self.queue.len() as u64;
        for id in &self.holding {
            let starting = self.jobs.get(id).is_some_and(|tracked| {
                matches!(tracked.job.life, Life::Preparing { .. } | Life::Starting { .. } | Life::Undoing { .. })
            });
            sum.pending += u64::from(starting);
        }
        for (name, node) in self.nodes.iter().filter(|(_, node)| node.is_online()) {
            let capacity = self.records.get(name).map(|record| record.capacity).unwrap_or_default();
            sum.cores += u64::from(capacity.cores);
            sum.memory_bytes += capacity.memory_bytes;
            sum.cores_used += u64::from(node.used.cores);
            sum.memory_bytes_used += node.used.memory_bytes;
        }
        sum
    }

    /// The overview for operators.
    #[must_use]
    pub fn cluster_view(&self, now: Now) -> ClusterView {
        ClusterView {
            cluster: self.settings.cluster.to_string(),
            provider: self.settings.provider.to_string(),
            version: self.settings.version.clone(),
            term: self.term,
            nodes_online: self.nodes.values().filter(|node| node.is_online()).count(),
            nodes: self.nodes.len(),
            jobs_waiting: self.queue.len(),
            jobs_active: self.jobs.values().filter(|t| !t.job.life.has_ended() && t.job.life != Life::Queued).count(),
            jobs_ended: self.jobs.values().filter(|tracked| tracked.job.life.has_ended()).count(),
            owed_to_core: self.jobs.values().map(|tracked| tracked.job.owed()).sum(),
            alarms: check_cluster(self)
                .iter()
                .map(ToString::to_string)
                .chain(self.alarms.iter().map(|(_, alarm)| alarm.clone()))
                .collect(),
            brakes: self.brake_views(now.moment),
            // Whoever serves the view knows where this coordinator listens and which role it has.
            leader: None,
            role: None,
        }
    }

    /// Every node, by name.
    #[must_use]
    pub fn node_views(&self, now: Now) -> Vec<NodeView> {
        self.nodes.iter().map(|(name, node)| self.node_view(now, name, node)).collect()
    }

    fn node_view(&self, now: Now, name: &NodeName, node: &Node) -> NodeView {
        let state = match node {
            node if node.session.is_none() || node.silent.is_some() => "offline",
            node if !node.engine_ok => "degraded",
            _ => "online",
        };
        let admission = match self.admission(name) {
            Admission::Open => "schedulable",
            Admission::Cordoned => "cordoned",
            Admission::Draining { .. } if node.placed.is_empty() => "drained",
            Admission::Draining { .. } => "draining",
        };
        let record = self.records.get(name);
        let capacity = record.map(|record| record.capacity).unwrap_or_default();
        NodeView {
            name: name.to_string(),
            state: state.to_owned(),
            admission: admission.to_owned(),
            drain_ends_in_ms: self.drained_at(name).map(|moment| moment.since_ms(now.moment)),
            heard_ms_ago: node.heard.map(|heard| now.moment.since_ms(heard)),
            engine: record.map(|record| format!("{} {}", record.engine, record.engine_version)).unwrap_or_default(),
            version: record.map(|record| record.version.clone()).unwrap_or_default(),
            network_zone: record.map(|record| record.network_zone.clone()).unwrap_or_default(),
            cores: capacity.cores,
            cores_used: node.used.cores,
            memory_bytes: capacity.memory_bytes,
            memory_bytes_used: node.used.memory_bytes,
            gpus: capacity.gpus,
            gpus_used: node.used.gpus,
            categories: record.map(|record| record.categories.clone()).unwrap_or_default(),
            labels: record.map(|record| record.labels.clone()).unwrap_or_default(),
            ranks: node.placed.iter().map(|key| format!("{}/{}", key.job, key.rank)).collect(),
            unknown_ranks: node.unknown.iter().map(ToString::to_string).collect(),
        }
    }

    /// Every job, oldest first.
    #[must_use]
    pub fn job_views(&self, now: Now, wording: &dyn Wording) -> Vec<JobView> {
        let mut jobs: Vec<&Tracked> = self.jobs.values().collect();
        jobs.sort_by_key(|tracked| tracked.job.sequence);
        jobs.into_iter().map(|tracked| job_view(now, wording, tracked)).collect()
    }

    /// One job's whole story.
    #[must_use]
    pub fn job_story(&self, now: Now, wording: &dyn Wording, id: &JobId) -> Option<JobStory> {
        let tracked = self.jobs.get(id)?;
        let job = &tracked.job;
        let attempt = |failed: &crate::job::FailedAttempt| AttemptView {
            attempt: failed.attempt,
            node: failed.node.to_string(),
            reason: failed.reason.clone(),
        };
        let update = |(number, notice): (u32, &crate::outbox::Notice)| {
            let (state, status) = wording.update(notice);
            UpdateView { state, status, acknowledged: number < job.told }
        };
        let charge = |charge: crate::accounting::Charge| ChargeView {
            charge_id: wording.charge_id(&charge),
            periods: charge.periods,
            units: u64::from(charge.periods) * u64::from(charge.units_per_period),
            ranks: charge.ranks,
            acknowledged: charge.window < job.account.acked,
        };
        Some(JobStory {
            job: job_view(now, wording, tracked),
            argv: job.spec.container.argv.clone(),
            image: job.spec.container.image.clone(),
            ranks: rank_views(tracked),
            failed_attempts: job.failed_attempts.iter().map(attempt).collect(),
            updates: (0..).zip(&job.notices).map(update).collect(),
            charges: job.account.charges(&job.spec).map(charge).collect(),
        })
    }
}

fn job_view(_now: Now, wording: &dyn Wording, tracked: &Tracked) -> JobView {
    let job = &tracked.job;
    let reason = match &job.life {
        Life::Queued => match &tracked.wait {
            Some(wait) => explain(wait, job.spec.replicas),
            None => "waits for its turn".to_owned(),
        },
        Life::Preparing { .. } => ready(tracked, "prepared", |s| matches!(s.state, Some(RankState::Prepared { .. }))),
        Life::Starting { .. } => ready(tracked, "started", Seen::has_started),
        Life::Running { .. } => tracked.held_back.map(held_words).unwrap_or_default().to_owned(),
        Life::Undoing { .. } => match job.failed_attempts.last().filter(|failed| failed.attempt == job.attempt) {
            Some(failed) => failed.reason.clone(),
            None => "a node was taken out of service before the job ran".to_owned(),
        },
        Life::Stopping { cause, .. } | Life::Ended { cause, .. } => wording.reason(cause),
    };
    let ran_ms = match &job.life {
        Life::Running { offset_ms, .. } | Life::Stopping { offset_ms: Some(offset_ms), .. } => {
            tracked.run_ms(*offset_ms)
        }
        _ => 0,
    };
    JobView {
        id: job.spec.id.to_string(),
        state: job.life.name().to_owned(),
        outcome: match &job.life {
            Life::Ended { cause, .. } => Some(wording.outcome(cause).to_owned()),
            _ => None,
        },
        reason,
        application: job.spec.application.clone(),
        name: job.spec.name.clone(),
        owner: job.spec.owner.created_by.clone(),
        project: job.spec.owner.project.clone(),
        product: job.spec.product.to_string(),
        replicas: job.spec.replicas,
        attempt: job.attempt,
        ran_ms: ran_ms.max(job.account.evidence_ms),
        time_limit_ms: job.time_limit_ms,
        created_at_ms: job.created_at_ms,
        started_at_ms: job.started_at_ms,
        ended_at_ms: job.ended_at_ms,
    }
}

fn ready(tracked: &Tracked, what: &str, is_ready: impl Fn(&Seen) -> bool) -> String {
    let count = tracked.seen.iter().filter(|seen| is_ready(seen)).count();
    format!("{count} of {} ranks are {what}", tracked.job.spec.replicas)
}

fn rank_views(tracked: &Tracked) -> Vec<RankView> {
    let job = &tracked.job;
    let places = job.life.placement().map(|placement| placement.0.as_slice()).unwrap_or_default();
    let view = |(rank, node): (Rank, &NodeName)| {
        let index = rank as usize;
        let (state, detail, age_ms) = match (&job.life, tracked.seen.get(index)) {
            (Life::Ended { ranks, .. }, _) => outcome_words(ranks.get(index)),
            (_, Some(seen)) => seen_words(seen),
            _ => ("unknown", String::new(), None),
        };
        RankView {
            rank,
            node: node.to_string(),
            state: state.to_owned(),
            detail,
            host: host_name(&job.spec.id, rank),
            address: job.life.addresses().get(index).cloned(),
            age_ms,
        }
    };
    (0..).zip(places).map(view).collect()
}

fn outcome_words(outcome: Option<&RankOutcome>) -> (&'static str, String, Option<u64>) {
    match outcome {
        Some(RankOutcome { end: Some(end), age_ms }) => ("ended", end_words(end), Some(*age_ms)),
        _ => ("removed", "it never ran".to_owned(), None),
    }
}

fn seen_words(seen: &Seen) -> (&'static str, String, Option<u64>) {
    match &seen.state {
        Some(RankState::Removed) => ("removed", String::new(), None),
        None if seen.known => ("removed", String::new(), None),
        None => ("unknown", "its node was not heard since this coordinator leads".to_owned(), None),
        Some(RankState::Preparing) => ("preparing", String::new(), None),
        Some(RankState::Prepared { .. }) => ("prepared", String::new(), None),
        Some(RankState::Starting) => ("starting", String::new(), None),
        Some(RankState::Running { age_ms }) => ("running", String::new(), Some(*age_ms)),
        Some(RankState::Ended { end, age_ms }) => ("ended", end_words(end), Some(*age_ms)),
        Some(RankState::Failed { reason, .. }) => ("failed", reason.clone(), None),
    }
}

fn end_words(end: &RankEnd) -> String {
    match end {
        RankEnd::Exited { code } => format!("exit code {code}"),
        RankEnd::OutOfMemory => "killed by the kernel: out of memory".to_owned(),
        RankEnd::Killed { signal } => format!("killed by signal {signal}"),
        RankEnd::TimeLimit => "ended: its time was up".to_owned(),
        RankEnd::Stopped => "stopped".to_owned(),
        RankEnd::Vanished => "vanished: nobody saw how it ended".to_owned(),
        RankEnd::EngineRestarted => "ended by a restart of the node's container engine".to_owned(),
    }
}
