//! What operators see: plain data, made from the cluster by [`crate::cluster::Cluster`], read by `muster`.
//!
//! These shapes are the JSON of the operator's API. Fields are added, never renamed.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `GET /v1/cluster`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterView {
    /// The cluster's name.
    pub cluster: String,
    /// The provider id at Core.
    pub provider: String,
    /// The coordinator's version.
    pub version: String,
    /// The leader's fencing token.
    pub term: u64,
    /// Nodes that are connected.
    pub nodes_online: usize,
    /// Nodes known.
    pub nodes: usize,
    /// Jobs waiting for room.
    pub jobs_waiting: usize,
    /// Jobs that hold room.
    pub jobs_active: usize,
    /// Jobs that have ended and are still kept.
    pub jobs_ended: usize,
    /// Updates and charges that Core has not acknowledged.
    pub owed_to_core: usize,
    /// What an operator should look at, in words; empty when all is well.
    pub alarms: Vec<String>,
    /// The brakes on automatic verdicts (I11).
    #[serde(default)]
    pub brakes: Vec<BrakeView>,
    /// Who leads, as far as the coordinator that was asked knows.
    #[serde(default)]
    pub leader: Option<LeaderView>,
    /// The role of the coordinator that was asked: `leader` or `follower`.
    #[serde(default)]
    pub role: Option<String>,
}

/// The brake on one kind of automatic verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrakeView {
    /// `lost`, `orphan`, `no_credit` or `drain`.
    pub verdict: String,
    /// Whether it holds verdicts back now.
    pub held: bool,
    /// Verdicts that may act in five minutes, by the present number of jobs.
    pub allowed: usize,
    /// Verdicts that acted in the last five minutes.
    pub used: usize,
    /// Jobs whose verdict waits.
    pub waiting: usize,
    /// For how many milliseconds more an operator's release lasts, if there is one.
    #[serde(default)]
    pub released_for_ms: Option<u64>,
}

/// The coordinator that leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderView {
    /// Its name.
    pub name: String,
    /// Where its operator listener is.
    pub operator: String,
    /// Where it takes UCloud's calls.
    pub http: String,
    /// Where it takes workers.
    pub fleet: String,
    /// Its version.
    pub version: String,
}

/// One line of `GET /v1/nodes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// The node's name.
    pub name: String,
    /// `online`, `offline` or `degraded` (its engine does not answer).
    pub state: String,
    /// `schedulable`, `cordoned`, `draining` or `drained` (it is draining, and nothing is placed on it any more).
    #[serde(default = "schedulable")]
    pub admission: String,
    /// Milliseconds until what still runs on a draining node is ended; `None` without a deadline.
    #[serde(default)]
    pub drain_ends_in_ms: Option<u64>,
    /// Milliseconds since the last heartbeat; `None` if it was never heard in this term.
    pub heard_ms_ago: Option<u64>,
    /// Engine and version.
    pub engine: String,
    /// The worker's version.
    pub version: String,
    /// The zone inside which ranks reach each other.
    pub network_zone: String,
    /// Cores that jobs may use.
    pub cores: u32,
    /// Cores in use by jobs.
    pub cores_used: u32,
    /// Bytes of memory that jobs may use.
    pub memory_bytes: u64,
    /// Bytes of memory in use by jobs.
    pub memory_bytes_used: u64,
    /// GPUs that jobs may use.
    pub gpus: u32,
    /// GPUs in use by jobs.
    pub gpus_used: u32,
    /// Product categories it serves; empty means all.
    pub categories: Vec<String>,
    /// The operator's labels.
    pub labels: BTreeMap<String, String>,
    /// Ranks placed on it, as `job/rank`.
    pub ranks: Vec<String>,
    /// Containers with our labels that no job here accounts for. They are left alone; an operator decides.
    pub unknown_ranks: Vec<String>,
}

/// What a coordinator means that does not know admissions.
fn schedulable() -> String {
    "schedulable".to_owned()
}

/// One line of `GET /v1/jobs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// Core's id.
    pub id: String,
    /// `queued`, `preparing`, `starting`, `running`, `stopping`, `undoing`, `ended`.
    pub state: String,
    /// For an ended job: `SUCCESS`, `FAILURE` or `EXPIRED` as Core is told; else `None`.
    pub outcome: Option<String>,
    /// Why it waits, why it ends or how it ended, in words.
    pub reason: String,
    /// Application and version.
    pub application: String,
    /// The user's name for it.
    pub name: Option<String>,
    /// Who asked for it.
    pub owner: String,
    /// The project that pays, if any.
    pub project: Option<String>,
    /// Category and product.
    pub product: String,
    /// Number of ranks.
    pub replicas: u32,
    /// The present or last attempt; 0 if none was made.
    pub attempt: u32,
    /// Milliseconds of running that are proven.
    pub ran_ms: u64,
    /// The present time limit.
    pub time_limit_ms: Option<u64>,
    /// Wall clock, milliseconds since the epoch.
    pub created_at_ms: u64,
    /// Wall clock of the moment when every rank ran.
    pub started_at_ms: Option<u64>,
    /// Wall clock of the end.
    pub ended_at_ms: Option<u64>,
}

/// `GET /v1/jobs/{id}`: the whole story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStory {
    /// The line of the list.
    #[serde(flatten)]
    pub job: JobView,
    /// The command line, argument by argument.
    pub argv: Vec<String>,
    /// The image.
    pub image: String,
    /// The ranks of the present or last attempt.
    pub ranks: Vec<RankView>,
    /// Attempts that failed before, oldest first.
    pub failed_attempts: Vec<AttemptView>,
    /// What Core was or will be told, in order.
    pub updates: Vec<UpdateView>,
    /// What Core was or will be charged, in order.
    pub charges: Vec<ChargeView>,
}

/// One rank of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankView {
    /// Its number.
    pub rank: u32,
    /// Where it was placed.
    pub node: String,
    /// `unknown`, `preparing`, `prepared`, `running`, `ended`, `failed`, `removed`.
    pub state: String,
    /// How it ended or failed, in words; empty before.
    pub detail: String,
    /// Its host name.
    pub host: String,
    /// Its address, once prepared.
    pub address: Option<String>,
    /// Milliseconds it ran, as last reported.
    pub age_ms: Option<u64>,
}

/// An attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptView {
    /// Its number.
    pub attempt: u32,
    /// The node at fault; later attempts avoid it.
    pub node: String,
    /// Why.
    pub reason: String,
}

/// One update to Core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateView {
    /// The state Core is asked to set, if any.
    pub state: Option<String>,
    /// The words.
    pub status: String,
    /// Whether Core has acknowledged it.
    pub acknowledged: bool,
}

/// One charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChargeView {
    /// Its id at Core.
    pub charge_id: String,
    /// Whole periods of the window.
    pub periods: u32,
    /// Periods times units of one rank.
    pub units: u64,
    /// Ranks.
    pub ranks: u32,
    /// Whether Core has acknowledged it.
    pub acknowledged: bool,
}
