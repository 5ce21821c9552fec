//! A whole Muster on one machine, of real processes: a stand-in Core, coordinators over the embedded store or etcd, workers.
//!
//! The end-to-end tests, the demo, the chaos runs and the benchmarks all stand on [`Site`]. Every port lies outside the
//! kernel's ephemeral range (`protocol.md` 16.17), every file in one temporary folder, every process is stopped by the pid
//! that was started.

mod balancer;
mod cluster;
mod engine;
mod etcd;
mod files;
mod net;
mod options;
mod process;
mod proxy;
mod ranks;
mod reigns;
mod site;
mod views;

pub use balancer::{Backend, Balancer};
pub use cluster::{Leader, Links};
pub use engine::{BUSYBOX_IMAGE, Engine, images_folder};
pub use etcd::{EtcdCluster, EtcdOptions, etcd_binaries, etcd_for_tests};
pub use net::free_port;
pub use options::{SiteOptions, StoreOptions, WorkerOptions};
pub use process::{Process, binary};
pub use proxy::{Direction, FaultProxy};
pub use ranks::{LiveRank, Look, RankSource, RankWatch, RanksSeen};
pub use reigns::{Reign, ReignWatch};
pub use site::Site;
