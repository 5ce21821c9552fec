//! What Core asked for, once and for ever.

use crate::id::{JobId, Rank};
use crate::product::{Period, ProductRef};
use crate::resources::Resources;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Who asked for the job, and so who pays (protocol 7.1: the project if there is one).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The user.
    pub created_by: String,
    /// The user's project, if the job belongs to one.
    pub project: Option<String>,
}

/// What runs inside each rank.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The image, as a reference an engine can pull.
    pub image: String,
    /// The argument vector. Never a shell string; replaces the image's entry point and command (protocol 9).
    pub argv: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Whether the working directory is `/work` (protocol 8.8 `changeWorkingDirectory`).
    pub in_work_directory: bool,
    /// Whether the container runs as root inside.
    pub as_root: bool,
}

/// How the job is priced, fixed at creation so that a change of configuration cannot alter a charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// The period of the product's price unit.
    pub period: Period,
    /// Units of one rank and one period: the cores where the product is priced per core, else 1.
    pub units_per_period: u32,
    /// Whole periods in one charge window; at least 1.
    pub window_periods: u32,
}

/// One job as accepted. Immutable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Core's id.
    pub id: JobId,
    /// Who asked.
    pub owner: Owner,
    /// The user's own name for the job.
    pub name: Option<String>,
    /// Application and version, for people: `acme-batch 1.0.0`.
    pub application: String,
    /// The machine type asked for.
    pub product: ProductRef,
    /// Number of ranks; at least 1.
    pub replicas: Rank,
    /// The time allocation, in milliseconds of running; `None` runs until it ends by itself.
    pub time_limit_ms: Option<u64>,
    /// What each rank runs.
    pub container: ContainerSpec,
    /// What each rank takes, from the configured product.
    pub per_rank: Resources,
    /// How the job is charged, from the configured product.
    pub price: Price,
    /// W3C `traceparent` of the request that created the job, so that one trace covers it from request to charge.
    pub traceparent: Option<String>,
}

impl JobSpec {
    /// Whether `other` asks for the same thing. What configuration added (resources, price) and the trace do not count,
    /// so that a repeated create is recognised after a change of configuration.
    #[must_use]
    pub fn asks_the_same(&self, other: &Self) -> bool {
        let bare = |spec: &Self| {
            let mut spec = spec.clone();
            spec.per_rank = Resources::default();
            spec.price = Price { period: Period::Minute, units_per_period: 0, window_periods: 0 };
            spec.traceparent = None;
            spec
        };
        bare(self) == bare(other)
    }
}
