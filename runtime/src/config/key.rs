//! What a binary declares: its keys, their kinds and defaults.

use clap::{Arg, ArgAction, Command};
use serde::de::DeserializeOwned;

/// The name of a variable starts with this.
pub(super) const PREFIX: &str = "MUSTER_";

/// A binary and everything it can be told.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The name of the binary.
    pub name: &'static str,
    /// One line for `--help`.
    pub about: &'static str,
    /// What `--version` prints after the name.
    pub version: &'static str,
    /// Its keys, in groups so that shared ones (such as those of telemetry) are written once.
    pub keys: &'static [&'static [Key]],
}

/// What a value must look like. Text of a variable or flag and values of a file follow the same rules.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Any text. Field: `String`.
    Text,
    /// A whole number in a closed range. Field: any integer that holds the range.
    Integer {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// A number in a closed range. Field: `f64`.
    Number {
        /// Smallest.
        min: f64,
        /// Largest.
        max: f64,
    },
    /// `true` or `false`. Field: `bool`. A flag may stand without a value for `true`.
    Boolean,
    /// `250ms`, `2s`, `5m`, `1h`, `7d`, or a bare number of milliseconds. Field: `u64`, in milliseconds.
    DurationMs,
    /// `512KiB`, `64MiB`, `2GiB`, `1TiB`, or a bare number of bytes. Field: `u64`, in bytes.
    Bytes,
    /// A file or directory. Field: `PathBuf`.
    Path,
    /// `127.0.0.1:8470` or `[::1]:8470`. Field: `SocketAddr`.
    SocketAddress,
    /// `http://…` or `https://…`, without a user name or password. Field: `String`.
    Url,
    /// One of these words. Field: `String`, or an enum that serde reads from them.
    Choice(&'static [&'static str]),
    /// Several texts: an array in the file, separated by commas in variables and flags. Field: `Vec<String>`.
    List,
    /// Names with texts: a table in the file; `name=value,…` or a JSON object in variables and flags.
    /// Field: `BTreeMap<String, String>`.
    Labels,
    /// An array of tables (`[[products]]`); JSON in variables and flags. Field: `Vec` of a struct.
    Tables,
}

/// Whether a whole value is what the program's own type expects, or why not.
pub(super) type Shape = fn(&toml::Value) -> Result<(), String>;

/// One key. Built as a constant: `Key::new(path, kind, doc).default("…")`.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    pub(super) doc: &'static str,
    pub(super) default: Option<&'static str>,
    pub(super) required: bool,
    pub(super) secret: bool,
    pub(super) also_variable: Option<&'static str>,
    pub(super) shape: Option<Shape>,
}

impl Key {
    /// A key that may be absent. `doc` is a phrase for `--help` and the reference: meaning, then units or limits.
    #[must_use]
    pub const fn new(path: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { path, kind, doc, default: None, required: false, secret: false, also_variable: None, shape: None }
    }

    /// The value when no layer sets it, written as in a variable.
    #[must_use]
    pub const fn default(mut self, text: &'static str) -> Self {
        self.default = Some(text);
        self
    }

    /// Some layer must set it.
    #[must_use]
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Its value is never printed.
    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// A variable with a customary name that counts as well; the `MUSTER_` one wins.
    #[must_use]
    pub const fn also_variable(mut self, name: &'static str) -> Self {
        self.also_variable = Some(name);
        self
    }

    /// The type of the whole value, for kinds whose entries have fields of their own: `.shape::<Vec<Product>>()`.
    #[must_use]
    pub const fn shape<T: DeserializeOwned>(mut self) -> Self {
        self.shape = Some(fits::<T>);
        self
    }

    /// Its path in the file, such as `http.listen`.
    #[must_use]
    pub const fn path(&self) -> &'static str {
        self.path
    }

    /// Its variable, such as `MUSTER_HTTP_LISTEN`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.path.replace('.', "_").to_ascii_uppercase())
    }

    /// Its flag, such as `--http-listen`.
    #[must_use]
    pub fn flag(&self) -> String {
        format!("--{}", self.flag_name())
    }

    fn flag_name(&self) -> String {
        self.path.replace(['.', '_'], "-")
    }

    pub(super) fn section(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(section, _)| section)
    }

    pub(super) fn name(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, name)| name)
    }
}

fn fits<T: DeserializeOwned>(value: &toml::Value) -> Result<(), String> {
    T::deserialize(value.clone()).map(|_| ()).map_err(|error| error.to_string().trim().replace('\n', ", "))
}

impl Program {
    /// All keys, in the order of declaration.
    pub fn keys(&self) -> impl Iterator<Item = &'static Key> + use<> {
        self.keys.iter().flat_map(|group| group.iter())
    }

    /// Sections in the order of their first key, keys without a section first.
    pub(super) fn sections(&self) -> Vec<(&'static str, Vec<&'static Key>)> {
        let mut sections: Vec<(&'static str, Vec<&'static Key>)> = vec![("", Vec::new())];
        for key in self.keys() {
            match sections.iter_mut().find(|(name, _)| *name == key.section()) {
                Some((_, keys)) => keys.push(key),
                None => sections.push((key.section(), vec![key])),
            }
        }
        sections.retain(|(_, keys)| !keys.is_empty());
        sections
    }

    /// The command line: one flag for each key, and `--config`, `--check-config`, `--print-config`. Add subcommands to
    /// it and give it to [`super::load_command`], or let [`super::load`] use it as it is.
    #[must_use]
    pub fn command(&self) -> Command {
        let keys = self.keys().map(flag);
        let version = format!("{} ({} {})", self.version, std::env::consts::OS, std::env::consts::ARCH);
        Command::new(self.name)
            .about(self.about)
            .version(for_ever(version))
            .arg(switch("check-config").help("Check the configuration as a whole and exit"))
            .arg(switch("print-config").help("Print the effective configuration, with where each value comes from"))
            .arg(
                Arg::new("config")
                    .long("config")
                    .value_name("FILE")
                    .global(true)
                    .help("Configuration file, TOML [variable: MUSTER_CONFIG]"),
            )
            .args(keys)
    }
}

fn switch(name: &'static str) -> Arg {
    Arg::new(name).long(name).global(true).action(ArgAction::SetTrue)
}

fn flag(key: &'static Key) -> Arg {
    let mut help = format!("{} [variable: {}]", capitalised(key.doc), key.variable());
    match key.default {
        Some(default) if !default.is_empty() => help.push_str(&format!(" [default: {default}]")),
        Some(_) => {}
        None if key.required => help.push_str(" [required]"),
        None => {}
    }
    let arg = Arg::new(key.path)
        .long(for_ever(key.flag_name()))
        .value_name(key.kind.placeholder())
        .help(help)
        .allow_hyphen_values(matches!(key.kind, Kind::Integer { .. } | Kind::Number { .. }))
        .global(true);
    // Keys without a section stand among the general options.
    let arg = if key.section().is_empty() { arg } else { arg.help_heading(key.section()) };
    match key.kind {
        Kind::Boolean => arg.num_args(0..=1).default_missing_value("true").require_equals(true),
        Kind::List | Kind::Labels => arg.action(ArgAction::Append),
        _ => arg,
    }
}

/// clap wants names that live for ever; a process builds its command line once.
fn for_ever(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

pub(super) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
