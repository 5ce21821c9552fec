//! The one owner of the agent's brain: chooses the next input, applies it, does what the brain says, in order.
//!
//! Inputs that wait are applied together, so that they share one write of the journal. A message to the coordinator is
//! made at the moment the brain decides on it, with the number of commands taken in by then, and all messages of a
//! stream go through one queue: the coordinator sees them in the order in which they were decided.

mod stream;

pub(crate) use stream::{Input, Outgoing, StreamId};

use crate::backoff::Backoff;
use crate::calls::{Calls, Order};
use crate::health::Health;
use crate::journal::Journal;
use crate::{metrics, trace};
use muster_domain::agent::{Adopted, Agent, AgentEffect, AgentEvent, AgentSettings, Observation};
use muster_domain::effect::ToWorker;
use muster_domain::id::{NodeName, RankKey};
use muster_domain::rank::RankReport;
use muster_domain::resources::Resources;
use muster_domain::time::Moment;
use muster_domain::worker::{Hello, Report};
use muster_proto::{Uplink, v1};
use muster_runtime::clock::boottime;
use muster_runtime::telemetry::traceparent_of;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use stream::Session;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Most inputs that share one write of the journal.
const BATCH: usize = 256;
/// Longest sleep. The sleep's clock stands still while the machine does, the brain's does not.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
/// How long calls to the engine may take to end when the agent stops.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);
/// How long a write of the journal may go on then.
const LAST_WRITE_WITHIN: Duration = Duration::from_secs(1);

/// What never changes while the agent runs, as [`Hello`] tells it.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) node: NodeName,
    pub(crate) boot_id: String,
    pub(crate) capacity: Resources,
    pub(crate) categories: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// Something to do once the journal is durable.
enum Deed {
    Send(Outgoing, Box<v1::SessionRequest>),
    Order(RankKey, Order, Option<String>),
}

/// What the driver waits for.
enum Next {
    Link(Input),
    Engine(RankKey, Observation),
    Heartbeat,
    Tick,
    Stop,
}

/// See the module's text.
pub(crate) struct Driver {
    agent: Agent,
    identity: Identity,
    journal: Arc<Mutex<Journal>>,
    calls: Calls,
    health: watch::Receiver<Health>,
    heartbeat: Duration,
    heartbeat_at: Instant,
    session: Option<Session>,
    /// The trace of the command that is being taken in.
    traceparent: Option<String>,
    deeds: Vec<Deed>,
}

impl Driver {
    /// A driver that knows nothing of any rank; call [`Self::adopt`] next.
    pub(crate) fn new(
        settings: AgentSettings,
        identity: Identity,
        journal: Journal,
        calls: Calls,
        health: watch::Receiver<Health>,
        heartbeat: Duration,
    ) -> Self {
        Self {
            agent: Agent::new(settings, journal.last_term()),
            identity,
            journal: Arc::new(Mutex::new(journal)),
            calls,
            health,
            heartbeat,
            heartbeat_at: Instant::now(),
            session: None,
            traceparent: None,
            deeds: Vec::new(),
        }
    }

    /// Takes over what the engine has.
    pub(crate) fn adopt(&mut self, found: Vec<crate::engine::Found>) {
        let running: Vec<RankKey> = found
            .iter()
            .filter(|found| matches!(found.observation, Observation::Started { .. }))
            .map(|found| found.key.clone())
            .collect();
        let adopted = self.with_journal(|journal| {
            let adopt = |found: crate::engine::Found| Adopted {
                time_limit_ms: journal.time_limit_ms(&found.key),
                key: found.key,
                term: found.term,
                observation: found.observation,
            };
            let adopted: Vec<Adopted> = found.into_iter().map(adopt).collect();
            journal.keep_only(|key| adopted.iter().any(|rank| rank.key == *key));
            adopted
        });
        tracing::info!(ranks = adopted.len(), running = running.len(), "adopted what was found on this node");
        for key in &running {
            self.calls.watch(key);
        }
        self.apply(AgentEvent::Adopt(adopted));
    }

    /// Runs until `stop`. Ranks are left as they are.
    pub(crate) async fn run(mut self, mut inputs: mpsc::Receiver<Input>, stop: CancellationToken) {
        loop {
            if !self.perform(&stop).await {
                tracing::warn!("stopping before the journal could be written; what waited for it is left undone");
                break;
            }
            match self.select(&mut inputs, &stop).await {
                Next::Stop => break,
                next => self.take(next),
            }
            for _ in 0..BATCH {
                match self.ready(&mut inputs) {
                    Some(next) => self.take(next),
                    None => break,
                }
            }
        }
        self.calls.drain(DRAIN_WITHIN).await;
    }

    async fn select(&mut self, inputs: &mut mpsc::Receiver<Input>, stop: &CancellationToken) -> Next {
        let wakeup = self.agent.next_wakeup();
        let until_wakeup = wakeup.map_or(LONGEST_SLEEP, |at| Duration::from_millis(at.since_ms(boottime())));
        let welcomed = self.session.as_ref().is_some_and(|session| session.welcomed);
        tokio::select! {
            () = stop.cancelled() => Next::Stop,
            Some(input) = inputs.recv() => Next::Link(input),
            (key, seen) = self.calls.next() => Next::Engine(key, seen),
            () = tokio::time::sleep_until(self.heartbeat_at), if welcomed => Next::Heartbeat,
            () = tokio::time::sleep(until_wakeup.min(LONGEST_SLEEP)) => Next::Tick,
        }
    }

    fn ready(&mut self, inputs: &mut mpsc::Receiver<Input>) -> Option<Next> {
        if let Ok(input) = inputs.try_recv() {
            return Some(Next::Link(input));
        }
        self.calls.try_next().map(|(key, seen)| Next::Engine(key, seen))
    }

    /// Applies one input. What is to be done about it waits in `deeds`.
    fn take(&mut self, next: Next) {
        match next {
            Next::Link(Input::Opened { stream, outgoing }) => self.on_opened(stream, outgoing),
            Next::Link(Input::Received { stream, message, traceparent }) => {
                self.on_received(stream, message, traceparent.as_deref());
            }
            Next::Link(Input::Closed { stream }) => {
                self.session.take_if(|session| session.stream == stream);
            }
            Next::Engine(key, observation) => self.on_observed(key, observation),
            Next::Heartbeat => {
                self.heartbeat_at = Instant::now() + self.heartbeat;
                // After a pause of this process the engine's news may be older than the heartbeat that is due.
                while let Some((key, seen)) = self.calls.try_next() {
                    self.on_observed(key, seen);
                }
                let now = boottime();
                self.say(now, true, self.agent.reports(now));
            }
            Next::Tick => {
                if self.agent.next_wakeup().is_some_and(|at| at <= boottime()) {
                    self.apply(AgentEvent::Tick);
                }
            }
            Next::Stop => {}
        }
    }

    /// A new stream: the complete inventory goes first, and nothing of an older stream counts any more.
    fn on_opened(&mut self, stream: StreamId, outgoing: Outgoing) {
        let now = boottime();
        let engine = self.health.borrow().info.clone();
        let identity = self.identity.clone();
        let hello = Hello {
            node: identity.node,
            boot_id: identity.boot_id,
            capacity: identity.capacity,
            categories: identity.categories,
            labels: identity.labels,
            network_zone: engine.network_zone,
            engine: engine.name,
            engine_version: engine.version,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            last_term: self.agent.last_term(),
            sent_at_ms: now.0,
            ranks: self.agent.reports(now),
        };
        self.deeds.push(Deed::Send(outgoing.clone(), Box::new(Uplink::Hello(Box::new(hello)).into())));
        self.session = Some(Session { stream, outgoing, welcomed: false });
    }

    fn on_received(&mut self, stream: StreamId, message: ToWorker, traceparent: Option<&str>) {
        let Some(session) = self.session.as_mut().filter(|session| session.stream == stream) else {
            tracing::debug!(stream, "message of an older stream dropped");
            return;
        };
        match message {
            ToWorker::Welcome { term } => {
                session.welcomed = true;
                // A leader concludes nothing from a hello, which may come late; the first heartbeat tells it at once.
                self.heartbeat_at = Instant::now();
                if term < self.agent.last_term() {
                    tracing::warn!(
                        term,
                        obeyed = self.agent.last_term(),
                        "coordinator of an older term; its commands are refused"
                    );
                }
                self.apply(AgentEvent::Connected { term });
            }
            ToWorker::Command { sequence, term, command } if session.welcomed => {
                metrics::command(command.name());
                let span = trace::command(command.name(), command.key(), term, sequence, traceparent);
                // Where nothing is traced here, what came is passed on.
                self.traceparent = traceparent_of(&span).or_else(|| traceparent.map(str::to_owned));
                span.in_scope(|| self.apply(AgentEvent::Command { sequence, term, command }));
                self.traceparent = None;
            }
            ToWorker::Command { .. } => {
                tracing::warn!(stream, "coordinator sent a command before its welcome; ending the stream");
                session.outgoing.break_off();
            }
            // The link watches for silence.
            ToWorker::Heard { .. } => {}
        }
    }

    fn on_observed(&mut self, key: RankKey, observation: Observation) {
        match &observation {
            Observation::Started { .. } => self.calls.watch(&key),
            Observation::Removed => self.with_journal(|journal| journal.forget(&key)),
            _ => {}
        }
        tracing::debug!(rank = %key, ?observation, "engine observed");
        self.apply(AgentEvent::Observed { key, observation });
    }

    fn apply(&mut self, event: AgentEvent) {
        let now = boottime();
        for effect in self.agent.apply(now, event) {
            match effect {
                AgentEffect::SaveTerm(term) => self.with_journal(|journal| journal.set_term(term)),
                AgentEffect::SaveTimeLimit { key, time_limit_ms } => {
                    self.with_journal(|journal| journal.set_time_limit(key, time_limit_ms));
                }
                AgentEffect::Prepare(assignment) => self.order(assignment.key.clone(), Order::Prepare(assignment)),
                AgentEffect::Start { key, files, not_after } => self.order(key, Order::Start(files, not_after)),
                AgentEffect::Terminate(key) => self.order(key, Order::Terminate),
                AgentEffect::Kill(key) => self.order(key, Order::Kill),
                AgentEffect::Remove(key) => self.order(key, Order::Remove),
                AgentEffect::Report(ranks) => self.say(now, false, ranks),
                AgentEffect::Refused { key, reason } => {
                    metrics::refused();
                    tracing::warn!(rank = %key, reason, "command refused");
                }
            }
        }
    }

    fn order(&mut self, key: RankKey, order: Order) {
        self.deeds.push(Deed::Order(key, order, self.traceparent.clone()));
    }

    /// Before the welcome nothing is said: the leader takes what a report says for younger than that, and the welcome is
    /// answered with the complete inventory.
    fn say(&mut self, now: Moment, complete: bool, ranks: Vec<RankReport>) {
        let Some(session) = self.session.as_ref().filter(|session| session.welcomed) else { return };
        let report = Report {
            sent_at_ms: now.0,
            applied_sequence: self.agent.applied_sequence(),
            complete,
            ranks,
            engine_ok: self.health.borrow().ok,
        };
        self.deeds.push(Deed::Send(session.outgoing.clone(), Box::new(Uplink::Report(report).into())));
    }

    /// Makes the journal durable, then does everything that waits, in order. `false`: it is not durable, nothing was done,
    /// and the agent is to stop.
    async fn perform(&mut self, stop: &CancellationToken) -> bool {
        if self.with_journal(|journal| journal.is_due()) && !self.commit(stop).await {
            return false;
        }
        for deed in self.deeds.drain(..) {
            match deed {
                Deed::Send(outgoing, message) => outgoing.send(*message),
                Deed::Order(key, order, traceparent) => self.calls.order(key, order, traceparent),
            }
        }
        true
    }

    /// Whether it is durable. Tries until it is, or until `stop`: nothing that follows may be done before that, so a disk
    /// that takes no writes makes the node silent.
    async fn commit(&self, stop: &CancellationToken) -> bool {
        let mut backoff = Backoff::engine();
        loop {
            let journal = Arc::clone(&self.journal);
            let written =
                tokio::task::spawn_blocking(move || journal.lock().unwrap_or_else(PoisonError::into_inner).commit());
            let too_late = async {
                stop.cancelled().await;
                tokio::time::sleep(LAST_WRITE_WITHIN).await;
            };
            let written = tokio::select! {
                biased;
                written = written => written,
                () = too_late => return false,
            };
            match written {
                Ok(Ok(())) => return true,
                Ok(Err(error)) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::error!(%error, cause, "journal cannot be written, trying again");
                }
                Err(error) => tracing::error!(%error, "journal cannot be written, trying again"),
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                () = stop.cancelled() => return false,
            }
        }
    }

    fn with_journal<T>(&self, work: impl FnOnce(&mut Journal) -> T) -> T {
        // Nobody else holds it outside of `commit`, which is awaited, or after which the driver ends.
        work(&mut self.journal.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
