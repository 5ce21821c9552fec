//! The coordinator: takes UCloud's calls and runs the fleet.
//!
//! [`driver`] owns the cluster's state and decides; [`commit`] makes decisions durable; [`dispatch`] performs them:
//! replies to [`http`], messages to [`fleet`], updates and charges to [`core`]. [`server`] puts the parts together.

pub mod auth;
pub mod commit;
pub mod config;
pub mod core;
pub mod crash;
pub mod dispatch;
pub mod driver;
pub mod election;
pub mod etcd;
pub mod fleet;
pub mod forward;
pub mod handle;
pub mod http;
pub mod leading;
pub mod metrics;
pub mod operator;
pub mod secret;
pub mod server;
pub(crate) mod sessions;
pub mod standing;
pub mod store;

#[cfg(test)]
mod testing;
