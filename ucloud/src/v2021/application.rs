//! Applications: what a job runs, and how its command line is made (protocol 8.8, 9.1).

use super::lenient;
use super::parameter::ApplicationParameter;
use super::tool::Tool;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Names an application or tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NameAndVersion {
    /// Its name.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub name: String,
    /// Its version.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub version: String,
}

/// An application.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Application {
    /// For people.
    #[serde(default, deserialize_with = "lenient::object")]
    pub metadata: ApplicationMetadata,
    /// How it is run.
    #[serde(default, deserialize_with = "lenient::object")]
    pub invocation: ApplicationInvocation,
}

/// What people see of an application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationMetadata {
    /// Its name.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub name: String,
    /// Its version.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub version: String,
    /// Who made it.
    #[serde(default, deserialize_with = "lenient::list")]
    pub authors: Vec<String>,
    /// Its title.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub title: String,
    /// What it is good for.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub description: String,
    /// Where to read more.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub website: Option<String>,
    /// Whether everybody may run it.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub public: bool,
}

/// How an application is run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationInvocation {
    /// What it runs in.
    #[serde(default, deserialize_with = "lenient::object")]
    pub tool: ToolReference,
    /// The elements of its command line.
    #[serde(default, deserialize_with = "lenient::list")]
    pub invocation: Vec<InvocationParameter>,
    /// Its parameters.
    #[serde(default, deserialize_with = "lenient::list")]
    pub parameters: Vec<ApplicationParameter>,
    /// Deprecated.
    #[serde(default, deserialize_with = "lenient::list")]
    pub output_file_globs: Vec<String>,
    /// How users meet it.
    #[serde(default, deserialize_with = "lenient::known_or_default")]
    pub application_type: ApplicationType,
    /// Its desktop.
    #[serde(default)]
    pub vnc: Option<VncDescription>,
    /// Its web interface.
    #[serde(default)]
    pub web: Option<WebDescription>,
    /// What its container needs.
    #[serde(default)]
    pub container: Option<ContainerDescription>,
    /// Environment variables.
    #[serde(default, deserialize_with = "lenient::map")]
    pub environment: Option<BTreeMap<String, InvocationParameter>>,
    /// Core's business.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub allow_additional_mounts: Option<bool>,
    /// Core's business.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub allow_additional_peers: Option<bool>,
    /// Core's business (protocol 16.16).
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub allow_multi_node: bool,
    /// Files it can open.
    #[serde(default, deserialize_with = "lenient::list")]
    pub file_extensions: Vec<String>,
    /// Deprecated.
    #[serde(default, deserialize_with = "lenient::list")]
    pub license_servers: Vec<String>,
}

/// Names a tool, and holds it where it was looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolReference {
    /// Its name.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub name: String,
    /// Its version.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub version: String,
    /// The tool.
    #[serde(default)]
    pub tool: Option<Tool>,
}

/// How users meet an application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ApplicationType {
    /// They wait for its result.
    #[default]
    Batch,
    /// By a desktop.
    Vnc,
    /// By a web interface.
    Web,
}

/// Where an application's desktop is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VncDescription {
    /// Its password.
    #[serde(default)]
    pub password: Option<super::secret::Secret>,
    /// Its port inside the container.
    #[serde(default = "lenient::port::<5900>", deserialize_with = "lenient::port_or::<_, 5900>")]
    pub port: u16,
}

/// Where an application's web interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebDescription {
    /// Its port inside the container.
    #[serde(default = "lenient::port::<80>", deserialize_with = "lenient::port_or::<_, 80>")]
    pub port: u16,
}

/// What an application's container needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerDescription {
    /// Whether it starts in `/work`.
    #[serde(default = "lenient::yes", deserialize_with = "lenient::boolean_or_true")]
    pub change_working_directory: bool,
    /// Whether it is root inside.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub run_as_root: bool,
    /// Whether it has the user's own number inside.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub run_as_real_user: bool,
}

impl Default for ContainerDescription {
    fn default() -> Self {
        Self { change_working_directory: true, run_as_root: false, run_as_real_user: false }
    }
}

/// One element of a command line, or the value of an environment variable (protocol 9.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum InvocationParameter {
    /// One argument, verbatim.
    Word {
        /// The argument.
        word: String,
    },
    /// The value of an environment variable; nothing in a command line.
    Env {
        /// The variable.
        variable: String,
    },
    /// One argument if a boolean parameter is true.
    #[serde(alias = "flag")]
    BoolFlag {
        /// The parameter.
        variable_name: String,
        /// The argument.
        flag: String,
    },
    /// The values of parameters.
    Var(VariableInvocation),
    /// A kind that is not known here.
    #[serde(untagged)]
    Other(Value),
}

/// The values of parameters, with what stands around them. White space at the ends of affixes does not count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VariableInvocation {
    /// The parameters, in order.
    #[serde(default, deserialize_with = "lenient::list")]
    pub variable_names: Vec<String>,
    /// An argument before all values.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub prefix_global: String,
    /// An argument after all values.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub suffix_global: String,
    /// What comes before each value.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub prefix_variable: String,
    /// What comes after each value.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub suffix_variable: String,
    /// Whether `prefix_variable` and the value are one argument.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub is_prefix_variable_part_of_arg: bool,
    /// Whether the value and `suffix_variable` are one argument.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub is_suffix_variable_part_of_arg: bool,
}
