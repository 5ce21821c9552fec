//! Terminals over a WebSocket, straight from the browser (protocol 5.4).

use super::lenient;
use super::secret::Secret;
use serde::{Deserialize, Serialize};

/// The payload of a `shell.open` request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum ShellRequest {
    /// Open the terminal; the call stays open for its output.
    Initialize {
        /// From [`super::session::OpenSession::Shell`].
        session_identifier: Secret,
        /// Columns.
        #[serde(default = "lenient::port::<80>", deserialize_with = "lenient::port_or::<_, 80>")]
        cols: u16,
        /// Rows.
        #[serde(default = "lenient::port::<24>", deserialize_with = "lenient::port_or::<_, 24>")]
        rows: u16,
    },
    /// What the user typed.
    Input {
        /// The text.
        data: String,
    },
    /// The window has another size.
    Resize {
        /// Columns.
        #[serde(deserialize_with = "lenient::required")]
        cols: u16,
        /// Rows.
        #[serde(deserialize_with = "lenient::required")]
        rows: u16,
    },
}

/// The payload of a `shell.open` message or response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ShellResponse {
    /// The terminal is open.
    Initialize {},
    /// What the terminal shows.
    Data {
        /// The text.
        data: String,
    },
    /// Input or resize was taken.
    Ack {},
}
