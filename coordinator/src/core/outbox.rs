//! What jobs owe Core and waits to be sent.
//!
//! The brain has at most one update and one charge per job under way, so order within a job needs no care here and the
//! queues are bounded by the number of jobs. Items wait in a lane; whenever one of the lane's few calls is free it takes
//! up to 50 of them. [`super::delivery`] does the sending.

use super::client::UpdateItem;
use muster_domain::accounting::Charge;
use muster_domain::id::JobId;
use muster_domain::outbox::Notice;
use muster_runtime::telemetry;
use muster_ucloud::v2021::control::ResourceChargeCredits;
use muster_ucloud::v2021::words::Words;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tracing::{Span, field, info_span};

/// Items of one call.
const BATCH: usize = 50;
/// Jobs to disown that may wait; those beyond are dropped, because Core asks again every 5 minutes.
const QUEUED_STRANGERS: usize = 1000;

/// Something to append to a job's history.
#[derive(Clone, Debug)]
pub(super) struct Tell {
    pub(super) job: JobId,
    pub(super) item: UpdateItem,
    /// Number of the notice; `None` for a job that is not ours, whose answer nobody waits for.
    pub(super) number: Option<u32>,
    pub(super) span: Span,
}

/// A sealed charge.
#[derive(Clone, Debug)]
pub(super) struct Bill {
    pub(super) job: JobId,
    pub(super) item: ResourceChargeCredits,
    pub(super) window: u32,
    pub(super) span: Span,
}

/// What waits for a call of one kind.
#[derive(Debug)]
pub(super) struct Lane<T> {
    items: Mutex<VecDeque<T>>,
    filled: Notify,
}

impl<T> Lane<T> {
    fn new() -> Self {
        Self { items: Mutex::new(VecDeque::new()), filled: Notify::new() }
    }

    pub(super) fn push(&self, item: T) {
        self.locked().push_back(item);
        self.filled.notify_one();
    }

    /// Waits for at least one item and takes up to a batch of them.
    pub(super) async fn take(&self) -> Vec<T> {
        loop {
            {
                let mut items = self.locked();
                if !items.is_empty() {
                    let count = items.len().min(BATCH);
                    return items.drain(..count).collect();
                }
            }
            self.filled.notified().await;
        }
    }

    fn locked(&self) -> MutexGuard<'_, VecDeque<T>> {
        // Nothing panics while it holds the lock; if it ever does, the queue is still whole.
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What dispatch puts effects into. Cheap to clone; never waits.
#[derive(Clone, Debug)]
pub struct Outbox {
    pub(super) tells: Arc<Lane<Tell>>,
    pub(super) bills: Arc<Lane<Bill>>,
    words: Words,
}

impl Outbox {
    /// An empty outbox that words things so.
    #[must_use]
    pub fn new(words: Words) -> Self {
        Self { tells: Arc::new(Lane::new()), bills: Arc::new(Lane::new()), words }
    }

    /// Tells Core about a job; the answer comes back as [`muster_domain::event::Event::Told`].
    pub fn tell(&self, job: JobId, number: u32, notice: Notice, traceparent: Option<String>) {
        let span = info_span!("core update", %job, number, outcome = field::Empty);
        telemetry::continue_from(&span, traceparent.as_deref());
        let item = self.words.update(&job, &notice);
        self.tells.push(Tell { job, item, number: Some(number), span });
    }

    /// Sends a sealed charge; the answer comes back as [`muster_domain::event::Event::Charged`].
    pub fn charge(&self, charge: Charge, traceparent: Option<String>) {
        let span = info_span!("core charge", job = %charge.job, window = charge.window, outcome = field::Empty);
        telemetry::continue_from(&span, traceparent.as_deref());
        let item = self.words.charge(&charge);
        self.bills.push(Bill { job: charge.job, item, window: charge.window, span });
    }

    /// Tells Core once that a job is not known here.
    pub fn disown(&self, job: JobId) {
        let mut waiting = self.tells.locked();
        let strangers = waiting.iter().filter(|tell| tell.number.is_none());
        if strangers.clone().any(|tell| tell.job == job) || strangers.count() >= QUEUED_STRANGERS {
            return;
        }
        let span = info_span!("core disown", %job, outcome = field::Empty);
        let item = self.words.unknown_job_update(&job);
        waiting.push_back(Tell { job, item, number: None, span });
        drop(waiting);
        self.tells.filled.notify_one();
    }

    /// Items that wait for a call.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.tells.locked().len() + self.bills.locked().len()
    }
}
