//! Layered configuration: defaults, then a TOML file, then `MUSTER_…` variables, then flags; later layers win.
//!
//! A binary declares its keys once, as a table of [`Key`]s, and a plain serde struct which the effective values are
//! deserialised into. From the table come the flags and `--help`, the names of the variables, the checks, what
//! `--print-config` says and the pages of `docs/configuration.md` ([`reference()`]).
//!
//! ```
//! use muster_runtime::config::{Complaint, Key, Kind, Outcome, Program, Validate, load};
//!
//! const KEYS: &[Key] = &[
//!     Key::new("http.listen", Kind::SocketAddress, "where the UCloud API listens").default("127.0.0.1:8470"),
//!     Key::new("http.answer_within_ms", Kind::DurationMs, "longest time until an answer").default("4s"),
//!     Key::new("core.url", Kind::Url, "where UCloud/Core listens").required(),
//!     Key::new("core.token_file", Kind::Path, "file with the refresh token"),
//! ];
//! const PROGRAM: Program =
//!     Program { name: "muster-example", about: "an example", version: env!("CARGO_PKG_VERSION"), keys: &[KEYS] };
//!
//! #[derive(Debug, serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Http { listen: std::net::SocketAddr, answer_within_ms: u64 }
//! #[derive(Debug, serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Core { url: String, token_file: Option<std::path::PathBuf> }
//! #[derive(Debug, serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config { http: Http, core: Core }
//!
//! impl Validate for Config {
//!     fn validate(&self) -> Vec<Complaint> {
//!         let mut complaints = Vec::new();
//!         if self.http.answer_within_ms > 4_500 {
//!             complaints.push(Complaint::new("http.answer_within_ms", "at most 4500, since Core gives up after 5 s"));
//!         }
//!         complaints
//!     }
//! }
//!
//! let arguments = ["muster-example", "--core-url", "https://core.example.org"].map(Into::into);
//! let variables = [("MUSTER_HTTP_LISTEN".into(), "127.0.0.1:9000".into())];
//! let Ok(Outcome::Run(loaded)) = load::<Config>(&PROGRAM, arguments, variables) else { panic!() };
//! assert_eq!(loaded.config.http.listen.port(), 9000);
//! assert_eq!(loaded.config.http.answer_within_ms, 4000);
//! ```
//!
//! Rules
//! - Key `a.b_c` is `[a] b_c = …` in the file, `MUSTER_A_B_C` in the environment and `--a-b-c` as a flag. A key
//!   without a section stands above the first `[section]`.
//! - A key without a default that is not required may be absent: its field is an `Option` (or has `#[serde(default)]`).
//!   A section is always there, even if none of its keys is set.
//! - Field types by kind: see [`Kind`]. Durations arrive as integer milliseconds, sizes as integer bytes.
//! - Maps and arrays of tables ([`Kind::Labels`], [`Kind::Tables`]) are best written in the file; a variable or flag
//!   holds them as JSON, or (`Labels`) as `name=value,…`. Give `Tables` its entry type with [`Key::shape`], so that a
//!   wrong entry is listed together with every other error.
//! - An empty variable counts as not set. A relative path is taken relative to the working directory.
//! - Every wrong value of every layer is listed at once, even one that a later layer would have replaced.
//! - Secrets belong in files that keys of [`Kind::Path`] point to (see [`crate::secret::Secret::from_file`]). A key may
//!   still be [`Key::secret`]; then its value is never printed.

mod error;
mod file;
mod key;
mod load;
mod print;
mod value;

#[cfg(test)]
mod tests;

pub use error::{Complaint, ConfigError, Origin};
pub use key::{Key, Kind, Program};
pub use load::{Loaded, Outcome, Validate, from_process, load, load_command};
pub use print::reference;
pub use value::duration_ms;
