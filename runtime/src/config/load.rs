//! Puts the layers together.

use super::error::{Complaint, ConfigError, Finding, Origin};
use super::file;
use super::key::{Key, Kind, PREFIX, Program};
use super::print;
use clap::{ArgMatches, Command};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use toml::{Table, Value};

/// What a program knows about its own values beyond the kind of each: ranges between keys, files that belong together.
pub trait Validate {
    /// Everything that is wrong; empty when all is well.
    fn validate(&self) -> Vec<Complaint> {
        Vec::new()
    }
}

/// A configuration that is right as a whole.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The effective values.
    pub config: T,
    /// Where each key's value comes from.
    pub origins: BTreeMap<&'static str, Origin>,
    /// What an operator should know, such as variables that no key reads.
    pub warnings: Vec<String>,
    /// What clap read, for programs with subcommands.
    pub matches: ArgMatches,
}

impl<T> Loaded<T> {
    /// Logs the warnings; call it once the log is up.
    pub fn log_warnings(&self) {
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
    }
}

/// What the command line asks for.
#[derive(Clone, Debug)]
pub enum Outcome<T> {
    /// To run.
    Run(Box<Loaded<T>>),
    /// To print this and end well: `--help`, `--version`, `--check-config`, `--print-config`.
    Print(String),
}

/// Loads from the layers given. `arguments` starts with the name of the program.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load<T: DeserializeOwned + Validate>(
    program: &Program,
    arguments: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Outcome<T>, ConfigError> {
    load_command(program, program.command(), arguments, variables)
}

/// As [`load`], with a command line that was made by [`Program::command`] and extended, by subcommands for example.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load_command<T: DeserializeOwned + Validate>(
    program: &Program,
    command: Command,
    arguments: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Outcome<T>, ConfigError> {
    let asks_first = |name: &str| name == "--check-config" || name == "--print-config";
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // To look at the configuration one need not say what else to do.
    let looks = arguments.iter().any(|argument| argument.to_str().is_some_and(asks_first));
    let command = if looks { command.subcommand_required(false).arg_required_else_help(false) } else { command };
    let matches = match command.try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) if error.use_stderr() => return Err(ConfigError::CommandLine(error.to_string().trim_end().into())),
        Err(error) => return Ok(Outcome::Print(error.to_string())),
    };
    let variables = Variables::of(variables);
    let mut findings = Vec::new();
    let mut layers = Layers { program, set: BTreeMap::new(), findings: &mut findings };
    layers.defaults();
    let config = matches.get_one::<String>("config").cloned().or_else(|| variables.get("MUSTER_CONFIG"));
    if let Some(path) = config {
        layers.file(PathBuf::from(path));
    }
    layers.variables(&variables);
    layers.flags(&matches);
    layers.shapes_and_required();
    let Layers { set, .. } = layers;
    let wrong = |findings: Vec<Finding>| Err(ConfigError::Wrong(findings));
    let config = match T::deserialize(Value::Table(tree(program, &set))) {
        Ok(config) => config,
        Err(_) if !findings.is_empty() => return wrong(findings),
        // Only a struct that disagrees with its own table of keys comes here.
        Err(error) => {
            let message = error.to_string().trim().replace('\n', ", ");
            return wrong(vec![Finding { subject: "the configuration".into(), origin: Origin::Absent, message }]);
        }
    };
    let origins: BTreeMap<_, _> = set.iter().map(|(path, (_, origin))| (*path, origin.clone())).collect();
    findings.extend(config.validate().into_iter().map(|complaint| {
        let origin = origins.get(&*complaint.key).cloned().unwrap_or(Origin::Absent);
        Finding { subject: complaint.key, origin, message: format!("expected {}", complaint.expected) }
    }));
    if !findings.is_empty() {
        return wrong(findings);
    }
    let warnings = warnings(program, &variables, &origins);
    if matches.get_flag("print-config") {
        return Ok(Outcome::Print(print::effective(program, &set)));
    }
    if matches.get_flag("check-config") {
        let warnings = warnings.iter().map(|warning| format!("warning: {warning}\n")).collect::<String>();
        return Ok(Outcome::Print(format!(
            "{warnings}the configuration is valid; whether the files that it names can be used shows at the start\n"
        )));
    }
    Ok(Outcome::Run(Box::new(Loaded { config, origins, warnings, matches })))
}

/// Loads from this process's own arguments and environment; prints what is to be printed. `Err` holds the code to exit
/// with: 0 after `--help` and the like, 2 when the configuration is wrong.
///
/// # Errors
/// The exit code, when there is nothing to run.
pub fn from_process<T: DeserializeOwned + Validate>(program: &Program) -> Result<Box<Loaded<T>>, ExitCode> {
    use std::io::Write;
    match load(program, std::env::args_os(), std::env::vars_os()) {
        Ok(Outcome::Run(loaded)) => Ok(loaded),
        Ok(Outcome::Print(text)) => {
            // A reader that closed the pipe has seen enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            Err(ExitCode::SUCCESS)
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{}: {error}", program.name);
            Err(ExitCode::from(2))
        }
    }
}

/// Values with their origins, by key path.
pub(super) type Effective = BTreeMap<&'static str, (Value, Origin)>;

struct Variables(BTreeMap<String, String>);

impl Variables {
    fn of(all: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Self(all.into_iter().filter_map(text).filter(|(_, value)| !value.is_empty()).collect())
    }

    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }
}

struct Layers<'a> {
    program: &'a Program,
    set: Effective,
    findings: &'a mut Vec<Finding>,
}

impl Layers<'_> {
    fn defaults(&mut self) {
        for key in self.program.keys() {
            if let Some(text) = key.default {
                self.take(key, Origin::Default, text, key.kind.read_text(text));
            }
        }
    }

    fn file(&mut self, path: PathBuf) {
        for (name, (value, line)) in file::read(self.program, &path, self.findings) {
            let Some(key) = self.program.keys().find(|key| key.path == name) else { continue };
            let given = if value.is_table() || value.is_array() { value.type_str().into() } else { bare(&value) };
            self.take(key, Origin::File { path: path.clone(), line }, &given, key.kind.take_value(value));
        }
    }

    fn variables(&mut self, variables: &Variables) {
        for key in self.program.keys() {
            for name in key.also_variable.map(String::from).into_iter().chain([key.variable()]) {
                if let Some(text) = variables.get(&name) {
                    self.take(key, Origin::Variable(name), &text, key.kind.read_text(&text));
                }
            }
        }
    }

    fn flags(&mut self, matches: &ArgMatches) {
        for key in self.program.keys() {
            if let Some(texts) = matches.get_many::<String>(key.path) {
                let texts: Vec<&str> = texts.map(String::as_str).collect();
                let text = texts.join(",");
                self.take(key, Origin::Flag(key.flag()), &text, key.kind.read_text(&text));
            }
        }
    }

    fn take(&mut self, key: &'static Key, origin: Origin, given: &str, value: Option<Value>) {
        match value {
            Some(value) => {
                self.set.insert(key.path, (value, origin));
            }
            None => {
                let given = given.chars().take(60).collect::<String>().escape_debug().to_string();
                let hidden = key.secret || matches!(key.kind, Kind::Url | Kind::Tables);
                let but = if hidden { String::new() } else { format!(", not `{given}`") };
                let message = format!("expected {}{but}", key.kind.expected());
                self.findings.push(Finding { subject: key.path.into(), origin, message });
            }
        }
    }

    fn shapes_and_required(&mut self) {
        for key in self.program.keys() {
            let wrong = self.findings.iter().any(|finding| finding.subject == key.path);
            match self.set.get(key.path) {
                Some((value, origin)) => {
                    if let Some(Err(message)) = key.shape.map(|fits| fits(value)) {
                        let origin = origin.clone();
                        self.findings.push(Finding { subject: key.path.into(), origin, message });
                    }
                }
                None if key.required && !wrong => {
                    let (expected, variable, flag) = (key.kind.expected(), key.variable(), key.flag());
                    let message = format!("required: {}; expected {expected} ({variable} or {flag})", key.doc);
                    self.findings.push(Finding { subject: key.path.into(), origin: Origin::Absent, message });
                }
                None => {}
            }
        }
    }
}

fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}

/// The values as nested tables. Each section is there, even if none of its keys is set.
fn tree(program: &Program, set: &Effective) -> Table {
    let mut root = Table::new();
    for key in program.keys() {
        let mut sections = key.section().split('.').filter(|name| !name.is_empty());
        let table = sections.try_fold(&mut root, |table, name| {
            table.entry(name).or_insert_with(|| Value::Table(Table::new())).as_table_mut()
        });
        if let (Some(table), Some((value, _))) = (table, set.get(key.path)) {
            table.insert(key.name().into(), value.clone());
        }
    }
    root
}

fn warnings(program: &Program, variables: &Variables, origins: &BTreeMap<&'static str, Origin>) -> Vec<String> {
    let known = |name: &str| name == "MUSTER_CONFIG" || program.keys().any(|key| key.variable() == name);
    let mut warnings = Vec::new();
    for (name, value) in &variables.0 {
        // Kubernetes announces a service called muster-… by variables such as MUSTER_X_PORT_80_TCP.
        let announced = name.contains("_SERVICE_") || value.starts_with("tcp://") || name.contains("_TCP");
        if let Some(rest) = name.strip_prefix(PREFIX)
            && !known(name)
            && !announced
        {
            let nearest = file::suggestion(program, &rest.to_ascii_lowercase().replacen('_', ".", 1));
            warnings.push(format!("variable {name} is not read by {}{nearest}", program.name));
        }
    }
    for key in program.keys().filter(|key| key.secret) {
        if let Some(Origin::Flag(flag)) = origins.get(key.path) {
            warnings.push(format!("{flag} is visible to everyone on this machine; use the file or {}", key.variable()));
        }
    }
    warnings
}
