//! JSON web tokens of both directions, and every way to make a bad one (protocol 2.1, 2.2; reliability F8).

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::keys::ProviderKeys;

pub(super) const ISSUER: &str = "cloud.sdu.dk";

/// Claims of the token that Core presents to the provider (protocol 2.1).
pub fn core_claims(now_s: u64, life_s: u64) -> Value {
    json!({
        "iss": ISSUER, "sub": "_UCloud", "role": "SERVICE", "principalType": "service", "uid": -1,
        "aud": "all:write", "iat": now_s, "exp": now_s + life_s, "extendedByChain": [],
    })
}

/// Claims of the provider's own access token (protocol 2.2).
pub fn provider_claims(provider_id: &str, now_s: u64, expires_s: u64) -> Value {
    json!({
        "iss": ISSUER, "sub": format!("#P_{provider_id}"), "role": "PROVIDER", "principalType": "provider", "uid": -1,
        "aud": "all:write", "iat": now_s, "exp": expires_s, "extendedByChain": [],
    })
}

/// Signs `claims` as Core does: RS256, no `kid`.
pub(super) fn sign(keys: &ProviderKeys, claims: &Value) -> anyhow::Result<String> {
    let message = message(&json!({"alg": "RS256", "typ": "JWT"}), claims);
    let signature = keys.sign_sha256(message.as_bytes())?;
    Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

fn message(header: &Value, claims: &Value) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// Why Core refuses a bearer token on a control call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenFault {
    Malformed,
    Algorithm,
    Signature,
    Issuer,
    Subject,
    Role,
    Expired,
}

/// Checks a token of the provider as Core does: signature, `RS256`, issuer, role, subject, expiry.
pub(super) fn check_provider_token(
    keys: &ProviderKeys,
    provider_id: &str,
    token: &str,
    now_s: u64,
) -> Result<(), TokenFault> {
    let (message, signature) = token.rsplit_once('.').ok_or(TokenFault::Malformed)?;
    let (header, claims) = message.split_once('.').ok_or(TokenFault::Malformed)?;
    let header = part(header).ok_or(TokenFault::Malformed)?;
    let claims = part(claims).ok_or(TokenFault::Malformed)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenFault::Malformed)?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    if header.get("alg").and_then(Value::as_str) != Some("RS256") {
        return Err(TokenFault::Algorithm);
    }
    if !keys.verifies_sha256(message.as_bytes(), &signature) {
        return Err(TokenFault::Signature);
    }
    if text("iss") != ISSUER {
        return Err(TokenFault::Issuer);
    }
    if claims.get("exp").and_then(Value::as_u64).is_none_or(|expires| expires <= now_s) {
        return Err(TokenFault::Expired);
    }
    if !matches!(text("role"), "PROVIDER" | "SERVICE") {
        return Err(TokenFault::Role);
    }
    if text("sub").strip_prefix("#P_") != Some(provider_id) {
        return Err(TokenFault::Subject);
    }
    Ok(())
}

fn part(encoded: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
}

/// A token that a provider must refuse with 401. Each differs from a good one in the one respect it is named after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadToken {
    /// `alg: none` and no signature.
    AlgorithmNone,
    /// `alg: HS256`, keyed with the text of the public key that the provider is configured with.
    Hs256WithPublicKey,
    /// `alg: RS384`, rightly signed: only `RS256` is agreed upon.
    Rs384,
    /// Header says `RS256`, signed with another RSA key.
    OtherKey,
    /// Good claims whose signature was altered in one byte.
    AlteredSignature,
    /// Claims exchanged after signing.
    AlteredClaims,
    /// `iss` of somebody else.
    WrongIssuer,
    /// `sub` of a user.
    WrongSubject,
    /// `sub` `_ucloud`: the comparison is exact.
    SubjectInOtherCase,
    /// `role` `USER`.
    WrongRole,
    /// The provider's own outbound token, played back to it (F8).
    OwnProviderToken,
    /// Expired one minute ago.
    Expired,
    /// No `exp` at all.
    NoExpiry,
    /// No `iat` at all.
    NoIssueTime,
    /// Lives a day (ruling 10: at most 15 minutes).
    LongLived,
    /// Issued ten minutes from now.
    IssuedInFuture,
    /// Not a token.
    Garbage,
    /// Nothing between the dots.
    Empty,
}

impl BadToken {
    /// All of them, for a test that walks the table.
    pub const ALL: &[BadToken] = &[
        BadToken::AlgorithmNone,
        BadToken::Hs256WithPublicKey,
        BadToken::Rs384,
        BadToken::OtherKey,
        BadToken::AlteredSignature,
        BadToken::AlteredClaims,
        BadToken::WrongIssuer,
        BadToken::WrongSubject,
        BadToken::SubjectInOtherCase,
        BadToken::WrongRole,
        BadToken::OwnProviderToken,
        BadToken::Expired,
        BadToken::NoExpiry,
        BadToken::NoIssueTime,
        BadToken::LongLived,
        BadToken::IssuedInFuture,
        BadToken::Garbage,
        BadToken::Empty,
    ];

    /// Makes the token.
    pub fn make(self, keys: &ProviderKeys, provider_id: &str, now_s: u64) -> anyhow::Result<String> {
        let good = core_claims(now_s, 900);
        let with = |name: &str, value: Value| {
            let mut claims = good.clone();
            claims[name] = value;
            claims
        };
        let without = |name: &str| {
            let mut claims = good.clone();
            if let Some(map) = claims.as_object_mut() {
                map.remove(name);
            }
            claims
        };
        match self {
            Self::AlgorithmNone => Ok(format!("{}.", message(&json!({"alg": "none", "typ": "JWT"}), &good))),
            Self::Hs256WithPublicKey => {
                let message = message(&json!({"alg": "HS256", "typ": "JWT"}), &good);
                let key = hmac::Key::new(hmac::HMAC_SHA256, keys.public_key_base64()?.as_bytes());
                let tag = hmac::sign(&key, message.as_bytes());
                Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref())))
            }
            Self::Rs384 => {
                let message = message(&json!({"alg": "RS384", "typ": "JWT"}), &good);
                let signature = keys.sign_sha384(message.as_bytes())?;
                Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
            }
            Self::OtherKey => sign(&ProviderKeys::generate()?, &good),
            Self::AlteredSignature => {
                let message = message(&json!({"alg": "RS256", "typ": "JWT"}), &good);
                let mut signature = keys.sign_sha256(message.as_bytes())?;
                signature[17] ^= 1;
                Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
            }
            Self::AlteredClaims => {
                let signed = sign(keys, &with("sub", json!("user")))?;
                let signature = signed.rsplit('.').next().unwrap_or_default();
                Ok(format!("{}.{signature}", message(&json!({"alg": "RS256", "typ": "JWT"}), &good)))
            }
            Self::WrongIssuer => sign(keys, &with("iss", json!("cloud.example.org"))),
            Self::WrongSubject => sign(keys, &with("sub", json!("user"))),
            Self::SubjectInOtherCase => sign(keys, &with("sub", json!("_ucloud"))),
            Self::WrongRole => sign(keys, &with("role", json!("USER"))),
            Self::OwnProviderToken => sign(keys, &provider_claims(provider_id, now_s, now_s + 900)),
            Self::Expired => sign(keys, &core_claims(now_s.saturating_sub(960), 900)),
            Self::NoExpiry => sign(keys, &without("exp")),
            Self::NoIssueTime => sign(keys, &without("iat")),
            Self::LongLived => sign(keys, &core_claims(now_s, 86_400)),
            Self::IssuedInFuture => sign(keys, &core_claims(now_s + 600, 900)),
            Self::Garbage => Ok("not-a-token".to_owned()),
            Self::Empty => Ok("..".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_638_441_000;

    fn judge(keys: &ProviderKeys, claims: &Value) -> Result<(), TokenFault> {
        check_provider_token(keys, "example", &sign(keys, claims).unwrap(), NOW_S)
    }

    #[test]
    fn a_provider_token_is_judged_by_each_claim() {
        let keys = ProviderKeys::generate().unwrap();
        let good = provider_claims("example", NOW_S, NOW_S + 900);
        assert_eq!(judge(&keys, &good), Ok(()));
        assert_eq!(judge(&keys, &provider_claims("example", NOW_S - 900, NOW_S)), Err(TokenFault::Expired));
        assert_eq!(judge(&keys, &provider_claims("another", NOW_S, NOW_S + 900)), Err(TokenFault::Subject));
        assert_eq!(judge(&keys, &core_claims(NOW_S, 900)), Err(TokenFault::Subject));
        let mut other = good.clone();
        other["role"] = json!("USER");
        assert_eq!(judge(&keys, &other), Err(TokenFault::Role));
        let mut other = good.clone();
        other["iss"] = json!("elsewhere");
        assert_eq!(judge(&keys, &other), Err(TokenFault::Issuer));
        let foreign = sign(&ProviderKeys::generate().unwrap(), &good).unwrap();
        assert_eq!(check_provider_token(&keys, "example", &foreign, NOW_S), Err(TokenFault::Signature));
    }

    #[test]
    fn no_bad_token_is_a_good_provider_token_for_somebody_else() {
        let keys = ProviderKeys::generate().unwrap();
        for kind in BadToken::ALL {
            let token = kind.make(&keys, "example", NOW_S).unwrap();
            assert!(check_provider_token(&keys, "another", &token, NOW_S).is_err(), "{kind:?}");
        }
    }
}
