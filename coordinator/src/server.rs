//! Puts the parts together: everything that can be wrong is found before a port is announced.
//!
//! A stop takes them apart in the other order. First leadership is given back; callers are answered all the while, and by then
//! as a follower answers them. Then no connection is accepted any more, what has come is answered, and the operators' listener
//! is the last to go.

mod files;
mod listeners;

use crate::auth::{AuthSettings, Authenticator, BadKey};
use crate::config::{Config, StoreKind};
use crate::core::client::{BadSettings, CoreClient};
use crate::election::embedded::SoleLeader;
use crate::election::{Identity, Standing};
use crate::etcd::{self, EtcdError, EtcdParts, Rhythm};
use crate::fleet::logs::LogRelay;
use crate::fleet::service::{self, Fleet};
use crate::fleet::sessions::Sessions;
use crate::forward::{Door, Forward};
use crate::handle::Handle;
use crate::http::{self, App, HttpSettings, Limits};
use crate::leading::{Leading, Seat};
use crate::metrics::Metrics;
use crate::operator::{self, OperatorApp};
use crate::standing::{Board, Concern};
use crate::store::StoreError;
use crate::store::embedded::{Embedded, OpenError};
use axum::http::HeaderValue;
use files::{Files, reload_keys};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use listeners::Listeners;
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
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

/// Changed jobs that a slow watcher may be behind before it must look for itself.
const QUEUED_CHANGES: usize = 4096;
/// How long callers are still taken in once leadership is given back, so that who asks `/ready` every second learns in time not to
/// send any more. Later connections are refused, which is safe to repeat elsewhere.
const LAME_DUCK: Duration = Duration::from_secs(1);
/// How long giving leadership back may take: what was decided becomes durable, and the lease ends.
const RESIGN_WITHIN: Duration = Duration::from_secs(8);
/// How long the edges may take to end after it.
const CLOSE_WITHIN: Duration = Duration::from_secs(7);
/// How long an operator's request may take to end when all else has ended.
const LAST_VIEWS: Duration = Duration::from_millis(500);

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

impl StartError {
    /// Whether another start will not help before an operator has mended something.
    #[must_use]
    pub fn needs_an_operator(&self) -> bool {
        match self {
            Self::Name(_) | Self::KeyFile { .. } | Self::Key(_) | Self::Core(_) => true,
            Self::Secret { source, .. } => !source.may_pass(),
            Self::Open(error) => error.needs_an_operator(),
            // The address may still be held by the process before this one.
            Self::Store(_) | Self::Listen { .. } => false,
        }
    }
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

impl LeadingFailed {
    /// Whether another start will not help before an operator has mended something.
    fn needs_an_operator(&self) -> bool {
        match self {
            Self::Store(error) => matches!(error, StoreError::Unreadable(_)),
            Self::Etcd(error) => error.needs_an_operator(),
        }
    }
}

/// Reads, binds and runs. What decides is spawned on `inner`, the edges on `edges`: when a coordinator stops, `inner` stops first
/// (see [`drain`]). Whether and when this coordinator leads shows in [`Running::standing`].
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
            let (listens, concern) = (parts.listeners.addresses.http, parts.concern.clone());
            let seating = async move {
                let connecting =
                    etcd::connect_with(&etcd, &cluster, identity, listens, stop, Rhythm::default(), concern);
                let EtcdParts { store, election } = connecting.await?;
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
    concern: Concern,
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
            concern: Concern::default(),
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
        let (metrics, board) = (Metrics::new(), Board::with_concern(Standing::default(), self.concern));
        let (changes, _) = broadcast::channel(QUEUED_CHANGES);
        let handle = Handle::vacant(changes.clone());
        let (sessions, logs) = (Sessions::default(), LogRelay::new());
        let (addresses, standing) = (self.listeners.addresses, board.watch());

        let (stop, up) = (inner.stop_token().clone(), board.clone());
        let (handle_inside, sessions_inside, words, inside) =
            (handle.clone(), sessions.clone(), self.words.clone(), metrics.clone());
        let (settings, client) = (self.settings, self.client);
        let kept = self.listeners.kept;
        let unfit = Arc::new(AtomicBool::new(false));
        let found_unfit = Arc::clone(&unfit);
        inner.spawn(TaskKind::essential("leadership"), async move {
            // Until the store is reached there is nothing to give back.
            let Some(seat) = stop.run_until_cancelled(seating).await else { return Ok(()) };
            // It holds the same token, and may be the first to see it cancelled.
            if let Err(LeadingFailed::Etcd(EtcdError::Stopped)) = seat {
                return Ok(());
            }
            let note = |error: &LeadingFailed| found_unfit.store(error.needs_an_operator(), Ordering::Release);
            let seat = seat.inspect_err(note)?;
            let (election, is_shared) = (Arc::clone(&seat.election), seat.is_shared);
            let said = election.standing();
            let (handle, sessions, metrics) = (handle_inside, sessions_inside, inside);
            let seen = metrics.clone();
            let leading = Leading { seat, settings, handle, changes, sessions, client, words, metrics };
            let leads = async {
                leading.run(stop).await?;
                if is_shared {
                    // Who leads next is still followed: what comes is passed on.
                    tokio::time::sleep(LAME_DUCK).await;
                }
                Ok(())
            };
            let led = tokio::select! {
                led = leads => led,
                never = async { up.follow(said, &seen).await; std::future::pending().await } => never,
            };
            // Nobody may take this process for gone before it has given leadership back.
            drop(kept);
            let closed = close.await;
            led.and(closed).map_err(LeadingFailed::from).inspect_err(note)
        });

        let (stop, stopping) = (edges.stop_token().clone(), inner.stop_token().clone());
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
        let router = http::parting(http::router(app), stopping.clone());
        let serving = http::serve(self.listeners.http, router, Limits::default(), stop.clone());
        let answered = CancellationToken::new();
        let last = answered.clone().drop_guard();
        edges.spawn(TaskKind::essential("http listener"), async move {
            let _last = last;
            serving.await
        });
        let mut app = OperatorApp::new(handle.clone(), Arc::new(self.words), self.operator_token.map(Arc::new));
        app.forward = forward(Door::Operator);
        app.stopping = stopping.clone();
        let limits = Limits { drain: LAST_VIEWS, ..Limits::default() };
        let router = http::parting(operator::router(app), stopping);
        let serving = http::serve(self.listeners.operator, router, limits, answered);
        edges.spawn(TaskKind::essential("operator listener"), serving);
        Ok(Running { addresses, standing, handle, unfit })
    }
}

/// Gives leadership back, then stops the edges; each within a bound. `/ready` says so from the beginning.
///
/// # Errors
/// The first essential task that failed: why the coordinator stopped although nobody asked it to.
pub async fn drain(edges: &Tasks, inner: &Tasks) -> Result<(), muster_runtime::tasks::TaskFailed> {
    let led = inner.drain(RESIGN_WITHIN).await;
    let edges = edges.drain(CLOSE_WITHIN).await;
    // The driver's own failure is the cause of whatever the edges said.
    led.and(edges)
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "takeover_tests.rs"]
mod takeover;

#[cfg(test)]
#[path = "etcd_tests.rs"]
mod over_etcd;

#[cfg(test)]
#[path = "stop_tests.rs"]
mod stops;
