//! A whole Muster on one machine, of real processes: a stand-in Core, a coordinator with the embedded store, workers.
//!
//! The end-to-end tests, the demo and the benchmarks all stand on [`Site`]. Every port lies outside the kernel's ephemeral
//! range (`protocol.md` 16.17), every file in one temporary folder, every process is stopped by the pid that was started.

mod engine;
mod files;
mod net;
mod process;
mod site;

pub use engine::{BUSYBOX_IMAGE, Engine, images_folder};
pub use net::free_port;
pub use process::{Process, binary};
pub use site::{Site, SiteOptions, WorkerOptions};
