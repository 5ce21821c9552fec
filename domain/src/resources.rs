//! What a rank takes and a node has: integers, so that packing and billing are exact.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Bytes in a gigabyte as UCloud's products count them (`memoryInGigs`; the reference provider asks for Gi).
pub const GIB: u64 = 1 << 30;

/// An amount of cores, memory and GPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Resources {
    /// Virtual cores.
    pub cores: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Whole GPUs.
    pub gpus: u32,
}

impl Resources {
    /// Whether `other` fits into this amount.
    #[must_use]
    pub fn holds(&self, other: &Self) -> bool {
        self.cores >= other.cores && self.memory_bytes >= other.memory_bytes && self.gpus >= other.gpus
    }

    /// The sum; saturates instead of wrapping.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            cores: self.cores.saturating_add(other.cores),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
            gpus: self.gpus.saturating_add(other.gpus),
        }
    }

    /// What is left after `other` is taken away; never below zero.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        Self {
            cores: self.cores.saturating_sub(other.cores),
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
            gpus: self.gpus.saturating_sub(other.gpus),
        }
    }

    /// How many times `each` fits, for an `each` that asks for something.
    #[must_use]
    pub fn times(&self, each: &Self) -> u32 {
        let of = |have: u64, want: u64| have.checked_div(want).unwrap_or(u64::MAX);
        let count = of(self.cores.into(), each.cores.into())
            .min(of(self.memory_bytes, each.memory_bytes))
            .min(of(self.gpus.into(), each.gpus.into()));
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cores, {:.1} GiB", self.cores, self.memory_bytes as f64 / GIB as f64)?;
        if self.gpus > 0 {
            write!(f, ", {} GPUs", self.gpus)?;
        }
        Ok(())
    }
}
