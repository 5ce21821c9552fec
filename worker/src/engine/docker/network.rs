//! One network for each job, so that its ranks see each other and nobody else (design section 5).
//!
//! Workers that share an engine, or a swarm, share the network of a job: making it is idempotent, and the rank's
//! address follows from the network's subnet and the rank's number alone, so that it is known before anything starts.

use super::Inner;
use super::call::{CallError, LOOK, MAKE, call, node_fault};
use super::label;
use super::settings::NetworkMode;
use super::subnet::Subnet;
use crate::engine::EngineError;
use bollard::models::{Ipam, IpamConfig, Network, NetworkCreateRequest};
use muster_domain::id::{ClusterName, JobId};
use std::time::Duration;

/// How often making a network is tried before the node gives up: each round either ends it or knows one more block
/// that is taken by something that the engine does not list.
const MOST_ROUNDS: usize = 64;

/// How often a swarm is asked to remove a network.
const MOST_REMOVALS: usize = 10;
/// How long to wait for a swarm's bookkeeping.
const ALLOCATION: Duration = Duration::from_millis(100);

/// A network of the job's name, as found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    id: String,
    ours: bool,
    subnet: Option<Subnet>,
}

impl Inner {
    /// Makes sure that the job's network exists, and returns its subnet.
    pub(super) async fn ensure_network(&self, job: &JobId, replicas: u32, pool: Subnet) -> Result<Subnet, EngineError> {
        let name = label::network_name(&self.settings.cluster, job);
        let order: Vec<Subnet> = pool
            .candidates(&name, replicas, self.is_overlay())
            .ok_or_else(|| {
                node_fault(format!(
                    "the subnet pool {pool} of this node is too narrow for {replicas} ranks; configure a wider one"
                ))
            })?
            .collect();
        let mut blocked: Vec<Subnet> = Vec::new();
        let mut made: Option<String> = None;
        for _ in 0..MOST_ROUNDS {
            let all = self.networks().await?;
            let mut mine = named(&all, &name, job, &self.settings.cluster);
            // Old engines let two networks of one name be made at once. All who look agree on the one whose block comes
            // first in the order of the name; whoever made another one takes it back.
            mine.sort_by_key(|one| {
                one.subnet.and_then(|subnet| order.iter().position(|block| *block == subnet)).unwrap_or(usize::MAX)
            });
            if mine.iter().any(|one| one.ours && one.subnet.is_none()) {
                // A swarm lists a network a moment before it has given it its block, and tells nobody when it has.
                tokio::time::sleep(ALLOCATION).await;
                continue;
            }
            if let Some(first) = mine.first() {
                if let Some(id) = made.filter(|id| *id != first.id) {
                    self.remove_network(&id).await?;
                }
                return match first.subnet {
                    Some(subnet) if first.ours => Ok(subnet),
                    _ => Err(node_fault(format!("the network {name} exists and is not of this cluster; remove it"))),
                };
            }
            let taken: Vec<Subnet> = all.iter().flat_map(subnets).collect();
            let free = |block: &&Subnet| !blocked.contains(block) && !taken.iter().any(|other| other.overlaps(**block));
            let Some(block) = order.iter().find(free).copied() else { break };
            match call(MAKE, self.docker.create_network(self.network_request(&name, job, block))).await {
                Ok(answer) => made = Some(answer.id),
                // Another worker was faster. A swarm says so in words only.
                Err(CallError::Conflict(_)) => {}
                Err(error) if error.message().contains("name conflicts with an existing object") => {}
                Err(error) if error.message().contains("overlap") => blocked.push(block),
                Err(error) => return Err(error.on("the job's network could not be made")),
            }
        }
        Err(node_fault(format!("the subnet pool {pool} of this node has no free block left; configure a wider one")))
    }

    fn network_request(&self, name: &str, job: &JobId, block: Subnet) -> NetworkCreateRequest {
        let overlay = self.is_overlay();
        NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some(if overlay { "overlay" } else { "bridge" }.to_owned()),
            attachable: overlay.then_some(true),
            ipam: Some(Ipam {
                config: Some(vec![IpamConfig {
                    subnet: Some(block.to_string()),
                    gateway: Some(block.gateway().to_string()),
                    // A swarm takes an address for each node out of the network, the first free one of its range: that
                    // must never be a rank's.
                    ip_range: overlay.then(|| block.upper_half().to_string()),
                    ..Default::default()
                }]),
                ..Default::default()
            }),
            labels: Some(label::of_network(&self.settings.cluster, job)),
            ..Default::default()
        }
    }

    fn is_overlay(&self) -> bool {
        matches!(self.settings.network, NetworkMode::Overlay { .. })
    }

    async fn networks(&self) -> Result<Vec<Network>, EngineError> {
        call(LOOK, self.docker.list_networks(None)).await.map_err(|error| error.on("the networks could not be listed"))
    }

    /// Removes the job's network if no container of the job is left on this engine, whichever worker's.
    pub(super) async fn release_network(&self, job: &JobId) -> Result<(), EngineError> {
        if self.pool.is_none() || !self.labels_of_all(&[(label::JOB, job.as_str())]).await?.is_empty() {
            return Ok(());
        }
        let name = label::network_name(&self.settings.cluster, job);
        for network in named(&self.networks().await?, &name, job, &self.settings.cluster) {
            if network.ours {
                self.remove_network(&network.id).await?;
            }
        }
        Ok(())
    }

    async fn remove_network(&self, id: &str) -> Result<(), EngineError> {
        for _ in 0..MOST_REMOVALS {
            match call(MAKE, self.docker.remove_network(id)).await {
                Ok(()) | Err(CallError::Missing(_)) => return Ok(()),
                Err(error) if !is_in_use(&error) => return Err(error.on("the job's network could not be removed")),
                // A swarm notices that a container is gone a moment after its engine did.
                Err(_) if self.is_overlay() => tokio::time::sleep(ALLOCATION).await,
                Err(_) => break,
            }
        }
        // Somebody is attached: on another engine of the swarm, or a rank that was made this moment. The last one to
        // leave removes it.
        Ok(())
    }
}

/// Whether a network was not removed because somebody is attached to it.
fn is_in_use(error: &CallError) -> bool {
    let texts = ["in use", "active endpoints"];
    matches!(error, CallError::Conflict(_) | CallError::Refused { status: 403, .. })
        || texts.iter().any(|text| error.message().contains(text))
}

/// The networks of exactly this name.
fn named(all: &[Network], name: &str, job: &JobId, cluster: &ClusterName) -> Vec<Candidate> {
    all.iter()
        .filter(|network| network.name.as_deref() == Some(name))
        .filter_map(|network| {
            let labels = network.labels.as_ref();
            let expected = label::of_network(cluster, job);
            let ours = expected.iter().all(|(name, value)| labels.and_then(|labels| labels.get(name)) == Some(value));
            Some(Candidate { id: network.id.clone()?, ours, subnet: subnets(network).next() })
        })
        .collect()
}

fn subnets(network: &Network) -> impl Iterator<Item = Subnet> + '_ {
    let configs = network.ipam.iter().flat_map(|ipam| ipam.config.iter().flatten());
    configs.filter_map(|config| Subnet::parse(config.subnet.as_deref()?).ok())
}
