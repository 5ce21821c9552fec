//! `SimpleDuration` (protocol 8.2).

use super::lenient;
use super::problem::Problem;
use serde::{Deserialize, Serialize};

/// A length of time as people write it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimpleDuration {
    /// Hours, without bound.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub hours: i64,
    /// Minutes, 0 to 59.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub minutes: i64,
    /// Seconds, 0 to 59.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub seconds: i64,
}

impl SimpleDuration {
    /// The duration of so many milliseconds, rounded down to seconds.
    #[must_use]
    pub fn of_ms(ms: u64) -> Self {
        let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
        Self { hours: seconds / 3600, minutes: seconds / 60 % 60, seconds: seconds % 60 }
    }

    /// Milliseconds of a duration that must be longer than nothing. `field` names it in the problem.
    pub fn positive_ms(&self, field: &str) -> Result<u64, Problem> {
        // Core's hours are a 32-bit number.
        let part = |name: &str, value: i64, most: i64| {
            u64::try_from(value)
                .ok()
                .filter(|_| value <= most)
                .ok_or_else(|| Problem::invalid(format!("{field}.{name}: expected 0 to {most}, found {value}")))
        };
        let hours = part("hours", self.hours, i32::MAX.into())?;
        let minutes = part("minutes", self.minutes, 59)?;
        let seconds = part("seconds", self.seconds, 59)?;
        match ((hours * 60 + minutes) * 60 + seconds) * 1000 {
            0 => Err(Problem::invalid(format!("{field}: expected more than 0 seconds"))),
            ms => Ok(ms),
        }
    }
}
