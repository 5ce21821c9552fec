//! What a job's document still owes Core.
//!
//! Nothing here is a queue: the notices are part of the document, in commit order, and one counter says how many of
//! them Core has acknowledged. A leader that reads the document knows what is owed (design section 1, "outbox").

use crate::job::EndCause;
use serde::{Deserialize, Serialize};

/// Something Core must hear about a job. The dialect finds the words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "notice")]
pub enum Notice {
    /// The job waits for room; said once, with the reason at that time.
    Waiting {
        /// Why.
        reason: String,
    },
    /// An attempt failed and another will be made.
    AttemptFailed {
        /// Which.
        attempt: u32,
        /// Why.
        reason: String,
    },
    /// Every rank runs.
    Running {
        /// Where: node names in order of rank, without repetition.
        nodes: Vec<String>,
    },
    /// The time allocation changed.
    TimeAllocation {
        /// The new total, in milliseconds.
        total_ms: u64,
    },
    /// The end, for ever.
    Ended {
        /// How it came to it.
        cause: EndCause,
    },
}
