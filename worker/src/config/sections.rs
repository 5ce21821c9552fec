//! The shape of the configuration.

use muster_runtime::telemetry;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The worker's configuration; [`super::KEYS`] says what each value means.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each field is a key with a text of its own")]
pub struct Config {
    pub coordinators: Vec<String>,
    pub state_dir: PathBuf,
    pub work_root: PathBuf,
    pub engine: EngineChoice,
    pub engine_patience_ms: u64,
    pub categories: Vec<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    pub heartbeat_ms: u64,
    pub grace_ms: u64,
    pub cluster: Cluster,
    #[serde(default)]
    pub node: Node,
    #[serde(default)]
    pub fleet: Fleet,
    #[serde(default)]
    pub resources: Share,
    pub docker: Docker,
    pub process: Process,
    pub telemetry: telemetry::Config,
}

/// Which engine runs ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineChoice {
    /// Docker where its socket exists, else processes.
    Auto,
    /// Containers.
    Docker,
    /// Plain processes.
    Process,
    /// Nothing runs; for tests and measurements.
    Fake,
}

/// Section `cluster`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each field is a key with a text of its own")]
pub struct Cluster {
    pub name: String,
}

/// Section `node`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each field is a key with a text of its own")]
pub struct Node {
    pub name: Option<String>,
}

/// Section `fleet`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each field is a key with a text of its own")]
pub struct Fleet {
    pub token_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
}

/// Section `resources`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each field is a key with a text of its own")]
pub struct Share {
    pub cores: Option<u32>,
    pub memory_gib: Option<u64>,
    pub gpus: Option<u32>,
    pub reserve_cores: Option<u32>,
    pub reserve_memory_gib: Option<u64>,
}

/// Section `docker`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each field is a key with a text of its own")]
pub struct Docker {
    pub socket: PathBuf,
    pub network: DockerNetwork,
    pub subnet_pool: String,
    pub address: Option<String>,
    pub pull: Pull,
    pub user: Option<String>,
    #[serde(default)]
    pub gpus: Vec<String>,
    pub pids_limit: u32,
    pub log_limit_bytes: u64,
    pub log_retention_ms: u64,
}

/// Section `process`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each field is a key with a text of its own")]
pub struct Process {
    pub network: ProcessNetwork,
    pub loopback_range: String,
    pub address: Option<String>,
    pub images_dir: Option<PathBuf>,
    pub user: Option<String>,
    pub log_limit_bytes: u64,
    pub log_retention_ms: u64,
    pub pids_limit: u32,
}

/// How ranks of the Docker engine reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DockerNetwork {
    /// On one node.
    Bridge,
    /// Over the managers of one swarm.
    Overlay,
    /// The nodes' own network.
    Host,
}

/// When images are pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pull {
    /// When the engine does not have them.
    IfMissing,
    /// Never.
    Never,
}

/// Which addresses ranks of the process engine have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessNetwork {
    /// One of their own each, within one node.
    Loopback,
    /// The node's.
    Node,
}
