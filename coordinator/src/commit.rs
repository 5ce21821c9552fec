//! Persist, then speak: what the driver decided becomes durable, and only then leaves the process.
//!
//! One transaction is under way at a time. Whatever the driver decides meanwhile gathers in the queue and goes into the
//! next one together (group commit): the slower the disk, the larger the batches. Order is kept because there is one
//! queue and one loop; a decision without writes waits behind the writes of those before it. When a commit fails, the
//! loop ends and drops everything, so that nothing of that batch or a later one leaves.
//!
//! Two exceptions. While a commit waits because the store is full, decisions that only remove documents overtake it
//! ([`Batch::take_removals`]), since a full store takes removals, and only they can give room back. And whoever is turned away
//! until later hears so at once: nothing was applied for them, so nothing is to become durable first.

use crate::crash::{When, crash_point};
use crate::dispatch::Dispatch;
use crate::election::Leadership;
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};
use muster_domain::commit::Batch;
use muster_domain::effect::{DocumentKey, Effect, Milestone, Reply, Write};
use muster_domain::id::RequestId;
use muster_runtime::clock::now;
use std::collections::{BTreeSet, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot, watch};

/// Decisions taken out of the channel at once.
const BATCH_DECISIONS: usize = 1024;
/// Decisions that wait here at most, while a full store takes removals only (I12). Most are answers to heartbeats, which wait like
/// all else; a removal must come through between them: enough for two minutes of 1,000 nodes.
const WAITING_DECISIONS: usize = 65_536;

/// Who waits for a reply, and where it goes.
pub type Caller = (RequestId, oneshot::Sender<Reply>);
/// What one input led to.
pub type Decision = muster_domain::commit::Decision<Caller>;

/// Commits and dispatches until the driver closes the queue, leadership is lost, or a commit fails.
pub async fn run(
    store: Arc<dyn Store>,
    leadership: Leadership,
    decisions: mpsc::Receiver<Decision>,
    dispatch: Dispatch,
    metrics: Metrics,
) -> Result<(), StoreError> {
    let clerk = Clerk { store, leadership, metrics };
    let gathered = Vec::with_capacity(BATCH_DECISIONS);
    let mut desk = Desk { clerk: &clerk, decisions, gathered, queue: VecDeque::new(), removals: false, dispatch };
    while desk.receive().await? {
        while !desk.queue.is_empty() {
            let batch = Batch::take(&mut desk.queue, clerk.store.batch_documents());
            if batch.writes.is_empty() {
                desk.release(batch)?;
            } else {
                desk.commit(batch).await?;
            }
        }
    }
    Ok(())
}

/// Brings batches to the store.
struct Clerk {
    store: Arc<dyn Store>,
    leadership: Leadership,
    metrics: Metrics,
}

impl Clerk {
    async fn make_durable(&self, mut batch: Batch<Caller>) -> Result<Batch<Caller>, StoreError> {
        pass(When::BeforeCommit, &batch.milestones);
        let documents = batch.writes.len();
        let begun = Instant::now();
        self.store.commit(self.leadership.term, std::mem::take(&mut batch.writes)).await?;
        self.metrics.committed(documents, begun.elapsed());
        pass(When::AfterCommit, &batch.milestones);
        Ok(batch)
    }
}

/// What is decided and not durable yet, and where it goes when it is.
struct Desk<'a> {
    clerk: &'a Clerk,
    decisions: mpsc::Receiver<Decision>,
    gathered: Vec<Decision>,
    queue: VecDeque<Decision>,
    /// Whether there may be removals in the queue: a long one is not looked through for nothing.
    removals: bool,
    dispatch: Dispatch,
}

impl Desk<'_> {
    /// Waits for decisions and takes what the queue has place for; `false` when there will be none. May be dropped while
    /// it waits.
    async fn receive(&mut self) -> Result<bool, StoreError> {
        let place = WAITING_DECISIONS.saturating_sub(self.queue.len()).min(BATCH_DECISIONS);
        let any = self.decisions.recv_many(&mut self.gathered, place).await > 0;
        self.removals |= self.gathered.iter().any(Decision::only_removes);
        let mut away = Batch { writes: Vec::new(), milestones: Vec::new(), callers: Vec::new(), effects: Vec::new() };
        for mut decision in self.gathered.drain(..) {
            if let Some(at) = decision.effects.iter().position(Effect::turns_away) {
                away.effects.push(decision.effects.remove(at));
                away.callers.extend(decision.caller.take());
            }
            if !decision.effects.is_empty() || decision.caller.is_some() {
                self.queue.push_back(decision);
            }
        }
        if !away.effects.is_empty() {
            self.release(away)?;
        }
        Ok(any)
    }

    /// Makes a batch durable, then lets its effects out.
    async fn commit(&mut self, batch: Batch<Caller>) -> Result<(), StoreError> {
        let clerk = self.clerk;
        let under_way: BTreeSet<DocumentKey> = batch.writes.iter().map(Write::key).collect();
        let mut full = clerk.store.full();
        let mut closed = false;
        // What another commit kept back may go ahead of this one.
        self.removals = true;
        let mut committing = pin!(clerk.make_durable(batch));
        loop {
            tokio::select! {
                biased;
                durable = &mut committing => return self.release(durable?),
                () = until_full(&mut full) => {}
            }
            let Some(removals) = self.take_removals(&under_way) else {
                // A queue that is full of what must wait takes no more, so that the driver waits too.
                let has_place = self.queue.len() < WAITING_DECISIONS;
                tokio::select! {
                    biased;
                    durable = &mut committing => return self.release(durable?),
                    more = self.receive(), if has_place && !closed => closed = !more?,
                }
                continue;
            };
            let mut removing = pin!(clerk.make_durable(removals));
            tokio::select! {
                biased;
                durable = &mut committing => {
                    self.release(durable?)?;
                    return self.release(removing.await?);
                }
                removed = &mut removing => self.release(removed?)?,
            }
        }
    }

    fn take_removals(&mut self, under_way: &BTreeSet<DocumentKey>) -> Option<Batch<Caller>> {
        if !self.removals {
            return None;
        }
        let taken = Batch::take_removals(&mut self.queue, under_way, self.clerk.store.batch_documents());
        self.removals = taken.is_some();
        taken
    }

    /// Lets out what is durable, while the leadership holds.
    fn release(&mut self, batch: Batch<Caller>) -> Result<(), StoreError> {
        let Clerk { leadership, metrics, .. } = self.clerk;
        if leadership.lost.is_cancelled() || !leadership.validity.holds(now().moment) {
            return Err(StoreError::Failed("leadership was lost".to_owned()));
        }
        for milestone in &batch.milestones {
            metrics.milestone(*milestone);
        }
        for (request, reply) in batch.callers {
            self.dispatch.expect(request, reply);
        }
        for effect in batch.effects {
            self.dispatch.perform(effect);
        }
        pass(When::AfterEffects, &batch.milestones);
        Ok(())
    }
}

/// Waits until the store says that it is full, for ever if it never does.
async fn until_full(full: &mut watch::Receiver<bool>) {
    if full.wait_for(|full| *full).await.is_err() {
        std::future::pending().await
    }
}

fn pass(when: When, milestones: &[Milestone]) {
    for milestone in milestones {
        crash_point(when, milestone.name());
    }
}

#[cfg(test)]
#[path = "commit_tests.rs"]
mod tests;
