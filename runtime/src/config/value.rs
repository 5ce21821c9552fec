//! Values by kind: what is accepted, and the form in which they reach the configuration.

use super::key::Kind;
use std::net::SocketAddr;
use toml::Value;

const DURATIONS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("min", 60_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZES: &[(&str, u64)] = &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("B", 1)];

impl Kind {
    /// What is expected, as it reads after "expected".
    pub(super) fn expected(self) -> String {
        match self {
            Self::Text => "text".into(),
            Self::Integer { min, max: i64::MAX } => format!("a whole number, at least {min}"),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Number { min, max } => format!("a number from {min} to {max}"),
            Self::Boolean => "true or false".into(),
            Self::DurationMs => "a duration such as 250ms, 2s, 5m, 1h or 7d".into(),
            Self::Bytes => "a size such as 64KiB, 10MiB or 2GiB".into(),
            Self::Path => "a path".into(),
            Self::SocketAddress => "an address and port such as 127.0.0.1:8470".into(),
            Self::Url => "a URL such as https://core.example.org, without credentials".into(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::List => "a list of texts".into(),
            Self::Labels => "names with texts, such as zone=a,rack=3".into(),
            Self::Tables => "an array of tables".into(),
        }
    }

    /// What stands for the value in `--help`.
    pub(super) fn placeholder(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::Integer { .. } | Self::Number { .. } => "NUMBER",
            Self::Boolean => "BOOLEAN",
            Self::DurationMs => "DURATION",
            Self::Bytes => "SIZE",
            Self::Path => "PATH",
            Self::SocketAddress => "ADDRESS:PORT",
            Self::Url => "URL",
            Self::Choice(_) => "WORD",
            Self::List => "A,B,…",
            Self::Labels => "NAME=VALUE,…",
            Self::Tables => "JSON",
        }
    }

    /// Reads the text of a variable, a flag or a default. `None`: not what this kind expects.
    pub(super) fn read_text(self, text: &str) -> Option<Value> {
        let text = text.trim();
        let value = match self {
            Self::Integer { .. } => Value::Integer(text.parse().ok()?),
            Self::Number { .. } => Value::Float(text.parse().ok()?),
            Self::Boolean => Value::Boolean(text.parse().ok()?),
            Self::List if text.starts_with('[') => json(text)?,
            Self::List => Value::Array(parts(text).map(|part| Value::String(part.into())).collect()),
            Self::Labels if text.starts_with('{') => json(text)?,
            Self::Labels => {
                let pairs = parts(text).map(|part| {
                    let (name, value) = part.split_once('=')?;
                    Some((name.trim().to_owned(), Value::String(value.trim().to_owned())))
                });
                Value::Table(pairs.collect::<Option<_>>()?)
            }
            Self::Tables if text.is_empty() => Value::Array(Vec::new()),
            Self::Tables => json(text)?,
            _ => Value::String(text.to_owned()),
        };
        self.take_value(value)
    }

    /// Takes a value as the file has it. `None`: not what this kind expects.
    pub(super) fn take_value(self, value: Value) -> Option<Value> {
        match (self, value) {
            (Self::Integer { min, max }, Value::Integer(number)) => {
                (min..=max).contains(&number).then_some(Value::Integer(number))
            }
            (Self::Number { min, max }, value) => {
                let number = value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64))?;
                (number >= min && number <= max).then_some(Value::Float(number))
            }
            (Self::Boolean, value @ Value::Boolean(_)) => Some(value),
            (Self::DurationMs | Self::Bytes, Value::Integer(number)) => (number >= 0).then_some(Value::Integer(number)),
            (Self::DurationMs, Value::String(text)) => quantity(&text, DURATIONS),
            (Self::Bytes, Value::String(text)) => quantity(&text, SIZES),
            (Self::Text, value @ Value::String(_)) => Some(value),
            (Self::Path, Value::String(text)) => {
                (!text.is_empty() && !text.contains('\0')).then_some(Value::String(text))
            }
            (Self::SocketAddress, Value::String(text)) => {
                text.parse::<SocketAddr>().ok().map(|address| Value::String(address.to_string()))
            }
            (Self::Url, Value::String(text)) => is_url(&text).then_some(Value::String(text)),
            (Self::Choice(words), Value::String(text)) => words.contains(&&*text).then_some(Value::String(text)),
            (Self::List, Value::Array(entries)) => entries.iter().all(Value::is_str).then_some(Value::Array(entries)),
            (Self::Labels, Value::Table(entries)) => {
                entries.values().all(Value::is_str).then_some(Value::Table(entries))
            }
            (Self::Tables, Value::Array(entries)) => {
                entries.iter().all(Value::is_table).then_some(Value::Array(entries))
            }
            _ => None,
        }
    }
}

/// Milliseconds of a duration such as `250ms`, `90s`, `10m`, `1h` or `7d`, as keys of [`Kind::DurationMs`] read it; `None`
/// if the text is none.
///
/// ```
/// assert_eq!(muster_runtime::config::duration_ms("10m"), Some(600_000));
/// assert_eq!(muster_runtime::config::duration_ms("soon"), None);
/// ```
#[must_use]
pub fn duration_ms(text: &str) -> Option<u64> {
    let value = Kind::DurationMs.read_text(text)?;
    u64::try_from(value.as_integer()?).ok()
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// JSON has what TOML has, except `null`, which no key accepts.
fn json(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

fn quantity(text: &str, units: &[(&str, u64)]) -> Option<Value> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim();
    let factor = match unit {
        "" => 1,
        _ => units.iter().find(|(name, _)| *name == unit)?.1,
    };
    let total = number.parse::<u64>().ok()?.checked_mul(factor)?;
    i64::try_from(total).ok().map(Value::Integer)
}

fn is_url(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    !authority.is_empty()
        && !authority.contains('@')
        && !text.contains(|letter: char| letter.is_whitespace() || letter.is_control())
}
