//! A site: everything of one Muster, started, watched, broken and stopped.

use super::files::{product, products, site_number, write_coordinator, write_workers};
use super::{Engine, Process, binary, free_port};
use crate::core::{Core, CoreOptions};
use anyhow::{Context, bail};
use muster_domain::view::{ClusterView, JobStory, JobView, NodeView};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// One worker of a site.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Its node name.
    pub name: String,
    /// Cores it offers, whatever the machine has.
    pub cores: u32,
    /// GiB it offers, whatever the machine has.
    pub memory_gib: u32,
}

/// How a site is set up.
#[derive(Clone, Debug)]
pub struct SiteOptions {
    /// What runs the ranks.
    pub engine: Engine,
    /// The workers.
    pub workers: Vec<WorkerOptions>,
    /// Length of a charge window, in milliseconds.
    pub window_ms: u64,
    /// More keys of the coordinator, as variables: `("MUSTER_TIMEOUTS_LOST_AFTER_MS", "5000")`.
    pub coordinator: Vec<(String, String)>,
    /// More keys of every worker, as variables.
    pub worker: Vec<(String, String)>,
    /// Options of the stand-in Core; address, keys and products are filled in.
    pub core: CoreOptions,
}

impl SiteOptions {
    /// Workers of 8 cores named `node-1`, `node-2`, …; windows of one minute.
    #[must_use]
    pub fn new(engine: Engine, workers: usize) -> Self {
        let worker = |number| WorkerOptions { name: format!("node-{number}"), cores: 8, memory_gib: 32 };
        Self {
            engine,
            workers: (1..=workers).map(worker).collect(),
            window_ms: 60_000,
            coordinator: Vec::new(),
            worker: Vec::new(),
            core: CoreOptions::new("example", "http://127.0.0.1:1"),
        }
    }

    /// One more key of the coordinator.
    #[must_use]
    pub fn coordinator(mut self, variable: &str, value: &str) -> Self {
        self.coordinator.push((variable.to_owned(), value.to_owned()));
        self
    }

    /// One more key of every worker.
    #[must_use]
    pub fn worker(mut self, variable: &str, value: &str) -> Self {
        self.worker.push((variable.to_owned(), value.to_owned()));
        self
    }
}

/// Everything of one Muster on this machine.
pub struct Site {
    /// The stand-in Core.
    pub core: Core,
    /// The coordinator's process, while it runs.
    pub coordinator: Option<Process>,
    /// The workers' processes that run, by node name.
    pub workers: BTreeMap<String, Process>,
    options: SiteOptions,
    folder: TempDir,
    http: u16,
    operator: u16,
    client: reqwest::Client,
}

/// How long a process may take to start and say so. Generous: tests run beside builds.
const START_LIMIT: Duration = Duration::from_secs(60);

impl Site {
    /// Starts Core, the coordinator and all workers, and waits until every worker is online.
    ///
    /// # Errors
    /// Something does not start; the message has the end of its log.
    pub async fn start(options: SiteOptions) -> anyhow::Result<Self> {
        muster_runtime::tls::install_provider();
        let folder = tempfile::Builder::new().prefix("muster-site-").tempdir()?;
        let (http, operator, fleet) = (free_port(), free_port(), free_port());
        let keys = folder.path().join("core");
        let core = Core::start(CoreOptions {
            provider_url: format!("http://127.0.0.1:{http}"),
            state_dir: Some(keys.clone()),
            products: products().iter().map(|(id, cores, gib)| product(id, *cores, *gib)).collect(),
            ..options.core.clone()
        })
        .await?;
        let number = site_number();
        write_coordinator(folder.path(), &options, number, &core.url(), &keys, [http, operator, fleet])?;
        write_workers(folder.path(), &options, number, fleet)?;
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
        let (coordinator, workers) = (None, BTreeMap::new());
        let mut site = Self { core, coordinator, workers, options, folder, http, operator, client };
        site.start_coordinator(&[]).await?;
        for name in site.worker_names() {
            site.start_worker(&name)?;
        }
        site.wait_for_nodes(site.options.workers.len()).await?;
        Ok(site)
    }

    /// Base URL of the UCloud side.
    #[must_use]
    pub fn provider_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// Base URL of the operators' side.
    #[must_use]
    pub fn operator_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.operator)
    }

    /// The folder that holds everything of this site.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the jobs of all workers have their folders (`/work` of a rank).
    #[must_use]
    pub fn work_folder(&self, job: &str) -> PathBuf {
        self.folder.path().join("work").join(job)
    }

    /// The names of the workers, running or not.
    #[must_use]
    pub fn worker_names(&self) -> Vec<String> {
        self.options.workers.iter().map(|worker| worker.name.clone()).collect()
    }

    /// Starts the coordinator and waits until it is ready.
    ///
    /// # Errors
    /// It ends instead, or is not ready in time.
    pub async fn start_coordinator(&mut self, environment: &[(String, String)]) -> anyhow::Result<()> {
        self.launch_coordinator(environment)?;
        let ready = format!("{}/ready", self.operator_url());
        let deadline = tokio::time::Instant::now() + START_LIMIT;
        loop {
            if self.client.get(&ready).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            let process = self.coordinator.as_mut().context("the coordinator was launched")?;
            if !process.is_running() || tokio::time::Instant::now() > deadline {
                bail!("the coordinator is not ready; its log ends:\n{}", process.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts the coordinator and waits for nothing: it may be meant to die at once.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn launch_coordinator(&mut self, environment: &[(String, String)]) -> anyhow::Result<()> {
        let environment: Vec<_> = self.options.coordinator.iter().chain(environment).cloned().collect();
        let config = self.folder.path().join("coordinator.toml");
        let log = self.folder.path().join("coordinator.log");
        let arguments = [Path::new("--config"), &config];
        let program = binary("muster-coordinator")?;
        self.coordinator = Some(Process::start("muster-coordinator", &program, arguments, &environment, &log)?);
        Ok(())
    }

    /// kill -9 of the coordinator.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill_coordinator(&mut self) -> anyhow::Result<()> {
        self.coordinator.take().context("the coordinator runs")?.kill().await
    }

    /// Starts a worker.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn start_worker(&mut self, name: &str) -> anyhow::Result<()> {
        let config = self.folder.path().join(format!("{name}.toml"));
        let log = self.folder.path().join(format!("{name}.log"));
        let arguments = [Path::new("--config"), &config];
        let process = Process::start(name, &binary("muster-worker")?, arguments, &self.options.worker, &log)?;
        self.workers.insert(name.to_owned(), process);
        Ok(())
    }

    /// kill -9 of a worker's agent; its ranks live on.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill_worker(&mut self, name: &str) -> anyhow::Result<()> {
        self.workers.remove(name).context("the worker runs")?.kill().await
    }

    /// Waits until so many workers are online.
    ///
    /// # Errors
    /// They are not, in time.
    pub async fn wait_for_nodes(&mut self, count: usize) -> anyhow::Result<()> {
        let found = self
            .wait_for_operator("/v1/cluster", |cluster: &ClusterView| cluster.nodes_online == count, START_LIMIT)
            .await;
        if let Err(error) = found {
            let logs: Vec<String> = self.workers.values().map(Process::log_tail).collect();
            bail!("{count} workers should be online: {error:#}\n{}", logs.join("\n---\n"));
        }
        Ok(())
    }

    /// Asks the operators' API.
    ///
    /// # Errors
    /// It does not answer, or not with what was expected.
    pub async fn operator<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let answer = self.client.get(format!("{}{path}", self.operator_url())).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// Asks the operators' API until the answer is as wanted.
    ///
    /// # Errors
    /// It is not, in time; the message has the last answer.
    pub async fn wait_for_operator<T: DeserializeOwned + std::fmt::Debug>(
        &self,
        path: &str,
        wanted: impl Fn(&T) -> bool,
        limit: Duration,
    ) -> anyhow::Result<T> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let answer = self.operator::<T>(path).await;
            match answer {
                Ok(value) if wanted(&value) => return Ok(value),
                answer if tokio::time::Instant::now() > deadline => {
                    bail!("{path} is not as wanted in {limit:?}: {answer:?}")
                }
                // The operators' API has no stream of changes; it is asked often.
                _ => tokio::time::sleep(Duration::from_millis(30)).await,
            }
        }
    }

    /// A job's whole story, as `muster job ID` gets it.
    ///
    /// # Errors
    /// The coordinator does not answer, or does not know the job.
    pub async fn story(&self, job: &str) -> anyhow::Result<JobStory> {
        self.operator(&format!("/v1/jobs/{job}")).await
    }

    /// Waits until the coordinator sees a job in this state.
    ///
    /// # Errors
    /// It does not, in time.
    pub async fn wait_for_state(&self, job: &str, state: &str, limit: Duration) -> anyhow::Result<JobStory> {
        let path = format!("/v1/jobs/{job}");
        self.wait_for_operator(&path, |story: &JobStory| story.job.state == state, limit).await
    }

    /// Waits until nothing is owed to Core, no job holds room, and every job Core knows is final.
    ///
    /// # Errors
    /// It is not so in time; the message has what is left.
    pub async fn wait_until_settled(&self, limit: Duration) -> anyhow::Result<()> {
        let settled =
            |cluster: &ClusterView| cluster.owed_to_core == 0 && cluster.jobs_active + cluster.jobs_waiting == 0;
        let cluster = self.wait_for_operator("/v1/cluster", settled, limit).await;
        if let Err(error) = cluster {
            let jobs: Vec<JobView> = self.operator("/v1/jobs").await.unwrap_or_default();
            bail!("{error:#}\nopen jobs: {:?}", jobs.iter().filter(|job| job.state != "ended").collect::<Vec<_>>());
        }
        let freed = |nodes: &Vec<NodeView>| nodes.iter().all(|node| node.ranks.is_empty());
        self.wait_for_operator("/v1/nodes", freed, limit).await?;
        Ok(())
    }

    /// Runs `muster` with these arguments and gives what it printed.
    ///
    /// # Errors
    /// It fails; the message has its complaint.
    pub async fn muster(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = tokio::process::Command::new(binary("muster")?)
            .args(["--url", &self.operator_url()])
            .args(arguments)
            .output()
            .await?;
        if !output.status.success() {
            bail!("muster {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Ends what still runs, then the processes. Sites that are only dropped leave their ranks to their own end.
    ///
    /// # Errors
    /// Something does not end in time.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let open: Vec<String> =
            self.core.jobs().into_iter().filter(|job| !job.state.is_final()).map(|job| job.id).collect();
        for job in &open {
            self.core.terminate(job).await.ok();
        }
        if self.coordinator.is_some() {
            self.wait_until_settled(Duration::from_secs(60)).await?;
        }
        for (_, mut worker) in std::mem::take(&mut self.workers) {
            worker.terminate(Duration::from_secs(20)).await?;
        }
        if let Some(mut coordinator) = self.coordinator.take() {
            coordinator.terminate(Duration::from_secs(20)).await?;
        }
        Ok(())
    }
}
