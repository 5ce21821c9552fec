//! Query strings: flat, form-encoded, without nulls (protocol 1.3).

use serde::Serialize;

/// A query string in the making.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(String);

impl Query {
    /// Adds a text, if there is one.
    pub fn text(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            if !self.0.is_empty() {
                self.0.push('&');
            }
            encode(&mut self.0, name);
            self.0.push('=');
            encode(&mut self.0, value);
        }
    }

    /// Adds `true` or `false`.
    pub fn flag(&mut self, name: &str, value: bool) {
        self.text(name, Some(if value { "true" } else { "false" }));
    }

    /// Adds a number, boolean or enum value as JSON names it, if there is one.
    pub fn value<T: Serialize>(&mut self, name: &str, value: Option<&T>) {
        match value.map(serde_json::to_value) {
            Some(Ok(serde_json::Value::String(text))) => self.text(name, Some(&text)),
            Some(Ok(scalar @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)))) => {
                self.text(name, Some(&scalar.to_string()));
            }
            _ => {}
        }
    }

    /// The finished query, without a question mark.
    #[must_use]
    pub fn finish(self) -> String {
        self.0
    }
}

fn encode(query: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => query.push(char::from(byte)),
            b' ' => query.push('+'),
            other => {
                query.push('%');
                for digit in [other >> 4, other & 15] {
                    query.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
                }
            }
        }
    }
}

/// Names and values of a query string, in order. What is not well encoded is taken as it stands.
#[must_use]
pub fn pairs(query: &str) -> Vec<(String, String)> {
    let parts = query.strip_prefix('?').unwrap_or(query).split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(name), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'+', ..) => decoded.push(b' '),
            (other, ..) => decoded.push(other),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_the_same(values in proptest::collection::vec((".+", ".*"), 0..5)) {
            let mut query = Query::default();
            for (name, value) in &values {
                query.text(name, Some(value));
            }
            prop_assert_eq!(pairs(&query.finish()), values);
        }

        #[test]
        fn any_text_decodes_to_something(text in ".*") {
            let _ = pairs(&text);
        }
    }

    #[test]
    fn a_query_is_form_encoded() {
        let mut query = Query::default();
        query.text("a b", Some("1+1=2 & æ"));
        query.text("absent", None);
        query.flag("flag", false);
        query.value("number", Some(&7));
        assert_eq!(query.finish(), "a+b=1%2B1%3D2+%26+%C3%A6&flag=false&number=7");
        assert_eq!(pairs("?"), vec![]);
        assert_eq!(pairs("x=%zz&y"), vec![("x".into(), "%zz".into()), ("y".into(), String::new())]);
    }
}
