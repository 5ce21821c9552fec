//! How every other part of the coordinator talks to the driver: send an event, await a reply.

use crate::election::Validity;
use muster_domain::cluster::Cluster;
use muster_domain::effect::Reply;
use muster_domain::event::Event;
use muster_domain::id::{JobId, RequestId};
use muster_domain::time::Now;
use muster_runtime::clock::now;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{broadcast, mpsc, oneshot};

/// A question that only reads. It sees the state as last applied, which may be ahead of what is durable by one commit.
pub type Question = Box<dyn FnOnce(&Cluster, Now) + Send>;

/// What reaches the driver.
pub enum Input {
    /// Something happened; nobody waits.
    Event(Event),
    /// Somebody waits for the [`Reply`] that carries this request's number.
    Call {
        /// The event, which holds `request`.
        event: Event,
        /// Its number.
        request: RequestId,
        /// Where the reply goes once it is durable.
        reply: oneshot::Sender<Reply>,
    },
    /// A question that only reads.
    Query(Question),
}

/// There is no driver, since this coordinator does not lead; or it has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this coordinator does not lead, or is stopping")]
pub struct NotAnswered;

/// The driver of one leadership.
#[derive(Clone, Debug)]
struct Driver {
    inputs: mpsc::Sender<Input>,
    validity: Validity,
}

/// A sender to the driver of the present leadership, if there is one. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Handle {
    driver: Arc<RwLock<Option<Driver>>>,
    changes: broadcast::Sender<JobId>,
    requests: Arc<AtomicU64>,
}

impl Handle {
    /// A handle that feeds `inputs`; the driver publishes changed jobs on `changes`.
    #[must_use]
    pub fn new(inputs: mpsc::Sender<Input>, changes: broadcast::Sender<JobId>) -> Self {
        let handle = Self::vacant(changes);
        handle.lead(inputs, Validity::unbounded());
        handle
    }

    /// A handle without a driver; every call is [`NotAnswered`].
    #[must_use]
    pub fn vacant(changes: broadcast::Sender<JobId>) -> Self {
        Self { driver: Arc::default(), changes, requests: Arc::new(AtomicU64::new(1)) }
    }

    /// From now on `inputs` is fed, and what it is asked counts while `validity` holds.
    pub fn lead(&self, inputs: mpsc::Sender<Input>, validity: Validity) {
        *self.driver.write().unwrap_or_else(PoisonError::into_inner) = Some(Driver { inputs, validity });
    }

    /// There is no driver any more.
    pub fn rest(&self) {
        *self.driver.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn send(&self, input: Input) -> Result<Validity, NotAnswered> {
        let driver = self.driver.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Driver { inputs, validity } = driver.ok_or(NotAnswered)?;
        inputs.send(input).await.map_err(|_| NotAnswered)?;
        Ok(validity)
    }

    /// Sends a request and waits for its durable reply. Callers bound the wait themselves.
    pub async fn call(&self, make: impl FnOnce(RequestId) -> Event) -> Result<Reply, NotAnswered> {
        let request = self.requests.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        let input = Input::Call { event: make(request), request, reply };
        self.send(input).await?;
        answer.await.map_err(|_| NotAnswered)
    }

    /// Says that something happened.
    pub async fn tell(&self, event: Event) -> Result<(), NotAnswered> {
        self.send(Input::Event(event)).await.map(drop)
    }

    /// Asks something that only reads. A leader in doubt does not answer: its successor may know better by now.
    pub async fn query<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Cluster, Now) -> T + Send + 'static,
    ) -> Result<T, NotAnswered> {
        let (reply, answer) = oneshot::channel();
        let question: Question = Box::new(move |cluster, now| {
            // Whoever asked may have gone away meanwhile.
            let _ = reply.send(ask(cluster, now));
        });
        let validity = self.send(Input::Query(question)).await?;
        let answer = answer.await.map_err(|_| NotAnswered)?;
        if validity.holds(now().moment) { Ok(answer) } else { Err(NotAnswered) }
    }

    /// Ids of jobs that moved on, from now on. A receiver that lags must look at its job again.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<JobId> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{noon, settings};
    use muster_domain::effect::Documents;
    use muster_domain::time::Moment;

    #[tokio::test]
    async fn a_leader_in_doubt_answers_no_question() {
        let (inputs, mut queue) = mpsc::channel(1);
        let handle = Handle::vacant(broadcast::channel(1).0);
        let validity = Validity::unbounded();
        handle.lead(inputs, validity.clone());
        tokio::spawn(async move {
            let (cluster, _) = Cluster::restore(settings(), 1, noon(), Documents::default());
            while let Some(Input::Query(question)) = queue.recv().await {
                question(&cluster, noon());
            }
        });
        assert_eq!(handle.query(|cluster, _| cluster.term()).await, Ok(1));
        validity.set(Moment(0));
        assert_eq!(handle.query(|cluster, _| cluster.term()).await, Err(NotAnswered));
    }
}
