//! Identifiers. Each kind is a type of its own, so that two kinds cannot be swapped.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a text cannot be an identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {value:?} is not usable: expected {expected}")]
pub struct BadId {
    /// Which kind of identifier was asked for.
    pub kind: &'static str,
    /// The text that was refused, cut to 80 characters.
    pub value: String,
    /// The rule it breaks.
    pub expected: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $most:literal, $extra:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks the text and takes it as an identifier.
            pub fn new(text: impl Into<String>) -> Result<Self, BadId> {
                let text = text.into();
                let fits = !text.is_empty()
                    && text.len() <= $most
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || $extra.as_bytes().contains(&b))
                    && text.as_bytes()[0].is_ascii_alphanumeric();
                if fits {
                    Ok(Self(text))
                } else {
                    Err(BadId { kind: $kind, value: text.chars().take(80).collect(), expected: $expected })
                }
            }

            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;
            fn try_from(text: String) -> Result<Self, BadId> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// A job, named by Core (a decimal number there; protocol 3.1). Short enough to be part of a host name.
    JobId, "job id", 40, "-", "1 to 40 letters, digits or '-', beginning with a letter or digit"
);
text_id!(
    /// A node of the fleet, and the worker agent on it.
    NodeName, "node name", 63, "-._", "1 to 63 letters, digits, '-', '.' or '_', beginning with a letter or digit"
);
text_id!(
    /// This provider, as Core knows it.
    ProviderId, "provider id", 63, "-._", "1 to 63 letters, digits, '-', '.' or '_', beginning with a letter or digit"
);
text_id!(
    /// One installation of Muster. Part of every label and key, so that two clusters on one machine leave each other alone.
    ClusterName, "cluster name", 40, "-", "1 to 40 letters, digits or '-', beginning with a letter or digit"
);

/// The 0-based number of a replica inside its job. Rank 0 is the primary point of contact.
pub type Rank = u32;
/// One try at running a gang. Grows from 1 and is never reused.
pub type Attempt = u32;
/// The leader's fencing token. Grows with every leader.
pub type Term = u64;
/// A request of the outside that waits for its reply. Numbered by the shell, unique in one process.
pub type RequestId = u64;
/// One stream of one worker. Numbered by the shell, unique in one process, growing.
pub type SessionId = u64;

/// One container, for ever: no two containers share a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RankKey {
    /// The job.
    pub job: JobId,
    /// Which replica.
    pub rank: Rank,
    /// Which try.
    pub attempt: Attempt,
}

impl fmt::Display for RankKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.job, self.rank, self.attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_what_was_expected() {
        assert!(JobId::new("54112").is_ok());
        let error = JobId::new("../etc").unwrap_err();
        assert_eq!(
            error.to_string(),
            "job id \"../etc\" is not usable: expected 1 to 40 letters, digits or '-', beginning with a letter or digit"
        );
        assert!(JobId::new("").is_err());
        assert!(JobId::new("-1").is_err());
        assert!(serde_json::from_str::<NodeName>("\"a b\"").is_err());
    }
}
