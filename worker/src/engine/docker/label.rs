//! Names and labels: how a container says whose it is, over restarts of worker and engine.

use super::settings::DockerSettings;
use muster_domain::id::{Attempt, ClusterName, JobId, Rank, RankKey, Term};
use muster_domain::rank::Assignment;
use std::collections::HashMap;

pub(super) const CLUSTER: &str = "muster.cluster";
pub(super) const NODE: &str = "muster.node";
pub(super) const JOB: &str = "muster.job";
const RANK: &str = "muster.rank";
const ATTEMPT: &str = "muster.attempt";
const TERM: &str = "muster.term";
const ADDRESS: &str = "muster.address";
/// Containers do not outlive a boot of the machine; the engine restarts and calls them exited.
const BOOT: &str = "muster.boot";
/// The GPUs that were given to the container, separated by commas.
pub(super) const GPUS: &str = "muster.gpus";
const TRACEPARENT: &str = "muster.traceparent";

/// Labels as the engine gives them.
pub(super) type Labels = HashMap<String, String>;

/// The container's name. One key is one container for ever, so the engine's own refusal of a second container of this
/// name is what keeps there from being two (reliability B.3).
pub(super) fn container_name(cluster: &ClusterName, key: &RankKey) -> String {
    format!("muster-{cluster}-{}-{}-{}", key.job, key.rank, key.attempt)
}

/// The name of a job's network. All attempts share it.
pub(super) fn network_name(cluster: &ClusterName, job: &JobId) -> String {
    format!("muster-{cluster}-{job}")
}

/// The labels of a job's network.
pub(super) fn of_network(cluster: &ClusterName, job: &JobId) -> Labels {
    HashMap::from([(CLUSTER.to_owned(), cluster.to_string()), (JOB.to_owned(), job.to_string())])
}

/// The labels of a rank's container.
pub(super) fn of_rank(settings: &DockerSettings, assignment: &Assignment, address: &str, gpus: &[String]) -> Labels {
    let key = &assignment.key;
    let mut labels = of_network(&settings.cluster, &key.job);
    labels.extend([
        (NODE.to_owned(), settings.node.to_string()),
        (RANK.to_owned(), key.rank.to_string()),
        (ATTEMPT.to_owned(), key.attempt.to_string()),
        (TERM.to_owned(), assignment.term.to_string()),
        (ADDRESS.to_owned(), address.to_owned()),
        (BOOT.to_owned(), settings.boot_id.clone()),
    ]);
    if !gpus.is_empty() {
        labels.insert(GPUS.to_owned(), gpus.join(","));
    }
    if let Some(traceparent) = &assignment.traceparent {
        labels.insert(TRACEPARENT.to_owned(), traceparent.clone());
    }
    labels
}

/// What a container's labels say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// Which rank.
    pub(super) key: RankKey,
    /// Under which term it was ordered.
    pub(super) term: Term,
    /// The address under which other ranks reach it.
    pub(super) address: String,
    /// Whether it was made in this boot of the machine.
    pub(super) this_boot: bool,
}

/// Reads the labels of a container that is ours; `None` for one that is another cluster's or node's, or not Muster's.
pub(super) fn read(settings: &DockerSettings, labels: &Labels) -> Option<Identity> {
    let of = |name: &str| labels.get(name).map(String::as_str);
    if of(CLUSTER) != Some(settings.cluster.as_str()) || of(NODE) != Some(settings.node.as_str()) {
        return None;
    }
    Some(Identity {
        key: RankKey {
            job: JobId::new(of(JOB)?).ok()?,
            rank: of(RANK)?.parse::<Rank>().ok()?,
            attempt: of(ATTEMPT)?.parse::<Attempt>().ok()?,
        },
        term: of(TERM)?.parse::<Term>().ok()?,
        address: of(ADDRESS)?.to_owned(),
        this_boot: of(BOOT).is_none_or(|boot| boot == settings.boot_id),
    })
}
