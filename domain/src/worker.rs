//! A worker and its node, as the leader knows them.

use crate::id::{NodeName, Term};
use crate::rank::RankReport;
use crate::resources::Resources;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The first thing a worker says on a new stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The node.
    pub node: NodeName,
    /// Changes with every boot of the machine; containers do not outlive it.
    pub boot_id: String,
    /// What jobs may use: found or configured, less what the worker reserves.
    pub capacity: Resources,
    /// Product categories this node serves; empty means all.
    pub categories: Vec<String>,
    /// The operator's labels.
    pub labels: BTreeMap<String, String>,
    /// Nodes with the same zone can reach each other's ranks; a gang never spans two zones.
    pub network_zone: String,
    /// `docker`, `process` or `fake`.
    pub engine: String,
    /// The engine's version, for people.
    pub engine_version: String,
    /// The worker's own version, for people.
    pub version: String,
    /// The newest term the worker has obeyed. A leader of an older one is not obeyed.
    pub last_term: Term,
    /// The worker's `CLOCK_BOOTTIME` when it said this, in milliseconds.
    pub sent_at_ms: u64,
    /// Every container with our labels, also ended ones.
    pub ranks: Vec<RankReport>,
}

/// What a worker says every 2 s, and at once when something happened; first when it is welcomed, and nothing before that:
/// then whatever a report says is younger than everything that an earlier leader made the worker do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The worker's `CLOCK_BOOTTIME` when it said this, in milliseconds.
    pub sent_at_ms: u64,
    /// Number of the last command of this stream that the worker has taken in. A rank's absence means something only
    /// if every command about it is counted in here.
    pub applied_sequence: u64,
    /// Whether `ranks` lists every rank the worker has. A heartbeat does; news in between do not.
    pub complete: bool,
    /// The ranks.
    pub ranks: Vec<RankReport>,
    /// Whether the engine answered lately. `false`: nothing new is placed here, and nothing is concluded from silence.
    pub engine_ok: bool,
}
