//! What a provider supports, per product (protocol 4.1, 8.6). A feature that is not mentioned counts as unsupported.

use super::lenient;
use super::product::ProductReference;
use serde::{Deserialize, Serialize};

/// One entry of `retrieveProducts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComputeSupport {
    /// The product.
    #[serde(default, deserialize_with = "lenient::object")]
    pub product: ProductReference,
    /// Containers.
    #[serde(default, deserialize_with = "lenient::object")]
    pub docker: DockerSupport,
    /// Virtual machines.
    #[serde(default, deserialize_with = "lenient::object")]
    pub virtual_machine: VirtualMachineSupport,
}

/// What containers of a product can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DockerSupport {
    /// Run at all.
    pub enabled: Option<bool>,
    /// Web interfaces.
    pub web: Option<bool>,
    /// Desktops.
    pub vnc: Option<bool>,
    /// Logs.
    pub logs: Option<bool>,
    /// Terminals.
    pub terminal: Option<bool>,
    /// Connections between jobs.
    pub peers: Option<bool>,
    /// `extend`.
    pub time_extension: Option<bool>,
    /// `retrieveUtilization`.
    pub utilization: Option<bool>,
}

/// What virtual machines of a product can do. Core of 2021 refuses them unless `enabled` is null (protocol 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineSupport {
    /// Run at all.
    pub enabled: Option<bool>,
    /// Logs.
    pub logs: Option<bool>,
    /// Desktops.
    pub vnc: Option<bool>,
    /// Terminals.
    pub terminal: Option<bool>,
    /// `extend`.
    pub time_extension: Option<bool>,
    /// `suspend`.
    pub suspension: Option<bool>,
    /// `retrieveUtilization`.
    pub utilization: Option<bool>,
}
