//! The provider's own access token (protocol 2.2).

use super::secret::Secret;
use serde::{Deserialize, Serialize};

/// One item of `/auth/providers/refresh`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefreshToken {
    /// Opaque, does not expire.
    pub refresh_token: Secret,
}

/// One answer of `/auth/providers/refresh`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessToken {
    /// A JWT that lives 15 minutes.
    pub access_token: Secret,
}
