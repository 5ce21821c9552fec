//! What the store does by the way: keeps a follower warm, looks whether anybody else writes, measures space, and tells
//! etcd which history nobody needs.

use super::failure::CallError;
use super::keys::Name;
use super::leading::is_held;
use super::snapshot::{list_keys, look};
use super::store::Inner;
use crate::store::Space;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// When the store does what it does by the way. Not for operators; tests have less time.
#[derive(Clone, Debug)]
pub struct Rhythm {
    /// How far behind a follower's cache may be; how often the store sees whether anything else is due.
    pub warm_every: Duration,
    /// Between two looks at what else changes the keys (reliability F12).
    pub look_every: Duration,
    /// Between two measurements of the space that etcd takes.
    pub measure_every: Duration,
    /// History is kept for about this long, drawn anew each time. etcd's own compaction, if it is set up, may well be
    /// faster.
    pub compact_every: Range<Duration>,
}

impl Default for Rhythm {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Self {
            warm_every: Duration::from_secs(2),
            look_every: Duration::from_secs(30),
            measure_every: Duration::from_secs(30),
            compact_every: minutes(55)..minutes(65),
        }
    }
}

/// Shares of the budget at which an operator is told, in percent.
const TOLD_AT_PERCENT: [u64; 2] = [60, 80];

/// Runs until it is aborted, and again after a failure of our own making.
pub(super) async fn run_for_ever(store: Arc<Inner>) {
    loop {
        let running = AbortOnDropHandle::new(tokio::spawn(run(Arc::clone(&store))));
        if let Err(error) = running.await {
            tracing::error!(%error, "the housekeeping of the store failed, and begins anew; please report this");
        }
        tokio::time::sleep(store.rhythm.warm_every).await;
    }
}

async fn run(store: Arc<Inner>) {
    let Rhythm { warm_every, look_every, measure_every, compact_every } = store.rhythm.clone();
    let mut measured: Option<Instant> = None;
    let mut listed: Option<Instant> = None;
    let mut compaction: Option<(Instant, i64)> = None;
    let is_due = |last: Option<Instant>, every| last.is_none_or(|at| at.elapsed() >= every);
    loop {
        let leads = store.leading.get().is_some_and(|held| is_held(&held));
        if !leads {
            (listed, compaction) = (None, None);
            store.warm().await;
        } else if is_due(listed, look_every) {
            listed = Some(Instant::now());
            if let Err(error) = store.look_for_strangers().await {
                tracing::debug!(%error, "the keys were not listed again");
            }
        }
        if is_due(measured, measure_every) {
            measured = Some(Instant::now());
            store.measure().await;
        }
        if leads && compaction.is_none_or(|(due, _)| Instant::now() >= due) {
            let due = Instant::now() + rand::random_range(compact_every.clone());
            compaction = store.compact(compaction.map(|(_, revision)| revision)).await.map(|present| (due, present));
        }
        tokio::time::sleep(warm_every).await;
    }
}

impl Inner {
    async fn warm(&self) {
        let refreshed = self.cache.lock().await.refresh(&self.etcd, &self.keys).await;
        if let Err(error) = refreshed {
            tracing::debug!(%error, "the cache was not brought forward");
        }
    }

    /// Lists all keys and compares them with what this leader wrote. Nobody else may write documents while it leads; if
    /// somebody did, its memory is not the truth any more, and a new leadership must read everything again.
    async fn look_for_strangers(&self) -> Result<(), CallError> {
        let Some(held) = self.held.get() else { return Ok(()) };
        held.known().begin_look();
        let listed = async {
            let (revision, _) = look(&self.etcd, &self.keys).await?;
            Ok::<_, CallError>((revision, list_keys(&self.etcd, &self.keys, revision).await?))
        };
        let (revision, listed) = listed.await?;
        let documents = listed.into_iter().filter_map(|(key, (revision, _))| match self.keys.read(&key) {
            Name::Document(document) => Some((document, revision.unsigned_abs())),
            Name::Bulk(_) | Name::Other => None,
        });
        let strange = held.known().end_look(revision.unsigned_abs(), &documents.collect());
        // What was given up meanwhile may be behind what is written.
        if let Some(key) = strange.filter(|_| self.held.has(&held)) {
            tracing::error!(
                key = self.keys.document(&key),
                "somebody who does not lead changed a document; nothing but coordinators may write below this prefix. \
                 Leadership is given up, so that everything is read again"
            );
            self.fence.fenced(held.term);
        }
        Ok(())
    }

    /// Asks every member for the size of its file; the largest counts, since the first that is full stops all.
    async fn measure(&self) {
        let mut largest: Option<u64> = None;
        for member in 0..self.etcd.endpoints().len() {
            let status = self.etcd.call_at(member, |mut client| async move { client.status().await }).await;
            largest = largest.max(status.ok().map(|status| status.db_size().unsigned_abs()));
        }
        let Some(used_bytes) = largest else { return };
        let space = Space { used_bytes, budget_bytes: self.budget_bytes };
        let before = self.space.send_replace(Some(space));
        let reached = |space: Space| {
            TOLD_AT_PERCENT.into_iter().rfind(|percent| space.used_bytes >= space.budget_bytes / 100 * percent)
        };
        if reached(space) > before.and_then(reached) {
            tracing::warn!(
                used_bytes,
                budget_bytes = self.budget_bytes,
                "etcd fills up; from 80 % no new job is accepted: compact and defragment it (`etcdctl defrag --cluster`), or \
                 raise its --quota-backend-bytes and store.etcd.space_budget_mib"
            );
        }
    }

    /// Gives up history up to `until`. Answers the present revision, until which it may be given up next time.
    async fn compact(&self, until: Option<i64>) -> Option<i64> {
        if let Some(until) = until {
            let compacted = self.etcd.call(|client| async move { client.kv_client().compact(until, None).await }).await;
            match compacted {
                // etcd's own compaction was faster.
                Ok(_) | Err(CallError::Compacted) => tracing::debug!(until, "history was given up"),
                Err(error) => tracing::info!(%error, "etcd did not give up old history; its file may grow"),
            }
        }
        look(&self.etcd, &self.keys).await.ok().map(|(revision, _)| revision)
    }
}
