//! What is durable about a node: what its worker said it is, and what operators decided about it.

use crate::id::NodeName;
use crate::resources::Resources;
use crate::worker::Hello;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Whether a node takes new ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Admission {
    /// It does.
    #[default]
    Open,
    /// It does not; what is on it goes on.
    Cordoned,
    /// It does not; what is on it goes on until it ends, or is ended at the deadline.
    Draining {
        /// Milliseconds from the order. `None`: there is no deadline.
        deadline_ms: Option<u64>,
    },
}

/// A node's document. Written when the node is first heard, when what it is has changed, and when an operator decides;
/// never by a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// The node.
    pub name: NodeName,
    /// What operators decided.
    #[serde(default)]
    pub admission: Admission,
    /// For how long a drain with a deadline has gone on, in milliseconds: written every minute, so that a change of leadership
    /// gives users a minute more at most, and the time in which nobody led, and never less. No wall clock is asked.
    #[serde(default)]
    pub drained_ms: u64,
    /// The machine's boot as its worker last said it.
    pub boot_id: String,
    /// What jobs may use.
    pub capacity: Resources,
    /// Product categories it serves; empty means all.
    pub categories: Vec<String>,
    /// The operator's labels.
    pub labels: BTreeMap<String, String>,
    /// Nodes of one zone reach each other's ranks.
    pub network_zone: String,
    /// `docker`, `process` or `fake`.
    pub engine: String,
    /// For people.
    pub engine_version: String,
    /// The worker's version, for people.
    pub version: String,
}

impl NodeRecord {
    /// What a hello says about its node, beside what operators decided.
    #[must_use]
    pub fn new(hello: &Hello, admission: Admission) -> Self {
        Self {
            name: hello.node.clone(),
            admission,
            drained_ms: 0,
            boot_id: hello.boot_id.clone(),
            capacity: hello.capacity,
            categories: hello.categories.clone(),
            labels: hello.labels.clone(),
            network_zone: hello.network_zone.clone(),
            engine: hello.engine.clone(),
            engine_version: hello.engine_version.clone(),
            version: hello.version.clone(),
        }
    }
}
