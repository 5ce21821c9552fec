//! What an operator tells the worker.

mod keys;
mod machine;
mod sections;

#[cfg(test)]
mod tests;

pub use keys::{KEYS, PROGRAM};
pub use machine::Machine;
pub use sections::{
    Cluster, Config, Docker, DockerNetwork, EngineChoice, Fleet, Node, Process, ProcessNetwork, Pull, Share,
};

use crate::engine::process::{Addresses, Ipv4Prefix};
use crate::worker::Settings;
use muster_domain::id::{ClusterName, NodeName};
use muster_domain::resources::{GIB, Resources};
use muster_runtime::config::{Complaint, Validate};
use muster_runtime::secret::{Secret, SecretError};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A stream that is silent for this long, five of the longest heartbeats, is given up.
const SILENCE: Duration = Duration::from_secs(10);

impl Config {
    /// The node's name: as configured, else the machine's host name.
    ///
    /// # Errors
    /// What was expected.
    pub fn node_name(&self) -> Result<NodeName, String> {
        let name = self.node.name.clone().unwrap_or_else(machine::host_name);
        NodeName::new(name).map_err(|error| error.to_string())
    }

    /// The installation's name.
    ///
    /// # Errors
    /// What was expected.
    pub fn cluster_name(&self) -> Result<ClusterName, String> {
        ClusterName::new(&*self.cluster.name).map_err(|error| error.to_string())
    }

    /// What jobs may use: as configured, else as found, less what is reserved.
    #[must_use]
    pub fn capacity(&self, machine: &Machine) -> Resources {
        let share = &self.resources;
        let all = Resources {
            cores: share.cores.unwrap_or(machine.cores),
            memory_bytes: share.memory_gib.map_or(machine.memory_bytes, |gib| gib.saturating_mul(GIB)),
            gpus: share.gpus.unwrap_or(machine.gpus),
        };
        // A machine's own system needs some memory; a figure that an operator wrote is meant as it stands.
        let reserve_gib = share.reserve_memory_gib.unwrap_or(u64::from(share.memory_gib.is_none()));
        all.minus(&Resources {
            cores: share.reserve_cores.unwrap_or(0),
            memory_bytes: reserve_gib.saturating_mul(GIB),
            gpus: 0,
        })
    }

    /// What the agent needs. Reads the join secret and the authority.
    ///
    /// # Errors
    /// Something an operator must put right.
    pub fn settings(&self) -> anyhow::Result<Settings> {
        use anyhow::Context;
        let ca = |path: &PathBuf| std::fs::read(path).with_context(|| format!("fleet.ca_file {}", path.display()));
        let secret = |path: &Path| Secret::from_file(path).context("fleet.token_file");
        Ok(Settings {
            node: self.node_name().map_err(anyhow::Error::msg)?,
            coordinators: self.coordinators.clone(),
            join_secret: self.fleet.token_file.as_deref().map(secret).transpose()?,
            ca_pem: self.fleet.ca_file.as_ref().map(ca).transpose()?,
            state_dir: self.state_dir.clone(),
            capacity: self.capacity(&Machine::look()),
            categories: self.categories.clone(),
            labels: self.labels.clone(),
            heartbeat: Duration::from_millis(self.heartbeat_ms),
            silence: SILENCE,
            grace: Duration::from_millis(self.grace_ms),
            engine_patience: Duration::from_millis(self.engine_patience_ms),
        })
    }

    /// What an operator should think about, though it is not wrong.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let open = |url: &&String| url.starts_with("http:") && !is_loopback(url);
        if self.coordinators.iter().any(|url| open(&url)) && self.fleet.token_file.is_some() {
            warnings.push(
                "the join secret crosses the network unencrypted; use https addresses outside of a trusted network"
                    .into(),
            );
        }
        warnings
    }

    fn share_complaints(&self, complaints: &mut Vec<Complaint>) {
        let capacity = self.capacity(&Machine::look());
        if capacity.cores == 0 {
            complaints.push(Complaint::new("resources.reserve_cores", "less than the machine's cores"));
        }
        if capacity.memory_bytes == 0 {
            complaints.push(Complaint::new("resources.reserve_memory_gib", "less than the machine's memory"));
        }
    }

    fn fleet_complaints(&self, complaints: &mut Vec<Complaint>) {
        let usable = |url: &String| muster_url(url).is_some();
        if self.coordinators.is_empty() || !self.coordinators.iter().all(usable) {
            let expected = "a list of addresses such as http://10.0.0.1:8472, without paths or credentials";
            complaints.push(Complaint::new("coordinators", expected));
        }
        let encrypted = self.coordinators.iter().any(|url| url.starts_with("https:"));
        if encrypted && self.fleet.ca_file.is_none() {
            complaints.push(Complaint::new("fleet.ca_file", "a file, since a coordinator's address is https"));
        }
        let Some(path) = &self.fleet.token_file else {
            let expected = "a file with the join secret, as the coordinators have it; they let no worker in without it, \
                            also on their own machine";
            complaints.push(Complaint::new("fleet.token_file", expected));
            return;
        };
        match Secret::from_file(path) {
            // The check may run on another machine or as another user; the start says if it cannot be read.
            Ok(_) | Err(SecretError::Unreadable { .. }) => {}
            Err(error) => {
                complaints.push(Complaint::new("fleet.token_file", format!("a file with the join secret: {error}")));
            }
        }
    }

    fn engine_complaints(&self, complaints: &mut Vec<Complaint>) {
        if self.docker.network == DockerNetwork::Host && self.docker.address.is_none() {
            complaints.push(Complaint::new(
                "docker.address",
                "this node's address for other nodes, since docker.network is host",
            ));
        }
        if let Err(expected) = self.process.addresses() {
            let key =
                if self.process.network == ProcessNetwork::Node { "process.address" } else { "process.loopback_range" };
            complaints.push(Complaint::new(key, expected));
        }
        for (key, user) in [("docker.user", &self.docker.user), ("process.user", &self.process.user)] {
            if user.as_deref().is_some_and(|user| user_and_group(user).is_none()) {
                complaints.push(Complaint::new(key, "uid:gid in numbers, such as 65534:65534"));
            }
        }
    }
}

impl Validate for Config {
    fn validate(&self) -> Vec<Complaint> {
        let mut complaints = self.telemetry.complaints();
        if let Err(error) = self.node_name() {
            complaints.push(Complaint::new("node.name", format!("a usable name: {error}")));
        }
        if let Err(error) = self.cluster_name() {
            complaints.push(Complaint::new("cluster.name", format!("a usable name: {error}")));
        }
        if !(200..=2_000).contains(&self.heartbeat_ms) {
            let expected = "200ms to 2s: the coordinator takes a longer silence for a gap";
            complaints.push(Complaint::new("heartbeat_ms", expected));
        }
        if self.grace_ms > 600_000 {
            complaints.push(Complaint::new("grace_ms", "at most 10m"));
        }
        if self.state_dir == self.work_root {
            complaints.push(Complaint::new("work_root", "another folder than state_dir, which is the worker's own"));
        }
        self.fleet_complaints(&mut complaints);
        self.share_complaints(&mut complaints);
        self.engine_complaints(&mut complaints);
        complaints
    }
}

impl Process {
    /// How ranks get their addresses; `Err` says what was expected.
    pub(crate) fn addresses(&self) -> Result<Addresses, String> {
        if self.network == ProcessNetwork::Node {
            let address = self.address.clone().filter(|address| !address.is_empty());
            let address = address.ok_or("this node's address for other nodes, since process.network is node")?;
            return Ok(Addresses::Node { address });
        }
        let base = self.loopback_range.parse::<Ipv4Prefix>().map_err(|error| format!("a usable range: {error}"))?;
        Ok(Addresses::Loopback { base })
    }
}

/// Reads `uid:gid`.
pub(crate) fn user_and_group(text: &str) -> Option<(u32, u32)> {
    let (user, group) = text.split_once(':')?;
    Some((user.parse().ok()?, group.parse().ok()?))
}

/// An address a coordinator can have.
fn muster_url(text: &str) -> Option<tonic::transport::Uri> {
    let uri: tonic::transport::Uri = text.parse().ok()?;
    let fits = matches!(uri.scheme_str(), Some("http" | "https")) && matches!(uri.path(), "" | "/");
    let clean = !uri.authority()?.as_str().contains('@') && uri.query().is_none();
    (fits && clean).then_some(uri)
}

fn is_loopback(url: &str) -> bool {
    let uri = muster_url(url);
    let Some(host) = uri.as_ref().and_then(tonic::transport::Uri::host) else { return false };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
