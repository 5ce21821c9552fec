//! One scheduling pass: the cluster makes the snapshot, `schedule::plan` chooses, the cluster writes the placements.

use super::Cluster;
use super::track::Seen;
use crate::effect::Milestone;
use crate::id::{JobId, NodeName};
use crate::job::Placement;
use crate::node::Admission;
use crate::outbox::Notice;
use crate::schedule::{Absence, Away, Gang, MOST_NAMED, Room, Snapshot, Wait, plan};
use crate::time::Now;
use std::collections::BTreeMap;

/// Jobs of one category looked at in one pass, oldest first. Those behind them wait for their turn, also because a category
/// with so many jobs at its head that no machine could ever hold needs an operator more than a longer look.
const MOST_LOOKED_AT: usize = 1_000;

impl Cluster {
    pub(super) fn place(&mut self, now: Now) {
        if self.queue.is_empty() {
            return;
        }
        let plan = plan(&self.snapshot());
        for (id, nodes) in plan.placements {
            self.place_one(now, &id, nodes);
        }
        for (id, wait) in plan.waiting {
            self.wait(now, &id, wait);
        }
    }

    /// Everything that the choice depends on.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let (mut rooms, mut away) = (Vec::new(), Vec::new());
        for (name, node) in &self.nodes {
            let Some(record) = self.records.get(name) else { continue };
            let room = Room {
                node: name.clone(),
                capacity: record.capacity,
                free: record.capacity.minus(&node.used),
                zone: record.network_zone.clone(),
                categories: record.categories.clone(),
            };
            match record.admission {
                Admission::Open if node.is_online() => rooms.push(room),
                Admission::Open => away.push(Away { room, why: Absence::Offline }),
                Admission::Cordoned | Admission::Draining { .. } => away.push(Away { room, why: Absence::Cordoned }),
            }
        }
        let unaccounted = self.unaccounted();
        let mut looked_at: BTreeMap<&str, usize> = BTreeMap::new();
        let queue = self.queue.values().filter_map(|id| {
            let job = &self.jobs.get(id)?.job;
            let count = looked_at.entry(&job.spec.product.category).or_default();
            *count += 1;
            if *count > MOST_LOOKED_AT {
                return None;
            }
            Some(Gang {
                job: id.clone(),
                category: job.spec.product.category.clone(),
                replicas: job.spec.replicas,
                per_rank: job.spec.per_rank,
                avoid: job.failed_attempts.iter().map(|failed| failed.node.clone()).collect(),
                unaccounted: unaccounted.get(id).map(|node| (*node).clone()),
            })
        });
        Snapshot { rooms, away, queue: queue.collect() }
    }

    fn place_one(&mut self, now: Now, id: &JobId, nodes: Vec<NodeName>) {
        let Some(tracked) = self.jobs.get_mut(id) else {
            return;
        };
        tracked.job.place(Placement(nodes));
        tracked.seen = vec![Seen::fresh(now.moment); tracked.job.spec.replicas as usize];
        tracked.since = now.moment;
        tracked.wait = None;
        let job = tracked.job.clone();
        self.queue.remove(&job.sequence);
        self.holding.insert(id.clone());
        self.take_room(&job);
        self.save(id, Milestone::Placed);
        self.drive(now, id);
    }

    /// A job that waits says why, once, to Core's user; operators always see the present reason.
    fn wait(&mut self, now: Now, id: &JobId, wait: Wait) {
        let Some(tracked) = self.jobs.get_mut(id) else {
            return;
        };
        let first = tracked.wait.is_none() && tracked.job.notices.is_empty();
        let reason = explain(&wait, tracked.job.spec.replicas);
        tracked.wait = Some(wait);
        if first {
            tracked.job.notices.push(Notice::Waiting { reason });
            self.save(id, Milestone::Other);
            self.drive(now, id);
        }
    }
}

/// Why a job waits, in words.
pub(super) fn explain(wait: &Wait, replicas: u32) -> String {
    match wait {
        Wait::NeverFits { ranks: 0 } => "no machine of this type is online".to_owned(),
        Wait::NeverFits { ranks } => {
            format!(
                "the machines of this type that are online hold {ranks} of {replicas} ranks, even when they are empty"
            )
        }
        Wait::Away { ranks, offline, cordoned } => {
            let here = match ranks {
                0 => "no machine of this type is in service".to_owned(),
                _ => format!("the machines of this type that are in service hold {ranks} of {replicas} ranks"),
            };
            let away = [named(offline, "offline"), named(cordoned, "cordoned")];
            format!("{here}: {}", away.into_iter().flatten().collect::<Vec<_>>().join(", "))
        }
        Wait::Full { ranks, cordoned } => {
            let cordoned = match cordoned {
                0 => String::new(),
                1 => "; 1 node is cordoned".to_owned(),
                count => format!("; {count} nodes are cordoned"),
            };
            format!("other jobs hold the machines: {ranks} of {replicas} ranks would fit now{cordoned}")
        }
        Wait::Unaccounted { node } => {
            format!("node {node} has a container of it that is not known here; an operator must look at it")
        }
        Wait::Behind { job } => {
            format!("job {job} came first and waits for machines of the same type")
        }
    }
}

/// `node a is offline`, `nodes a, b, c and others are cordoned`; nothing for no nodes.
fn named(nodes: &[NodeName], state: &str) -> Option<String> {
    let names = nodes.iter().take(MOST_NAMED).map(NodeName::as_str).collect::<Vec<_>>().join(", ");
    match nodes.len() {
        0 => None,
        1 => Some(format!("node {names} is {state}")),
        2..=MOST_NAMED => Some(format!("nodes {names} are {state}")),
        _ => Some(format!("nodes {names} and others are {state}")),
    }
}
