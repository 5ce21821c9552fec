use super::fixture::{CURRENT, CURRENT_PUBLIC, ISSUER, NEXT, NEXT_CERTIFICATE, authenticator, claims, settings, sign};
use super::*;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};

const NOW: u64 = 1_700_000_000;
const HEADER: &str = r#"{"alg":"RS256","typ":"JWT"}"#;

/// A token whose claims were changed.
fn with(change: impl FnOnce(&mut Value)) -> String {
    let mut claims = claims(NOW);
    change(&mut claims);
    sign(HEADER, &claims.to_string(), CURRENT)
}

fn put(name: &str, value: Value) -> String {
    with(|claims| claims[name] = value)
}

fn without(name: &str) -> String {
    with(|claims| {
        claims.as_object_mut().unwrap().remove(name);
    })
}

fn headed(header: &str) -> String {
    sign(header, &claims(NOW).to_string(), CURRENT)
}

#[test]
fn cores_token_passes_until_it_expires() {
    let auth = authenticator();
    let token = headed(HEADER);
    for now in [NOW - 15, NOW, NOW + 900, NOW + 914] {
        assert_eq!(auth.check_at(&token, now), Ok(()), "{now}");
    }
    for (now, why) in [(NOW - 16, Rejection::NotYetValid), (NOW + 915, Rejection::Expired)] {
        assert_eq!(auth.check_at(&token, now), Err(why), "{now}");
    }
}

#[test]
fn audience_and_unknown_claims_do_not_count() {
    let auth = authenticator();
    for token in [
        without("aud"),
        put("aud", json!(["all:write", "x"])),
        put("aud", json!("other")),
        put("nbf", json!(NOW + 15)),
        put("more", json!({"a": [1]})),
        headed(r#"{"alg":"RS256"}"#),
        headed(r#"{"typ":"JWT","kid":"any","alg":"RS256"}"#),
    ] {
        assert_eq!(auth.check_at(&token, NOW), Ok(()));
    }
}

#[test]
fn every_other_token_is_refused() {
    use Rejection::{
        Algorithm, Expired, Header, Issuer, Life, Malformed, NotYetValid, Role, Signature, Subject, TooLong,
    };
    let good = headed(HEADER);
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, body) = message.split_once('.').unwrap();
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let public = CURRENT_PUBLIC.as_bytes();
    let keyed = |algorithm, name: &str| {
        let message = format!("{}.{body}", encode(&format!(r#"{{"alg":"{name}"}}"#)));
        // The known attack: the public key, which everybody has, as the secret of an HMAC.
        let mac = crypto::sign(message.as_bytes(), &EncodingKey::from_secret(public), algorithm).unwrap();
        format!("{message}.{mac}")
    };
    let rsa = |algorithm, header: &str| {
        let message = format!("{}.{body}", encode(header));
        let key = EncodingKey::from_rsa_pem(CURRENT.as_bytes()).unwrap();
        format!("{message}.{}", crypto::sign(message.as_bytes(), &key, algorithm).unwrap())
    };
    let swapped = |claims: Value| format!("{header}.{}.{signature}", encode(&claims.to_string()));
    let mut bits = URL_SAFE_NO_PAD.decode(signature).unwrap();
    bits[100] ^= 1;
    let flipped = URL_SAFE_NO_PAD.encode(&bits);
    let duplicate = claims(NOW).to_string().replacen('{', r#"{"role":"USER","#, 1);

    let vectors: Vec<(&str, String, Rejection)> = vec![
        ("empty", String::new(), Malformed),
        ("one part", "abc".into(), Malformed),
        ("two parts", message.into(), Malformed),
        ("four parts", format!("{good}.x"), Malformed),
        ("header is not base64", format!("%%.{body}.{signature}"), Malformed),
        ("header is not JSON", headed("alg"), Malformed),
        ("header is a list", headed(r#"["RS256"]"#), Malformed),
        ("header without alg", headed("{}"), Malformed),
        ("alg is null", headed(r#"{"alg":null}"#), Malformed),
        ("alg twice", headed(r#"{"alg":"RS256","alg":"none"}"#), Malformed),
        ("alg none, no signature", format!("{}.{body}.", encode(r#"{"alg":"none"}"#)), Algorithm),
        ("alg None", format!("{}.{body}.{signature}", encode(r#"{"alg":"None"}"#)), Algorithm),
        ("alg in lower case", headed(r#"{"alg":"rs256"}"#), Algorithm),
        ("alg empty", headed(r#"{"alg":""}"#), Algorithm),
        ("HS256 with the public key", keyed(jsonwebtoken::Algorithm::HS256, "HS256"), Algorithm),
        ("HS384 with the public key", keyed(jsonwebtoken::Algorithm::HS384, "HS384"), Algorithm),
        ("HS512 with the public key", keyed(jsonwebtoken::Algorithm::HS512, "HS512"), Algorithm),
        ("HS256 that claims RS256", keyed(jsonwebtoken::Algorithm::HS256, "RS256"), Signature),
        ("RS384", rsa(jsonwebtoken::Algorithm::RS384, r#"{"alg":"RS384"}"#), Algorithm),
        ("RS512", rsa(jsonwebtoken::Algorithm::RS512, r#"{"alg":"RS512"}"#), Algorithm),
        ("PS256", rsa(jsonwebtoken::Algorithm::PS256, r#"{"alg":"PS256"}"#), Algorithm),
        ("RS512 that claims RS256", rsa(jsonwebtoken::Algorithm::RS512, HEADER), Signature),
        ("PS256 that claims RS256", rsa(jsonwebtoken::Algorithm::PS256, HEADER), Signature),
        ("jku", headed(r#"{"alg":"RS256","jku":"https://evil.example/keys"}"#), Header),
        ("x5u", headed(r#"{"alg":"RS256","x5u":"https://evil.example/cert"}"#), Header),
        ("x5c", headed(r#"{"alg":"RS256","x5c":["MII"]}"#), Header),
        ("jwk", headed(r#"{"alg":"RS256","jwk":{"kty":"RSA"}}"#), Header),
        ("jwk null", headed(r#"{"alg":"RS256","jwk":null}"#), Header),
        ("crit", headed(r#"{"alg":"RS256","crit":["exp"]}"#), Header),
        ("signature empty", format!("{message}."), Signature),
        ("signature of other claims", swapped(json!({"role": "SERVICE"})), Signature),
        ("signature with one bit changed", format!("{message}.{flipped}"), Signature),
        ("signature cut", good[..good.len() - 4].to_owned(), Signature),
        ("signature with padding", format!("{good}=="), Signature),
        ("signature of zeros", format!("{message}.{}", URL_SAFE_NO_PAD.encode([0; 256])), Signature),
        ("another key", sign(HEADER, &claims(NOW).to_string(), NEXT), Signature),
        ("claims are not JSON", sign(HEADER, "x", CURRENT), Malformed),
        (
            "claims are a list",
            sign(HEADER, &json!([ISSUER, "_UCloud", "SERVICE", NOW + 9, NOW]).to_string(), CURRENT),
            Malformed,
        ),
        ("claims twice", sign(HEADER, &duplicate, CURRENT), Malformed),
        ("iss other", put("iss", json!("evil.example")), Issuer),
        ("iss empty", put("iss", json!("")), Issuer),
        ("iss a list", put("iss", json!([ISSUER])), Malformed),
        ("iss missing", without("iss"), Malformed),
        ("sub other", put("sub", json!("_ucloud")), Subject),
        ("sub of a provider", put("sub", json!("#P_example")), Subject),
        ("sub missing", without("sub"), Malformed),
        ("sub null", put("sub", Value::Null), Malformed),
        ("role USER", put("role", json!("USER")), Role),
        ("role ADMIN", put("role", json!("ADMIN")), Role),
        ("role PROVIDER", put("role", json!("PROVIDER")), Role),
        ("role a list", put("role", json!(["SERVICE"])), Malformed),
        ("role missing", without("role"), Malformed),
        ("exp missing", without("exp"), Malformed),
        ("exp null", put("exp", Value::Null), Malformed),
        ("exp a text", put("exp", json!((NOW + 900).to_string())), Malformed),
        ("exp with a fraction", put("exp", json!(1_700_000_900.5)), Malformed),
        ("exp negative", put("exp", json!(-1)), Malformed),
        (
            "exp in the past",
            with(|c| {
                c["iat"] = json!(NOW - 900);
                c["exp"] = json!(NOW - 15);
            }),
            Expired,
        ),
        ("exp before iat", put("exp", json!(NOW - 1)), Life),
        ("exp at iat", put("exp", json!(NOW)), Life),
        ("life of more than 15 min", put("exp", json!(NOW + 901)), Life),
        ("life without end", put("exp", json!(u64::MAX)), Life),
        ("exp in milliseconds", put("exp", json!((NOW + 900) * 1000)), Life),
        ("iat missing", without("iat"), Malformed),
        ("iat a text", put("iat", json!(NOW.to_string())), Malformed),
        (
            "iat in the future",
            with(|c| {
                c["iat"] = json!(NOW + 16);
            }),
            NotYetValid,
        ),
        ("nbf in the future", put("nbf", json!(NOW + 16)), NotYetValid),
        ("nbf a text", put("nbf", json!("0")), Malformed),
        ("nbf null", put("nbf", Value::Null), Malformed),
        ("above 8 KiB", put("more", json!("x".repeat(8 * 1024))), TooLong),
    ];
    assert!(vectors.len() >= 60, "{}", vectors.len());
    let auth = authenticator();
    assert_eq!(auth.check_at(&good, NOW), Ok(()));
    for (name, token, why) in vectors {
        assert_eq!(auth.check_at(&token, NOW), Err(why), "{name}");
    }
}

#[test]
fn a_key_is_taken_in_three_forms_and_two_keys_overlap() {
    let bare: String = CURRENT_PUBLIC.lines().filter(|line| !line.starts_with('-')).collect();
    let (current, next) = (headed(HEADER), sign(HEADER, &claims(NOW).to_string(), NEXT));
    for text in [bare.as_str(), CURRENT_PUBLIC, &format!("\n  {bare}\n")] {
        let auth = Authenticator::new(settings(&[text])).unwrap();
        assert_eq!(auth.check_at(&current, NOW), Ok(()));
        assert_eq!(auth.check_at(&next, NOW), Err(Rejection::Signature));
    }
    let both = Authenticator::new(settings(&[CURRENT_PUBLIC, NEXT_CERTIFICATE])).unwrap();
    assert_eq!(both.check_at(&current, NOW), Ok(()));
    assert_eq!(both.check_at(&next, NOW), Ok(()));

    both.reload(&[NEXT_CERTIFICATE.to_owned()]).unwrap();
    assert_eq!(both.check_at(&current, NOW), Err(Rejection::Signature));
    assert_eq!(both.check_at(&next, NOW), Ok(()));
    // A bad file leaves the keys that work.
    assert!(both.reload(&["x y".to_owned()]).is_err());
    assert_eq!(both.check_at(&next, NOW), Ok(()));
}

#[test]
fn a_bad_key_is_refused_with_what_was_expected() {
    let message = |keys: &[&str]| Authenticator::new(settings(keys)).unwrap_err().to_string();
    assert!(message(&[]).starts_with("no public key of Core is configured"));
    let weak = include_str!("testdata/weak.public.pem");
    assert_eq!(message(&[CURRENT_PUBLIC, weak]), "public key 2 of Core has 1024 bit: expected at least 2048");
    let elliptic = include_str!("testdata/elliptic.public.pem");
    assert_eq!(message(&[elliptic]), "public key 1 of Core is not an RSA key: tokens are signed with RS256");
    let private = CURRENT.lines().next().unwrap().trim_matches('-').trim_start_matches("BEGIN ").to_owned();
    assert!(message(&[CURRENT]).ends_with(&format!("found a PEM {private}")));
    assert!(message(&["hello!"]).contains("not base64"));
    assert!(message(&[" "]).ends_with("found nothing"));
    assert!(message(&["-----BEGIN PUBLIC KEY-----\nAAAA"]).ends_with("without its end"));
    for bytes in [&b"\x30\x84\xff\xff\xff\xff"[..], b"\x30\x80", b"\x02\x01\x00", b"\x30"] {
        assert!(message(&[&STANDARD.encode(bytes)]).contains("found other bytes"));
    }
    // Every cut of a good key is an error, none a panic.
    let bare: String = CURRENT_PUBLIC.lines().filter(|line| !line.starts_with('-')).collect();
    let whole = STANDARD.decode(bare).unwrap();
    for length in 0..whole.len() {
        assert!(Authenticator::new(settings(&[&STANDARD.encode(&whole[..length])])).is_err(), "{length}");
    }
}

#[test]
fn the_header_carries_exactly_one_bearer_token() {
    let read = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        bearer(&headers).map(str::to_owned)
    };
    assert_eq!(read(&["Bearer abc"]), Ok("abc".to_owned()));
    assert_eq!(read(&["bearer  abc "]), Ok("abc".to_owned()));
    assert_eq!(read(&[]), Err(Rejection::Missing));
    for values in [&["abc"][..], &["Basic abc"], &["Bearer a", "Bearer b"], &["Bearer"]] {
        assert_eq!(read(values), Err(Rejection::Malformed), "{values:?}");
    }
}
