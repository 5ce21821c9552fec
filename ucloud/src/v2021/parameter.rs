//! Parameters of an application (protocol 8.9).

use super::lenient;
use super::value::kind_of;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A parameter as the application defines it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationParameter {
    /// Its name; values and the invocation refer to it.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub name: String,
    /// Whether it may be left out.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub optional: bool,
    /// What stands for a value that was left out: a value object or a bare primitive.
    #[serde(default)]
    pub default_value: Option<Value>,
    /// For people.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub title: String,
    /// For people.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub description: String,
    /// What values it takes.
    #[serde(flatten)]
    pub kind: ParameterKind,
}

/// What values a parameter takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum ParameterKind {
    /// A file.
    InputFile,
    /// A directory.
    InputDirectory,
    /// A line of text.
    Text,
    /// Lines of text.
    #[serde(rename = "textarea")]
    TextArea,
    /// A whole number. Core checks the bounds.
    Integer {
        /// The least allowed.
        #[serde(default, deserialize_with = "lenient::optional")]
        min: Option<i64>,
        /// The most allowed.
        #[serde(default, deserialize_with = "lenient::optional")]
        max: Option<i64>,
        /// The distance between allowed values.
        #[serde(default, deserialize_with = "lenient::optional")]
        step: Option<i64>,
        /// For people.
        #[serde(default, deserialize_with = "lenient::optional")]
        unit_name: Option<String>,
    },
    /// A number. Core checks the bounds.
    FloatingPoint {
        /// The least allowed.
        #[serde(default, deserialize_with = "lenient::optional")]
        min: Option<f64>,
        /// The most allowed.
        #[serde(default, deserialize_with = "lenient::optional")]
        max: Option<f64>,
        /// The distance between allowed values.
        #[serde(default, deserialize_with = "lenient::optional")]
        step: Option<f64>,
        /// For people.
        #[serde(default, deserialize_with = "lenient::optional")]
        unit_name: Option<String>,
    },
    /// True or false.
    Boolean {
        /// How true is written.
        #[serde(default = "true_value", deserialize_with = "or_true_value")]
        true_value: String,
        /// How false is written.
        #[serde(default = "false_value", deserialize_with = "or_false_value")]
        false_value: String,
    },
    /// One of some options.
    Enumeration {
        /// The options.
        #[serde(default, deserialize_with = "lenient::list")]
        options: Vec<EnumOption>,
    },
    /// Another job.
    Peer {
        /// What to suggest to the user.
        #[serde(default, deserialize_with = "lenient::optional")]
        suggested_application: Option<String>,
    },
    /// A public link.
    Ingress,
    /// A licence.
    LicenseServer {
        /// Tags that the licence must carry.
        #[serde(default, deserialize_with = "lenient::list")]
        tagged: Vec<String>,
    },
    /// A public address.
    NetworkIp,
    /// A kind that is not known here. Harmless as long as nobody gives it a value.
    #[serde(untagged)]
    Other(Value),
}

/// An option of an enumeration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnumOption {
    /// What the user chooses.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub name: String,
    /// What goes into the command line.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub value: String,
}

impl ParameterKind {
    /// The kind, as `type` names it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::InputFile => "input_file",
            Self::InputDirectory => "input_directory",
            Self::Text => "text",
            Self::TextArea => "textarea",
            Self::Integer { .. } => "integer",
            Self::FloatingPoint { .. } => "floating_point",
            Self::Boolean { .. } => "boolean",
            Self::Enumeration { .. } => "enumeration",
            Self::Peer { .. } => "peer",
            Self::Ingress => "ingress",
            Self::LicenseServer { .. } => "license_server",
            Self::NetworkIp => "network_ip",
            Self::Other(value) => kind_of(value),
        }
    }
}

fn true_value() -> String {
    "true".to_owned()
}

fn false_value() -> String {
    "false".to_owned()
}

fn or_true_value<'de, D: serde::Deserializer<'de>>(source: D) -> Result<String, D::Error> {
    Ok(lenient::optional(source)?.unwrap_or_else(true_value))
}

fn or_false_value<'de, D: serde::Deserializer<'de>>(source: D) -> Result<String, D::Error> {
    Ok(lenient::optional(source)?.unwrap_or_else(false_value))
}
