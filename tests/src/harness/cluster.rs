//! The coordinators of a site: started, killed, paused, asked who leads.

use super::balancer::Backend;
use super::site::START_LIMIT;
use super::{FaultProxy, Process, Site, binary, free_port};
use anyhow::{Context, bail};
use futures_util::future::join_all;
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::time::Instant;

/// How long a coordinator may take to say who leads; one that does not is taken for one that does not lead.
const HEALTH_LIMIT: Duration = Duration::from_millis(500);
/// How often the coordinators are asked when somebody waits for a leader. Nobody tells when one is elected.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// Where one coordinator listens, and what lies between it and the others.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) http: u16,
    pub(super) operator: u16,
    pub(super) fleet: u16,
    /// What it is told of etcd.
    pub(super) store_endpoints: Vec<String>,
    pub(super) links: Option<Links>,
}

/// The proxies around one coordinator.
#[derive(Debug)]
pub struct Links {
    /// From it to each etcd member, in their order.
    pub store: Vec<FaultProxy>,
    /// In front of its fleet listener: from all workers to it.
    pub fleet: FaultProxy,
}

impl Place {
    /// New ports, and proxies if asked for.
    pub(super) async fn new(store_endpoints: &[String], proxied: bool) -> anyhow::Result<Self> {
        let (http, operator, fleet) = (free_port(), free_port(), free_port());
        let mut place = Self { http, operator, fleet, store_endpoints: store_endpoints.to_vec(), links: None };
        if proxied {
            let mut store = Vec::new();
            for endpoint in store_endpoints {
                let target = endpoint.trim_start_matches("http://").parse().with_context(|| endpoint.clone())?;
                store.push(FaultProxy::start(target).await?);
            }
            place.store_endpoints = store.iter().map(|proxy| format!("http://{}", proxy.address())).collect();
            let fleet = FaultProxy::start(SocketAddr::from(([127, 0, 0, 1], fleet))).await?;
            place.links = Some(Links { store, fleet });
        }
        Ok(place)
    }

    pub(super) fn http_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    pub(super) fn operator_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.operator)
    }

    /// What workers dial.
    pub(super) fn fleet_url(&self) -> String {
        let listener = SocketAddr::from(([127, 0, 0, 1], self.fleet));
        format!("http://{}", self.links.as_ref().map_or(listener, |links| links.fleet.address()))
    }

    pub(super) fn backend(&self) -> Backend {
        Backend {
            address: SocketAddr::from(([127, 0, 0, 1], self.http)),
            health_url: format!("{}/health", self.operator_url()),
        }
    }
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leader {
    /// Its term: the higher one is the present one.
    pub term: u64,
    /// Its name.
    pub name: String,
}

/// What `/health` tells.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Health {
    #[serde(default)]
    pub(super) role: String,
    #[serde(default)]
    term: Value,
}

impl Health {
    /// The term in which this one says to lead.
    pub(super) fn leads_in(&self) -> Option<u64> {
        (self.role == "leader").then(|| self.term.as_u64().unwrap_or(0))
    }
}

/// Asks one coordinator; `None` if it does not answer in time.
pub(super) async fn health(client: &reqwest::Client, url: &str) -> Option<Health> {
    let asked = async { client.get(url).send().await.ok()?.json::<Health>().await.ok() };
    tokio::time::timeout(HEALTH_LIMIT, asked).await.ok().flatten()
}

impl Site {
    /// The names of the coordinators, running or not.
    #[must_use]
    pub fn coordinator_names(&self) -> Vec<String> {
        self.places.keys().cloned().collect()
    }

    /// The proxies around a coordinator; the site must have been asked for them.
    ///
    /// # Errors
    /// There are none.
    pub fn links(&self, name: &str) -> anyhow::Result<&Links> {
        let place = self.places.get(name).with_context(|| format!("there is no coordinator {name}"))?;
        place.links.as_ref().context("the site has no proxies: set SiteOptions.proxied")
    }

    /// Base URL of one coordinator's own UCloud side, past the load balancer.
    #[must_use]
    pub fn http_url_of(&self, name: &str) -> String {
        self.places.get(name).map(Place::http_url).unwrap_or_default()
    }

    /// Base URL of one coordinator's operators' side.
    #[must_use]
    pub fn operator_url_of(&self, name: &str) -> String {
        self.places.get(name).map(Place::operator_url).unwrap_or_default()
    }

    pub(super) async fn start_all_coordinators(&mut self) -> anyhow::Result<()> {
        for name in self.coordinator_names() {
            self.launch_named(&name, &[])?;
        }
        for name in self.coordinator_names() {
            self.wait_until_ready(&name).await?;
        }
        if self.places.len() > 1 {
            self.wait_for_leader(None, START_LIMIT).await?;
        }
        Ok(())
    }

    /// Starts a coordinator and waits until it is ready.
    ///
    /// # Errors
    /// It ends instead, or is not ready in time.
    pub async fn start_named(&mut self, name: &str) -> anyhow::Result<()> {
        self.launch_named(name, &[])?;
        self.wait_until_ready(name).await
    }

    /// Starts a coordinator and waits for nothing: it may be meant to die at once.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn launch_named(&mut self, name: &str, environment: &[(String, String)]) -> anyhow::Result<()> {
        let log = self.folder().join(format!("{name}.log"));
        let process = self.coordinator_process(name, environment, &log)?;
        self.coordinators.insert(name.to_owned(), process);
        Ok(())
    }

    /// A further process with a coordinator's configuration, beside the one that may run.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn coordinator_process(
        &self,
        name: &str,
        environment: &[(String, String)],
        log: &Path,
    ) -> anyhow::Result<Process> {
        let environment: Vec<_> = self.options.coordinator.iter().chain(environment).cloned().collect();
        let config = self.folder().join(format!("{name}.toml"));
        Process::start(name, &binary("muster-coordinator")?, [Path::new("--config"), &config], &environment, log)
    }

    async fn wait_until_ready(&mut self, name: &str) -> anyhow::Result<()> {
        let ready = format!("{}/ready", self.operator_url_of(name));
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if self.client.get(&ready).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            let process = self.coordinators.get_mut(name).with_context(|| format!("{name} was launched"))?;
            if !process.is_running() || Instant::now() > deadline {
                bail!("{name} is not ready; its log ends:\n{}", process.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// kill -9 of a coordinator, paused or not.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill_named(&mut self, name: &str) -> anyhow::Result<()> {
        self.paused.remove(name);
        self.coordinators.remove(name).with_context(|| format!("{name} runs"))?.kill().await
    }

    /// SIGTERM of a coordinator, and waits for its end.
    ///
    /// # Errors
    /// It does not run, or does not end in time.
    pub async fn terminate_named(&mut self, name: &str, limit: Duration) -> anyhow::Result<ExitStatus> {
        self.coordinators.remove(name).with_context(|| format!("{name} runs"))?.terminate(limit).await
    }

    /// SIGSTOP of a coordinator: its listeners take connections, and nothing answers.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&mut self, name: &str) -> anyhow::Result<()> {
        self.coordinators.get(name).with_context(|| format!("{name} runs"))?.signal(Signal::STOP)?;
        self.paused.insert(name.to_owned());
        Ok(())
    }

    /// SIGCONT of a coordinator.
    ///
    /// # Errors
    /// It does not run.
    pub fn resume(&mut self, name: &str) -> anyhow::Result<()> {
        self.coordinators.get(name).with_context(|| format!("{name} runs"))?.signal(Signal::CONT)?;
        self.paused.remove(name);
        Ok(())
    }

    /// The coordinators that run and are not paused, by name, with the URL of their operators' side.
    pub(super) fn answering(&self) -> Vec<(String, String)> {
        let runs = |name: &&String| self.coordinators.contains_key(*name) && !self.paused.contains(*name);
        self.places.keys().filter(runs).map(|name| (name.clone(), self.operator_url_of(name))).collect()
    }

    /// Who says that it leads; of several, the one with the highest term.
    pub async fn leader(&self) -> Option<Leader> {
        let asked = self.answering().into_iter().map(|(name, url)| async move {
            let term = health(&self.client, &format!("{url}/health")).await?.leads_in()?;
            Some(Leader { term, name })
        });
        join_all(asked).await.into_iter().flatten().max()
    }

    /// Waits until one leads; with `not`, one of another name or of a later term.
    ///
    /// # Errors
    /// Nobody does in time; the message has the ends of the logs.
    pub async fn wait_for_leader(&self, not: Option<&Leader>, limit: Duration) -> anyhow::Result<Leader> {
        let deadline = Instant::now() + limit;
        loop {
            match self.leader().await {
                Some(leader) if not != Some(&leader) => return Ok(leader),
                _ if Instant::now() > deadline => {
                    let logs: Vec<String> =
                        self.coordinators.iter().map(|(name, it)| format!("{name}:\n{}", it.log_tail())).collect();
                    bail!("nobody leads{} after {limit:?}\n{}", not.map_or("", |_| " anew"), logs.join("\n---\n"))
                }
                _ => tokio::time::sleep(ASK_EVERY).await,
            }
        }
    }

    /// kill -9 of the leader. Answers who it was.
    ///
    /// # Errors
    /// Nobody leads.
    pub async fn kill_leader(&mut self) -> anyhow::Result<Leader> {
        let leader = self.wait_for_leader(None, START_LIMIT).await?;
        self.kill_named(&leader.name).await?;
        Ok(leader)
    }

    /// Where each coordinator's health is asked, by name.
    pub(super) fn health_urls(&self) -> Vec<(String, String)> {
        self.places.iter().map(|(name, place)| (name.clone(), place.backend().health_url)).collect()
    }
}

/// A site with one coordinator.
impl Site {
    fn only(&self) -> String {
        self.places.keys().next().cloned().unwrap_or_default()
    }

    /// Starts the only coordinator and waits until it is ready.
    ///
    /// # Errors
    /// It ends instead, or is not ready in time.
    pub async fn start_coordinator(&mut self, environment: &[(String, String)]) -> anyhow::Result<()> {
        self.launch_coordinator(environment)?;
        self.wait_until_ready(&self.only()).await
    }

    /// Starts the only coordinator and waits for nothing: it may be meant to die at once.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn launch_coordinator(&mut self, environment: &[(String, String)]) -> anyhow::Result<()> {
        self.launch_named(&self.only(), environment)
    }

    /// kill -9 of the only coordinator.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill_coordinator(&mut self) -> anyhow::Result<()> {
        self.kill_named(&self.only()).await
    }

    /// Takes the only coordinator's process out of the site.
    ///
    /// # Errors
    /// It does not run.
    pub fn take_coordinator(&mut self) -> anyhow::Result<Process> {
        self.coordinators.remove(&self.only()).context("the coordinator runs")
    }
}
