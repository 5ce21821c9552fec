//! Limits by control groups, version 1 or 2, whichever the kernel has and permits.

use muster_domain::id::{ClusterName, RankKey};
use muster_domain::resources::Resources;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];
const CPU_PERIOD_US: u64 = 100_000;

/// Which control groups this machine lets us make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "version")]
pub(super) enum Hierarchy {
    /// No limit can be set.
    None,
    /// One tree per controller; those that work.
    V1 { controllers: Vec<String> },
    /// One tree; the controllers that work.
    V2 { controllers: Vec<String> },
}

impl Hierarchy {
    /// Finds out by making the cluster's groups. Second: what the kernel refused, in words for the operator.
    pub(super) fn detect(cluster: &ClusterName) -> (Self, Vec<String>) {
        let two = Path::new(ROOT).join("cgroup.controllers");
        let mut refused = Vec::new();
        let mut controllers = Vec::new();
        for controller in CONTROLLERS {
            let made = if two.exists() { enable_v2(cluster, controller) } else { make_v1(cluster, controller) };
            match made {
                Ok(()) => controllers.push(controller.to_owned()),
                Err(error) => {
                    let what = match controller {
                        "memory" => "memory of ranks is not limited",
                        "cpu" => "cores of ranks are not limited",
                        _ => "the number of processes of ranks is not limited",
                    };
                    refused.push(format!("{what}: the {controller} control group cannot be made: {error}"));
                }
            }
        }
        let hierarchy = match (controllers.is_empty(), two.exists()) {
            (true, _) => Self::None,
            (false, true) => Self::V2 { controllers },
            (false, false) => Self::V1 { controllers },
        };
        (hierarchy, refused)
    }

    /// The rank's groups, which may not exist yet, or no longer.
    pub(super) fn group(&self, cluster: &ClusterName, key: &RankKey) -> Cgroup {
        let rank = key.to_string();
        let (folders, version_two) = match self {
            Self::None => (Vec::new(), false),
            Self::V1 { controllers } => {
                (controllers.iter().map(|controller| parent_v1(cluster, controller).join(&rank)).collect(), false)
            }
            Self::V2 { .. } => (vec![parent_v2(cluster).join(&rank)], true),
        };
        let has = |controller: &str| match self {
            Self::None => false,
            Self::V1 { controllers } | Self::V2 { controllers } => controllers.iter().any(|name| name == controller),
        };
        Cgroup { folders, version_two, memory: has("memory"), cpu: has("cpu"), pids: has("pids") }
    }
}

/// One rank's control groups.
#[derive(Debug)]
pub(super) struct Cgroup {
    folders: Vec<PathBuf>,
    version_two: bool,
    memory: bool,
    cpu: bool,
    pids: bool,
}

impl Cgroup {
    /// Makes the groups and sets the limits. Answers with what the kernel refused; a refused limit does not stop a rank.
    pub(super) fn create(&self, resources: &Resources, pids_limit: u32) -> Vec<String> {
        let mut refused = Vec::new();
        for folder in &self.folders {
            if let Err(error) = make_folder(folder) {
                refused.push(format!("control group {}: {error}", folder.display()));
            }
        }
        for (file, value) in self.limits(resources, pids_limit) {
            if let Err(error) = fs::write(&file, &value) {
                // Without accounting of swap these files do not exist, and without swap they are not needed.
                let about_swap = file.to_string_lossy().contains("sw");
                if !about_swap {
                    refused.push(format!("limit {} = {value}: {error}", file.display()));
                }
            }
        }
        refused
    }

    /// Files and values, in the order in which they must be written.
    fn limits(&self, resources: &Resources, pids_limit: u32) -> Vec<(PathBuf, String)> {
        let mut limits = Vec::new();
        let mut set = |controller: &str, file: &str, value: String| {
            if let Some(folder) = self.folder_of(controller) {
                limits.push((folder.join(file), value));
            }
        };
        let quota_us = u64::from(resources.cores) * CPU_PERIOD_US;
        let memory = resources.memory_bytes;
        if self.memory && memory > 0 {
            if self.version_two {
                set("memory", "memory.max", memory.to_string());
                set("memory", "memory.swap.max", "0".to_owned());
                set("memory", "memory.oom.group", "1".to_owned());
            } else {
                set("memory", "memory.limit_in_bytes", memory.to_string());
                set("memory", "memory.memsw.limit_in_bytes", memory.to_string());
            }
        }
        if self.cpu && quota_us > 0 {
            if self.version_two {
                set("cpu", "cpu.max", format!("{quota_us} {CPU_PERIOD_US}"));
            } else {
                set("cpu", "cpu.cfs_period_us", CPU_PERIOD_US.to_string());
                set("cpu", "cpu.cfs_quota_us", quota_us.to_string());
            }
        }
        if self.pids && pids_limit > 0 {
            set("pids", "pids.max", pids_limit.to_string());
        }
        limits
    }

    fn folder_of(&self, controller: &str) -> Option<&PathBuf> {
        if self.version_two {
            return self.folders.first();
        }
        let root = Path::new(ROOT).join(controller);
        self.folders.iter().find(|folder| folder.starts_with(&root))
    }

    /// Files by which a process with one thread enters the groups, by writing `0`.
    ///
    /// In version 1 that is `tasks`: for a thread that moves itself the kernel need not stop all forks of the machine,
    /// which would take it a grace period of some 10 ms.
    pub(super) fn entrances(&self) -> impl Iterator<Item = PathBuf> {
        let name = if self.version_two { "cgroup.procs" } else { "tasks" };
        self.folders.iter().filter(|folder| folder.exists()).map(move |folder| folder.join(name))
    }

    /// Whether the kernel killed one of the group's processes for memory.
    pub(super) fn ran_out_of_memory(&self) -> bool {
        let Some(folder) = self.folder_of("memory").filter(|_| self.memory) else { return false };
        let file = if self.version_two { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.is_some_and(|count| count.trim() != "0")
    }

    /// Kills every process of the groups, however it tried to get away.
    pub(super) fn kill(&self) {
        for folder in &self.folders {
            if fs::write(folder.join("cgroup.kill"), "1").is_ok() {
                continue;
            }
            // Version 1, or a kernel before 5.14. A process may fork while we read, so look again until none is left.
            for _ in 0..64 {
                let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
                let pids: Vec<_> =
                    text.lines().filter_map(|line| rustix::process::Pid::from_raw(line.parse().ok()?)).collect();
                if pids.is_empty() {
                    break;
                }
                for pid in pids {
                    // It may have ended in between, and then there is nothing to do.
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
        }
    }

    /// Removes the groups. Fine if they are gone; `Err` while a process is still in one.
    pub(super) fn remove(&self) -> io::Result<()> {
        for folder in &self.folders {
            match fs::remove_dir(folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn parent_v1(cluster: &ClusterName, controller: &str) -> PathBuf {
    Path::new(ROOT).join(controller).join("muster").join(cluster.as_str())
}

fn parent_v2(cluster: &ClusterName) -> PathBuf {
    Path::new(ROOT).join("muster").join(cluster.as_str())
}

fn make_v1(cluster: &ClusterName, controller: &str) -> io::Result<()> {
    let root = Path::new(ROOT).join(controller);
    // Any folder could be made where no control groups are mounted; only the kernel makes this file.
    if !root.join("cgroup.procs").exists() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("{} is not there", root.display())));
    }
    fs::create_dir_all(parent_v1(cluster, controller))
}

fn enable_v2(cluster: &ClusterName, controller: &str) -> io::Result<()> {
    let parent = parent_v2(cluster);
    fs::create_dir_all(&parent)?;
    let muster = Path::new(ROOT).join("muster");
    for folder in [Path::new(ROOT), &muster, &parent] {
        let enabled = fs::read_to_string(folder.join("cgroup.subtree_control"))?;
        if !enabled.split_ascii_whitespace().any(|name| name == controller) {
            fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}"))?;
        }
    }
    Ok(())
}

fn make_folder(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_domain::id::JobId;

    #[test]
    fn limits_of_both_versions() {
        let cluster = ClusterName::new("demo").unwrap();
        let key = RankKey { job: JobId::new("7").unwrap(), rank: 0, attempt: 1 };
        let resources = Resources { cores: 2, memory_bytes: 1 << 30, gpus: 0 };
        let all: Vec<String> = CONTROLLERS.iter().map(|name| (*name).to_owned()).collect();
        let text = |hierarchy: Hierarchy| -> Vec<String> {
            let limits = hierarchy.group(&cluster, &key).limits(&resources, 4096);
            limits.iter().map(|(file, value)| format!("{} {value}", file.display())).collect()
        };
        assert_eq!(
            text(Hierarchy::V2 { controllers: all.clone() }),
            [
                "/sys/fs/cgroup/muster/demo/7-0-1/memory.max 1073741824",
                "/sys/fs/cgroup/muster/demo/7-0-1/memory.swap.max 0",
                "/sys/fs/cgroup/muster/demo/7-0-1/memory.oom.group 1",
                "/sys/fs/cgroup/muster/demo/7-0-1/cpu.max 200000 100000",
                "/sys/fs/cgroup/muster/demo/7-0-1/pids.max 4096",
            ]
        );
        assert_eq!(
            text(Hierarchy::V1 { controllers: all }),
            [
                "/sys/fs/cgroup/memory/muster/demo/7-0-1/memory.limit_in_bytes 1073741824",
                "/sys/fs/cgroup/memory/muster/demo/7-0-1/memory.memsw.limit_in_bytes 1073741824",
                "/sys/fs/cgroup/cpu/muster/demo/7-0-1/cpu.cfs_period_us 100000",
                "/sys/fs/cgroup/cpu/muster/demo/7-0-1/cpu.cfs_quota_us 200000",
                "/sys/fs/cgroup/pids/muster/demo/7-0-1/pids.max 4096",
            ]
        );
        assert!(text(Hierarchy::None).is_empty());
    }
}
