//! What the end-to-end tests, the demo, the chaos runs and the benchmarks stand on: a stand-in for UCloud/Core and the harness
//! of real processes.

pub mod bench;
pub mod chaos;
pub mod core;
pub mod demo;
pub mod harness;
