//! Containers that are assigned to nobody: left-overs of known jobs go, unknown ones are left alone, and no job is placed
//! while the store does not account for a container of it.

use super::Cluster;
use crate::id::{JobId, NodeName, RankKey};
use crate::rank::{Command, RankReport, RankState};
use crate::time::Now;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Most containers of one node that are remembered as unknown (I12).
const MOST_UNKNOWN: usize = 1_000;

impl Cluster {
    /// A container that is not assigned to this node.
    pub(super) fn on_stray(&mut self, now: Now, name: &NodeName, line: &RankReport) {
        if line.state == RankState::Removed {
            return;
        }
        let left_over = self.is_left_over(name, &line.key);
        let resend_ms = self.settings.resend_ms;
        let Some(node) = self.nodes.get_mut(name) else {
            return;
        };
        // What was unknown once stays so, whatever becomes of its job meanwhile.
        if !left_over || node.unknown.contains(&line.key) {
            if node.unknown.len() < MOST_UNKNOWN && node.unknown.insert(line.key.clone()) {
                self.alarm(format!(
                    "node {name} has a container {} that belongs to nothing known here; it is left alone. Look at it, and \
                     remove it by hand if nobody needs it",
                    line.key
                ));
            }
            return;
        }
        let key = line.key.clone();
        let live = matches!(line.state, RankState::Starting | RankState::Running { .. });
        // A stop is followed by a report of the end at once, and that by the removal.
        let due = node.strays.get(&key).is_none_or(|at| now.moment.since_ms(*at) >= resend_ms) || !live;
        if due {
            node.strays.insert(key.clone(), now.moment);
            let command = if live { Command::Stop { key } } else { Command::Remove { key } };
            self.command(name, command);
        }
    }

    /// Whether a container that is not assigned to this node is what an earlier attempt left there. A newer attempt than the
    /// store knows, or the present one on another node than it was placed on, tell that the store is an older copy.
    fn is_left_over(&self, name: &NodeName, key: &RankKey) -> bool {
        let Some(tracked) = self.jobs.get(&key.job) else { return false };
        let was_here = || tracked.job.node_of(key.rank).is_none_or(|node| node == name);
        key.rank < tracked.job.spec.replicas
            && match key.attempt.cmp(&tracked.job.attempt) {
                Ordering::Less => true,
                Ordering::Equal => was_here(),
                Ordering::Greater => false,
            }
    }

    /// Jobs of which a node has a container that the store does not account for, and that node. Placed once more, such a job
    /// could run twice (I3).
    pub(super) fn unaccounted(&self) -> BTreeMap<&JobId, &NodeName> {
        self.nodes.iter().flat_map(|(name, node)| node.unknown.iter().map(move |key| (&key.job, name))).collect()
    }
}
