//! The suite over the process engine, once per isolation, and what only that engine promises.

mod alone;

use crate::suite::{Fixture, Need};
use futures_util::future::BoxFuture;
use muster_domain::id::{ClusterName, JobId, RankKey};
use muster_worker::engine::Engine;
use muster_worker::engine::process::{Addresses, Isolation, ProcessEngine, ProcessSettings};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// As root: namespaces without a user namespace.
mod namespaces {
    engine_suite!(super::with_namespaces);
}

/// As anybody else, or without the privilege to mount.
mod user_namespaces {
    engine_suite!(super::with_user_namespaces);
}

/// In a plain container, where the kernel refuses all of it.
mod plain {
    engine_suite!(super::without_namespaces);
}

struct Process {
    settings: ProcessSettings,
    engine: ProcessEngine,
    folder: tempfile::TempDir,
}

async fn with_namespaces() -> Result<Process, String> {
    process(Isolation::Namespaces, |_| {})
}

async fn with_user_namespaces() -> Result<Process, String> {
    process(Isolation::UserNamespaces, |_| {})
}

async fn without_namespaces() -> Result<Process, String> {
    process(Isolation::Plain, |_| {})
}

/// An engine that finds just this isolation. Its supervisor is run without the privileges for a stronger one.
fn process(isolation: Isolation, change: impl FnOnce(&mut ProcessSettings)) -> Result<Process, String> {
    // Tests run at the same time: each has a cluster and a range of addresses of its own.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let programs = folder.path().join("images/acme/batch/1.0.0/bin");
    fs::create_dir_all(&programs).unwrap();
    let shim = Path::new(env!("CARGO_BIN_EXE_muster-worker"));
    let shim = match isolation {
        Isolation::Namespaces => shim.to_path_buf(),
        Isolation::UserNamespaces => wrapper(
            folder.path(),
            shim,
            "test $(id -u) != 0 || exec setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin SHIM \"$@\"; exec SHIM \"$@\"",
        ),
        Isolation::Plain => wrapper(
            folder.path(),
            shim,
            "exec unshare --user --map-root-user /bin/sh -c 'for kind in user mnt pid; do \
             echo 0 >/proc/sys/user/max_${kind}_namespaces; done; exec \"$@\"' sh SHIM \"$@\"",
        ),
    };
    let cluster = ClusterName::new(format!("test-{}-{number}", std::process::id())).unwrap();
    let mut settings = ProcessSettings::new(folder.path().join("state"), folder.path().join("work"), cluster, shim);
    settings.images_dir = Some(folder.path().join("images"));
    let base = format!("127.{}.{}.0/24", 64 + number / 250, number % 250).parse().unwrap();
    settings.addresses = Addresses::Loopback { base };
    settings.log_limit_bytes = 1 << 20;
    settings.pids_limit = 64;
    change(&mut settings);
    let engine = ProcessEngine::new(settings.clone())
        .map_err(|error| format!("{error}: {:?}", std::error::Error::source(&error)))?;
    if engine.isolation() != isolation {
        return Err(format!("this machine gives {:?} here", engine.isolation()));
    }
    Ok(Process { settings, engine, folder })
}

/// A program that runs the shim under other circumstances.
fn wrapper(folder: &Path, shim: &Path, script: &str) -> PathBuf {
    let path = folder.join("shim");
    fs::write(&path, format!("#!/bin/sh\n{}\n", script.replace("SHIM", shim.to_str().unwrap()))).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

impl Process {
    fn rank_folder(&self, key: &RankKey) -> PathBuf {
        self.settings.state_dir.join("ranks").join(key.to_string())
    }

    /// The supervisor of a rank that runs.
    fn shim_pid(&self, key: &RankKey) -> Option<rustix::process::Pid> {
        pid_of_shim(&self.rank_folder(key))
    }
}

fn pid_of_shim(folder: &Path) -> Option<rustix::process::Pid> {
    let record: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("run.json")).ok()?).ok()?;
    rustix::process::Pid::from_raw(i32::try_from(record["shim"]["pid"].as_i64()?).ok()?)
}

impl Fixture for Process {
    fn name(&self) -> &'static str {
        "process"
    }

    fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(self.engine.clone())
    }

    fn restarted(&self) -> BoxFuture<'_, Arc<dyn Engine>> {
        Box::pin(async { Arc::new(ProcessEngine::new(self.settings.clone()).unwrap()) as Arc<dyn Engine> })
    }

    fn image(&self) -> String {
        "acme/batch:1.0.0".to_owned()
    }

    fn missing_image(&self) -> String {
        "acme/batch:9.9.9".to_owned()
    }

    fn job_dir(&self, job: &JobId) -> PathBuf {
        self.settings.work_root.join(job.as_str())
    }

    fn pids_limit(&self) -> u32 {
        self.settings.pids_limit
    }

    fn log_limit_bytes(&self) -> u64 {
        self.settings.log_limit_bytes
    }

    fn promises(&self, need: Need) -> bool {
        need != Need::Mounts || self.engine.isolation() != Isolation::Plain
    }

    fn lacks(&self, need: Need) -> Option<String> {
        let controller = match need {
            // Each isolation is checked by itself, and one that cannot be had is not checked at all.
            Need::Mounts => return None,
            Need::MemoryLimit => "memory",
            Need::PidsLimit => "pids",
        };
        let usable = groups_of(controller, self.settings.cluster.as_str()).is_some();
        (!usable).then(|| format!("the {controller} control group cannot be made"))
    }
}

/// Where the kernel keeps the cluster's groups of a controller.
fn groups_of(controller: &str, cluster: &str) -> Option<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let one = root.join(controller).join("muster").join(cluster);
    let two = root.join("muster").join(cluster);
    let enabled = |path: &Path| {
        fs::read_to_string(path.join("cgroup.subtree_control")).is_ok_and(|text| text.contains(controller))
    };
    if one.is_dir() { Some(one) } else { enabled(&two).then_some(two) }
}

/// Leaves nothing behind, also when a check failed half way.
impl Drop for Process {
    fn drop(&mut self) {
        let ranks = self.folder.path().join("state/ranks");
        for rank in fs::read_dir(ranks).into_iter().flatten().flatten() {
            if let Some(pid) = pid_of_shim(&rank.path())
                && !rank.path().join("end.json").exists()
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        for controller in ["memory", "cpu", "pids"] {
            if let Some(path) = groups_of(controller, self.settings.cluster.as_str()) {
                for group in fs::read_dir(&path).into_iter().flatten().flatten() {
                    let _ = fs::remove_dir(group.path());
                }
                let _ = fs::remove_dir(path);
            }
        }
    }
}
