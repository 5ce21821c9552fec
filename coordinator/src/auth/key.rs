//! Core's public key, in the three forms in which it is handed around (`protocol.md` 2.1).

use super::der::{BIT_STRING, Der, INTEGER, OBJECT_IDENTIFIER, SEQUENCE, VERSION};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::DecodingKey;
use std::fmt;
use std::sync::Arc;

/// The fewest bits of a key (reliability C.2 item 4).
const FEWEST_BITS: usize = 2048;
/// Most keys at a time: the present one, the next one, and room for a mistake.
const MOST_KEYS: usize = 8;
/// 1.2.840.113549.1.1.1, rsaEncryption.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// Why a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// There is none.
    #[error(
        "no public key of Core is configured: put the key that Core shows for this provider into the configuration"
    )]
    None,
    /// There are too many.
    #[error(
        "{count} public keys of Core are configured: expected at most {MOST_KEYS}, usually the present and the next one"
    )]
    TooMany {
        /// How many.
        count: usize,
    },
    /// It is not text of a known form.
    #[error(
        "public key {number} of Core is not readable: expected the base64 of a DER SubjectPublicKeyInfo, a PEM PUBLIC KEY or a PEM CERTIFICATE, {found}"
    )]
    Unreadable {
        /// Which, counted from 1.
        number: usize,
        /// What was found.
        found: String,
    },
    /// It is not an RSA key.
    #[error("public key {number} of Core is not an RSA key: tokens are signed with RS256")]
    NotRsa {
        /// Which, counted from 1.
        number: usize,
    },
    /// It is too short.
    #[error("public key {number} of Core has {bits} bit: expected at least {FEWEST_BITS}")]
    TooShort {
        /// Which, counted from 1.
        number: usize,
        /// Its length.
        bits: usize,
    },
}

/// An RSA key of at least 2048 bit.
pub(super) struct PublicKey(DecodingKey);

impl PublicKey {
    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.0
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey")
    }
}

/// All keys, or what is wrong with the first bad one.
pub(super) fn read_all(texts: &[String]) -> Result<Arc<[PublicKey]>, BadKey> {
    if texts.is_empty() {
        return Err(BadKey::None);
    }
    if texts.len() > MOST_KEYS {
        return Err(BadKey::TooMany { count: texts.len() });
    }
    texts.iter().enumerate().map(|(index, text)| read(index + 1, text)).collect()
}

fn read(number: usize, text: &str) -> Result<PublicKey, BadKey> {
    let unreadable = |found: &str| BadKey::Unreadable { number, found: found.to_owned() };
    let (label, base64) = unarmour(text).map_err(|found| unreadable(&found))?;
    let bytes =
        STANDARD.decode(base64).map_err(|error| unreadable(&format!("found text that is not base64: {error}")))?;
    let info = match label.as_deref() {
        None | Some("PUBLIC KEY") => Der::new(&bytes).enter(SEQUENCE),
        Some("CERTIFICATE") => certificate_key(&bytes),
        Some(other) => return Err(unreadable(&format!("found a PEM {other}"))),
    };
    let info = info.ok_or_else(|| unreadable("found other bytes"))?;
    let (modulus, exponent) = rsa_numbers(info).ok_or(BadKey::NotRsa { number })?;
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if bits < FEWEST_BITS {
        return Err(BadKey::TooShort { number, bits });
    }
    Ok(PublicKey(DecodingKey::from_rsa_raw_components(modulus, exponent)))
}

/// The PEM label, if there is one, and the base64 without white space.
fn unarmour(text: &str) -> Result<(Option<String>, String), String> {
    let bare = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let Some((_, rest)) = text.split_once("-----BEGIN ") else {
        let base64 = bare(text);
        return if base64.is_empty() { Err("found nothing".to_owned()) } else { Ok((None, base64)) };
    };
    let (label, rest) = rest.split_once("-----").ok_or("found a PEM header that does not end")?;
    let (body, _) = rest
        .split_once(&format!("-----END {label}-----"))
        .ok_or_else(|| format!("found a PEM {label} without its end"))?;
    Ok((Some(label.to_owned()), bare(body)))
}

/// The SubjectPublicKeyInfo of a certificate.
fn certificate_key(bytes: &[u8]) -> Option<Der<'_>> {
    let mut signed = Der::new(bytes).enter(SEQUENCE)?.enter(SEQUENCE)?;
    if signed.peek()? == VERSION {
        signed.skip()?;
    }
    // Serial number, signature algorithm, issuer, validity, subject.
    for _ in 0..5 {
        signed.skip()?;
    }
    signed.enter(SEQUENCE)
}

/// Modulus and exponent, without leading zeros.
fn rsa_numbers(mut info: Der<'_>) -> Option<(&[u8], &[u8])> {
    if info.enter(SEQUENCE)?.take(OBJECT_IDENTIFIER)? != RSA {
        return None;
    }
    let (unused_bits, key) = info.take(BIT_STRING)?.split_first()?;
    let mut numbers = Der::new(key).enter(SEQUENCE)?;
    let (modulus, exponent) = (numbers.take(INTEGER)?, numbers.take(INTEGER)?);
    let positive = |number: &[u8]| number.first().is_some_and(|byte| *byte < 0x80);
    if *unused_bits != 0 || !numbers.is_empty() || !positive(modulus) || !positive(exponent) {
        return None;
    }
    Some((trim(modulus), trim(exponent)))
}

fn trim(number: &[u8]) -> &[u8] {
    &number[number.iter().take_while(|byte| **byte == 0).count()..]
}
