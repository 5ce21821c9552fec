//! The store and the election of several coordinators, in etcd.
//!
//! `store` keeps the documents, `election` runs the rules of [`muster_domain::leadership`]. They share the keys, and
//! what the one knows of the leadership that the other writes under. Watches and reads are hints here; what is true is
//! decided by transactions that compare revisions.

mod client;
mod diagnosis;
mod election;
mod failure;
mod held;
mod housekeeping;
mod keys;
mod leader;
mod leading;
mod machine;
mod meta;
mod patience;
mod probe;
mod registration;
mod snapshot;
mod store;
mod thread;
mod transaction;
mod version;

pub use election::EtcdElection;
pub use housekeeping::Rhythm;
pub use store::EtcdStore;

use crate::config::EtcdConfig;
use crate::election::Identity;
use crate::standing::Concern;
use client::{Access, Etcd};
use diagnosis::Diagnosis;
use failure::{CallError, Refusal};
use keys::Keys;
use leading::Leading;
use muster_domain::id::ClusterName;
use muster_domain::leadership::Incarnation;
use patience::{Patience, Place, Trouble};
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use version::Judgement;

/// Why this coordinator cannot work with its etcd as things are. The message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// A file that the configuration names.
    #[error("{key}: {why}")]
    File {
        /// The key that names the file.
        key: &'static str,
        /// What is wrong.
        why: String,
    },
    /// User or password.
    #[error(
        "etcd refuses the user or the password ({0}); check store.etcd.user and store.etcd.password_file against \
         `etcdctl user list`"
    )]
    Credentials(String),
    /// Rights of the user.
    #[error(
        "etcd forbids what is needed ({why}); let an administrator give the user's role all of this cluster's keys: \
         etcdctl role grant-permission ROLE --prefix=true readwrite {root}"
    )]
    Permission {
        /// What etcd says.
        why: String,
        /// What the cluster's keys begin with.
        root: String,
    },
    /// Certificates.
    #[error(
        "etcd and this coordinator do not accept each other's certificates ({0}); check store.etcd.ca_file, \
         store.etcd.certificate_file and store.etcd.key_file, and that store.etcd.endpoints serve TLS under these names"
    )]
    Tls(String),
    /// etcd does not understand a request.
    #[error("etcd refuses a request that it should understand ({0}); is this etcd 3.4 or newer?")]
    Request(String),
    /// Versions before 3.4.
    #[error("etcd at {endpoint} is version {found}, which is too old; use 3.6.9 or newer (3.5.28, 3.4.42)")]
    TooOld {
        /// The member.
        endpoint: String,
        /// Its version.
        found: String,
    },
    /// The prefix is somebody else's.
    #[error(
        "the keys below {root} belong to another cluster or program ({why}); set store.etcd.prefix or cluster.name to \
         what no one else uses"
    )]
    Foreign {
        /// What the cluster's keys begin with.
        root: String,
        /// How that is known.
        why: String,
    },
    /// Written by a later version.
    #[error(
        "the keys below {root} were written by a newer version of Muster (schema {found}, this version knows {known}); \
         run that version",
        known = meta::SCHEMA
    )]
    Newer {
        /// What the cluster's keys begin with.
        root: String,
        /// Their layout.
        found: u64,
    },
    /// The key `meta` was there when this coordinator started.
    #[error(
        "the key {key}, which says whose keys these are, is gone or not ours; restore it, or start a coordinator anew to have \
         it checked"
    )]
    MetaGone {
        /// The key.
        key: String,
    },
    /// Two coordinators of one name.
    #[error(
        "another coordinator named {name} runs at {address}; give each coordinator a name of its own (coordinator.name)"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Where the other one is reached.
        address: String,
    },
    /// The process was asked to stop while it waited for etcd.
    #[error("stopped while waiting for etcd")]
    Stopped,
    /// No thread for the election.
    #[error("no thread for the election: {0}")]
    Thread(std::io::Error),
}

impl EtcdError {
    /// Whether another start will not help before an operator has mended something.
    #[must_use]
    pub fn needs_an_operator(&self) -> bool {
        !matches!(self, Self::Stopped | Self::Thread(_))
    }

    /// What to do about a refusal.
    fn refused(refusal: Refusal, why: String, root: &str) -> Self {
        match refusal {
            Refusal::Credentials => Self::Credentials(why),
            Refusal::Permission => Self::Permission { why, root: root.to_owned() },
            Refusal::Tls => Self::Tls(why),
            Refusal::Request => Self::Request(why),
        }
    }
}

fn file_error(key: &'static str, why: &dyn Display) -> EtcdError {
    EtcdError::File { key, why: why.to_string() }
}

/// What a coordinator over etcd works with.
#[derive(Debug)]
pub struct EtcdParts {
    /// The documents.
    pub store: EtcdStore,
    /// The leadership.
    pub election: EtcdElection,
}

/// Connects, checks that this etcd may and can be used, takes this coordinator's name, and starts the election.
///
/// Waits for as long as etcd cannot be reached, and says so every 10 s: that mends itself, and a process that gave up
/// would only be started again. `stop` ends this waiting and nothing else. `listens`, which is where `identity.http` leads,
/// must be listened on already.
///
/// # Errors
/// What only an operator can mend, in words that say how; or `stop` was cancelled.
pub async fn connect(
    config: &EtcdConfig,
    cluster: &ClusterName,
    identity: Identity,
    listens: SocketAddr,
    stop: CancellationToken,
) -> Result<EtcdParts, EtcdError> {
    connect_with(config, cluster, identity, listens, stop, Rhythm::default(), Concern::default()).await
}

/// [`connect`] with a rhythm of one's own, which tells what is wrong, also after it has returned, as `concern`.
///
/// # Errors
/// As for [`connect`].
pub async fn connect_with(
    config: &EtcdConfig,
    cluster: &ClusterName,
    identity: Identity,
    listens: SocketAddr,
    stop: CancellationToken,
    rhythm: Rhythm,
    concern: Concern,
) -> Result<EtcdParts, EtcdError> {
    let access = Access::read(config)?;
    let etcd = Etcd::new(access.clone());
    let keys = Keys::new(&config.prefix, cluster);
    let place = Place::new(etcd.endpoints(), config);
    let mut patience = Patience::new(stop, place.clone(), concern.clone());
    patience.until(|| check_versions(&etcd, &keys)).await?;
    let made_by = &identity.version;
    let meta = patience.until(|| meta::establish(&etcd, &keys, cluster, config.incarnation, made_by)).await?;
    let me = leader::Entry { instance: Uuid::new_v4().to_string(), machine: machine::name(), identity, listens };
    let ttl_s = config.lease_ttl_ms.div_ceil(1000).cast_signed();
    let name_lease = registration::take(&etcd, &keys, &me, ttl_s, &mut patience).await?;
    tracing::info!(
        endpoints = etcd.endpoints().join(","),
        root = keys.root(),
        name = me.identity.name,
        incarnation = meta.incarnation,
        "etcd is the store"
    );
    let leading = Arc::new(Leading::default());
    let election = EtcdElection::start(thread::Setting {
        access,
        keys: keys.clone(),
        me,
        meta,
        name_lease,
        ttl_s,
        lease_ttl_ms: config.lease_ttl_ms,
        leading: Arc::clone(&leading),
        diagnosis: Diagnosis::new(place, keys.root(), concern.clone()),
    })
    .map_err(EtcdError::Thread)?;
    let budget_bytes = config.space_budget_mib << 20;
    let store = EtcdStore::new(etcd, keys, leading, budget_bytes, election.fence(), rhythm, concern);
    Ok(EtcdParts { store, election })
}

/// Looks at every member that answers, before anything is written. One that does not answer matters when it is back, and
/// a later start says so.
async fn check_versions(etcd: &Etcd, keys: &Keys) -> Result<(), Trouble> {
    let asked = (0..etcd.endpoints().len()).map(|member| async move {
        let status = etcd.call_at(member, |mut client| async move { client.status().await }).await;
        (member, status)
    });
    let mut last = CallError::NotSent("store.etcd.endpoints is empty".to_owned());
    let mut answered = false;
    for (member, status) in futures_util::future::join_all(asked).await {
        let endpoint = &etcd.endpoints()[member];
        let version = match status {
            Ok(status) => status.version().to_owned(),
            Err(error) => {
                // A refusal tells more than a member that is away.
                if !matches!(last, CallError::Refused(..)) {
                    last = error;
                }
                continue;
            }
        };
        answered = true;
        match version::judge(&version) {
            Judgement::Fine => {}
            Judgement::Faulty => tracing::warn!(
                endpoint,
                version,
                "this etcd can answer reads with stale data and has known security faults; update it to 3.6.9, 3.5.28 or \
                 3.4.42 or newer. No job is at risk: what is true is decided by compared writes"
            ),
            Judgement::TooOld => {
                return Err(Trouble::ToMend(EtcdError::TooOld { endpoint: endpoint.clone(), found: version }));
            }
        }
    }
    if answered { Ok(()) } else { Err(Trouble::from((last, keys.root()))) }
}

/// The highest incarnation, and which text of `meta` says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MetaSeen {
    incarnation: Incarnation,
    revision: i64,
}

impl From<(CallError, &str)> for Trouble {
    fn from((error, root): (CallError, &str)) -> Self {
        match error {
            CallError::Refused(refusal, why) => Self::ToMend(EtcdError::refused(refusal, why, root)),
            CallError::NoSpace => Self::Full,
            other => Self::Passing(other.to_string()),
        }
    }
}
