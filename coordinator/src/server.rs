//! Puts the parts together: everything that can be wrong is found before a port is announced.

use crate::auth::{AuthSettings, Authenticator, BadKey};
use crate::config::{Config, StoreKind};
use crate::core::client::{BadSettings, CoreClient};
use crate::election::embedded::SoleLeader;
use crate::election::{Identity, Standing};
use crate::etcd::{self, EtcdError, EtcdParts};
use crate::fleet::logs::LogRelay;
use crate::fleet::service::{self, Fleet};
use crate::fleet::sessions::Sessions;
use crate::forward::{Door, Forward};
use crate::handle::Handle;
use crate::http::{self, App, HttpSettings, Limits};
use crate::leading::{Leading, Seat};
use crate::metrics::Metrics;
use crate::operator::{self, OperatorApp};
use crate::standing::Board;
use crate::store::StoreError;
use crate::store::embedded::{Embedded, OpenError};
use axum::http::HeaderValue;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use muster_domain::cluster::Settings;
use muster_domain::id::{BadId, ClusterName, Term};
use muster_runtime::secret::{Secret, SecretError};
use muster_runtime::tasks::{TaskKind, Tasks};
use muster_ucloud::v2021::accept::Catalogue;
use muster_ucloud::v2021::words::Words;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, watch};
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
    /// Who leads.
    pub standing: watch::Receiver<Standing>,
    /// Its edges' way to the driver, for tests that look inside.
    pub handle: Handle,
    unfit: Arc<AtomicBool>,
}

impl Running {
    /// Whether it ended for a reason that another start will meet again until an operator has mended something.
    #[must_use]
    pub fn needs_an_operator(&self) -> bool {
        self.unfit.load(Ordering::Acquire)
    }

    /// Waits until this coordinator leads; its term.
    pub async fn leads(&self) -> Option<Term> {
        let mut standing = self.standing.clone();
        // Without an election it never will.
        let leads = standing.wait_for(Standing::leads).await.ok()?;
        leads.term
    }
}

/// Files that the configuration names, read.
struct Files {
    join_secret: Option<Secret>,
    operator_token: Option<Secret>,
    keys: Vec<String>,
}

/// How a coordinator gets its seat; may wait for a store that cannot be reached yet.
type Seating = BoxFuture<'static, Result<Seat, LeadingFailed>>;

/// Why a coordinator stopped although nobody asked it to. The message says what to do.
#[derive(Debug, thiserror::Error)]
enum LeadingFailed {
    /// A store of its own failed, or its name was taken.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The shared store cannot be used.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
}

/// Reads, binds and runs. The edges are spawned on `edges`, what decides on `inner`: when a coordinator stops, the edges
/// must have ended before the driver does, so that nobody who was let in goes unanswered. Whether and when this coordinator
/// leads shows in [`Running::standing`].
pub async fn start(config: &Config, edges: &Tasks, inner: &Tasks) -> Result<Running, StartError> {
    let parts = Parts::new(config).await?;
    match config.store.kind {
        StoreKind::Embedded => {
            let path = config.store.path.clone();
            let store = tokio::task::spawn_blocking(move || Embedded::open(&path))
                .await
                .map_err(|error| StoreError::Failed(error.to_string()))??;
            let election = SoleLeader::new(store.clone(), parts.identity.clone());
            let seat = Seat { store: Arc::new(store.clone()), election: Arc::new(election), is_shared: false };
            // Whoever opens the file next need not wait for this process to be gone.
            let close = store.close().boxed();
            parts.run(edges, inner, async { Ok(seat) }.boxed(), close)
        }
        StoreKind::Etcd => {
            let (etcd, cluster) = (config.store.etcd.clone(), ClusterName::new(config.cluster.name.as_str())?);
            let (identity, stop) = (parts.identity.clone(), inner.stop_token().clone());
            let listens = parts.listeners.addresses.http;
            let seating = async move {
                let EtcdParts { store, election } = etcd::connect(&etcd, &cluster, identity, listens, stop).await?;
                Ok(Seat { store: Arc::new(store), election: Arc::new(election), is_shared: true })
            };
            parts.run(edges, inner, seating.boxed(), async { Ok(()) }.boxed())
        }
    }
}

/// Everything but store and election: read, checked and bound, before anything runs.
struct Parts {
    settings: Settings,
    catalogue: Catalogue,
    identity: Identity,
    words: Words,
    client: CoreClient,
    auth: Arc<Authenticator>,
    key_files: Vec<PathBuf>,
    join_secret: Option<Secret>,
    operator_token: Option<Secret>,
    listeners: Listeners,
}

impl Parts {
    async fn new(config: &Config) -> Result<Self, StartError> {
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
        let listeners = Listeners::bind(config).await?;
        Ok(Self {
            settings,
            catalogue,
            identity: config.identity(&listeners.addresses)?,
            words,
            client,
            auth,
            key_files: config.core.public_key_files.clone(),
            join_secret: files.join_secret,
            operator_token: files.operator_token,
            listeners,
        })
    }

    /// Spawns everything. `close` is done last, when nothing uses the store any more.
    fn run(
        self,
        edges: &Tasks,
        inner: &Tasks,
        seating: Seating,
        close: BoxFuture<'static, Result<(), StoreError>>,
    ) -> Result<Running, StartError> {
        let (metrics, board) = (Metrics::new(), Board::new(Standing::default()));
        let (changes, _) = broadcast::channel(QUEUED_CHANGES);
        let handle = Handle::vacant(changes.clone());
        let (sessions, logs) = (Sessions::default(), LogRelay::new());
        let (addresses, standing) = (self.listeners.addresses, board.watch());

        let (stop, up) = (inner.stop_token().clone(), board.clone());
        let (handle_inside, sessions_inside, words, inside) =
            (handle.clone(), sessions.clone(), self.words.clone(), metrics.clone());
        let (settings, client) = (self.settings, self.client);
        let (retiring, kept) = (edges.stop_token().clone(), self.listeners.kept);
        let unfit = Arc::new(AtomicBool::new(false));
        let found_unfit = Arc::clone(&unfit);
        inner.spawn(TaskKind::essential("leadership"), async move {
            // Until the store is reached there is nothing to give back.
            let Some(seat) = stop.run_until_cancelled(seating).await else { return Ok(()) };
            let seat = seat.inspect_err(|error| {
                let needs_an_operator = matches!(error, LeadingFailed::Etcd(error) if error.needs_an_operator());
                found_unfit.store(needs_an_operator, Ordering::Release);
            })?;
            let said = seat.election.standing();
            let (handle, sessions, metrics) = (handle_inside, sessions_inside, inside);
            let seen = metrics.clone();
            let leading = Leading { seat, settings, handle, changes, sessions, client, words, metrics, retiring };
            let led = tokio::select! {
                led = leading.run(stop) => led,
                never = async { up.follow(said, &seen).await; std::future::pending().await } => never,
            };
            // Nobody may take this process for gone before it has given leadership back.
            drop(kept);
            let closed = close.await;
            Ok::<_, LeadingFailed>(led.and(closed)?)
        });

        let stop = edges.stop_token().clone();
        let fleet = Fleet {
            handle: handle.clone(),
            sessions,
            logs: logs.clone(),
            standing: standing.clone(),
            join_secret: self.join_secret.map(Arc::new),
            metrics: metrics.clone(),
            waiting: Fleet::waiting_room(),
            stop: stop.clone(),
        };
        edges.spawn(TaskKind::essential("fleet listener"), service::serve(fleet, self.listeners.fleet));
        let reloading = reload_keys(self.key_files, Arc::clone(&self.auth), stop.clone());
        edges.spawn(TaskKind::incidental("key reload"), reloading);
        let name = HeaderValue::from_str(&self.identity.name).unwrap_or(HeaderValue::from_static("coordinator"));
        let forward = |door| {
            let (board, name, metrics) = (board.clone(), name.clone(), metrics.clone());
            Forward::new(door, board, name, HttpSettings::MOST_SOCKETS, metrics, stop.clone())
        };
        let app = App {
            handle: handle.clone(),
            forward: forward(Door::Ucloud),
            logs,
            auth: self.auth,
            settings: Arc::new(HttpSettings {
                provider: self.words.provider.clone(),
                catalogue: self.catalogue,
                answer_within: HttpSettings::ANSWER_WITHIN,
                most_sockets: HttpSettings::MOST_SOCKETS,
            }),
            stop: stop.clone(),
        };
        let serving = http::serve(self.listeners.http, http::router(app), Limits::default(), stop.clone());
        edges.spawn(TaskKind::essential("http listener"), serving);
        let mut app = OperatorApp::new(handle.clone(), Arc::new(self.words), self.operator_token.map(Arc::new));
        app.forward = forward(Door::Operator);
        let serving = http::serve(self.listeners.operator, operator::router(app), Limits::default(), stop.clone());
        edges.spawn(TaskKind::essential("operator listener"), serving);
        Ok(Running { addresses, standing, handle, unfit })
    }
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
    /// The same socket once more: as long as it is held, connections wait instead of being refused. Others take a refusal for
    /// the proof that this process is gone, and would end its lease while it still makes durable what it has decided.
    kept: std::net::TcpListener,
    operator: TcpListener,
    fleet: TcpListener,
    addresses: Addresses,
}

impl Listeners {
    async fn bind(config: &Config) -> Result<Self, StartError> {
        let http = bind("http.listen", config.http.listen).await?;
        let operator = bind("operator.listen", config.operator.listen).await?;
        let fleet = bind("fleet.listen", config.fleet.listen).await?;
        let failed = |source| StartError::Listen { key: "http.listen", address: config.http.listen, source };
        let listener = http.0.into_std().map_err(failed)?;
        let kept = listener.try_clone().map_err(failed)?;
        let listener = TcpListener::from_std(listener).map_err(failed)?;
        let addresses = Addresses { http: http.1, operator: operator.1, fleet: fleet.1 };
        Ok(Self { http: listener, kept, operator: operator.0, fleet: fleet.0, addresses })
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

#[cfg(test)]
#[path = "takeover_tests.rs"]
mod takeover;
