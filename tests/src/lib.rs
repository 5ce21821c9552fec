//! What the end-to-end tests, the demo and the benchmarks stand on: a stand-in for UCloud/Core and the harness of real processes.

pub mod bench;
pub mod core;
pub mod demo;
pub mod harness;
