//! The engine of nodes with Docker: each rank is a container of a Docker Engine, 20.10 or newer, over its socket.
//!
//! Truth is the engine's list of containers with our labels. What this worker remembers beside it only sharpens
//! measurements and may be lost. A container's name is its rank's key, so the engine itself refuses a second one.

mod call;
mod container;
mod folder;
mod image;
mod label;
mod locks;
mod log;
mod network;
mod observe;
mod rank;
mod restart;
mod saved;
mod settings;
mod signal;
mod subnet;
mod time;

pub use settings::{DockerSettings, NetworkMode, PullPolicy};

use super::{Engine, EngineError, EngineInfo, Found, LogPiece};
use bollard::models::SystemInfo;
use bollard::{API_DEFAULT_VERSION, Docker};
use call::{LOOK, PULL, call, node_fault};
use container::Abilities;
use folder::Folders;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use locks::Locks;
use muster_domain::id::RankKey;
use muster_domain::peers::PeerFiles;
use muster_domain::rank::{Assignment, RankEnd};
use muster_domain::time::Moment;
use restart::Watch;
use settings::User;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use subnet::Subnet;
use tokio::sync::Notify;

/// Oldest API that has all we ask for: Docker Engine 20.10.
const OLDEST_API: (u32, u32) = (1, 41);
/// First API that knows `seccomp=builtin`.
const NAMED_SECCOMP_API: (u32, u32) = (1, 42);
/// Oldest Docker Engine without known escapes (reliability C.2, 27).
const SAFE_ENGINE: [u32; 3] = [29, 5, 1];

/// Runs ranks as containers of a Docker Engine. Clones share everything.
#[derive(Clone)]
pub struct DockerEngine {
    inner: Arc<Inner>,
}

struct Inner {
    docker: Docker,
    settings: DockerSettings,
    job_user: User,
    pool: Option<Subnet>,
    abilities: Abilities,
    folders: Folders,
    /// One at a time per job and per rank: a network is not removed while a container is being attached to it, and a
    /// rank is not started twice.
    locks: Locks,
    /// From choosing a GPU to having a container that names it.
    gpus: tokio::sync::Mutex<()>,
    /// A rank has been started; whoever waits for its log may look again.
    starts: Notify,
    started: Mutex<BTreeMap<RankKey, Moment>>,
    /// Ranks that were killed in place of a SIGTERM that could not reach them.
    terminated_by_kill: Mutex<BTreeSet<RankKey>>,
    /// Whether containers outlive the engine, as it said last.
    live_restore: AtomicBool,
    watches: Mutex<BTreeMap<RankKey, Watch>>,
}

impl DockerEngine {
    /// Connects, makes the folders, and learns what the engine can do.
    ///
    /// # Errors
    ///
    /// [`Fault::Unavailable`](super::Fault::Unavailable) if the engine does not answer: try again later.
    /// [`Fault::Node`](super::Fault::Node) if a setting is wrong, a folder cannot be made, or the engine is older than
    /// 20.10; the message says which.
    pub async fn connect(settings: DockerSettings) -> Result<Self, EngineError> {
        let job_user = settings.job_user()?;
        let pool = settings.pool()?;
        let folders = Folders::new(&settings.state_dir, &settings.work_root).map_err(|error| {
            node_fault(format!(
                "the folders {} and {} cannot be used: {error}",
                settings.state_dir.display(),
                settings.work_root.display()
            ))
        })?;
        // Every call has a deadline of its own; the client's covers the answer's head only and must never come first.
        let longest = PULL.as_secs() + 60;
        let docker =
            Docker::connect_with_unix(settings.socket_path(), longest, API_DEFAULT_VERSION).map_err(|error| {
                call::CallError::from(error).on(&format!("no Docker Engine at {}", settings.socket_path()))
            })?;
        let unreachable = |error: call::CallError| error.on(&format!("no Docker Engine at {}", settings.socket_path()));
        let version = call(LOOK, docker.version()).await.map_err(unreachable)?;
        let info = call(LOOK, docker.info()).await.map_err(unreachable)?;
        let api_text = version.api_version.unwrap_or_default();
        let api = numbers(&api_text);
        if api < Some(OLDEST_API) {
            let (major, minor) = OLDEST_API;
            return Err(node_fault(format!(
                "the Docker Engine is too old: its API is {api_text:?}, expected {major}.{minor} or newer (Docker Engine 20.10)"
            )));
        }
        let abilities = Abilities {
            log_driver: log_driver(&info),
            named_seccomp: api >= Some(NAMED_SECCOMP_API),
            cores: info.ncpu.and_then(|cores| u64::try_from(cores).ok()).filter(|cores| *cores > 0).unwrap_or(u64::MAX),
        };
        let inner = Inner {
            docker,
            settings,
            job_user,
            pool,
            abilities,
            folders,
            locks: Locks::default(),
            gpus: tokio::sync::Mutex::default(),
            starts: Notify::new(),
            started: Mutex::default(),
            terminated_by_kill: Mutex::default(),
            live_restore: AtomicBool::new(info.live_restore_enabled == Some(true)),
            watches: Mutex::default(),
        };
        inner.sweep_logs().await;
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl Engine for DockerEngine {
    fn describe(&self) -> BoxFuture<'_, Result<EngineInfo, EngineError>> {
        self.inner.describe().boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Found>, EngineError>> {
        self.inner.list().boxed()
    }

    fn prepare<'a>(&'a self, assignment: &'a Assignment) -> BoxFuture<'a, Result<String, EngineError>> {
        self.inner.prepare(assignment).boxed()
    }

    fn start<'a>(&'a self, key: &'a RankKey, files: &'a PeerFiles) -> BoxFuture<'a, Result<Moment, EngineError>> {
        self.inner.start(key, files).boxed()
    }

    fn wait<'a>(&'a self, key: &'a RankKey) -> BoxFuture<'a, Result<(RankEnd, u64), EngineError>> {
        self.inner.wait(key).boxed()
    }

    fn terminate<'a>(&'a self, key: &'a RankKey) -> BoxFuture<'a, Result<(), EngineError>> {
        self.inner.terminate(key).boxed()
    }

    fn kill<'a>(&'a self, key: &'a RankKey) -> BoxFuture<'a, Result<(), EngineError>> {
        self.inner.kill(key).boxed()
    }

    fn remove<'a>(&'a self, key: &'a RankKey) -> BoxFuture<'a, Result<(), EngineError>> {
        self.inner.remove(key).boxed()
    }

    fn logs(&self, key: &RankKey) -> BoxStream<'static, Result<LogPiece, EngineError>> {
        self.inner.logs(key.clone())
    }
}

impl Inner {
    async fn describe(&self) -> Result<EngineInfo, EngineError> {
        let silent = |error: call::CallError| error.on("the Docker Engine could not be asked about itself");
        let info = call(LOOK, self.docker.info()).await.map_err(silent)?;
        let live_restore = info.live_restore_enabled == Some(true);
        self.live_restore.store(live_restore, Ordering::Relaxed);
        let mut version = info.server_version.clone().unwrap_or_default();
        if !live_restore {
            // `muster nodes` shows it: this node's ranks end with a restart of its engine.
            version.push_str(" without live-restore");
        }
        let network_zone = match &self.settings.network {
            NetworkMode::Bridge { .. } => format!("docker-{}", info.id.as_deref().unwrap_or_default()),
            NetworkMode::Overlay { .. } => {
                let swarm = info.swarm.as_ref();
                let manages = swarm.and_then(|swarm| swarm.control_available) == Some(true);
                let cluster = swarm.and_then(|swarm| swarm.cluster.as_ref()).and_then(|cluster| cluster.id.as_deref());
                match cluster.filter(|_| manages) {
                    Some(cluster) => format!("swarm-{cluster}"),
                    None => {
                        return Err(node_fault(
                            "overlay networks need a Docker Engine that is a manager of a swarm, and this one is not; \
                             join it as a manager (docker swarm join), or choose another network mode",
                        ));
                    }
                }
            }
            NetworkMode::Host { .. } => "routed".to_owned(),
        };
        let warnings = warnings(&info, &self.settings);
        Ok(EngineInfo { name: "docker".to_owned(), version, network_zone, warnings })
    }

    fn started(&self) -> MutexGuard<'_, BTreeMap<RankKey, Moment>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn terminated_by_kill(&self) -> MutexGuard<'_, BTreeSet<RankKey>> {
        self.terminated_by_kill.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watches(&self) -> MutexGuard<'_, BTreeMap<RankKey, Watch>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first two numbers of a version such as `1.41`.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn log_driver(info: &SystemInfo) -> &'static str {
    let drivers = info.plugins.as_ref().and_then(|plugins| plugins.log.as_deref()).unwrap_or_default();
    if drivers.iter().any(|driver| driver == "local") { "local" } else { "json-file" }
}

/// What an operator should know about this engine.
fn warnings(info: &SystemInfo, settings: &DockerSettings) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |applies: bool, text: &str| {
        if applies {
            warnings.push(text.to_owned());
        }
    };
    let no = |ability: Option<bool>| ability != Some(true);
    warn(no(info.memory_limit), "the kernel gives Docker no limit of memory: ranks may take all of the node's");
    warn(no(info.swap_limit), "the kernel gives Docker no limit of swap: ranks may swap beyond their memory");
    warn(no(info.pids_limit), "the kernel gives Docker no limit of processes");
    warn(no(info.cpu_cfs_quota), "the kernel gives Docker no limit of cores");
    warn(
        no(info.live_restore_enabled) && !matches!(settings.network, NetworkMode::Overlay { .. }),
        "live-restore is off: a restart of the Docker Engine ends every rank on this node; set \"live-restore\": true",
    );
    let security = info.security_options.as_deref().unwrap_or_default();
    warn(!security.iter().any(|option| option.contains("seccomp")), "Docker confines no system calls: seccomp is off");
    warn(
        !security.iter().any(|option| option.contains("userns") || option.contains("rootless")),
        "user namespaces are off: root inside a rank is root of the node's kernel; consider userns-remap",
    );
    warn(
        matches!(settings.network, NetworkMode::Host { .. }),
        "ranks use the node's own network: jobs are not isolated from each other, nor from the node",
    );
    let version: Vec<u32> = info
        .server_version
        .iter()
        .flat_map(|version| version.split(|c: char| !c.is_ascii_digit()))
        .map_while(|number| number.parse().ok())
        .take(3)
        .collect();
    let [major, minor, patch] = SAFE_ENGINE;
    warn(
        version.as_slice() < SAFE_ENGINE.as_slice(),
        &format!("the Docker Engine is older than {major}.{minor}.{patch} and has known holes; update it"),
    );
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(numbers("1.41") >= Some(OLDEST_API));
        assert!(numbers("1.100") > numbers("1.41"));
        assert!(numbers("1.40") < Some(OLDEST_API));
        assert!(numbers("") < Some(OLDEST_API));
    }

    #[test]
    fn an_operator_is_told_what_is_missing() {
        let settings =
            DockerSettings::new("s", "w", "c".to_owned().try_into().unwrap(), "n".to_owned().try_into().unwrap());
        let good = SystemInfo {
            memory_limit: Some(true),
            swap_limit: Some(true),
            pids_limit: Some(true),
            cpu_cfs_quota: Some(true),
            live_restore_enabled: Some(true),
            security_options: Some(vec!["name=seccomp,profile=builtin".into(), "name=userns".into()]),
            server_version: Some("29.5.1".into()),
            ..Default::default()
        };
        assert_eq!(warnings(&good, &settings), Vec::<String>::new());
        let old = SystemInfo { server_version: Some("20.10.24+dfsg1".into()), live_restore_enabled: None, ..good };
        assert_eq!(warnings(&old, &settings).len(), 2);
        assert_eq!(warnings(&SystemInfo::default(), &settings).len(), 8);
    }
}
