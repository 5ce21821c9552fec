//! What is wrong with a configuration, all of it at once.

use std::fmt;
use std::path::PathBuf;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The table of keys.
    Default,
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
        /// The line of the key, from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A flag.
    Flag(String),
    /// Nowhere: the key is absent.
    Absent,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(formatter, "default"),
            Self::File { path, line } => write!(formatter, "file {}:{line}", path.display()),
            Self::Variable(name) => write!(formatter, "variable {name}"),
            Self::Flag(name) => write!(formatter, "flag {name}"),
            Self::Absent => write!(formatter, "not set"),
        }
    }
}

/// One thing that a program's own validation finds wrong; the loader adds where the value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The key, such as `http.listen`.
    pub key: String,
    /// What was expected, as it reads after "expected".
    pub expected: String,
}

impl Complaint {
    /// `key` holds a value other than `expected`.
    pub fn new(key: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { key: key.into(), expected: expected.into() }
    }
}

/// Everything that is wrong with a configuration. Its text is made for an operator's terminal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The command line itself cannot be read.
    #[error("{0}")]
    CommandLine(String),
    /// Values are wrong or missing.
    #[error("{}", list(.0))]
    Wrong(Vec<Finding>),
}

/// One wrong value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The key, or the file if it cannot be read at all.
    pub subject: String,
    /// Where the value came from.
    pub origin: Origin,
    /// What is wrong and what was expected.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({}): {}", self.subject, self.origin, self.message)
    }
}

fn list(findings: &[Finding]) -> String {
    let count = findings.len();
    let mut text = format!("the configuration has {count} error{}:", if count == 1 { "" } else { "s" });
    for finding in findings {
        text.push_str(&format!("\n  {finding}"));
    }
    text
}
