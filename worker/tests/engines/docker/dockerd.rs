//! A Docker Engine of one test's own, which may be stopped and killed. It has no networks but the node's own.

use bollard::{API_DEFAULT_VERSION, Docker};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::cmp::Reverse;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to serve, or to end.
const LIMIT: Duration = Duration::from_secs(60);
const CONTAINERD_PID: &str = "exec/containerd/containerd.pid";

pub(super) struct Dockerd {
    folder: PathBuf,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Dockerd {
    /// Starts one with the tests' images. Says why not where this machine cannot have one: there is no dockerd, or it
    /// ends by itself; all else is a failure.
    pub(super) async fn start(live_restore: bool) -> Result<Self, String> {
        std::env::var("MUSTER_TEST_DOCKER").map_err(|_| "MUSTER_TEST_DOCKER is not set: no Docker on this machine")?;
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().canonicalize().unwrap();
        fs::write(folder.join("daemon.json"), format!("{{\"live-restore\": {live_restore}}}\n")).unwrap();
        let child = launch(&folder)?;
        let mut dockerd = Self { folder, child, _folder: temporary };
        dockerd.wait_until_serving().await?;
        let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/setup/images.sh");
        let made = Command::new("sh").arg(images).arg(dockerd.socket()).stdin(Stdio::null()).output().unwrap();
        assert!(made.status.success(), "images.sh: {}", String::from_utf8_lossy(&made.stderr));
        Ok(dockerd)
    }

    pub(super) fn socket(&self) -> String {
        self.folder.join("docker.sock").display().to_string()
    }

    /// Ends it by a signal, and returns when it has ended. Its containerd ends with it, however that comes: it asked the
    /// kernel to be killed when its parent dies. The ranks' own supervisors live on.
    pub(super) async fn end(&mut self, signal: Signal) {
        send(signal, self.child.id());
        let deadline = Instant::now() + LIMIT;
        while self.child.try_wait().unwrap().is_none() || self.containerd().is_some() {
            assert!(Instant::now() < deadline, "dockerd or its containerd lives on after {signal:?}");
            // A process that is nobody's child tells nobody of its end.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The pid of its containerd. One that is dead and not reaped has no arguments any more.
    fn containerd(&self) -> Option<u32> {
        let pid = fs::read_to_string(self.folder.join(CONTAINERD_PID)).ok()?.trim().parse().ok()?;
        let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        arguments.contains(&*self.folder.to_string_lossy()).then_some(pid)
    }

    /// Starts it again, and returns when it serves.
    pub(super) async fn start_again(&mut self) {
        self.child = launch(&self.folder).unwrap();
        self.wait_until_serving().await.unwrap();
    }

    async fn wait_until_serving(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + LIMIT;
        loop {
            // There may be no socket yet.
            if let Ok(docker) = Docker::connect_with_unix(&self.socket(), 5, API_DEFAULT_VERSION)
                && docker.ping().await.is_ok()
            {
                return Ok(());
            }
            let log = || fs::read_to_string(self.folder.join("dockerd.log")).unwrap_or_default();
            if self.child.try_wait().unwrap().is_some() {
                return Err(format!("dockerd ended by itself: {}", log().lines().last().unwrap_or_default()));
            }
            assert!(Instant::now() < deadline, "dockerd does not serve: {}", log());
            // It tells nobody when it begins to serve; it is asked often.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            send(Signal::TERM, self.child.id());
            if !ends(self.child.id()) {
                send(Signal::KILL, self.child.id());
            }
            let _ = self.child.wait();
        }
        // A check that failed may leave ranks: those of a dockerd that was killed, or that has live-restore. The first
        // process of a container takes the others with it.
        let supervisors: Vec<u32> = processes().into_iter().filter(|pid| self.supervises(*pid)).collect();
        let ranks: Vec<u32> = processes()
            .into_iter()
            .filter(|pid| parent(*pid).is_some_and(|parent| supervisors.contains(&parent)))
            .collect();
        let left: Vec<u32> = supervisors.into_iter().chain(ranks).collect();
        left.iter().for_each(|pid| send(Signal::KILL, *pid));
        for pid in left {
            let _ = ends(pid);
        }
        // dockerd leaves mounts: its network namespace, and if it was killed its data and what its ranks saw. A folder
        // with a mount in it cannot be removed.
        for mounted in self.mounts() {
            let _ = Command::new("umount").arg("--lazy").arg(mounted).stderr(Stdio::null()).status();
        }
    }
}

impl Dockerd {
    /// Whether it is a container's supervisor of this engine.
    fn supervises(&self, pid: u32) -> bool {
        let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.contains("containerd-shim") && arguments.contains(&*self.folder.to_string_lossy())
    }

    /// Everything mounted below its folder, deepest first.
    fn mounts(&self) -> Vec<PathBuf> {
        let all = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = all.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        let mut mounts: Vec<PathBuf> = points.filter(|point| point.starts_with(&self.folder)).collect();
        mounts.sort_by_key(|point| Reverse(point.components().count()));
        mounts
    }
}

/// Waits for a process' end; whether it came in time.
fn ends(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return true };
    let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
    let limit = Timespec::try_from(LIMIT).unwrap_or_default();
    poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&limit)).is_ok_and(|ended| ended > 0)
}

fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

fn launch(folder: &Path) -> Result<Child, String> {
    // A dockerd that was killed leaves pid files, and the next one would wait for whatever has those numbers.
    let _ = fs::remove_file(folder.join("docker.pid"));
    let _ = fs::remove_file(folder.join(CONTAINERD_PID));
    let path = |name: &str| folder.join(name).display().to_string();
    let log = File::options().create(true).append(true).open(path("dockerd.log")).unwrap();
    Command::new("dockerd")
        .arg(format!("--data-root={}", path("data")))
        .arg(format!("--exec-root={}", path("exec")))
        .arg(format!("--pidfile={}", path("docker.pid")))
        .arg(format!("--host=unix://{}", path("docker.sock")))
        .arg(format!("--config-file={}", path("daemon.json")))
        // The machine's firewall and networks belong to other engines.
        .args(["--bridge=none", "--iptables=false"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .map_err(|error| format!("dockerd cannot be started: {error}"))
}

fn send(signal: Signal, pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}
