//! Persist, then speak: what the driver decided becomes durable, and only then leaves the process.
//!
//! One transaction is under way at a time. Whatever the driver decides meanwhile gathers in the queue and goes into the
//! next one together (group commit): the slower the disk, the larger the batches. Order is kept because there is one
//! queue and one loop; a decision without writes waits behind the writes of those before it. When a commit fails, the
//! loop ends and drops everything, so that nothing of that batch or a later one leaves.

use crate::crash::{When, crash_point};
use crate::dispatch::Dispatch;
use crate::election::Leadership;
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};
use muster_domain::commit::Batch;
use muster_domain::effect::{Milestone, Reply};
use muster_domain::id::RequestId;
use muster_runtime::clock::now;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// Decisions taken from the queue at once.
const BATCH_DECISIONS: usize = 1024;

/// Who waits for a reply, and where it goes.
pub type Caller = (RequestId, oneshot::Sender<Reply>);
/// What one input led to.
pub type Decision = muster_domain::commit::Decision<Caller>;

/// Commits and dispatches until the driver closes the queue, leadership is lost, or a commit fails.
pub async fn run(
    store: Arc<dyn Store>,
    leadership: Leadership,
    mut decisions: mpsc::Receiver<Decision>,
    mut dispatch: Dispatch,
    metrics: Metrics,
) -> Result<(), StoreError> {
    let mut waiting = Vec::with_capacity(BATCH_DECISIONS);
    while decisions.recv_many(&mut waiting, BATCH_DECISIONS).await > 0 {
        let mut queue: VecDeque<Decision> = waiting.drain(..).collect();
        while !queue.is_empty() {
            let mut batch = Batch::take(&mut queue, store.batch_documents());
            if !batch.writes.is_empty() {
                pass(When::BeforeCommit, &batch.milestones);
                let documents = batch.writes.len();
                let begun = Instant::now();
                store.commit(leadership.term, std::mem::take(&mut batch.writes)).await?;
                metrics.committed(documents, begun.elapsed());
                pass(When::AfterCommit, &batch.milestones);
            }
            if leadership.lost.is_cancelled() || !leadership.validity.holds(now().moment) {
                return Err(StoreError::Failed("leadership was lost".to_owned()));
            }
            for milestone in &batch.milestones {
                metrics.milestone(*milestone);
            }
            let milestones = dispatch_batch(&mut dispatch, batch);
            pass(When::AfterEffects, &milestones);
        }
    }
    Ok(())
}

fn dispatch_batch(dispatch: &mut Dispatch, batch: Batch<Caller>) -> Vec<Milestone> {
    for (request, reply) in batch.callers {
        dispatch.expect(request, reply);
    }
    for effect in batch.effects {
        dispatch.perform(effect);
    }
    batch.milestones
}

fn pass(when: When, milestones: &[Milestone]) {
    for milestone in milestones {
        crash_point(when, milestone.name());
    }
}

#[cfg(test)]
#[path = "commit_tests.rs"]
mod tests;
