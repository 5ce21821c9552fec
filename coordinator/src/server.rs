//! Puts the parts together: everything that can be wrong is found before a port is announced.

use crate::auth::{AuthSettings, Authenticator, BadKey};
use crate::commit;
use crate::config::Config;
use crate::core::backoff::{Backoff, Recovery};
use crate::core::client::{BadSettings, CoreClient};
use crate::core::delivery::{self, Courier};
use crate::core::outbox::Outbox;
use crate::dispatch::Dispatch;
use crate::driver::{CommitStopped, Driver, QUEUED_DECISIONS, QUEUED_INPUTS};
use crate::election::embedded::SoleLeader;
use crate::election::{Election, Identity};
use crate::fleet::logs::LogRelay;
use crate::fleet::service::{self, Fleet};
use crate::fleet::sessions::Sessions;
use crate::handle::Handle;
use crate::http::{self, App, HttpSettings, Limits};
use crate::metrics::Metrics;
use crate::operator::{self, OperatorApp};
use crate::store::embedded::{Embedded, OpenError};
use crate::store::{Store, StoreError};
use muster_domain::cluster::Cluster;
use muster_domain::id::{BadId, Term};
use muster_runtime::clock::now;
use muster_runtime::secret::{Secret, SecretError};
use muster_runtime::tasks::{TaskKind, Tasks};
use muster_ucloud::v2021::words::Words;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

/// Changed jobs that a slow watcher may be behind before it must look for itself.
const QUEUED_CHANGES: usize = 4096;
/// The largest file with a public key, in bytes.
const MOST_KEY_BYTES: u64 = 64 << 10;

/// Why the coordinator does not start. The message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A name in the configuration.
    #[error(transparent)]
    Name(#[from] BadId),
    /// A file with a secret.
    #[error("{key}: {source}")]
    Secret {
        /// The key that names the file.
        key: &'static str,
        /// What is wrong.
        source: SecretError,
    },
    /// A file with a public key.
    #[error("core.public_key_files: {path} cannot be read: {why}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A public key.
    #[error("core.public_key_files: {0}")]
    Key(#[from] BadKey),
    /// How to reach Core.
    #[error(transparent)]
    Core(#[from] BadSettings),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store cannot be read or led.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An address cannot be listened on.
    #[error("{key}: cannot listen on {address}: {source}")]
    Listen {
        /// The key that names the address.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// Where the coordinator listens; differs from the configuration where that says port 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// UCloud's calls.
    pub http: SocketAddr,
    /// Operators.
    pub operator: SocketAddr,
    /// Workers.
    pub fleet: SocketAddr,
}

/// A coordinator that runs.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub addresses: Addresses,
    /// The leader's term.
    pub term: Term,
    /// Its edges and its core, for tests that look inside.
    pub handle: Handle,
}

/// Files that the configuration names, read.
struct Files {
    join_secret: Option<Secret>,
    operator_token: Option<Secret>,
    keys: Vec<String>,
}

/// Opens, leads, binds and runs. The edges are spawned on `edges`, the driver and what it feeds on `inner`: when a
/// coordinator stops, the edges must have ended before the driver does, so that nobody who was let in goes unanswered.
pub async fn start(config: &Config, edges: &Tasks, inner: &Tasks) -> Result<Running, StartError> {
    let files = Files::read(config)?;
    let auth = Arc::new(Authenticator::new(AuthSettings {
        issuer: config.core.issuer.clone(),
        keys: files.keys,
        max_life_s: config.core.token_life_ms.div_ceil(1000),
        leeway_s: config.core.token_leeway_ms.div_ceil(1000),
    })?);
    let client = CoreClient::new(config.client())?;
    let (settings, catalogue) = (config.settings()?, config.catalogue()?);
    let words = Words { provider: config.provider()? };
    let metrics = Metrics::new();
    let listeners = Listeners::bind(config).await?;

    let path = config.store.path.clone();
    let store = tokio::task::spawn_blocking(move || Embedded::open(&path))
        .await
        .map_err(|error| StoreError::Failed(error.to_string()))??;
    let identity = Identity {
        name: config.cluster.name.clone(),
        http: listeners.addresses.http.to_string(),
        operator: listeners.addresses.operator.to_string(),
        fleet: format!("http://{}", listeners.addresses.fleet),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let leadership = SoleLeader::new(store.clone(), identity).campaign().await?;
    let documents = store.load(leadership.term).await?;
    tracing::info!(term = leadership.term, jobs = documents.jobs.len(), store = %config.store.path.display(), "leading");

    let (inputs, queue) = mpsc::channel(QUEUED_INPUTS);
    let (changes, _) = broadcast::channel(QUEUED_CHANGES);
    let handle = Handle::new(inputs, changes.clone());
    let (sessions, logs, outbox) = (Sessions::default(), LogRelay::new(), Outbox::new(words.clone()));
    let (decisions, decided) = mpsc::channel(QUEUED_DECISIONS);
    let (cluster, owed) = Cluster::restore(settings, leadership.term, now(), documents);

    let dispatch = Dispatch::new(sessions.clone(), outbox.clone(), changes, metrics.clone());
    let committing = commit::run(Arc::new(store.clone()), leadership.clone(), decided, dispatch, metrics.clone());
    let driver = Driver::new(cluster, queue, decisions, now);
    let stop = inner.stop_token().clone();
    inner.spawn(TaskKind::essential("driver"), drive(driver, owed, committing, store, stop.clone()));
    let courier = Courier {
        client,
        handle: handle.clone(),
        metrics: metrics.clone(),
        backoff: Backoff::default(),
        recovery: Recovery::default(),
    };
    inner.spawn(TaskKind::essential("core client"), async move {
        delivery::run(courier, outbox, stop).await;
        Ok::<_, Infallible>(())
    });

    let stop = edges.stop_token().clone();
    let addresses = listeners.addresses;
    let fleet = Fleet {
        handle: handle.clone(),
        sessions,
        logs: logs.clone(),
        join_secret: files.join_secret.map(Arc::new),
        metrics,
        stop: stop.clone(),
    };
    edges.spawn(TaskKind::essential("fleet listener"), service::serve(fleet, listeners.fleet));
    let reloading = reload_keys(config.core.public_key_files.clone(), Arc::clone(&auth), stop.clone());
    edges.spawn(TaskKind::incidental("key reload"), reloading);
    let app = App {
        handle: handle.clone(),
        logs,
        auth,
        settings: Arc::new(HttpSettings {
            provider: words.provider.clone(),
            catalogue,
            answer_within: HttpSettings::ANSWER_WITHIN,
            most_sockets: HttpSettings::MOST_SOCKETS,
        }),
        stop: stop.clone(),
    };
    let serving = http::serve(listeners.http, http::router(app), Limits::default(), stop.clone());
    edges.spawn(TaskKind::essential("http listener"), serving);
    let app = OperatorApp::new(handle.clone(), Arc::new(words), files.operator_token.map(Arc::new));
    let serving = http::serve(listeners.operator, operator::router(app), Limits::default(), stop);
    edges.spawn(TaskKind::essential("operator listener"), serving);
    Ok(Running { addresses, term: leadership.term, handle })
}

/// Stops the edges, then what they feed; each within a bound.
///
/// # Errors
/// The first essential task that failed: why the coordinator stopped although nobody asked it to.
pub async fn drain(edges: &Tasks, inner: &Tasks) -> Result<(), muster_runtime::tasks::TaskFailed> {
    let edges = edges.drain(Duration::from_secs(8)).await;
    // The driver's own failure is the cause of whatever the edges said.
    inner.drain(Duration::from_secs(5)).await.and(edges)
}

/// Runs driver and committer until `stop`, then closes the store; the committer ends after the driver, with everything
/// that was decided committed and handed over.
async fn drive(
    driver: Driver,
    owed: Vec<muster_domain::effect::Effect>,
    committing: impl Future<Output = Result<(), StoreError>>,
    store: Embedded,
    stop: CancellationToken,
) -> Result<(), StoreError> {
    let (driven, committed) = tokio::join!(driver.run(owed, stop), committing);
    // Whoever opens the file next need not wait for this process to be gone.
    let closed = store.close().await;
    committed.and(closed)?;
    driven.map_err(|CommitStopped| StoreError::Failed("the committer has stopped".to_owned()))
}

impl Files {
    fn read(config: &Config) -> Result<Self, StartError> {
        let secret = |key: &'static str, path: &Option<PathBuf>| match path {
            Some(path) => Secret::from_file(path).map(Some).map_err(|source| StartError::Secret { key, source }),
            None => Ok(None),
        };
        // Read again at each refresh; looked at here so that a mistake shows at once.
        secret("core.refresh_token_file", &Some(config.core.refresh_token_file.clone()))?;
        Ok(Self {
            join_secret: secret("fleet.token_file", &config.fleet.token_file)?,
            operator_token: secret("operator.token_file", &config.operator.token_file)?,
            keys: config.core.public_key_files.iter().map(read_key).collect::<Result<_, _>>()?,
        })
    }
}

fn read_key(path: &PathBuf) -> Result<String, StartError> {
    use std::io::Read;
    let bad = |why: String| StartError::KeyFile { path: path.clone(), why };
    let file = std::fs::File::open(path).map_err(|error| bad(error.to_string()))?;
    let mut text = String::new();
    file.take(MOST_KEY_BYTES).read_to_string(&mut text).map_err(|error| bad(error.to_string()))?;
    Ok(text)
}

/// On SIGHUP reads Core's public keys again: a renewal at Core replaces the key at once, and needs no restart here.
async fn reload_keys(files: Vec<PathBuf>, auth: Arc<Authenticator>, stop: CancellationToken) -> std::io::Result<()> {
    let mut hangups = signal(SignalKind::hangup())?;
    while let Some(Some(())) = stop.run_until_cancelled(hangups.recv()).await {
        let keys: Result<Vec<String>, StartError> = files.iter().map(read_key).collect();
        match keys.and_then(|keys| Ok(auth.reload(&keys)?)) {
            Ok(()) => tracing::info!(files = files.len(), "public keys of core were read again"),
            Err(error) => tracing::error!(%error, "the keys in use stay; mend the file and send SIGHUP again"),
        }
    }
    Ok(())
}

struct Listeners {
    http: TcpListener,
    operator: TcpListener,
    fleet: TcpListener,
    addresses: Addresses,
}

impl Listeners {
    async fn bind(config: &Config) -> Result<Self, StartError> {
        let http = bind("http.listen", config.http.listen).await?;
        let operator = bind("operator.listen", config.operator.listen).await?;
        let fleet = bind("fleet.listen", config.fleet.listen).await?;
        let addresses = Addresses { http: http.1, operator: operator.1, fleet: fleet.1 };
        Ok(Self { http: http.0, operator: operator.0, fleet: fleet.0, addresses })
    }
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { key, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
