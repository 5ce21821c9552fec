//! What the operator says about the Docker engine.

use super::subnet::Subnet;
use crate::engine::{EngineError, Fault};
use muster_domain::id::{ClusterName, NodeName};
use std::path::PathBuf;
use std::time::Duration;

/// How the ranks of a job reach each other (design section 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkMode {
    /// A bridge for each job. All ranks of a job must be on this one engine.
    Bridge {
        /// IPv4 block out of which each job gets a subnet, such as `10.213.0.0/16`. Nothing else may use it.
        subnet_pool: String,
    },
    /// An attachable overlay for each job, over the engines of one swarm. Every worker's engine must be a manager of it,
    /// because only managers make networks.
    Overlay {
        /// IPv4 block out of which each job gets a subnet. The same on every node; nothing else may use it.
        subnet_pool: String,
    },
    /// The node's own network: the bare interconnect, and no isolation between jobs.
    Host {
        /// The address of this node for the ranks on other nodes.
        address: String,
    },
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// When the engine does not have it.
    #[default]
    IfMissing,
    /// Never: the operator puts the images on the nodes.
    Never,
}

/// Settings of one [`super::DockerEngine`].
#[derive(Clone, Debug)]
pub struct DockerSettings {
    /// Path of the engine's unix socket, with or without `unix://`; `None` is `/var/run/docker.sock`.
    pub socket: Option<String>,
    /// This installation; part of every name and label.
    pub cluster: ClusterName,
    /// This node. Several workers may share one engine, and each sees only its own ranks.
    pub node: NodeName,
    /// The worker's own folder. Holds the ranks' `/etc/ucloud` while they live, and saved logs.
    pub state_dir: PathBuf,
    /// Folder of the jobs' folders; `<work_root>/<job id>` becomes `/work`. As the engine sees it: both must run on one
    /// file system tree.
    pub work_root: PathBuf,
    /// How ranks reach each other.
    pub network: NetworkMode,
    /// When images are pulled.
    pub pull: PullPolicy,
    /// `uid:gid` of jobs that do not run as root; the job's folder is given to it. `None` is `65534:65534` where the
    /// worker runs as root, else the worker's own, because it could not give the folder away.
    pub user: Option<String>,
    /// The GPUs that jobs may have, as UUIDs or indices. If empty, Docker picks by number, which suits only a node
    /// that runs one GPU job at a time.
    pub gpus: Vec<String>,
    /// Most processes of a rank.
    pub pids_limit: u32,
    /// Most bytes that the engine keeps of a rank's log; beyond it the oldest are dropped, visibly.
    pub log_limit_bytes: u64,
    /// How long a removed rank's log is kept.
    pub log_retention: Duration,
    /// Which boot of the machine this is: containers of an earlier one are gone, whatever the engine says of their end.
    pub boot_id: String,
}

impl DockerSettings {
    /// The defaults: the usual socket, a bridge for each job out of `10.213.0.0/16`, missing images are pulled, 4096
    /// processes and 30 MiB of log for a rank, logs kept for 7 days.
    #[must_use]
    pub fn new(
        state_dir: impl Into<PathBuf>,
        work_root: impl Into<PathBuf>,
        cluster: ClusterName,
        node: NodeName,
    ) -> Self {
        Self {
            socket: None,
            cluster,
            node,
            state_dir: state_dir.into(),
            work_root: work_root.into(),
            network: NetworkMode::Bridge { subnet_pool: "10.213.0.0/16".to_owned() },
            pull: PullPolicy::IfMissing,
            user: None,
            gpus: Vec::new(),
            pids_limit: 4096,
            log_limit_bytes: 30 << 20,
            log_retention: Duration::from_secs(7 * 24 * 3600),
            // A machine without /proc has one boot for ever.
            boot_id: crate::boot::id().unwrap_or_default(),
        }
    }
}

/// Who a job's processes are outside of their container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct User {
    /// User id.
    pub(super) uid: u32,
    /// Group id.
    pub(super) gid: u32,
}

impl User {
    /// Root inside, which is root outside as well unless the engine remaps users.
    pub(super) const ROOT: Self = Self { uid: 0, gid: 0 };

    fn parse(text: &str) -> Result<Self, EngineError> {
        text.split_once(':')
            .and_then(|(uid, gid)| Some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()? }))
            .ok_or_else(|| {
                wrong(format!("docker user {text:?} is not usable: expected uid:gid in numbers, such as 65534:65534"))
            })
    }

    /// As Docker takes it.
    pub(super) fn text(self) -> String {
        format!("{}:{}", self.uid, self.gid)
    }
}

impl DockerSettings {
    /// The user of jobs that do not run as root.
    pub(super) fn job_user(&self) -> Result<User, EngineError> {
        match &self.user {
            Some(text) => User::parse(text),
            None if rustix::process::geteuid().is_root() => Ok(User { uid: 65534, gid: 65534 }),
            None => Ok(User { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }),
        }
    }

    /// The block for the jobs' subnets; `None` in host mode.
    pub(super) fn pool(&self) -> Result<Option<Subnet>, EngineError> {
        match &self.network {
            NetworkMode::Bridge { subnet_pool } | NetworkMode::Overlay { subnet_pool } => {
                Subnet::parse(subnet_pool).map(Some).map_err(wrong)
            }
            NetworkMode::Host { .. } => Ok(None),
        }
    }

    /// Path of the socket.
    pub(super) fn socket_path(&self) -> &str {
        let socket = self.socket.as_deref().unwrap_or("/var/run/docker.sock");
        socket.strip_prefix("unix://").unwrap_or(socket)
    }
}

fn wrong(message: String) -> EngineError {
    EngineError { fault: Fault::Node, message }
}
