//! Tools: what an application runs in (protocol 8.8).

use super::application::NameAndVersion;
use super::duration::SimpleDuration;
use super::lenient;
use serde::{Deserialize, Serialize};

/// A tool as Core stores it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tool {
    /// Who uploaded it.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub owner: String,
    /// When, in milliseconds since the epoch.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub created_at: i64,
    /// When it was last changed, in milliseconds since the epoch.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub modified_at: i64,
    /// What it is.
    #[serde(default, deserialize_with = "lenient::object")]
    pub description: ToolDescription,
}

/// What a tool is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolDescription {
    /// Name and version.
    #[serde(default, deserialize_with = "lenient::object")]
    pub info: NameAndVersion,
    /// The image, in the deprecated place.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub container: Option<String>,
    /// For people.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub default_number_of_nodes: i64,
    /// For people.
    #[serde(default, deserialize_with = "lenient::object")]
    pub default_time_allocation: SimpleDuration,
    /// Environment modules; of no meaning to containers.
    #[serde(default, deserialize_with = "lenient::list")]
    pub required_modules: Vec<String>,
    /// For people.
    #[serde(default, deserialize_with = "lenient::list")]
    pub authors: Vec<String>,
    /// For people.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub title: String,
    /// For people.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub description: String,
    /// What runs it.
    #[serde(default, deserialize_with = "lenient::object")]
    pub backend: ToolBackend,
    /// For people.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub license: String,
    /// The image.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub image: Option<String>,
    /// Providers that can run it; all if null.
    #[serde(default)]
    pub supported_providers: Option<Vec<String>>,
}

/// What runs a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ToolBackend {
    /// Singularity containers. Core refuses them.
    Singularity,
    /// Containers.
    #[default]
    Docker,
    /// Virtual machines.
    VirtualMachine,
    /// Nothing around it. Core refuses them.
    Native,
    /// One that is not known here.
    #[serde(untagged)]
    Other(String),
}

impl ToolDescription {
    /// The image to run: `image`, else `container` (protocol 8.8). Blank ones do not count.
    #[must_use]
    pub fn image_to_run(&self) -> Option<&str> {
        [&self.image, &self.container].into_iter().flatten().map(|image| image.trim()).find(|image| !image.is_empty())
    }
}
