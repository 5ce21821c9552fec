//! Who may call: Core, with the token it signs for this provider (`protocol.md` 2.1 and 16.10, reliability C.2 1-7).

mod claims;
mod der;
mod key;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

pub use claims::Rejection;
pub use key::BadKey;

use axum::http::{HeaderMap, header};
use claims::{Claims, Header};
use jsonwebtoken::{Algorithm, crypto};
use key::PublicKey;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;
use std::sync::{Arc, PoisonError, RwLock};

/// The longest token that is looked at, in bytes (reliability C.2 item 7).
pub const MOST_TOKEN_BYTES: usize = 8 * 1024;

/// What decides whether a token is Core's.
#[derive(Clone, Debug)]
pub struct AuthSettings {
    /// The issuer that tokens must name; `cloud.sdu.dk` in production.
    pub issuer: String,
    /// Core's public keys for this provider: the present one, and the next one during a change. Each is the base64 of a DER
    /// SubjectPublicKeyInfo, a PEM `PUBLIC KEY` or a PEM X.509 certificate.
    pub keys: Vec<String>,
    /// The longest life of a token, `exp - iat`, in seconds; 900 at Core.
    pub max_life_s: u64,
    /// How far two clocks may be apart, in seconds; 15.
    pub leeway_s: u64,
}

/// Checks Core's tokens. The algorithm is RS256 and never taken from a token.
#[derive(Debug)]
pub struct Authenticator {
    issuer: String,
    max_life_s: u64,
    leeway_s: u64,
    keys: RwLock<Arc<[PublicKey]>>,
    rejections: Counter<u64>,
}

impl Authenticator {
    /// An authenticator for these settings.
    ///
    /// # Errors
    /// A key that is missing, unreadable, not RSA or shorter than 2048 bit.
    pub fn new(settings: AuthSettings) -> Result<Self, BadKey> {
        let rejections = opentelemetry::global::meter("muster-coordinator")
            .u64_counter("muster.http.rejected_tokens")
            .with_description("Calls refused because of their token, by reason")
            .build();
        Ok(Self {
            keys: RwLock::new(key::read_all(&settings.keys)?),
            issuer: settings.issuer,
            max_life_s: settings.max_life_s,
            leeway_s: settings.leeway_s,
            rejections,
        })
    }

    /// Puts other keys in the place of the present ones, without a pause. On an error the present ones stay.
    ///
    /// # Errors
    /// As [`Authenticator::new`].
    pub fn reload(&self, keys: &[String]) -> Result<(), BadKey> {
        let keys = key::read_all(keys)?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// Whether the request carries one bearer token of Core's. A failure is counted by reason.
    ///
    /// # Errors
    /// Why not; for logs and metrics only, the caller is never told.
    pub fn check_headers(&self, headers: &HeaderMap) -> Result<(), Rejection> {
        self.counted(bearer(headers).and_then(|token| self.check_at(token, now_s())))
    }

    /// Whether the token of a WebSocket frame is Core's (`protocol.md` 5.1). A failure is counted by reason.
    ///
    /// # Errors
    /// As [`Authenticator::check_headers`].
    pub fn check_token(&self, token: Option<&str>) -> Result<(), Rejection> {
        self.counted(token.ok_or(Rejection::Missing).and_then(|token| self.check_at(token, now_s())))
    }

    /// The check itself, at a given time in seconds since the epoch.
    fn check_at(&self, token: &str, now_s: u64) -> Result<(), Rejection> {
        if token.len() > MOST_TOKEN_BYTES {
            return Err(Rejection::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Rejection::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(Rejection::Malformed)?;
        if claims.contains('.') {
            return Err(Rejection::Malformed);
        }
        Header::read(header)?.check()?;

        let keys = Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner));
        let signed = keys.iter().any(|key| {
            crypto::verify(signature, message.as_bytes(), key.decoding(), Algorithm::RS256).unwrap_or(false)
        });
        if !signed {
            return Err(Rejection::Signature);
        }
        Claims::read(claims)?.check(&self.issuer, now_s, self.max_life_s, self.leeway_s)
    }

    fn counted(&self, outcome: Result<(), Rejection>) -> Result<(), Rejection> {
        if let Err(rejection) = outcome {
            self.rejections.add(1, &[KeyValue::new("reason", rejection.name())]);
            tracing::debug!(reason = rejection.name(), "call refused because of its token");
        }
        outcome
    }
}

/// The bearer token of the one `Authorization` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str, Rejection> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(Rejection::Missing)?;
    if values.next().is_some() {
        return Err(Rejection::Malformed);
    }
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(Rejection::Malformed)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Rejection::Malformed);
    }
    Ok(token.trim())
}

fn now_s() -> u64 {
    muster_runtime::clock::now().wall_ms / 1000
}
