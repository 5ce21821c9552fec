//! The header that names the user on whose behalf Core calls (protocol 1.5, 16.11).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The header's name.
pub const USERNAME_HEADER: &str = "UCloud-Username";

/// Bytes of the header that are read at most.
const MOST_BYTES: usize = 256;

/// The user's name. Plain in 2021, base64 later: taken as base64 if it decodes to a printable name that encodes back
/// to the same text, else as it stands. `None` if it is empty, too long or not printable. It is data, never a proof:
/// a few short plain names happen to be base64 of something printable (`User` is that of `Rǫ`).
#[must_use]
pub fn decode(header: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(header).ok()?.trim();
    if text.len() > MOST_BYTES {
        return None;
    }
    let decoded = STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    match decoded {
        Some(name) if printable(&name) && STANDARD.encode(&name) == text => Some(name),
        _ => Some(text).filter(|text| printable(text)).map(str::to_owned),
    }
}

fn printable(name: &str) -> bool {
    !name.trim().is_empty() && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_and_base64_names_are_told_apart() {
        for name in ["user", "DonaldDuck#1234", "_ucloud", "a.b-c", "abcd", "Søren#1"] {
            assert_eq!(decode(name.as_bytes()).as_deref(), Some(name), "{name}");
            assert_eq!(decode(STANDARD.encode(name).as_bytes()).as_deref(), Some(name), "{name}");
        }
        // Not padded, so not what an encoder writes.
        assert_eq!(decode(b"dXNlcg").as_deref(), Some("dXNlcg"));
        assert_eq!(decode(b" user "), Some("user".to_owned()));
        assert_eq!(decode(b""), None);
        assert_eq!(decode(b"a\x01b"), None);
        assert_eq!(decode(&[0xff, 0xfe]), None);
        assert_eq!(decode(&[b'a'; 257]), None);
        // Base64 of control characters is a plain name.
        assert_eq!(decode(b"AAAA").as_deref(), Some("AAAA"));
    }
}
