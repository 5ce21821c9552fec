//! The machine types that an operator offers.

use crate::id::ProviderId;
use crate::resources::{GIB, Resources};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Names a product at Core: `{id, category, provider}` (protocol 3.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProductRef {
    /// The product's name.
    pub id: String,
    /// The category's name.
    pub category: String,
    /// The provider.
    pub provider: ProviderId,
}

impl fmt::Display for ProductRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.category, self.id)
    }
}

/// The length of one period of a product's price (protocol 7.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// 60 s; the default of compute products.
    #[default]
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours.
    Day,
}

impl Period {
    /// The length in milliseconds.
    #[must_use]
    pub fn ms(self) -> u64 {
        match self {
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
            Self::Day => 86_400_000,
        }
    }
}

/// A machine type, as the operator configures it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// The product's name at Core.
    pub id: String,
    /// The product's category at Core. Only workers that offer this category get its jobs.
    pub category: String,
    /// Virtual cores of one rank.
    pub cores: u32,
    /// GiB of memory of one rank.
    pub memory_gib: u32,
    /// GPUs of one rank.
    #[serde(default)]
    pub gpus: u32,
    /// The period of the price unit.
    #[serde(default)]
    pub period: Period,
    /// Whether the price is per core, so that a charge multiplies by the cores (protocol 7.1, 7.2).
    #[serde(default = "yes")]
    pub charge_per_core: bool,
}

fn yes() -> bool {
    true
}

impl Product {
    /// What one rank takes.
    #[must_use]
    pub fn per_rank(&self) -> Resources {
        Resources { cores: self.cores, memory_bytes: u64::from(self.memory_gib) * GIB, gpus: self.gpus }
    }
}
