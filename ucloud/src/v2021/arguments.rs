//! The values of a job's parameters: what the user gave, defaults for the rest, each as text (protocol 9.2, 9.3).

use super::application::ApplicationInvocation;
use super::lenient;
use super::parameter::{ApplicationParameter, ParameterKind};
use super::problem::{Problem, excerpt};
use super::value::AppParameterValue;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Every defined parameter that has a value, by name.
#[derive(Debug)]
pub(crate) struct Arguments<'a>(BTreeMap<&'a str, Argument<'a>>);

/// A parameter with its value, whose kind fits.
#[derive(Debug)]
pub(crate) struct Argument<'a> {
    value: Cow<'a, AppParameterValue>,
    text: Result<String, Problem>,
}

impl<'a> Arguments<'a> {
    /// Pairs values and parameters. A value without a parameter is ignored (protocol 9); a value that does not fit its
    /// parameter is a problem, whether the command line uses it or not.
    pub(crate) fn resolve(
        app: &'a ApplicationInvocation,
        given: &'a BTreeMap<String, AppParameterValue>,
    ) -> Result<Self, Problem> {
        let mut arguments = BTreeMap::new();
        for parameter in &app.parameters {
            if arguments.contains_key(parameter.name.as_str()) {
                continue;
            }
            let value = match given.get(&parameter.name) {
                Some(value) => Some(Cow::Borrowed(value)),
                None => default_value(parameter)?.map(Cow::Owned),
            };
            if let Some(value) = value {
                fits(parameter, &value)?;
                // Once, because an element may name a parameter any number of times.
                let text = text(parameter, &value);
                arguments.insert(parameter.name.as_str(), Argument { value, text });
            }
        }
        Ok(Self(arguments))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Argument<'a>> {
        self.0.get(name)
    }

    /// Names and values.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&'a str, &AppParameterValue)> {
        self.0.iter().map(|(name, argument)| (*name, argument.value.as_ref()))
    }
}

impl Argument<'_> {
    /// The value as it stands in a command line.
    pub(crate) fn text(&self) -> Result<&str, Problem> {
        self.text.as_deref().map_err(Problem::clone)
    }

    /// Whether it is true, for a boolean one.
    pub(crate) fn boolean(&self) -> Option<bool> {
        match self.value.as_ref() {
            AppParameterValue::Boolean { value } => Some(*value),
            _ => None,
        }
    }

    /// Its kind, for messages.
    pub(crate) fn kind(&self) -> &str {
        self.value.kind()
    }
}

/// A value that fits its parameter, as text (protocol 9.2).
fn text(parameter: &ApplicationParameter, value: &AppParameterValue) -> Result<String, Problem> {
    Ok(match value {
        AppParameterValue::File { path, .. } => mounted_path(&parameter.name, path)?,
        AppParameterValue::Boolean { value } => match &parameter.kind {
            ParameterKind::Boolean { true_value, .. } if *value => true_value.clone(),
            ParameterKind::Boolean { false_value, .. } => false_value.clone(),
            _ => return Err(wrong(parameter, &AppParameterValue::Boolean { value: *value })),
        },
        AppParameterValue::Text { value } => chosen(parameter, value).to_owned(),
        AppParameterValue::TextArea { value } => value.clone(),
        AppParameterValue::Integer { value } => value.to_string(),
        AppParameterValue::FloatingPoint { value } => decimal(*value),
        AppParameterValue::Peer { hostname, .. } => hostname.clone(),
        AppParameterValue::Network { id } | AppParameterValue::Ingress { id } => id.clone(),
        AppParameterValue::LicenseServer { id } => {
            return Err(at(&parameter.name, &format!("licence {:?} is not known here", excerpt(id, 80))));
        }
        AppParameterValue::BlockStorage { .. } | AppParameterValue::Other(_) => return Err(wrong(parameter, value)),
    })
}

/// The value of the option that an enumeration's text names, or the text itself.
fn chosen<'t>(parameter: &'t ApplicationParameter, text: &'t str) -> &'t str {
    match &parameter.kind {
        ParameterKind::Enumeration { options } => {
            options.iter().find(|option| option.name == text).map_or(text, |option| option.value.as_str())
        }
        _ => text,
    }
}

fn at(name: &str, why: &str) -> Problem {
    Problem::invalid(format!("specification.parameters.{}: {why}", excerpt(name, 80)))
}

fn wrong(parameter: &ApplicationParameter, value: &AppParameterValue) -> Problem {
    let expected = match &parameter.kind {
        ParameterKind::InputFile | ParameterKind::InputDirectory => "a value of type \"file\"",
        ParameterKind::Text | ParameterKind::Enumeration { .. } => "a value of type \"text\"",
        ParameterKind::TextArea => "a value of type \"text\" or \"textarea\"",
        ParameterKind::Integer { .. } => "a value of type \"integer\"",
        ParameterKind::FloatingPoint { .. } => "a value of type \"floating_point\"",
        ParameterKind::Boolean { .. } => "a value of type \"boolean\"",
        ParameterKind::Peer { .. } => "a value of type \"peer\"",
        ParameterKind::Ingress => "a value of type \"ingress\"",
        ParameterKind::LicenseServer { .. } => "a value of type \"license_server\"",
        ParameterKind::NetworkIp => "a value of type \"network\"",
        ParameterKind::Other(_) => {
            let kind = excerpt(parameter.kind.name(), 80);
            return at(&parameter.name, &format!("the application's parameter has the unknown type {kind:?}"));
        }
    };
    let found = match value {
        AppParameterValue::Other(_) => format!("an unknown or malformed one of type {:?}", excerpt(value.kind(), 80)),
        known => format!("{:?}", known.kind()),
    };
    at(&parameter.name, &format!("expected {expected}, found {found}"))
}

/// Whether a value is of the kind its parameter takes (protocol 8.9).
fn fits(parameter: &ApplicationParameter, value: &AppParameterValue) -> Result<(), Problem> {
    use AppParameterValue as Given;
    use ParameterKind as Kind;
    match (&parameter.kind, value) {
        (Kind::InputFile | Kind::InputDirectory, Given::File { .. })
        | (Kind::Text | Kind::Enumeration { .. }, Given::Text { .. })
        | (Kind::TextArea, Given::Text { .. } | Given::TextArea { .. })
        | (Kind::Integer { .. }, Given::Integer { .. })
        | (Kind::FloatingPoint { .. }, Given::FloatingPoint { .. })
        | (Kind::Boolean { .. }, Given::Boolean { .. })
        | (Kind::Peer { .. }, Given::Peer { .. })
        | (Kind::Ingress, Given::Ingress { .. })
        | (Kind::LicenseServer { .. }, Given::LicenseServer { .. })
        | (Kind::NetworkIp, Given::Network { .. }) => Ok(()),
        _ => Err(wrong(parameter, value)),
    }
}

/// A parameter's default, in either form: a value object or a bare primitive (protocol 8.9). A blank text is no
/// default for anything that is not a text.
fn default_value(parameter: &ApplicationParameter) -> Result<Option<AppParameterValue>, Problem> {
    use AppParameterValue as Given;
    use ParameterKind as Kind;
    let bare = match &parameter.default_value {
        None | Some(Value::Null) => return Ok(None),
        Some(object @ Value::Object(_)) => {
            return serde_json::from_value(object.clone()).map(Some).map_err(|_| bad_default(parameter));
        }
        Some(Value::Array(_)) => return Err(bad_default(parameter)),
        Some(Value::String(text)) => text.clone(),
        Some(number_or_boolean) => number_or_boolean.to_string(),
    };
    let textual = matches!(parameter.kind, Kind::Text | Kind::TextArea | Kind::Enumeration { .. });
    if !textual && bare.trim().is_empty() {
        return Ok(None);
    }
    let value = match &parameter.kind {
        Kind::Text | Kind::Enumeration { .. } => Some(Given::Text { value: bare }),
        Kind::TextArea => Some(Given::TextArea { value: bare }),
        Kind::Integer { .. } => lenient::Scalar::from_text(&bare).map(|value| Given::Integer { value }),
        Kind::FloatingPoint { .. } => lenient::Scalar::from_text(&bare).map(|value| Given::FloatingPoint { value }),
        Kind::Boolean { .. } => lenient::Scalar::from_text(&bare).map(|value| Given::Boolean { value }),
        Kind::InputFile | Kind::InputDirectory => Some(Given::File { path: bare, read_only: false }),
        Kind::Ingress => Some(Given::Ingress { id: bare }),
        Kind::LicenseServer { .. } => Some(Given::LicenseServer { id: bare }),
        Kind::NetworkIp => Some(Given::Network { id: bare }),
        Kind::Peer { .. } | Kind::Other(_) => None,
    };
    value.map(Some).ok_or_else(|| bad_default(parameter))
}

fn bad_default(parameter: &ApplicationParameter) -> Problem {
    Problem::invalid(format!(
        "status.resolvedApplication.invocation.parameters[{}].defaultValue: expected a value that fits type {:?}",
        excerpt(&parameter.name, 80),
        excerpt(parameter.kind.name(), 80),
    ))
}

/// Where a file is inside a job: `/work/` and the last component of the normalised path (protocol 9.2).
fn mounted_path(name: &str, path: &str) -> Result<String, Problem> {
    let mut components = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                components.pop();
            }
            other => components.push(other),
        }
    }
    match components.last() {
        Some(last) if path.starts_with('/') => Ok(format!("/work/{last}")),
        _ => {
            let found = excerpt(path, 80);
            Err(at(name, &format!("expected an absolute path with at least one component, found {found:?}")))
        }
    }
}

/// A number in plain decimal, always with a fraction: `1.0`, `0.001`, `10000000000.0` (protocol 9.2).
fn decimal(value: f64) -> String {
    let text = value.to_string();
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') { text + ".0" } else { text }
}
