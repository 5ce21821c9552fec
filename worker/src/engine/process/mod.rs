//! The `process` engine: ranks as plain processes, in namespaces and control groups of their own where the kernel has them.
//!
//! For nodes without a container engine, and for trying Muster out. Every rank has a folder (`record`) and a supervisor
//! (`shim`), so that the agent can be killed and replaced without any rank noticing. The engine itself keeps nothing in
//! memory but the addresses it gave: each call reads the folder, does its part, and may be repeated.

mod address;
mod cgroup;
mod end;
mod image;
mod list;
mod log;
mod peers;
mod pid;
mod prepare;
mod record;
mod remove;
mod settings;
pub mod shim;
mod start;
mod watch;

pub use record::Isolation;
pub use settings::{Addresses, BadPrefix, Ipv4Prefix, ProcessSettings};

use super::{Engine, EngineError, EngineInfo, Fault, Found, LogPiece};
use address::AddressBook;
use cgroup::{Cgroup, Hierarchy};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use muster_domain::id::RankKey;
use muster_domain::peers::PeerFiles;
use muster_domain::rank::{Assignment, RankEnd};
use muster_domain::time::Moment;
use record::RankFolder;
use shim::probe::Probed;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

/// Why the engine cannot be set up. The messages say what an operator should do.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// A folder cannot be made or read.
    #[error("cannot use the folder {}: make it writable for the worker, or set another one", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The address range is not inside 127.0.0.0/8 or has no address to give.
    #[error(transparent)]
    Addresses(#[from] BadPrefix),
    /// The supervisor cannot be run.
    #[error("cannot run the rank supervisor {} {argument}: it must be the worker's own program", path.display(), argument = shim::ARGUMENT)]
    Shim {
        /// The program.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel does not say which boot this is.
    #[error("cannot read /proc/sys/kernel/random/boot_id: /proc must be mounted")]
    BootId(#[source] io::Error),
}

/// User and group of ranks that need no rights at all.
const NOBODY: (u32, u32) = (65_534, 65_534);

/// Runs ranks as processes. Cheap to clone; clones are the same engine.
#[derive(Clone, Debug)]
pub struct ProcessEngine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: ProcessSettings,
    ranks_dir: PathBuf,
    logs_dir: PathBuf,
    boot_id: String,
    isolation: Isolation,
    cgroups: Hierarchy,
    warnings: Vec<String>,
    addresses: AddressBook,
    /// One call at a time changes a rank.
    locks: Mutex<HashMap<RankKey, Arc<tokio::sync::Mutex<()>>>>,
    sweep: remove::Sweep,
}

impl ProcessEngine {
    /// Makes the folders, finds out what the kernel permits by trying it, and sweeps what an earlier agent left half
    /// done. Blocks for some milliseconds. Needs to be called inside a tokio runtime only for its other methods.
    pub fn new(mut settings: ProcessSettings) -> Result<Self, SetUpError> {
        if let Addresses::Loopback { base } = &settings.addresses
            && !base.is_usable()
        {
            return Err(BadPrefix { text: base.to_string() }.into());
        }
        let folder = |path: &Path, mode: u32| -> Result<PathBuf, SetUpError> {
            let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
            made.and_then(|()| fs::canonicalize(path))
                .map_err(|source| SetUpError::Folder { path: path.to_path_buf(), source })
        };
        // Ranks of another user must be able to pass through, and to see nothing.
        settings.state_dir = folder(&settings.state_dir, 0o711)?;
        settings.work_root = folder(&settings.work_root, 0o711)?;
        let ranks_dir = folder(&settings.state_dir.join("ranks"), 0o711)?;
        let logs_dir = folder(&settings.state_dir.join("logs"), 0o700)?;
        let probe_dir = folder(&settings.state_dir.join("probe"), 0o700)?;
        let boot_id = crate::boot::id().map_err(SetUpError::BootId)?;
        let Probed { isolation, mut warnings } = probe(&settings.shim, &probe_dir)
            .map_err(|source| SetUpError::Shim { path: settings.shim.clone(), source })?;
        if settings.nobody && settings.user.is_none() && isolation == Isolation::Namespaces {
            settings.user = Some(NOBODY);
        }
        let (cgroups, refused) = Hierarchy::detect(&settings.cluster);
        warnings.extend(refused);
        let addresses = AddressBook::new(&settings.addresses);
        let inner = Inner {
            ranks_dir,
            logs_dir,
            boot_id,
            isolation,
            cgroups,
            warnings,
            addresses,
            locks: Mutex::default(),
            sweep: remove::Sweep::default(),
            settings,
        };
        inner.adopt_addresses().map_err(|source| SetUpError::Folder { path: inner.ranks_dir.clone(), source })?;
        inner.sweep_leftovers();
        Ok(Self { inner: Arc::new(inner) })
    }

    /// How far ranks are kept apart on this machine.
    #[must_use]
    pub fn isolation(&self) -> Isolation {
        self.inner.isolation
    }
}

fn probe(shim: &Path, folder: &Path) -> io::Result<Probed> {
    let output = Command::new(shim)
        .args([shim::ARGUMENT, shim::PROBE])
        .arg(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()?;
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let words = String::from_utf8_lossy(&output.stderr);
        io::Error::other(format!("it ended with {} and said {:?}", output.status, words.trim()))
    })
}

impl Inner {
    fn folder(&self, key: &RankKey) -> RankFolder {
        RankFolder::new(&self.ranks_dir, key)
    }

    fn cgroup(&self, key: &RankKey) -> Cgroup {
        self.cgroups.group(&self.settings.cluster, key)
    }

    async fn lock(&self, key: &RankKey) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody holds or awaits a lock that only this table knows.
            if locks.len() > 1024 {
                locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            }
            Arc::clone(locks.entry(key.clone()).or_default())
        };
        lock.lock_owned().await
    }
}

/// Runs what may wait for a disk away from the tasks.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(node_fault("the engine's own work was interrupted", io::Error::other(error))),
    }
}

fn node_fault(step: &str, error: impl Into<io::Error>) -> EngineError {
    EngineError { fault: Fault::Node, message: format!("{step}: {}", error.into()) }
}

impl Engine for ProcessEngine {
    fn describe(&self) -> BoxFuture<'_, Result<EngineInfo, EngineError>> {
        Box::pin(async { self.inner.describe() })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Found>, EngineError>> {
        Box::pin(Arc::clone(&self.inner).list())
    }

    fn prepare<'a>(&'a self, assignment: &'a Assignment) -> BoxFuture<'a, Result<String, EngineError>> {
        Box::pin(Arc::clone(&self.inner).prepare(assignment.clone()))
    }

    fn start<'a>(&'a self, key: &'a RankKey, files: &'a PeerFiles) -> BoxFuture<'a, Result<Moment, EngineError>> {
        Box::pin(Arc::clone(&self.inner).start(key.clone(), files.clone()))
    }

    fn wait<'a>(&'a self, key: &'a RankKey) -> BoxFuture<'a, Result<(RankEnd, u64), EngineError>> {
        Box::pin(Arc::clone(&self.inner).wait(key.clone()))
    }

    fn terminate<'a>(&'a self, key: &'a RankKey) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(Arc::clone(&self.inner).terminate(key.clone()))
    }

    fn kill<'a>(&'a self, key: &'a RankKey) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(Arc::clone(&self.inner).kill(key.clone()))
    }

    fn remove<'a>(&'a self, key: &'a RankKey) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(Arc::clone(&self.inner).remove(key.clone()))
    }

    fn logs(&self, key: &RankKey) -> BoxStream<'static, Result<LogPiece, EngineError>> {
        log::follow(Arc::clone(&self.inner), key.clone())
    }
}
