//! What is wrong with a request, and the body by which both sides say so.

use super::lenient;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Characters of a message that are kept. Decoders quote what they were given, and that may be long.
const MOST_CHARACTERS: usize = 600;

/// `errorCode` for what this provider does not offer (protocol 4.1).
pub const FEATURE_NOT_SUPPORTED: &str = "FEATURE_NOT_SUPPORTED_BY_PROVIDER";

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Problem {
    /// In words for a person: the field, and what was expected. Core shows it to the user.
    pub why: String,
    /// A code that a client may act on.
    pub error_code: Option<&'static str>,
    /// The HTTP status.
    pub status: u16,
}

impl Problem {
    /// The request itself is wrong: 400.
    #[must_use]
    pub fn invalid(why: impl AsRef<str>) -> Self {
        Self { why: excerpt(why.as_ref(), MOST_CHARACTERS), error_code: None, status: 400 }
    }

    /// The request asks for something this provider does not offer: 400 with a code.
    #[must_use]
    pub fn unsupported(why: impl AsRef<str>) -> Self {
        Self { error_code: Some(FEATURE_NOT_SUPPORTED), ..Self::invalid(why) }
    }

    /// The same problem as one item of a bulk has it (protocol 16.13): `why` begins with `items[3].`.
    #[must_use]
    pub fn at(mut self, index: usize) -> Self {
        self.why = format!("items[{index}].{}", self.why);
        self
    }

    /// The same problem inside a field: `why` begins with `job.`, for example.
    #[must_use]
    pub fn within(mut self, field: &str) -> Self {
        self.why = format!("{field}.{}", self.why);
        self
    }
}

/// The error body of both directions (protocol 1.4).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommonErrorMessage {
    /// In words.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub why: String,
    /// A code, if there is one.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub error_code: Option<String>,
}

impl From<&Problem> for CommonErrorMessage {
    fn from(problem: &Problem) -> Self {
        Self { why: problem.why.clone(), error_code: problem.error_code.map(str::to_owned) }
    }
}

impl CommonErrorMessage {
    /// Reads the body of an answer outside 2xx, which may be missing or not JSON (protocol 1.4).
    #[must_use]
    pub fn from_body(body: &[u8]) -> Self {
        let mut message = serde_json::from_slice(body).unwrap_or_else(|_| {
            let start = &body[..body.len().min(4 * MOST_CHARACTERS)];
            Self { why: String::from_utf8_lossy(start).trim().to_owned(), error_code: None }
        });
        message.why = excerpt(&message.why, MOST_CHARACTERS);
        message.error_code = message.error_code.map(|code| excerpt(&code, 80));
        message
    }
}

/// Decodes a body. An empty one counts as `null`, so that it fits where nothing is asked for (protocol 14).
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let body = if body.trim_ascii().is_empty() { b"null" } else { body };
    let mut source = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut source).map_err(|error| named(&error))?;
    source.end().map_err(|error| Problem::invalid(format!("body: {error}")))?;
    Ok(value)
}

/// Decodes a value that was parsed before, such as a frame's payload. `field` names it in errors.
pub fn decode_value<T: DeserializeOwned>(field: &str, value: serde_json::Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let problem = named(&error);
        match problem.why.strip_prefix("body: ") {
            Some(why) => Problem::invalid(format!("{field}: {why}")),
            None => problem.within(field),
        }
    })
}

fn named(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    if error.inner().is_syntax() || error.inner().is_eof() {
        return Problem::invalid(format!("body: expected JSON, but {}", error.inner()));
    }
    let path = error.path().to_string();
    let field = if path == "." { "body" } else { &path };
    Problem::invalid(format!("{}: {}", excerpt(field, 200), error.inner()))
}

/// The beginning of a text that somebody else wrote, without control characters; cut with a visible mark.
pub(crate) fn excerpt(text: &str, most_characters: usize) -> String {
    let mut characters = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut start: String = characters.by_ref().take(most_characters).collect();
    if characters.next().is_some() {
        start.push_str("...");
    }
    start
}
