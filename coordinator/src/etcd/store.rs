//! The documents in etcd. Every write is a transaction that compares the leader key and each document, and is sent again
//! until etcd says what became of it (reliability I1, hole 5, F10).

use super::client::Etcd;
use super::election::Fence;
use super::failure::{CallError, Refusal};
use super::held::{Held, Slot};
use super::housekeeping::{self, Rhythm};
use super::keys::Keys;
use super::leading::Leading;
use super::meta::{gets, txn};
use super::patience::Trouble;
use super::snapshot::{Cache, Content};
use super::transaction::{Encoded, MOST_DOCUMENTS, Sending, create_revision, encode_staged, leads, plan};
use crate::core::backoff::Backoff;
use crate::standing::Concern;
use crate::store::{Space, Store, StoreError};
use etcd_client::{Compare, CompareOp, Txn, TxnOp, TxnResponse};
use futures_util::future::BoxFuture;
use muster_domain::commit::{Ledger, Revision, Verdict};
use muster_domain::effect::{DocumentKey, Documents, Write};
use muster_domain::id::Term;
use muster_domain::leadership::{revision_of, term_of};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::task::AbortHandle;
use uuid::Uuid;

/// Documents of one batch: fits one transaction unless they are large.
const BATCH_DOCUMENTS: usize = 100;
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(50), most: Duration::from_secs(1) };

/// The store. Cheap to clone; its background work ends with the last clone.
#[derive(Clone)]
pub struct EtcdStore(Arc<Owned>);

/// Ends the background work, which itself holds what is inside.
struct Owned {
    inner: Arc<Inner>,
    housekeeping: AbortHandle,
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.housekeeping.abort();
    }
}

impl fmt::Debug for EtcdStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("EtcdStore").field(&self.0.inner.keys.root()).finish()
    }
}

pub(super) struct Inner {
    pub(super) etcd: Etcd,
    pub(super) keys: Keys,
    pub(super) leading: Arc<Leading>,
    pub(super) fence: Fence,
    /// What a follower keeps warm; empty while this coordinator leads.
    pub(super) cache: Mutex<Cache>,
    pub(super) held: Slot,
    pub(super) space: watch::Sender<Option<Space>>,
    pub(super) budget_bytes: u64,
    pub(super) rhythm: Rhythm,
    /// Whether etcd has refused a put for want of space, and has taken none since.
    full: watch::Sender<bool>,
    concern: Concern,
}

impl EtcdStore {
    pub(super) fn new(
        etcd: Etcd,
        keys: Keys,
        leading: Arc<Leading>,
        budget_bytes: u64,
        fence: Fence,
        rhythm: Rhythm,
        concern: Concern,
    ) -> Self {
        let inner = Arc::new(Inner {
            etcd,
            keys,
            leading,
            fence,
            cache: Mutex::default(),
            held: Slot::default(),
            space: watch::Sender::new(None),
            budget_bytes,
            rhythm,
            full: watch::Sender::new(false),
            concern,
        });
        let housekeeping = tokio::spawn(housekeeping::run_for_ever(Arc::clone(&inner))).abort_handle();
        Self(Arc::new(Owned { inner, housekeeping }))
    }

    /// How full etcd is, as it was last seen; also through [`Store::space`].
    #[must_use]
    pub fn space(&self) -> watch::Receiver<Option<Space>> {
        self.0.inner.space.subscribe()
    }
}

impl Store for EtcdStore {
    fn load(&self, term: Term) -> BoxFuture<'_, Result<Documents, StoreError>> {
        Box::pin(self.0.inner.load(term))
    }

    fn commit(&self, term: Term, writes: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.0.inner.commit(term, writes))
    }

    fn batch_documents(&self) -> usize {
        BATCH_DOCUMENTS
    }

    fn space(&self) -> watch::Receiver<Option<Space>> {
        self.space()
    }

    fn full(&self) -> watch::Receiver<bool> {
        self.0.inner.full.subscribe()
    }
}

impl Inner {
    /// Lists everything at a revision that is not older than our leadership: whatever was written by then is in it, and
    /// whatever comes later is ours. So nothing rests on a reading being current (reliability F11).
    async fn load(&self, term: Term) -> Result<Documents, StoreError> {
        self.held.set(None);
        // What an earlier leadership found is over: its writes are not sent any more, and could not find out.
        self.full.send_if_modified(std::mem::take);
        let cache = self.list(term).await?;
        let mut documents = Documents::default();
        let (mut revisions, mut staged, mut accepted) = (Vec::new(), Vec::new(), BTreeSet::new());
        for row in cache.rows.into_values() {
            let revision = row.revision.unsigned_abs();
            match row.content {
                Content::Job(job, bulk) => {
                    revisions.push((DocumentKey::Job(job.spec.id.clone()), revision));
                    match bulk {
                        Some(bulk) => staged.push((bulk, *job)),
                        None => documents.jobs.push(*job),
                    }
                }
                Content::Node(node) => {
                    revisions.push((DocumentKey::Node(node.name.clone()), revision));
                    documents.nodes.push(*node);
                }
                Content::Bulk(id) => drop(accepted.insert(id)),
                Content::Bad(why) => return Err(StoreError::Unreadable(why)),
                Content::Other => {}
            }
        }
        let held = Held::new(term, Ledger::new(revisions));
        let mut never_accepted = Vec::new();
        let mut named = BTreeSet::new();
        for (bulk, job) in staged {
            if accepted.contains(&bulk) {
                named.insert(bulk);
                documents.jobs.push(job);
            } else {
                never_accepted.push(Write::ForgetJob(job.spec.id));
            }
        }
        if !never_accepted.is_empty() {
            tracing::info!(jobs = never_accepted.len(), "dropping jobs of a request that was never accepted");
            let plan = plan(&held.known().ledger, never_accepted)?;
            for part in plan.parts {
                self.settle(&held, part).await?;
            }
        }
        let unused: Vec<String> = accepted.difference(&named).cloned().collect();
        self.forget_bulks(term, &unused).await;
        self.held.set(Some(Arc::new(held)));
        Ok(documents)
    }

    /// One attempt: how long it is worth trying is for the leadership to say.
    async fn list(&self, term: Term) -> Result<Cache, StoreError> {
        let mut cache = self.cache.lock().await;
        let why = match cache.relist(&self.etcd, &self.keys).await {
            Ok(()) if cache.revision() >= revision_of(term) => return Ok(std::mem::take(&mut *cache)),
            Ok(()) => "etcd answered from the past".to_owned(),
            Err(error) => match Trouble::from((error, self.keys.root())) {
                Trouble::ToMend(error) => return Err(StoreError::Refused(format!("no document can be read: {error}"))),
                Trouble::Passing(why) => why,
                Trouble::Full => CallError::NoSpace.to_string(),
            },
        };
        Err(StoreError::Failed(format!(
            "etcd did not list the documents ({why}); check that store.etcd.endpoints answer, within \
             store.etcd.request_timeout_ms"
        )))
    }

    async fn commit(&self, term: Term, writes: Vec<Write>) -> Result<(), StoreError> {
        let under_way = self.held.begin(term, &writes)?;
        let committed = self.commit_under(&under_way.held, writes).await;
        if !matches!(committed, Err(StoreError::Unknown(_))) {
            under_way.settled();
        }
        committed
    }

    async fn commit_under(&self, held: &Held, writes: Vec<Write>) -> Result<(), StoreError> {
        let term = held.term;
        let plan = plan(&held.known().ledger, writes)?;
        let mut written = false;
        let in_part = |error, written| match error {
            StoreError::Failed(why) if written => {
                StoreError::Unknown(format!("a part of the batch was written: {why}"))
            }
            other => other,
        };
        for part in plan.parts {
            self.settle(held, part).await.map_err(|error| in_part(error, written))?;
            written = true;
        }
        if plan.staged.is_empty() {
            return Ok(());
        }
        let bulk = Uuid::new_v4().to_string();
        for part in plan.staged {
            let part = encode_staged(&bulk, part).map_err(|error| in_part(error, written))?;
            self.settle(held, part).await.map_err(|error| in_part(error, written))?;
            written = true;
        }
        self.accept(term, &bulk).await.map_err(|error| in_part(error, written))
    }

    /// Makes one transaction durable.
    async fn settle(&self, held: &Held, part: Vec<Encoded>) -> Result<(), StoreError> {
        let term = held.term;
        let sending = Sending::new(&held.known().ledger, &self.keys, term, part);
        let puts = sending.transaction.puts.iter().any(|put| !put.write.removes());
        let (response, in_doubt) = self.send(term, &sending.txn, puts).await?;
        let answer = sending.answer(&response).ok_or_else(not_understood)?;
        let mut known = held.known();
        match known.ledger.judge(&sending.transaction, &answer, in_doubt) {
            Verdict::Durable => {}
            Verdict::Fenced { leader } => return Err(fenced(term, leader)),
            Verdict::Conflict { key } => return Err(StoreError::Conflict(key.to_string())),
            // Only without an answer, and there is one.
            Verdict::SendAgain => return Err(not_understood()),
        }
        known.wrote(sending.transaction.puts.into_iter().map(|put| put.write));
        Ok(())
    }

    /// The write that makes all documents of a staged bulk count.
    async fn accept(&self, term: Term, bulk: &str) -> Result<(), StoreError> {
        let key = self.keys.bulk(bulk);
        let accepting = Txn::new()
            .when([leads(&self.keys, term), Compare::create_revision(key.as_str(), CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key.as_str(), "{}", None)])
            .or_else([TxnOp::get(self.keys.leader(), None), TxnOp::get(key.as_str(), None)]);
        let (response, _) = self.send(term, &accepting, true).await?;
        if response.succeeded() {
            return Ok(());
        }
        let [leader, found] = gets(&response).ok_or_else(not_understood)?;
        match create_revision(&leader) {
            leader if leader != revision_of(term) => Err(fenced(term, leader)),
            // Nobody else draws this number: an earlier sending has landed.
            _ if create_revision(&found) > 0 => Ok(()),
            _ => Err(not_understood()),
        }
    }

    /// Removes bulks that no document names any more. Left for the next leader if it does not succeed.
    async fn forget_bulks(&self, term: Term, bulks: &[String]) {
        for part in bulks.chunks(MOST_DOCUMENTS) {
            let removals: Vec<TxnOp> = part.iter().map(|bulk| TxnOp::delete(self.keys.bulk(bulk), None)).collect();
            let removing = Txn::new().when([leads(&self.keys, term)]).and_then(removals);
            if let Err(error) = self.etcd.call(|client| txn(client, removing.clone())).await {
                tracing::debug!(%error, "bulks that were dealt with stay for now");
                return;
            }
        }
    }

    /// Sends a transaction until etcd answers, while this coordinator leads. Also tells whether an earlier sending may
    /// have been carried out. `puts`: it does more than remove, so that an answer shows that etcd is not full.
    async fn send(&self, term: Term, transaction: &Txn, puts: bool) -> Result<(TxnResponse, bool), StoreError> {
        let (mut in_doubt, mut failures) = (false, 0);
        loop {
            let error = match self.etcd.call(|client| txn(client, transaction.clone())).await {
                Ok(response) => {
                    if puts {
                        self.concern.of_store(None);
                    }
                    if puts && self.full.send_if_modified(std::mem::take) && response.succeeded() {
                        tracing::info!("etcd takes writes again");
                    }
                    return Ok((response, in_doubt));
                }
                Err(CallError::Refused(Refusal::Request, why)) if !in_doubt => return Err(StoreError::Failed(why)),
                Err(error) => error,
            };
            in_doubt |= !error.was_not_sent();
            failures += 1;
            self.concern.of_store(Some(format!("the store does not take a write: {error}")));
            self.say(&error, failures);
            if !self.wait_while_leading(term, failures).await {
                let why = format!("leadership ended before etcd said what became of a write: {error}");
                return Err(StoreError::Unknown(why));
            }
        }
    }

    fn say(&self, error: &CallError, failures: u32) {
        let is_told = failures == 1 || failures.is_multiple_of(10);
        match error {
            CallError::NoSpace if self.full.send_if_modified(|full| !std::mem::replace(full, true)) => {
                tracing::error!("{error}");
            }
            CallError::NoSpace => {}
            CallError::Refused(..) if is_told => tracing::error!(
                %error, failures,
                "etcd refuses a write of this leader until somebody mends it: look at the user, its role and the certificates \
                 of store.etcd; sending it again"
            ),
            _ if is_told => tracing::warn!(%error, failures, "a write to etcd got no answer; sending it again"),
            _ => {}
        }
    }

    /// Waits a little; `false` when the leadership of this term has ended.
    async fn wait_while_leading(&self, term: Term, failures: u32) -> bool {
        let Some(leadership) = self.leading.of(term) else { return false };
        leadership.lost.run_until_cancelled(tokio::time::sleep(BACKOFF.after(failures))).await.is_some()
    }
}

fn fenced(ours: Term, leader: Revision) -> StoreError {
    let incarnation = u16::try_from(ours.wrapping_sub(revision_of(ours)) >> 48).unwrap_or_default();
    StoreError::Fenced { held: term_of(incarnation, leader), ours }
}

fn not_understood() -> StoreError {
    StoreError::Unknown("etcd's answer to a transaction is not understood".to_owned())
}
