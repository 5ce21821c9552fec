//! What is written down about a rank, so that it outlives the agent: one folder, three records.
//!
//! `rank.json` is written by prepare, `run.json` by the shim when the command runs, `end.json` when it has ended. A
//! record is complete or absent: it is written beside its place and renamed into it.

use super::cgroup::Hierarchy;
use super::pid::ProcessId;
use muster_domain::id::{ClusterName, RankKey};
use muster_domain::rank::{Assignment, RankEnd};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// How far a rank is kept apart from the rest of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Own mount, process, host name and IPC namespaces, made by root.
    Namespaces,
    /// The same inside a user namespace, for an agent that is not root.
    UserNamespaces,
    /// None: the kernel refuses namespaces. Ranks are plain children; `UCLOUD_ETC` names the folder of their peer files.
    Plain,
}

/// `rank.json`: everything the shim must know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Description {
    pub(super) cluster: ClusterName,
    pub(super) assignment: Assignment,
    pub(super) address: String,
    /// Processes do not outlive a boot, whatever their records say.
    pub(super) boot_id: String,
    pub(super) isolation: Isolation,
    pub(super) cgroups: Hierarchy,
    pub(super) image_dir: Option<PathBuf>,
    pub(super) job_dir: PathBuf,
    /// Folders of the agent and of other jobs, which no rank may see.
    pub(super) hidden: Vec<PathBuf>,
    pub(super) user: Option<(u32, u32)>,
    pub(super) log_limit_bytes: u64,
    pub(super) pids_limit: u32,
}

/// `run.json`: the command runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Running {
    /// The supervisor. Its end is the rank's end.
    pub(super) shim: ProcessId,
    /// First process of the rank: ends all others with itself, and hands SIGTERM on to the command.
    pub(super) first: ProcessId,
    /// On `CLOCK_BOOTTIME`, in milliseconds.
    pub(super) started_at_ms: u64,
}

/// `end.json`: how it ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) end: RankEnd,
    pub(super) age_ms: u64,
}

/// What the shim answers to the engine that started it, on one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StartReport {
    Started {
        started_at_ms: u64,
        warnings: Vec<String>,
    },
    Failed(StartFailure),
    /// Another shim of this rank was quicker.
    AlreadyStarted,
}

/// Why a rank could not be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StartFailure {
    /// Whether the job is at fault, so that another node would say the same.
    pub(super) by_job: bool,
    pub(super) message: String,
}

impl StartFailure {
    pub(super) fn by_node(step: &str, error: impl Into<io::Error>) -> Self {
        Self { by_job: false, message: format!("the node could not {step}: {}", error.into()) }
    }
}

/// A rank's folder.
#[derive(Clone, Debug)]
pub(super) struct RankFolder {
    pub(super) path: PathBuf,
}

impl RankFolder {
    pub(super) fn new(ranks_dir: &Path, key: &RankKey) -> Self {
        Self { path: ranks_dir.join(key.to_string()) }
    }

    pub(super) fn description(&self) -> io::Result<Option<Description>> {
        read(&self.path.join("rank.json"))
    }

    pub(super) fn running(&self) -> io::Result<Option<Running>> {
        read(&self.path.join("run.json"))
    }

    pub(super) fn ended(&self) -> io::Result<Option<Ended>> {
        read(&self.path.join("end.json"))
    }

    /// Into a folder that is not in its place yet; the caller makes it so, durably.
    pub(super) fn write_description(&self, description: &Description) -> io::Result<()> {
        fill(&self.path.join("rank.json"), description, Durability::Disk)
    }

    /// Need not outlive the machine: a rank does not either.
    pub(super) fn write_running(&self, running: &Running) -> io::Result<()> {
        write(&self.path, "run.json", running, Durability::Process)
    }

    pub(super) fn write_ended(&self, ended: &Ended) -> io::Result<()> {
        write(&self.path, "end.json", ended, Durability::Disk)
    }

    /// The peer files, where the rank has no `/etc/ucloud` of its own.
    pub(super) fn peer_files(&self) -> PathBuf {
        self.path.join("ucloud")
    }

    /// The host table, where the rank has no `/etc/hosts` of its own.
    pub(super) fn hosts_file(&self) -> PathBuf {
        self.path.join("hosts")
    }

    pub(super) fn stdout_log(&self) -> PathBuf {
        self.path.join(STDOUT_LOG)
    }

    pub(super) fn stderr_log(&self) -> PathBuf {
        self.path.join(STDERR_LOG)
    }
}

/// Names the peer files' folder to a rank that has no `/etc/ucloud`.
pub(super) const PEER_FILES_VARIABLE: &str = "UCLOUD_ETC";
pub(super) const STDOUT_LOG: &str = "stdout.log";
pub(super) const STDERR_LOG: &str = "stderr.log";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Durability {
    /// Survives the writer.
    Process,
    /// Survives a power failure.
    Disk,
}

/// Makes entries of a folder outlive a power failure.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write<T: Serialize>(folder: &Path, name: &str, record: &T, durability: Durability) -> io::Result<()> {
    let draft = folder.join(format!("{name}.new"));
    fill(&draft, record, durability)?;
    fs::rename(&draft, folder.join(name))?;
    match durability {
        Durability::Process => Ok(()),
        Durability::Disk => sync_folder(folder),
    }
}

fn fill<T: Serialize>(path: &Path, record: &T, durability: Durability) -> io::Result<()> {
    // Only the agent may read it: a job's environment may hold secrets.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    if durability == Durability::Disk { file.sync_all() } else { Ok(()) }
}
