//! The suite over the Docker engine, and what only that engine promises.
//!
//! `MUSTER_TEST_DOCKER` is the path of an engine's socket, from `tests/setup/docker.sh`; its images are those of
//! `tests/setup/images.sh`.

use crate::suite::{Fixture, Need};
use bollard::Docker;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, RemoveContainerOptionsBuilder,
};
use futures_util::future::BoxFuture;
use muster_domain::id::{ClusterName, JobId, NodeName};
use muster_worker::engine::Engine;
use muster_worker::engine::docker::{DockerEngine, DockerSettings, NetworkMode, PullPolicy};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

engine_suite!(docker);

struct DockerFixture {
    settings: DockerSettings,
    engine: DockerEngine,
    _folder: tempfile::TempDir,
}

async fn docker() -> Result<DockerFixture, String> {
    let socket = std::env::var("MUSTER_TEST_DOCKER")
        .map_err(|_| "MUSTER_TEST_DOCKER names no engine's socket; see tests/setup/docker.sh".to_owned())?;
    fixture_at(socket, None).await
}

async fn fixture_at(socket: String, network: Option<NetworkMode>) -> Result<DockerFixture, String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Tests run at the same time: each has a cluster of its own.
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let cluster = ClusterName::new(format!("test-{}-{number}", std::process::id())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut settings = DockerSettings::new(
        folder.path().join("state"),
        folder.path().join("work"),
        cluster,
        NodeName::new("node-a").unwrap(),
    );
    settings.socket = Some(socket);
    if let Some(network) = network {
        settings.network = network;
    }
    settings.pull = PullPolicy::Never;
    settings.log_limit_bytes = 1 << 20;
    settings.pids_limit = 64;
    let engine = DockerEngine::connect(settings.clone()).await.map_err(|error| error.to_string())?;
    Ok(DockerFixture { settings, engine, _folder: folder })
}

impl DockerFixture {
    /// Another worker on the same engine.
    async fn other_node(&self, name: &str) -> DockerEngine {
        let mut settings = self.settings.clone();
        settings.node = NodeName::new(name).unwrap();
        settings.state_dir = self.settings.state_dir.with_file_name(format!("state-{name}"));
        DockerEngine::connect(settings).await.unwrap()
    }

    /// Fails if there is no socket.
    fn connect(&self) -> Result<Docker, bollard::errors::Error> {
        Docker::connect_with_unix(self.settings.socket.as_deref().unwrap(), 60, bollard::API_DEFAULT_VERSION)
    }

    fn client(&self) -> Docker {
        self.connect().unwrap()
    }

    fn network_name(&self, job: &JobId) -> String {
        format!("muster-{}-{job}", self.settings.cluster)
    }

    async fn inspect(&self, job: &JobId, rank: u32) -> ContainerInspectResponse {
        let name = format!("muster-{}-{job}-{rank}-1", self.settings.cluster);
        self.client().inspect_container(&name, None).await.unwrap()
    }

    async fn has_network(&self, job: &JobId) -> bool {
        self.client().inspect_network(&self.network_name(job), None).await.is_ok()
    }
}

impl Fixture for DockerFixture {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(self.engine.clone())
    }

    fn restarted(&self) -> BoxFuture<'_, Arc<dyn Engine>> {
        Box::pin(async { Arc::new(DockerEngine::connect(self.settings.clone()).await.unwrap()) as Arc<dyn Engine> })
    }

    fn image(&self) -> String {
        "muster/busybox:1".to_owned()
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

    fn lacks(&self, _need: Need) -> Option<String> {
        None
    }
}

/// Whatever a failed check left behind goes with its cluster.
impl Drop for DockerFixture {
    fn drop(&mut self) {
        // An engine that has gone left nothing that could be removed through it.
        let Ok(client) = self.connect() else { return };
        let cluster = self.settings.cluster.to_string();
        let clean = async move {
            let label = HashMap::from([("label".to_owned(), vec![format!("muster.cluster={cluster}")])]);
            let all = ListContainersOptionsBuilder::new().all(true).filters(&label).build();
            for container in client.list_containers(Some(all)).await.unwrap_or_default() {
                let force = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
                let _ = client.remove_container(&container.id.unwrap_or_default(), Some(force)).await;
            }
            let all = ListNetworksOptionsBuilder::new().filters(&label).build();
            for network in client.list_networks(Some(all)).await.unwrap_or_default() {
                let _ = client.remove_network(&network.id.unwrap_or_default()).await;
            }
        };
        let clean = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(clean);
        });
        let _ = clean.join();
    }
}

/// Checks of the Docker engine alone; each is left out loudly where there is no engine.
macro_rules! docker_checks {
    ($($check:ident)*) => { mod checks { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $check() {
            match crate::docker::docker().await {
                Ok(fixture) => tokio::time::timeout(std::time::Duration::from_secs(120), super::$check(&fixture))
                    .await
                    .expect("the check hangs"),
                Err(why) => crate::suite::not_run("docker", stringify!($check), &why),
            }
        }
    )* } };
}

mod container;
mod dockerd;
mod network;
mod restart;
