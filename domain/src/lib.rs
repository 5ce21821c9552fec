//! Every decision of Muster, and no IO.
//!
//! Two brains live here, because a simulation must be able to link both without a socket: [`cluster::Cluster`], the
//! coordinator's, and [`agent::Agent`], the worker's. Each is a state that only [`apply`](cluster::Cluster::apply)
//! changes: an event and the time go in, a list of effects comes out, and a thin shell elsewhere performs the effects
//! in the order given. A [`effect::Effect::Write`] must be durable before any effect that follows it leaves the
//! process; that one rule is "persist, then speak".
//!
//! There is no clock, no randomness, no hash-map iteration and no logging in this crate. `tests/purity.rs` reads the
//! manifest and the sources to keep it so.

pub mod accounting;
pub mod agent;
pub mod brake;
pub mod cluster;
pub mod commit;
pub mod effect;
pub mod event;
pub mod guard;
pub mod id;
pub mod invariants;
pub mod job;
pub mod leadership;
pub mod node;
pub mod outbox;
pub mod peers;
pub mod product;
pub mod rank;
pub mod resources;
pub mod schedule;
pub mod time;
pub mod view;
pub mod worker;
