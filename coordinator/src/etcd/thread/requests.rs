//! What the election asks of etcd. Each request is a task; its answer comes back through a channel. A request without an
//! answer is simply not answered: the rules ask again.

use super::super::client::Etcd;
use super::super::diagnosis::Diagnosis;
use super::super::failure::CallError;
use super::super::keys::Keys;
use super::super::leader::{self, Entry, LeaderValue, Seen};
use super::super::meta::{self, get, gets, txn};
use super::super::{EtcdError, MetaSeen, registration};
use crate::core::backoff::Backoff;
use etcd_client::{Compare, CompareOp, EventType, PutOptions, Txn, TxnOp, WatchStream};
use muster_domain::leadership::{LeaderKey, LeaseId};
use muster_domain::time::Moment;
use muster_runtime::clock::boottime;
use std::time::Duration;
use tokio::sync::mpsc;

/// Between two attempts at watching the leader key.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(2) };
/// Attempts at giving a lease back; after them it ends by itself.
const RELEASES: u32 = 3;

/// What came of a request.
#[derive(Debug)]
pub(super) enum Answer {
    Granted {
        lease: LeaseId,
        sent_at: Moment,
    },
    Kept {
        lease: LeaseId,
        sent_at: Moment,
        alive: bool,
    },
    /// A keepalive was refused, or was never sent.
    NotKept,
    Saw(Option<Seen>),
    /// A campaign found another `meta` than was known.
    Meta(MetaSeen),
    /// A lease was given back, or is left to end by itself.
    Released,
    /// The name was given back.
    NameReleased,
    /// Another process has this coordinator's name.
    NameLost(String),
}

/// Makes requests.
#[derive(Clone)]
pub(super) struct Requests {
    pub(super) etcd: Etcd,
    /// Nothing waits ahead of a keepalive.
    pub(super) keepalives: Etcd,
    pub(super) keys: Keys,
    pub(super) me: Entry,
    pub(super) ttl_s: i64,
    pub(super) answers: mpsc::UnboundedSender<Answer>,
    pub(super) diagnosis: Diagnosis,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    ToMend(#[from] EtcdError),
}

impl Requests {
    fn spawn(&self, what: &'static str, request: impl Future<Output = Result<Answer, Failed>> + Send + 'static) {
        let (answers, diagnosis) = (self.answers.clone(), self.diagnosis.clone());
        tokio::spawn(async move {
            match request.await {
                Ok(answer) => {
                    // A lease that could not be given back is left to end by itself.
                    if !matches!(answer, Answer::Released) {
                        diagnosis.answered(boottime(), what);
                    }
                    // Nobody listens when the thread ends.
                    let _ = answers.send(answer);
                }
                Err(Failed::Call(error)) => diagnosis.failed(boottime(), what, error),
                Err(Failed::ToMend(error)) => diagnosis.refused(boottime(), what, error.to_string()),
            }
        });
    }

    pub(super) fn grant(&self) {
        let (etcd, ttl_s, sent_at) = (self.etcd.clone(), self.ttl_s, boottime());
        self.spawn("lease", async move {
            let granted = etcd.call(|mut client| async move { client.lease_grant(ttl_s, None).await }).await?;
            Ok(Answer::Granted { lease: granted.id(), sent_at })
        });
    }

    pub(super) fn keep(&self, lease: LeaseId) {
        let (etcd, answers, sent_at) = (self.keepalives.clone(), self.answers.clone(), boottime());
        self.spawn("keepalive", async move {
            let kept = keep_alive(&etcd, lease).await;
            if kept.as_ref().is_err_and(CallError::was_not_sent) {
                let _ = answers.send(Answer::NotKept);
            }
            Ok(Answer::Kept { lease, sent_at, alive: kept? })
        });
    }

    pub(super) fn look(&self) {
        let (etcd, key) = (self.etcd.clone(), self.keys.leader());
        self.spawn("look", async move { Ok(look(&etcd, key).await?) });
    }

    pub(super) fn revoke(&self, lease: LeaseId) {
        let (etcd, key) = (self.etcd.clone(), self.keys.leader());
        self.spawn("revoke", async move {
            registration::revoke(&etcd, lease).await?;
            Ok(look(&etcd, key).await?)
        });
    }

    pub(super) fn release(&self, lease: LeaseId) {
        let etcd = self.etcd.clone();
        self.spawn("release", async move {
            for failures in 1..=RELEASES {
                if registration::revoke(&etcd, lease).await.is_ok() {
                    break;
                }
                tokio::time::sleep(BACKOFF.after(failures)).await;
            }
            Ok(Answer::Released)
        });
    }

    /// Makes the leader key, if there is none and `meta` is the one whose incarnation we would lead in.
    pub(super) fn campaign(&self, lease: LeaseId, meta: MetaSeen) {
        let (etcd, keys) = (self.etcd.clone(), self.keys.clone());
        let value = LeaderValue { entry: self.me.clone(), lease, incarnation: meta.incarnation };
        let answers = self.answers.clone();
        self.spawn("campaign", async move {
            let text = serde_json::to_vec(&value).unwrap_or_default();
            let (key, meta_key) = (keys.leader(), keys.meta());
            let campaign = Txn::new()
                .when([
                    Compare::create_revision(key.as_str(), CompareOp::Equal, 0),
                    Compare::mod_revision(meta_key.as_str(), CompareOp::Equal, meta.revision),
                ])
                .and_then([TxnOp::put(key.as_str(), text, Some(PutOptions::new().with_lease(lease)))])
                .or_else([TxnOp::get(key.as_str(), None), TxnOp::get(meta_key.as_str(), None)]);
            let answer = etcd.call(|client| txn(client, campaign.clone())).await?;
            let not_understood = || CallError::Unknown("etcd's answer is not understood".to_owned());
            if answer.succeeded() {
                let revision = answer.header().ok_or_else(not_understood)?.revision().unsigned_abs();
                return Ok(Answer::Saw(Some((LeaderKey { revision, lease }, Some(Box::new(value))))));
            }
            let [leader, found] = gets(&answer).ok_or_else(not_understood)?;
            let found = meta::seen(&found, &keys)?;
            if found != meta {
                let _ = answers.send(Answer::Meta(found));
            }
            Ok(Answer::Saw(leader.kvs().first().map(leader::read)))
        });
    }
}

async fn look(etcd: &Etcd, key: String) -> Result<Answer, CallError> {
    let found = etcd.call(|client| get(client, key.clone())).await?;
    Ok(Answer::Saw(found.kvs().first().map(leader::read)))
}

/// One keepalive, on a stream of its own: there is no stream whose end could go unnoticed. Answers whether the lease
/// still exists.
pub(in super::super) async fn keep_alive(etcd: &Etcd, lease: LeaseId) -> Result<bool, CallError> {
    match etcd.call(|mut client| async move { client.lease_keep_alive(lease).await.map(drop) }).await {
        Ok(()) => Ok(true),
        Err(CallError::LeaseGone) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Watches the leader key for ever. What it says is a hint: late, twice or never are all possible.
pub(super) async fn watch_leader(etcd: Etcd, keys: Keys, answers: mpsc::UnboundedSender<Answer>) {
    let mut failures = 0;
    loop {
        let opened = etcd.call(|mut client| {
            let key = keys.leader();
            async move { client.watch(key, None).await }
        });
        match opened.await {
            Ok(stream) => {
                failures = 0;
                // What happened before the watch began, it does not tell.
                if let Ok(answer) = look(&etcd, keys.leader()).await {
                    let _ = answers.send(answer);
                }
                follow(stream, &answers).await;
            }
            Err(error) => tracing::debug!(%error, "the leader key is not watched"),
        }
        failures += 1;
        tokio::time::sleep(BACKOFF.after(failures)).await;
    }
}

/// Passes on what a watch says, until it ends.
async fn follow(mut stream: WatchStream, answers: &mpsc::UnboundedSender<Answer>) {
    while let Ok(Some(message)) = stream.message().await {
        if message.canceled() {
            return;
        }
        for event in message.events() {
            let seen = match event.event_type() {
                EventType::Put => event.kv().map(leader::read),
                EventType::Delete => None,
            };
            let _ = answers.send(Answer::Saw(seen));
        }
    }
}
