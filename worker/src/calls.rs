//! Calls to the engine: for each rank one at a time, in order; different ranks never wait for each other.
//!
//! Whatever an engine answers becomes an observation here. "No answer" never does: nothing is known then, so the call is
//! repeated. Preparing and starting are given up after some patience, because another node may do better; ending and
//! removing are repeated for ever, because nobody else can do it.

use crate::backoff::Backoff;
use crate::engine::{Engine, EngineError, Fault};
use crate::{metrics, trace};
use futures_util::FutureExt;
use muster_domain::agent::Observation;
use muster_domain::id::RankKey;
use muster_domain::peers::PeerFiles;
use muster_domain::rank::{Assignment, RankEnd};
use muster_domain::time::Moment;
use muster_runtime::clock;
use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tracing::Instrument;

/// What the engine is to do about one rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Prepare(Box<Assignment>),
    Start(PeerFiles, Moment),
    Terminate,
    Kill,
    Remove,
}

impl Order {
    fn name(&self) -> &'static str {
        match self {
            Self::Prepare(_) => "prepare",
            Self::Start(..) => "start",
            Self::Terminate => "terminate",
            Self::Kill => "kill",
            Self::Remove => "remove",
        }
    }
}

/// What a task of this module ended with.
#[derive(Debug)]
enum Done {
    Call { key: RankKey, seen: Option<Observation> },
    Wait { key: RankKey, seen: Observation },
}

#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Order>,
    under_way: Option<&'static str>,
    wait: Option<AbortHandle>,
    traceparent: Option<String>,
}

/// The calls of all ranks. Dropping it abandons what is under way; no rank is touched by that.
pub(crate) struct Calls {
    engine: Arc<dyn Engine>,
    patience: Duration,
    lanes: BTreeMap<RankKey, Lane>,
    tasks: JoinSet<Done>,
}

impl Calls {
    /// `patience`: how long preparing or starting is repeated while the engine does not answer.
    pub(crate) fn new(engine: Arc<dyn Engine>, patience: Duration) -> Self {
        Self { engine, patience, lanes: BTreeMap::new(), tasks: JoinSet::new() }
    }

    /// Adds an order behind those that the rank waits for. One that is pending already is not added again, so that
    /// nothing piles up while the engine is away.
    pub(crate) fn order(&mut self, key: RankKey, order: Order, traceparent: Option<String>) {
        let lane = self.lanes.entry(key.clone()).or_default();
        if traceparent.is_some() {
            lane.traceparent = traceparent;
        }
        let name = order.name();
        if lane.under_way == Some(name) || lane.waiting.iter().any(|waiting| waiting.name() == name) {
            return;
        }
        lane.waiting.push_back(order);
        self.advance(key);
    }

    /// Waits for the end of a rank that runs. Once is enough.
    pub(crate) fn watch(&mut self, key: &RankKey) {
        let lane = self.lanes.entry(key.clone()).or_default();
        if lane.wait.is_some() {
            return;
        }
        let span = trace::run(key, lane.traceparent.as_deref());
        let task = wait(Arc::clone(&self.engine), key.clone());
        lane.wait = Some(self.tasks.spawn(task.instrument(span)));
    }

    /// The next thing the engine saw. Never ends; may be dropped and called again.
    pub(crate) async fn next(&mut self) -> (RankKey, Observation) {
        loop {
            match self.tasks.join_next().await {
                Some(joined) => {
                    if let Some(seen) = self.take(joined) {
                        return seen;
                    }
                }
                None => std::future::pending().await,
            }
        }
    }

    /// What the engine has seen already, if anything.
    pub(crate) fn try_next(&mut self) -> Option<(RankKey, Observation)> {
        while let Some(joined) = self.tasks.try_join_next() {
            if let Some(seen) = self.take(joined) {
                return Some(seen);
            }
        }
        None
    }

    /// Lets calls that are under way end, `within` at most, so that no container is left half made. Begins no new ones.
    pub(crate) async fn drain(mut self, within: Duration) {
        for lane in self.lanes.values_mut() {
            lane.waiting.clear();
            if let Some(wait) = lane.wait.take() {
                wait.abort();
            }
        }
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(within, all).await.is_err() {
            tracing::warn!("calls to the engine are abandoned; they are taken up again at the next start");
        }
    }

    fn take(&mut self, joined: Result<Done, tokio::task::JoinError>) -> Option<(RankKey, Observation)> {
        match joined {
            Ok(Done::Call { key, seen }) => {
                let lane = self.lanes.get_mut(&key)?;
                lane.under_way = None;
                if seen == Some(Observation::Removed) {
                    if let Some(wait) = lane.wait.take() {
                        wait.abort();
                    }
                    if lane.waiting.is_empty() {
                        self.lanes.remove(&key);
                    }
                }
                self.advance(key.clone());
                Some((key, seen?))
            }
            Ok(Done::Wait { key, seen }) => {
                if let Some(lane) = self.lanes.get_mut(&key) {
                    lane.wait = None;
                }
                Some((key, seen))
            }
            Err(error) => {
                // Aborted waits; a panic of the engine's is caught around each single call.
                if error.is_panic() {
                    tracing::error!(%error, "a task of an engine call panicked");
                }
                None
            }
        }
    }

    fn advance(&mut self, key: RankKey) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if lane.under_way.is_some() {
            return;
        }
        let Some(order) = lane.waiting.pop_front() else { return };
        lane.under_way = Some(order.name());
        let parent = lane.traceparent.as_deref();
        let span = match order {
            Order::Prepare(_) => trace::prepare(&key, parent),
            Order::Start(..) => trace::start(&key, parent),
            Order::Terminate => trace::terminate(&key, parent),
            Order::Kill => trace::kill(&key, parent),
            Order::Remove => trace::remove(&key, parent),
        };
        let (engine, patience) = (Arc::clone(&self.engine), self.patience);
        let task = async move {
            let seen = perform(engine.as_ref(), &key, order, patience).await;
            Done::Call { key, seen }
        };
        self.tasks.spawn(task.instrument(span));
    }
}

/// A start that waited too long, in a queue or for the engine, is not made: the leader may have given the rank up meanwhile
/// (reliability, hole 4). Whether an earlier try took is not known then, so it counts as unanswered.
async fn start(
    engine: &dyn Engine,
    key: &RankKey,
    files: &PeerFiles,
    not_after: Moment,
) -> Result<Moment, EngineError> {
    if clock::boottime() > not_after {
        let message = "the node took too long to start the rank".to_owned();
        return Err(EngineError { fault: Fault::Unavailable, message });
    }
    engine.start(key, files).await
}

async fn perform(engine: &dyn Engine, key: &RankKey, order: Order, patience: Duration) -> Option<Observation> {
    let began = Instant::now();
    let name = order.name();
    let seen = match order {
        Order::Prepare(assignment) => match patiently(key, name, patience, || engine.prepare(&assignment)).await {
            Ok(address) => Some(Observation::Prepared { address }),
            Err(error) => Some(Observation::PrepareFailed { retry: may_retry(&error), reason: error.message }),
        },
        Order::Start(files, not_after) => {
            match patiently(key, name, patience, || start(engine, key, &files, not_after)).await {
                Ok(started_at) => Some(Observation::Started { started_at }),
                Err(error) => {
                    if error.fault == Fault::Unavailable {
                        // It may run, unseen, or a start may still wait inside the engine. "Could not be started" is said only
                        // when there is nothing left that could be started.
                        persistently(key, "remove", || engine.remove(key)).await;
                    }
                    Some(Observation::StartFailed { retry: may_retry(&error), reason: error.message })
                }
            }
        }
        Order::Terminate => {
            persistently(key, name, || engine.terminate(key)).await;
            None
        }
        Order::Kill => {
            persistently(key, name, || engine.kill(key)).await;
            None
        }
        Order::Remove => {
            persistently(key, name, || engine.remove(key)).await;
            Some(Observation::Removed)
        }
    };
    let failed = matches!(seen, Some(Observation::PrepareFailed { .. } | Observation::StartFailed { .. }));
    let outcome = if failed { "failed" } else { "done" };
    tracing::Span::current().record("outcome", outcome);
    metrics::engine_call(name, outcome, began.elapsed());
    seen
}

fn may_retry(error: &EngineError) -> bool {
    error.fault != Fault::Job
}

async fn wait(engine: Arc<dyn Engine>, key: RankKey) -> Done {
    let (end, age_ms) = persistently(&key, "wait", || engine.wait(&key)).await;
    tracing::Span::current().record("outcome", outcome(&end));
    Done::Wait { key, seen: Observation::Ended { end, age_ms } }
}

fn outcome(end: &RankEnd) -> &'static str {
    match end {
        RankEnd::Exited { code: 0 } => "exited",
        RankEnd::Exited { .. } => "exited_with_code",
        RankEnd::OutOfMemory => "out_of_memory",
        RankEnd::Killed { .. } => "killed",
        RankEnd::TimeLimit => "time_limit",
        RankEnd::Stopped => "stopped",
        RankEnd::Vanished => "vanished",
        RankEnd::EngineRestarted => "engine_restarted",
    }
}

/// Repeats a call while the engine does not answer, until `patience` is over. Any real answer counts.
async fn patiently<T, F>(
    key: &RankKey,
    call: &'static str,
    patience: Duration,
    mut make: impl FnMut() -> F,
) -> Result<T, EngineError>
where
    F: Future<Output = Result<T, EngineError>>,
{
    let began = Instant::now();
    let mut backoff = Backoff::engine();
    loop {
        match guarded(&mut make).await {
            Err(error) if error.fault == Fault::Unavailable && began.elapsed() < patience => {
                tracing::warn!(rank = %key, call, reason = error.message, "engine does not answer, trying again");
                tokio::time::sleep(backoff.next()).await;
            }
            Err(error) => {
                tracing::warn!(rank = %key, call, reason = error.message, fault = ?error.fault, "engine call failed");
                return Err(error);
            }
            Ok(answer) => return Ok(answer),
        }
    }
}

/// Repeats a call until it succeeds.
async fn persistently<T, F>(key: &RankKey, call: &'static str, mut make: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, EngineError>>,
{
    let mut backoff = Backoff::engine();
    let mut failures = 0_u64;
    loop {
        match guarded(&mut make).await {
            Ok(answer) => return answer,
            Err(error) => {
                failures += 1;
                // At 5 s each, a line every few minutes once the trouble is known.
                if failures.is_power_of_two() || failures.is_multiple_of(64) {
                    tracing::warn!(rank = %key, call, failures, reason = error.message, "engine call failed, trying again");
                }
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}

/// One call. A panic inside of the engine is this call's failure and nobody else's; what it left behind is unknown.
pub(crate) async fn guarded<T, F>(make: &mut impl FnMut() -> F) -> Result<T, EngineError>
where
    F: Future<Output = Result<T, EngineError>>,
{
    let call = AssertUnwindSafe(async { make().await });
    call.catch_unwind().await.unwrap_or_else(|_| {
        Err(EngineError { fault: Fault::Unavailable, message: "the engine failed inside; see the worker's log".into() })
    })
}
