//! A site: everything of one Muster, started, watched, broken and stopped.

use super::cluster::Place;
use super::files::{product, products, site_number, write_coordinator, write_workers};
use super::{Balancer, EtcdCluster, EtcdOptions, Process, RankSource, SiteOptions, StoreOptions, WorkerOptions};
use super::{binary, etcd_binaries};
use crate::core::{Core, CoreOptions};
use anyhow::{Context, bail};
use muster_domain::view::ClusterView;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// Everything of one Muster on this machine.
pub struct Site {
    /// The stand-in Core.
    pub core: Core,
    /// The coordinators' processes that run, by name.
    pub coordinators: BTreeMap<String, Process>,
    /// The workers' processes that run, by node name.
    pub workers: BTreeMap<String, Process>,
    /// The etcd cluster, if the state is kept there.
    pub etcd: Option<EtcdCluster>,
    pub(super) options: SiteOptions,
    pub(super) places: BTreeMap<String, Place>,
    /// Coordinators that were stopped by SIGSTOP: they answer nothing.
    pub(super) paused: BTreeSet<String>,
    pub(super) client: reqwest::Client,
    balancer: Option<Balancer>,
    number: u32,
    folder: TempDir,
}

/// How long a process may take to start and say so. Generous: tests run beside builds.
pub(super) const START_LIMIT: Duration = Duration::from_secs(120);
/// How long what runs may take to end, and then each process to stop.
const STOP_LIMIT: Duration = Duration::from_secs(120);

impl Site {
    /// Starts Core, etcd, the coordinators and all workers, and waits until every worker is online.
    ///
    /// # Errors
    /// Something does not start; the message has the end of its log.
    pub async fn start(options: SiteOptions) -> anyhow::Result<Self> {
        muster_runtime::tls::install_provider();
        let folder = tempfile::Builder::new().prefix("muster-site-").tempdir()?;
        let etcd = start_etcd(options.store, &folder.path().join("etcd")).await?;
        let endpoints = etcd.as_ref().map(EtcdCluster::endpoints).unwrap_or_default();
        let mut places = BTreeMap::new();
        for name in options.coordinator_names() {
            places.insert(name, Place::new(&endpoints, options.proxied).await?);
        }
        let balancer = match places.len() {
            1 => None,
            _ => Some(Balancer::start(places.values().map(Place::backend).collect()).await?),
        };
        let keys = folder.path().join("core");
        let only = places.values().next().map(Place::http_url).unwrap_or_default();
        let core = Core::start(CoreOptions {
            provider_url: balancer.as_ref().map_or(only, Balancer::url),
            state_dir: Some(keys.clone()),
            products: products().iter().map(|(id, cores, gib)| product(id, *cores, *gib)).collect(),
            ..options.core.clone()
        })
        .await?;
        let number = site_number();
        for (name, place) in &places {
            write_coordinator(folder.path(), &options, number, &core.url(), &keys, (name, place))?;
        }
        let fleet: Vec<String> = places.values().map(Place::fleet_url).collect();
        write_workers(folder.path(), &options, number, &fleet)?;
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
        let mut site = Self {
            core,
            coordinators: BTreeMap::new(),
            workers: BTreeMap::new(),
            etcd,
            options,
            places,
            paused: BTreeSet::new(),
            client,
            balancer,
            number,
            folder,
        };
        site.start_all_coordinators().await?;
        for name in site.worker_names() {
            site.start_worker(&name)?;
        }
        site.wait_for_nodes(site.options.workers.len()).await?;
        if let Some(balancer) = &site.balancer {
            balancer.all_are_well().await;
        }
        Ok(site)
    }

    /// Base URL of the UCloud side, as Core knows it: of the load balancer if there are several coordinators.
    #[must_use]
    pub fn provider_url(&self) -> String {
        let only = || self.places.values().next().map(Place::http_url).unwrap_or_default();
        self.balancer.as_ref().map_or_else(only, Balancer::url)
    }

    /// The folder that holds everything of this site.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves the folder behind, for whoever wants to know why something went wrong. Answers where it is.
    pub fn keep_folder(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }

    /// Where the jobs of all workers have their folders (`/work` of a rank).
    #[must_use]
    pub fn work_folder(&self, job: &str) -> PathBuf {
        self.folder.path().join("work").join(job)
    }

    /// The cluster's name, in every label and at the head of every key.
    #[must_use]
    pub fn cluster_name(&self) -> String {
        super::files::cluster_name(self.number)
    }

    /// Where live ranks can be seen without asking anybody of Muster.
    #[must_use]
    pub fn rank_source(&self) -> RankSource {
        let engine = |worker| (WorkerOptions::clone(worker).name, self.options.engine_of(worker).clone());
        RankSource {
            folder: self.folder.path().to_owned(),
            nodes: self.options.workers.iter().map(engine).collect(),
            cluster: self.cluster_name(),
        }
    }

    /// The names of the workers, running or not.
    #[must_use]
    pub fn worker_names(&self) -> Vec<String> {
        self.options.workers.iter().map(|worker| worker.name.clone()).collect()
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
        if !self.coordinators.is_empty() {
            self.wait_until_settled(STOP_LIMIT).await?;
        }
        for (_, mut worker) in std::mem::take(&mut self.workers) {
            worker.terminate(STOP_LIMIT).await?;
        }
        // All at once: stopped one by one, each would hand the leadership to the next.
        let mut coordinators = std::mem::take(&mut self.coordinators);
        for coordinator in coordinators.values() {
            coordinator.signal(rustix::process::Signal::TERM)?;
        }
        for coordinator in coordinators.values_mut() {
            coordinator.ended(STOP_LIMIT).await?;
        }
        Ok(())
    }
}

async fn start_etcd(store: StoreOptions, folder: &Path) -> anyhow::Result<Option<EtcdCluster>> {
    let StoreOptions::Etcd { members, quota_backend_bytes } = store else { return Ok(None) };
    let options = EtcdOptions { members, quota_backend_bytes, ..EtcdOptions::new(etcd_binaries()?) };
    EtcdCluster::start(options, folder).await.map(Some)
}
