//! Checks of single values. Each says what was expected.

use super::Malformed;
use crate::MAX_REASON_BYTES;
use std::collections::BTreeMap;

/// Refuses a list that is longer than `most`.
pub(super) fn count(field: &str, len: usize, most: usize) -> Result<(), Malformed> {
    if len > most {
        return Err(Malformed::new(field, format!("{len} entries, expected at most {most}")));
    }
    Ok(())
}

/// A text of at most `most` bytes without NUL, which nothing that starts a program can hold.
pub(super) fn text(field: &str, value: String, most: usize) -> Result<String, Malformed> {
    if value.len() > most {
        return Err(Malformed::new(field, format!("{} bytes, expected at most {most}", value.len())));
    }
    if value.contains('\0') {
        return Err(Malformed::new(field, "a NUL character inside, expected none"));
    }
    Ok(value)
}

/// A word that ends up as a line of a hosts file: no blanks, no control characters, nothing but ASCII.
pub(super) fn word(field: &str, value: String) -> Result<String, Malformed> {
    let value = text(field, value, 255)?;
    if !value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(Malformed::new(field, format!("{value:?}, expected printable ASCII without blanks or '#'")));
    }
    Ok(value)
}

/// A host name: letters, digits, '-' and '.'.
pub(super) fn host(field: &str, value: String) -> Result<String, Malformed> {
    let value = text(field, value, 253)?;
    let fits = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
        && value.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    if fits { Ok(value) } else { Err(Malformed::new(field, format!("{value:?}, expected a host name"))) }
}

/// A plain file name, which cannot lead out of its directory.
pub(super) fn file_name(field: &str, value: String) -> Result<String, Malformed> {
    let value = text(field, value, 128)?;
    let fits = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        && value.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    if fits {
        Ok(value)
    } else {
        Err(Malformed::new(
            field,
            format!("{value:?}, expected letters, digits, '-', '.', '_', beginning with a letter or digit"),
        ))
    }
}

/// Empty means absent.
pub(super) fn traceparent(field: &str, value: String) -> Result<Option<String>, Malformed> {
    let value = word(field, value)?;
    Ok((!value.is_empty()).then_some(value))
}

/// A map of texts with at most `most` entries.
pub(super) fn texts(
    field: &str,
    map: BTreeMap<String, String>,
    most: usize,
    key_bytes: usize,
    value_bytes: usize,
) -> Result<BTreeMap<String, String>, Malformed> {
    count(field, map.len(), most)?;
    map.into_iter().map(|(key, value)| Ok((text(field, key, key_bytes)?, text(field, value, value_bytes)?))).collect()
}

/// Cuts a text for people to what the other side accepts.
pub(super) fn cut(text: String) -> String {
    if text.len() <= MAX_REASON_BYTES && !text.contains('\0') {
        return text;
    }
    let mut text = text.replace('\0', "\u{fffd}");
    if text.len() > MAX_REASON_BYTES {
        let marker = " ... (cut)";
        let mut end = MAX_REASON_BYTES - marker.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(marker);
    }
    text
}
