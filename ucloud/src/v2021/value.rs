//! Values of parameters, and resources of a job (protocol 8.10).

use super::lenient;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A value that a user gave to a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum AppParameterValue {
    /// A file or directory.
    File {
        /// Absolute UCloud path; the first component is the collection's id.
        path: String,
        /// Whether the job must not change it.
        #[serde(default, deserialize_with = "lenient::scalar")]
        read_only: bool,
    },
    /// True or false.
    #[serde(rename = "boolean")]
    Boolean {
        /// Which.
        #[serde(deserialize_with = "lenient::required")]
        value: bool,
    },
    /// A line of text.
    Text {
        /// The text.
        #[serde(deserialize_with = "lenient::required")]
        value: String,
    },
    /// Lines of text.
    #[serde(rename = "textarea")]
    TextArea {
        /// The text.
        #[serde(deserialize_with = "lenient::required")]
        value: String,
    },
    /// A whole number.
    Integer {
        /// The number.
        #[serde(deserialize_with = "lenient::required")]
        value: i64,
    },
    /// A number.
    FloatingPoint {
        /// The number.
        #[serde(deserialize_with = "lenient::required")]
        value: f64,
    },
    /// Another job that must be reachable.
    Peer {
        /// Under which host name.
        hostname: String,
        /// Which job.
        #[serde(deserialize_with = "lenient::required")]
        job_id: String,
    },
    /// A licence.
    LicenseServer {
        /// Which.
        #[serde(deserialize_with = "lenient::required")]
        id: String,
    },
    /// A public address.
    Network {
        /// Which.
        #[serde(deserialize_with = "lenient::required")]
        id: String,
    },
    /// A volume; Core does not implement it.
    BlockStorage {
        /// Which.
        #[serde(deserialize_with = "lenient::required")]
        id: String,
    },
    /// A public link.
    Ingress {
        /// Which.
        #[serde(deserialize_with = "lenient::required")]
        id: String,
    },
    /// A kind that is not known here, or one whose fields do not fit. Kept as it came, because calls that only name a
    /// job must not fail for it; [`crate::v2021::accept`] refuses it.
    #[serde(untagged)]
    Other(Value),
}

impl AppParameterValue {
    /// The kind, as `type` names it.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::File { .. } => "file",
            Self::Boolean { .. } => "boolean",
            Self::Text { .. } => "text",
            Self::TextArea { .. } => "textarea",
            Self::Integer { .. } => "integer",
            Self::FloatingPoint { .. } => "floating_point",
            Self::Peer { .. } => "peer",
            Self::LicenseServer { .. } => "license_server",
            Self::Network { .. } => "network",
            Self::BlockStorage { .. } => "block_storage",
            Self::Ingress { .. } => "ingress",
            Self::Other(value) => kind_of(value),
        }
    }
}

/// The `type` of a tagged object, for messages.
pub(crate) fn kind_of(value: &Value) -> &str {
    value.get("type").and_then(Value::as_str).unwrap_or("")
}
