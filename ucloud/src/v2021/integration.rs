//! Connecting users, and welcoming the provider (protocol 2.3, 2.4).

use super::lenient;
use super::secret::Secret;
use serde::{Deserialize, Serialize};

/// The answer to `retrieveManifest`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntegrationManifest {
    /// Whether users must connect.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub enabled: bool,
}

/// The body of integration `init` and `connect`, and of `approveConnection` at Core.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindByUsername {
    /// The user.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub username: String,
}

/// The answer to `connect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectResponse {
    /// Where the user's browser goes: absolute, or relative to the provider's domain.
    pub redirect_to: String,
}

/// The body of `welcome`. Comes without a bearer; `token` is what was obtained at registration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WelcomeRequest {
    /// Proves that the caller is Core.
    pub token: Secret,
    /// What the provider needs from now on.
    pub created_provider: ProviderWelcomeTokens,
}

/// What a provider needs to talk with Core.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderWelcomeTokens {
    /// For access tokens.
    pub refresh_token: Secret,
    /// What Core's tokens are checked with.
    pub public_key: String,
}

/// The body of `/api/providers/requestApproval`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RequestApproval {
    /// A provider introduces itself.
    Information {
        /// As what.
        specification: ProviderSpecification,
    },
    /// A person vouches for it.
    Sign {
        /// From the first answer.
        token: Secret,
    },
}

/// How Core reaches a provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderSpecification {
    /// The provider's id.
    pub id: String,
    /// Its host name.
    pub domain: String,
    /// Whether by TLS.
    pub https: bool,
    /// Its port; 443 or 80 if null.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub port: Option<u16>,
}

/// The answer to `/api/providers/requestApproval`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RequestApprovalResponse {
    /// A person must sign. The token lives 5 minutes.
    RequiresSignature {
        /// What is to be signed, and comes back in `welcome`.
        token: Secret,
    },
    /// An administrator must approve.
    AwaitingAdminApproval {
        /// The same token.
        token: Secret,
    },
}
