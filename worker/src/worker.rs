//! The agent as a whole.

use crate::calls::Calls;
use crate::driver::{Driver, Identity};
use crate::engine::Engine;
use crate::health::{self, Health};
use crate::journal::{Journal, JournalError};
use crate::link::{Coordinator, JoinSecret, Link};
use muster_domain::agent::AgentSettings;
use muster_domain::id::NodeName;
use muster_domain::resources::Resources;
use muster_runtime::secret::Secret;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Messages of the coordinator that wait for the driver.
const QUEUED_INPUTS: usize = 64;

/// What an agent needs to know; see [`crate::config::Config`] for where it comes from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node's name; no two nodes share one.
    pub node: NodeName,
    /// Addresses of coordinators, tried in turn; at least one.
    pub coordinators: Vec<String>,
    /// What the worker must present to join.
    pub join_secret: Option<Secret>,
    /// The authority of `https` addresses, PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// Where the journal is kept. No two agents share it.
    pub state_dir: PathBuf,
    /// What jobs may use.
    pub capacity: Resources,
    /// Product categories this node serves; empty means all.
    pub categories: Vec<String>,
    /// The operator's labels.
    pub labels: BTreeMap<String, String>,
    /// Time between two complete reports.
    pub heartbeat: Duration,
    /// A stream on which the coordinator says nothing for this long is given up; it answers every heartbeat.
    pub silence: Duration,
    /// Time between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// How long preparing or starting a rank is tried while the engine does not answer.
    pub engine_patience: Duration,
}

/// Why an agent cannot start. Messages are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum CannotStart {
    /// The state directory cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// An address of a coordinator cannot be used.
    #[error("coordinator {url:?} cannot be used: expected http://host:port, or https://host:port with fleet.ca_file")]
    Address {
        /// The address.
        url: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// There is no address.
    #[error("no coordinator is configured: set coordinators to a list such as [\"http://10.0.0.1:8472\"]")]
    NoAddress,
    /// The secret holds characters that no header can.
    #[error("the join secret cannot be sent: expected printable ASCII on one line in fleet.token_file")]
    Secret,
    /// The kernel does not say which boot this is.
    #[error("cannot read /proc/sys/kernel/random/boot_id: /proc must be mounted")]
    BootId(#[source] std::io::Error),
}

/// One agent, ready to run.
pub struct Worker {
    settings: Settings,
    journal: Journal,
    coordinators: Vec<Arc<Coordinator>>,
    boot_id: String,
}

impl Worker {
    /// Checks the settings and takes the state directory. Comes before the engine is made, which may tidy up in there.
    ///
    /// # Errors
    /// Something an operator must put right; nothing was started.
    pub fn new(settings: Settings) -> Result<Self, CannotStart> {
        let secret = match &settings.join_secret {
            Some(secret) => Some(JoinSecret::new(secret).ok_or(CannotStart::Secret)?),
            None => None,
        };
        let ca_pem: Option<Arc<[u8]>> = settings.ca_pem.as_deref().map(Arc::from);
        let coordinator = |url: &String| {
            Coordinator::new(url, ca_pem.clone(), secret.clone())
                .map(Arc::new)
                .map_err(|source| CannotStart::Address { url: url.clone(), source })
        };
        let coordinators = settings.coordinators.iter().map(coordinator).collect::<Result<Vec<_>, _>>()?;
        if coordinators.is_empty() {
            return Err(CannotStart::NoAddress);
        }
        let boot_id = crate::boot::id().map_err(CannotStart::BootId)?;
        let journal = Journal::open(&settings.state_dir)?;
        Ok(Self { settings, journal, coordinators, boot_id })
    }

    /// Adopts what runs on this node, then serves coordinators until `stop`. Ranks are left as they are in the end.
    pub async fn run(self, engine: Arc<dyn Engine>, stop: CancellationToken) {
        let Self { settings, journal, coordinators, boot_id } = self;
        let (info, found) = tokio::select! {
            answers = health::first_answers(engine.as_ref()) => answers,
            () = stop.cancelled() => return,
        };
        tracing::info!(
            node = %settings.node, engine = info.name, version = info.version, zone = info.network_zone,
            capacity = %settings.capacity, "worker starts"
        );
        for warning in &info.warnings {
            tracing::warn!(engine = info.name, "{warning}");
        }
        let identity = Identity {
            node: settings.node,
            boot_id,
            capacity: settings.capacity,
            categories: settings.categories,
            labels: settings.labels,
        };
        let (health, seen) = watch::channel(Health { ok: true, info });
        let calls = Calls::new(Arc::clone(&engine), settings.engine_patience);
        let agent = AgentSettings { grace_ms: u64::try_from(settings.grace.as_millis()).unwrap_or(u64::MAX) };
        let mut driver = Driver::new(agent, identity, journal, calls, seen, settings.heartbeat);
        driver.adopt(found);
        let (inputs, queue) = mpsc::channel(QUEUED_INPUTS);
        let link = Link { coordinators, silence: settings.silence, engine: Arc::clone(&engine), inputs };
        // The last two never end; the driver ends when it is told to.
        tokio::select! {
            () = driver.run(queue, stop) => {}
            () = link.run() => {}
            () = health::watch(engine, health) => {}
        }
    }
}
