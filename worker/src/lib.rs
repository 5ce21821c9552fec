//! The worker agent: runs ranks on one node.
//!
//! [`Worker`] joins the parts: the brain in `domain`, the [`engine`] that runs ranks, the journal, and the stream to the
//! coordinator. Nothing listens on a port: the worker dials.

mod backoff;
mod boot;
mod calls;
pub mod config;
mod driver;
pub mod engine;
mod engines;
mod health;
mod journal;
mod link;
mod logs;
mod metrics;
mod trace;
mod worker;

pub use engines::{EngineUnusable, build_engine};
pub use journal::JournalError;
pub use worker::{CannotStart, Settings, Worker};
