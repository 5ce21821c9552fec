//! A Docker engine of this run's own, which may be stopped and killed. Containers outlive it (`live-restore`), as a site that
//! upgrades its engine would have it.

use crate::harness::{Engine, Process};
use anyhow::{Context, bail, ensure};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long it may take to serve, or to end.
const LIMIT: Duration = Duration::from_secs(90);

pub(super) struct Dockerd {
    folder: PathBuf,
    process: Process,
}

impl Dockerd {
    /// Starts it with all its data under `folder`, and has `images` make what the jobs need there.
    pub(super) async fn start(folder: &Path, images: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        std::fs::write(folder.join("daemon.json"), "{\"live-restore\": true}\n")?;
        let mut dockerd = Self { process: launch(&folder)?, folder };
        dockerd.wait_until_serving().await?;
        let made = tokio::process::Command::new("sh").arg(images).arg(dockerd.socket()).status().await?;
        ensure!(made.success(), "{} could not make the images", images.display());
        Ok(dockerd)
    }

    fn socket(&self) -> String {
        self.folder.join("docker.sock").display().to_string()
    }

    pub(super) fn engine(&self) -> Engine {
        Engine::Docker { socket: self.socket() }
    }

    pub(super) async fn stop_and_start(&mut self, hold: Duration) -> anyhow::Result<String> {
        self.process.terminate(LIMIT).await?;
        self.again(hold).await
    }

    pub(super) async fn kill_and_start(&mut self, hold: Duration) -> anyhow::Result<String> {
        self.process.kill().await?;
        self.again(hold).await
    }

    async fn again(&mut self, hold: Duration) -> anyhow::Result<String> {
        sleep(hold).await;
        self.process = launch(&self.folder)?;
        self.wait_until_serving().await?;
        Ok(format!("away for {} ms", hold.as_millis()))
    }

    pub(super) async fn stop_for_good(mut self) -> anyhow::Result<()> {
        self.process.terminate(LIMIT).await.map(drop)
    }

    async fn answers(&self) -> bool {
        match bollard::Docker::connect_with_unix(&self.socket(), 5, bollard::API_DEFAULT_VERSION) {
            Ok(docker) => docker.ping().await.is_ok(),
            // There is no socket yet.
            Err(_) => false,
        }
    }

    async fn wait_until_serving(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + LIMIT;
        while !self.answers().await {
            if !self.process.is_running() || Instant::now() > deadline {
                bail!("dockerd does not serve; its log ends:\n{}", self.process.log_tail());
            }
            // It tells nobody when it begins to serve; it is asked often.
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}

/// Its containerd dies with it, however that comes; the supervisors of its containers do not.
fn launch(folder: &Path) -> anyhow::Result<Process> {
    // A dockerd that was killed leaves both pid files, and the next one would wait for whatever has these numbers.
    for left in ["docker.pid", "exec/containerd/containerd.pid"] {
        std::fs::remove_file(folder.join(left)).ok();
    }
    let path = |name: &str| folder.join(name).display().to_string();
    let arguments = [
        format!("--data-root={}", path("data")),
        format!("--exec-root={}", path("exec")),
        format!("--pidfile={}", path("docker.pid")),
        format!("--host=unix://{}", path("docker.sock")),
        "--bridge=none".to_owned(),
        format!("--config-file={}", path("daemon.json")),
    ];
    Process::start("dockerd", Path::new("dockerd"), arguments, &[], &folder.join("dockerd.log"))
        .context("start dockerd")
}
