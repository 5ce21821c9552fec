//! Performs effects whose writes are durable, in the order given. Never waits, so that no reader of the driver's
//! effects can hold the driver up; every queue it feeds is bounded where it ends.

use crate::core::outbox::Outbox;
use crate::fleet::sessions::Sessions;
use crate::metrics::Metrics;
use muster_domain::effect::{Effect, Reply};
use muster_domain::id::{JobId, RequestId};
use muster_proto::Downlink;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Notify, broadcast, oneshot};

/// Callers after which those who have left are swept out.
const SWEEP_CALLERS: usize = 1024;

/// Where effects go.
#[derive(Debug)]
pub struct Dispatch {
    callers: HashMap<RequestId, oneshot::Sender<Reply>>,
    sweep_at: usize,
    sessions: Sessions,
    core: Outbox,
    changes: broadcast::Sender<JobId>,
    yielded: Arc<Notify>,
    metrics: Metrics,
}

impl Dispatch {
    /// To these. `yielded` is told when the brain thinks that another coordinator should lead.
    #[must_use]
    pub fn new(
        sessions: Sessions,
        core: Outbox,
        changes: broadcast::Sender<JobId>,
        yielded: Arc<Notify>,
        metrics: Metrics,
    ) -> Self {
        Self { callers: HashMap::new(), sweep_at: SWEEP_CALLERS, sessions, core, changes, yielded, metrics }
    }

    /// Somebody waits for the reply to this request.
    pub fn expect(&mut self, request: RequestId, reply: oneshot::Sender<Reply>) {
        if self.callers.len() >= self.sweep_at {
            self.callers.retain(|_, reply| !reply.is_closed());
            self.sweep_at = SWEEP_CALLERS.max(self.callers.len() * 2);
        }
        self.callers.insert(request, reply);
    }

    /// Performs one effect.
    pub fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Write { .. } => debug_assert!(false, "a write reached dispatch"),
            Effect::Reply { request, reply } => {
                if let Some(caller) = self.callers.remove(&request) {
                    // Whoever asked may have gone away; Core asks again.
                    let _ = caller.send(reply);
                }
            }
            Effect::Send { session, message, traceparent } => {
                self.sessions.push(session, Downlink::Say { message, traceparent });
            }
            Effect::Close { session, reason } => {
                tracing::info!(session, reason, "worker stream closed");
                self.sessions.close(session, &reason);
            }
            Effect::Tell { job, number, notice, traceparent } => self.core.tell(job, number, notice, traceparent),
            Effect::Charge { charge, traceparent } => self.core.charge(charge, traceparent),
            Effect::Disown { job } => self.core.disown(job),
            Effect::Changed { job } => {
                // Nobody may be watching.
                let _ = self.changes.send(job);
            }
            Effect::Yield { reason } => {
                tracing::error!(reason, "this leader may be at fault");
                self.metrics.alarm();
                self.yielded.notify_one();
            }
            Effect::Alarm { message } => {
                tracing::error!(message, "alarm");
                self.metrics.alarm();
            }
        }
    }
}
