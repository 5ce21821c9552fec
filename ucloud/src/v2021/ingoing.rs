//! Items of calls to the provider that have no file of their own (protocol 4).

use super::duration::SimpleDuration;
use super::job::Job;
use serde::{Deserialize, Serialize};

/// One item of `extend` (protocol 4.4).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtendItem {
    /// The job.
    pub job: Job,
    /// How much to add to its allocation.
    pub requested_time: SimpleDuration,
}
