//! What a token says, read strictly: a claim of the wrong type is an error, never an absent claim (CVE-2026-25537).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};

/// The subject of Core's tokens.
const SUBJECT: &str = "_UCloud";
/// The role of Core's tokens.
const ROLE: &str = "SERVICE";

/// Why a token was refused. Told to nobody outside: every caller gets the same 401.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.name())]
pub enum Rejection {
    /// There is no token.
    Missing,
    /// Longer than [`super::MOST_TOKEN_BYTES`].
    TooLong,
    /// Not a bearer token of three parts with a readable header and claims of the right types.
    Malformed,
    /// The header names another algorithm than RS256.
    Algorithm,
    /// The header brings a key of its own, or extensions.
    Header,
    /// No configured key made the signature.
    Signature,
    /// Another issuer.
    Issuer,
    /// Another subject than `_UCloud`.
    Subject,
    /// Another role than `SERVICE`.
    Role,
    /// `exp` has passed.
    Expired,
    /// `iat` or `nbf` is yet to come.
    NotYetValid,
    /// `exp - iat` is above the limit, or not positive.
    Life,
}

impl Rejection {
    /// The reason, as metrics and logs name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Header => "header",
            Self::Signature => "signature",
            Self::Issuer => "issuer",
            Self::Subject => "subject",
            Self::Role => "role",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Life => "life",
        }
    }
}

/// The header of a token. Keys that are not named here are ignored.
#[derive(Deserialize)]
pub(super) struct Header {
    alg: String,
    #[serde(default, deserialize_with = "present")]
    jku: bool,
    #[serde(default, deserialize_with = "present")]
    jwk: bool,
    #[serde(default, deserialize_with = "present")]
    x5u: bool,
    #[serde(default, deserialize_with = "present")]
    x5c: bool,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

impl Header {
    pub(super) fn read(part: &str) -> Result<Self, Rejection> {
        decode(part)
    }

    pub(super) fn check(&self) -> Result<(), Rejection> {
        // The signature is checked as RS256 whatever stands here; a token that claims anything else is refused by name.
        if self.alg != "RS256" {
            return Err(Rejection::Algorithm);
        }
        if self.jku || self.jwk || self.x5u || self.x5c || self.crit {
            return Err(Rejection::Header);
        }
        Ok(())
    }
}

/// The claims that count. `aud` is not looked at (`protocol.md` 2.1, 16.10).
#[derive(Deserialize)]
pub(super) struct Claims {
    iss: String,
    sub: String,
    role: String,
    exp: u64,
    iat: u64,
    #[serde(default, deserialize_with = "given")]
    nbf: Option<u64>,
}

impl Claims {
    pub(super) fn read(part: &str) -> Result<Self, Rejection> {
        decode(part)
    }

    pub(super) fn check(&self, issuer: &str, now_s: u64, max_life_s: u64, leeway_s: u64) -> Result<(), Rejection> {
        if self.iss != issuer {
            return Err(Rejection::Issuer);
        }
        if self.sub != SUBJECT {
            return Err(Rejection::Subject);
        }
        if self.role != ROLE {
            return Err(Rejection::Role);
        }
        if !matches!(self.exp.checked_sub(self.iat), Some(life) if life > 0 && life <= max_life_s) {
            return Err(Rejection::Life);
        }
        let latest = now_s.saturating_add(leeway_s);
        if self.iat > latest || self.nbf.is_some_and(|nbf| nbf > latest) {
            return Err(Rejection::NotYetValid);
        }
        if now_s >= self.exp.saturating_add(leeway_s) {
            return Err(Rejection::Expired);
        }
        Ok(())
    }
}

fn decode<T: DeserializeOwned>(part: &str) -> Result<T, Rejection> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| Rejection::Malformed)?;
    // A sequence would fill a struct by position.
    if json.first() != Some(&b'{') {
        return Err(Rejection::Malformed);
    }
    serde_json::from_slice(&json).map_err(|_| Rejection::Malformed)
}

/// `true` for a key that is there, whatever its value.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

/// A value that may be absent but not `null`.
fn given<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u64>, D::Error> {
    u64::deserialize(value).map(Some)
}
