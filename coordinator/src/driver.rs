//! The only owner of the cluster's state: one async function chooses the next input, one sync function applies it.

use crate::commit::{Caller, Decision};
use crate::handle::Input;
use muster_domain::cluster::Cluster;
use muster_domain::effect::Effect;
use muster_domain::event::Event;
use muster_domain::time::Now;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Inputs taken from the queue at once. Between two such groups the clock is looked at.
const GROUP: usize = 256;
/// Decisions that may wait for the disk. When it is reached the driver waits, then its callers do.
pub const QUEUED_DECISIONS: usize = 4096;
/// Inputs that may wait for the driver.
pub const QUEUED_INPUTS: usize = 4096;
/// The least time between two ticks when nothing else happens, so that a wake-up in the past cannot spin.
const LEAST_TICK: Duration = Duration::from_millis(1);
/// The longest sleep; a wake-up that a suspended machine missed is found after at most this time.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// Whoever commits has stopped: the store failed or leadership is lost. Its own error says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("decisions can no longer be made durable")]
pub struct CommitStopped;

/// The driver.
pub struct Driver {
    cluster: Cluster,
    inputs: mpsc::Receiver<Input>,
    decisions: mpsc::Sender<Decision>,
    clock: fn() -> Now,
}

enum Next {
    Inputs,
    Tick,
    Stop,
}

impl Driver {
    /// Drives `cluster`; every decision goes to `decisions`, in order.
    #[must_use]
    pub fn new(
        cluster: Cluster,
        inputs: mpsc::Receiver<Input>,
        decisions: mpsc::Sender<Decision>,
        clock: fn() -> Now,
    ) -> Self {
        Self { cluster, inputs, decisions, clock }
    }

    /// Runs until `stop`, then applies what is queued already and closes `decisions`. `owed` is what the restored
    /// cluster owes at once.
    pub async fn run(mut self, owed: Vec<Effect>, stop: CancellationToken) -> Result<(), CommitStopped> {
        self.decide(Decision { effects: owed, caller: None }).await?;
        let mut group = Vec::with_capacity(GROUP);
        loop {
            match self.next(&mut group, &stop).await? {
                Next::Inputs => self.apply_all(&mut group).await?,
                Next::Tick => self.apply(Event::Tick, None).await?,
                Next::Stop => break,
            }
            // Inputs that never pause must not keep time from passing.
            if self.cluster.next_wakeup().is_some_and(|wakeup| wakeup <= (self.clock)().moment) {
                self.apply(Event::Tick, None).await?;
            }
        }
        self.inputs.close();
        while let Some(input) = self.inputs.recv().await {
            group.push(input);
        }
        self.apply_all(&mut group).await
    }

    /// Chooses what comes next. Cancel-safe by construction: it is never dropped half-way but by the end of the driver.
    async fn next(&mut self, group: &mut Vec<Input>, stop: &CancellationToken) -> Result<Next, CommitStopped> {
        let sleep = match self.cluster.next_wakeup() {
            Some(wakeup) => Duration::from_millis(wakeup.since_ms((self.clock)().moment)).max(LEAST_TICK),
            None => LONGEST_SLEEP,
        };
        tokio::select! {
            taken = self.inputs.recv_many(group, GROUP) => Ok(if taken == 0 { Next::Stop } else { Next::Inputs }),
            () = tokio::time::sleep(sleep.min(LONGEST_SLEEP)) => Ok(Next::Tick),
            () = stop.cancelled() => Ok(Next::Stop),
            () = self.decisions.closed() => Err(CommitStopped),
        }
    }

    async fn apply_all(&mut self, group: &mut Vec<Input>) -> Result<(), CommitStopped> {
        for input in group.drain(..) {
            match input {
                Input::Event(event) => self.apply(event, None).await?,
                Input::Call { event, request, reply } => self.apply(event, Some((request, reply))).await?,
                Input::Query(question) => question(&self.cluster, (self.clock)()),
            }
        }
        Ok(())
    }

    async fn apply(&mut self, event: Event, caller: Option<Caller>) -> Result<(), CommitStopped> {
        let effects = self.cluster.apply((self.clock)(), event);
        self.decide(Decision { effects, caller }).await
    }

    async fn decide(&self, decision: Decision) -> Result<(), CommitStopped> {
        if decision.effects.is_empty() && decision.caller.is_none() {
            return Ok(());
        }
        self.decisions.send(decision).await.map_err(|_| CommitStopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::Handle;
    use crate::testing::{noon, settings, spec};
    use muster_domain::effect::{Documents, Write};
    use std::sync::atomic::{AtomicU64, Ordering};
    use tokio::sync::broadcast;
    use tokio::task::JoinHandle;

    struct Stage {
        handle: Handle,
        decisions: mpsc::Receiver<Decision>,
        stop: CancellationToken,
        task: JoinHandle<Result<(), CommitStopped>>,
    }

    fn stage(clock: fn() -> Now) -> Stage {
        let (inputs, queue) = mpsc::channel(16);
        let (changes, _) = broadcast::channel(16);
        let (sender, decisions) = mpsc::channel(16);
        let (cluster, owed) = Cluster::restore(settings(), 1, clock(), Documents::default());
        let stop = CancellationToken::new();
        let task = tokio::spawn(Driver::new(cluster, queue, sender, clock).run(owed, stop.clone()));
        Stage { handle: Handle::new(inputs, changes), decisions, stop, task }
    }

    #[tokio::test]
    async fn a_call_becomes_a_decision_that_carries_its_caller() {
        let mut stage = stage(noon);
        let handle = stage.handle.clone();
        let call =
            tokio::spawn(async move { handle.call(|request| Event::Create { request, jobs: vec![spec("1")] }).await });
        let decision = stage.decisions.recv().await.unwrap();
        let (request, reply) = decision.caller.unwrap();
        let written =
            decision.effects.iter().position(|effect| matches!(effect, Effect::Write { write: Write::Job(_), .. }));
        let replied = decision
            .effects
            .iter()
            .position(|effect| matches!(effect, Effect::Reply { request: to, reply: Ok(()) } if *to == request));
        assert!(written.unwrap() < replied.unwrap());
        assert!(!call.is_finished());
        reply.send(Ok(())).unwrap();
        assert_eq!(call.await.unwrap(), Ok(Ok(())));
        let known = stage.handle.query(|cluster, _| cluster.location(&spec("1").id).is_some()).await;
        assert_eq!(known, Ok(true));
    }

    #[tokio::test]
    async fn what_is_queued_at_the_stop_is_still_decided() {
        let mut stage = stage(noon);
        stage.stop.cancel();
        let handle = stage.handle.clone();
        let call =
            tokio::spawn(async move { handle.call(|request| Event::Create { request, jobs: vec![spec("1")] }).await });
        while let Some(decision) = stage.decisions.recv().await {
            drop(decision);
        }
        assert_eq!(stage.task.await.unwrap(), Ok(()));
        // Decided and then dropped with the queue, or refused at once: never left waiting.
        assert!(call.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn without_a_committer_the_driver_stops() {
        let stage = stage(noon);
        drop(stage.decisions);
        assert_eq!(stage.task.await.unwrap(), Err(CommitStopped));
        assert!(stage.handle.query(|cluster, _| cluster.term()).await.is_err());
    }

    #[tokio::test]
    async fn time_passes_while_nothing_happens_and_a_past_wakeup_does_not_spin() {
        static READ: AtomicU64 = AtomicU64::new(0);
        fn clock() -> Now {
            READ.fetch_add(1, Ordering::Relaxed);
            muster_runtime::clock::now()
        }
        let mut stage = stage(clock);
        let handle = stage.handle.clone();
        tokio::spawn(async move { handle.call(|request| Event::Create { request, jobs: vec![spec("1")] }).await });
        stage.decisions.recv().await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(READ.load(Ordering::Relaxed) < 1000);
    }
}
