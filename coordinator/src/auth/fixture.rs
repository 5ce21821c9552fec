//! Tokens as Core signs them, for tests.

use super::{AuthSettings, Authenticator};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

/// The present key's private half.
pub(crate) const CURRENT: &str = include_str!("testdata/current.key.pem");
/// The next key's private half.
pub(crate) const NEXT: &str = include_str!("testdata/next.key.pem");
/// The present key.
pub(crate) const CURRENT_PUBLIC: &str = include_str!("testdata/current.public.pem");
/// A certificate of the next key.
pub(crate) const NEXT_CERTIFICATE: &str = include_str!("testdata/next.certificate.pem");

/// The issuer that the tests expect.
pub(crate) const ISSUER: &str = "cloud.sdu.dk";

pub(crate) fn settings(keys: &[&str]) -> AuthSettings {
    AuthSettings {
        issuer: ISSUER.to_owned(),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        max_life_s: 900,
        leeway_s: 15,
    }
}

/// An authenticator that takes tokens of the present key.
pub(crate) fn authenticator() -> Authenticator {
    Authenticator::new(settings(&[CURRENT_PUBLIC])).unwrap()
}

/// The claims of `protocol.md` 2.1 for a token made at `now_s`.
pub(crate) fn claims(now_s: u64) -> Value {
    json!({
        "iss": ISSUER, "sub": "_UCloud", "role": "SERVICE", "principalType": "service", "uid": -1,
        "aud": "all:write", "iat": now_s, "exp": now_s + 900, "extendedByChain": [],
    })
}

/// Signs any header and claims with RS256, as texts so that they may be malformed.
pub(crate) fn sign(header: &str, claims: &str, key: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = EncodingKey::from_rsa_pem(key.as_bytes()).unwrap();
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::RS256).unwrap();
    format!("{message}.{signature}")
}

/// A good token of the present key, made just now.
pub(crate) fn token() -> String {
    sign(r#"{"alg":"RS256","typ":"JWT"}"#, &claims(super::now_s()).to_string(), CURRENT)
}
