//! `retrieveUtilization` (protocol 4.8).

use super::lenient;
use muster_domain::cluster;
use serde::{Deserialize, Serialize};

/// How full the whole provider is. Informational only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobsUtilization {
    /// What there is.
    #[serde(default, deserialize_with = "lenient::object")]
    pub capacity: CpuAndMemory,
    /// What is in use.
    #[serde(default, deserialize_with = "lenient::object")]
    pub used_capacity: CpuAndMemory,
    /// How many jobs.
    #[serde(default, deserialize_with = "lenient::object")]
    pub queue_status: QueueStatus,
}

/// An amount of cores and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CpuAndMemory {
    /// Virtual cores; fractions are allowed.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub cpu: f64,
    /// Bytes.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub memory: i64,
}

/// How many jobs run and wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Jobs whose every rank runs.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub running: i32,
    /// Jobs that wait or start.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub pending: i32,
}

impl From<&cluster::Utilization> for JobsUtilization {
    fn from(now: &cluster::Utilization) -> Self {
        let amount = |cores: u64, bytes: u64| CpuAndMemory {
            cpu: cores as f64,
            memory: i64::try_from(bytes).unwrap_or(i64::MAX),
        };
        let count = |jobs: u64| i32::try_from(jobs).unwrap_or(i32::MAX);
        Self {
            capacity: amount(now.cores, now.memory_bytes),
            used_capacity: amount(now.cores_used, now.memory_bytes_used),
            queue_status: QueueStatus { running: count(now.running), pending: count(now.pending) },
        }
    }
}
