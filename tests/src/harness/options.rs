//! How a site is set up.

use super::Engine;
use crate::core::CoreOptions;

/// One worker of a site.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Its node name.
    pub name: String,
    /// Cores it offers, whatever the machine has.
    pub cores: u32,
    /// GiB it offers, whatever the machine has.
    pub memory_gib: u32,
    /// What runs its ranks, if that is not what the site's other workers use.
    pub engine: Option<Engine>,
}

/// Where the coordinators keep the cluster's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreOptions {
    /// A file of the only coordinator.
    Embedded,
    /// An etcd cluster of the site's own.
    Etcd {
        /// 1 or 3.
        members: usize,
        /// Size at which it refuses writes (NOSPACE); `None` is etcd's own default.
        quota_backend_bytes: Option<u64>,
    },
}

/// How a site is set up.
#[derive(Clone, Debug)]
pub struct SiteOptions {
    /// What runs the ranks.
    pub engine: Engine,
    /// How many coordinators; more than one need etcd.
    pub coordinators: usize,
    /// Where they keep the cluster's state.
    pub store: StoreOptions,
    /// Puts a [`super::FaultProxy`] between each coordinator and each etcd member, and in front of each coordinator's fleet
    /// listener, so that [`super::Site::links`] can be broken.
    pub proxied: bool,
    /// The workers.
    pub workers: Vec<WorkerOptions>,
    /// Length of a charge window, in milliseconds.
    pub window_ms: u64,
    /// More keys of every coordinator, as variables: `("MUSTER_TIMEOUTS_LOST_AFTER_MS", "5000")`.
    pub coordinator: Vec<(String, String)>,
    /// More keys of every worker, as variables.
    pub worker: Vec<(String, String)>,
    /// Options of the stand-in Core; address, keys and products are filled in.
    pub core: CoreOptions,
}

impl SiteOptions {
    /// One coordinator with the embedded store; workers of 8 cores named `node-1`, `node-2`, …; windows of one minute.
    #[must_use]
    pub fn new(engine: Engine, workers: usize) -> Self {
        let worker = |number| WorkerOptions { name: format!("node-{number}"), cores: 8, memory_gib: 32, engine: None };
        Self {
            engine,
            coordinators: 1,
            store: StoreOptions::Embedded,
            proxied: false,
            workers: (1..=workers).map(worker).collect(),
            window_ms: 60_000,
            coordinator: Vec::new(),
            worker: Vec::new(),
            core: CoreOptions::new("example", "http://127.0.0.1:1"),
        }
    }

    /// The same with three coordinators, `coordinator-1` to `coordinator-3`, over three etcd members.
    #[must_use]
    pub fn over_etcd(engine: Engine, workers: usize) -> Self {
        let store = StoreOptions::Etcd { members: 3, quota_backend_bytes: None };
        Self { coordinators: 3, store, ..Self::new(engine, workers) }
    }

    /// One more key of every coordinator.
    #[must_use]
    pub fn coordinator(mut self, variable: &str, value: &str) -> Self {
        self.coordinator.push((variable.to_owned(), value.to_owned()));
        self
    }

    /// One more key of every worker.
    #[must_use]
    pub fn worker(mut self, variable: &str, value: &str) -> Self {
        self.worker.push((variable.to_owned(), value.to_owned()));
        self
    }

    /// What runs a worker's ranks.
    pub(super) fn engine_of<'a>(&'a self, worker: &'a WorkerOptions) -> &'a Engine {
        worker.engine.as_ref().unwrap_or(&self.engine)
    }

    /// The only coordinator is `coordinator`.
    pub(super) fn coordinator_names(&self) -> Vec<String> {
        match self.coordinators {
            1 => vec!["coordinator".to_owned()],
            many => (1..=many).map(|number| format!("coordinator-{number}")).collect(),
        }
    }
}
