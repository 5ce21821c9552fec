//! What every binary needs: configuration, telemetry, signals, tasks, clocks.

pub mod clock;
pub mod config;
pub mod secret;
pub mod signals;
pub mod tasks;
pub mod telemetry;
pub mod tls;
