//! A Docker Engine of one test's own, which may be stopped and killed. It has no networks but the node's own.

use bollard::{API_DEFAULT_VERSION, Docker};
use rustix::process::{Pid, Signal, kill_process};
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
    /// Starts one with the tests' images; says why not where this machine cannot have one.
    pub(super) async fn start(live_restore: bool) -> Result<Self, String> {
        std::env::var("MUSTER_TEST_DOCKER").map_err(|_| "MUSTER_TEST_DOCKER is not set: no Docker on this machine")?;
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().canonicalize().unwrap();
        fs::write(folder.join("daemon.json"), format!("{{\"live-restore\": {live_restore}}}\n")).unwrap();
        let child = launch(&folder)?;
        let mut dockerd = Self { folder, child, _folder: temporary };
        dockerd.wait_until_serving().await?;
        let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/setup/images.sh");
        let made = Command::new("sh").arg(images).arg(dockerd.socket()).stderr(Stdio::null()).status();
        if made.is_ok_and(|status| status.success()) { Ok(dockerd) } else { Err("images.sh failed".to_owned()) }
    }

    pub(super) fn socket(&self) -> String {
        self.folder.join("docker.sock").display().to_string()
    }

    /// Ends it by a signal, and returns when it has ended. Its containerd ends with it, however that comes: it asked the
    /// kernel to be killed when its parent dies. The ranks' own supervisors live on.
    pub(super) async fn end(&mut self, signal: Signal) {
        send(signal, self.child.id());
        self.child.wait().unwrap();
        let deadline = Instant::now() + LIMIT;
        while self.containerd().is_some() {
            assert!(Instant::now() < deadline, "containerd lives on without its dockerd");
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
            if self.child.try_wait().unwrap().is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(self.folder.join("dockerd.log")).unwrap_or_default();
                return Err(format!("no dockerd can be had here: {}", log.lines().last().unwrap_or_default()));
            }
            // It tells nobody when it begins to serve; it is asked often.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            send(Signal::TERM, self.child.id());
            let _ = self.child.wait();
        }
        // dockerd leaves its network namespace mounted, and one that was killed its data over itself; a folder with a mount
        // in it cannot be removed.
        for mounted in ["exec/netns/default", "data"] {
            let unmount = || Command::new("umount").arg(self.folder.join(mounted)).stderr(Stdio::null()).status();
            while unmount().is_ok_and(|status| status.success()) {}
        }
    }
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
