//! Conversions both ways between the wire and the domain, one file per noun.

mod check;
mod command;
mod log;
mod session;
mod worker;

#[cfg(test)]
mod tests;

pub use log::{LogPush, LogSource};
pub use session::{Downlink, Uplink};

/// A message that does not make sense. The sender's mistake, never ours to fail on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fleet message: field {field}: {problem}")]
pub struct Malformed {
    /// Path of the field, as the protocol names it: `command.start.key.job`.
    pub field: String,
    /// What is wrong and what was expected.
    pub problem: String,
}

impl Malformed {
    /// A problem of one field.
    pub(crate) fn new(field: &str, problem: impl Into<String>) -> Self {
        Self { field: field.to_owned(), problem: problem.into() }
    }

    /// The same problem seen from the message that holds the field's message.
    pub(crate) fn under(mut self, parent: &str) -> Self {
        self.field = format!("{parent}.{}", self.field);
        self
    }
}

/// Converts a field that is a message and must be there.
pub(crate) fn required<W, D>(field: &str, value: Option<W>) -> Result<D, Malformed>
where
    D: TryFrom<W, Error = Malformed>,
{
    let value = value.ok_or_else(|| Malformed::new(field, "missing"))?;
    D::try_from(value).map_err(|error| error.under(field))
}
