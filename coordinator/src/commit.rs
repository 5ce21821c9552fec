//! Persist, then speak: what the driver decided becomes durable, and only then leaves the process.
//!
//! One transaction is under way at a time. Whatever the driver decides meanwhile gathers in the queue and goes into the
//! next one together (group commit): the slower the disk, the larger the batches. Order is kept because there is one
//! queue and one loop; a decision without writes waits behind the writes of those before it. When a commit fails, the
//! loop ends and drops everything, so that nothing of that batch or a later one leaves.

use crate::crash::{When, crash_point};
use crate::dispatch::Dispatch;
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};
use muster_domain::effect::{Effect, Milestone, Reply, Write};
use muster_domain::id::{JobId, RequestId, Term};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Documents after which a batch takes no further decision. One decision is never split, whatever its size.
const BATCH_DOCUMENTS: usize = 1024;
/// Decisions taken from the queue at once.
const BATCH_DECISIONS: usize = 1024;

/// What one input led to.
#[derive(Debug, Default)]
pub struct Decision {
    /// In the order in which the brain gave them.
    pub effects: Vec<Effect>,
    /// Who waits for a reply that may be among them.
    pub caller: Option<(RequestId, oneshot::Sender<Reply>)>,
}

/// Commits and dispatches until the driver closes the queue, leadership is lost, or a commit fails.
pub async fn run(
    store: Arc<dyn Store>,
    term: Term,
    mut decisions: mpsc::Receiver<Decision>,
    mut dispatch: Dispatch,
    lost: CancellationToken,
    metrics: Metrics,
) -> Result<(), StoreError> {
    let mut waiting = Vec::with_capacity(BATCH_DECISIONS);
    while decisions.recv_many(&mut waiting, BATCH_DECISIONS).await > 0 {
        let mut queue: VecDeque<Decision> = waiting.drain(..).collect();
        while !queue.is_empty() {
            let mut batch = Batch::take(&mut queue);
            if !batch.writes.is_empty() {
                batch.pass(When::BeforeCommit);
                let documents = batch.writes.len();
                let begun = Instant::now();
                store.commit(term, std::mem::take(&mut batch.writes).into_values().collect()).await?;
                metrics.committed(documents, begun.elapsed());
                batch.pass(When::AfterCommit);
            }
            if lost.is_cancelled() {
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

fn dispatch_batch(dispatch: &mut Dispatch, batch: Batch) -> Vec<Milestone> {
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

/// Decisions that become durable together.
#[derive(Debug, Default)]
struct Batch {
    /// The last write per document; earlier ones of the same batch are never seen by anybody.
    writes: BTreeMap<JobId, Write>,
    milestones: Vec<Milestone>,
    callers: Vec<(RequestId, oneshot::Sender<Reply>)>,
    effects: Vec<Effect>,
}

impl Batch {
    /// Takes at least one decision, and further ones until the batch is large enough.
    fn take(queue: &mut VecDeque<Decision>) -> Self {
        let mut batch = Self::default();
        while batch.writes.len() < BATCH_DOCUMENTS {
            let Some(decision) = queue.pop_front() else { break };
            batch.callers.extend(decision.caller);
            for effect in decision.effects {
                match effect {
                    Effect::Write { write, milestones } => {
                        let job = match &write {
                            Write::Job(job) => job.spec.id.clone(),
                            Write::ForgetJob(job) => job.clone(),
                        };
                        batch.writes.insert(job, write);
                        batch.milestones.extend(milestones);
                    }
                    other => batch.effects.push(other),
                }
            }
        }
        batch
    }

    fn pass(&self, when: When) {
        pass(when, &self.milestones);
    }
}

#[cfg(test)]
#[path = "commit_tests.rs"]
mod tests;
