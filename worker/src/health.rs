//! Whether the engine answers.

use crate::backoff::Backoff;
use crate::engine::{Engine, EngineError, EngineInfo, Fault, Found};
use crate::metrics;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long the engine may take to say who it is.
const DESCRIBE_WITHIN: Duration = Duration::from_secs(5);
/// How long it may take to list its ranks at the start of the agent.
const LIST_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at an engine that answered.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Between two looks at one that did not.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// While the agent waits for its engine at start, operators are told again after this time.
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What is known about the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    /// Whether it answered the last time it was asked.
    pub(crate) ok: bool,
    /// What it said last.
    pub(crate) info: EngineInfo,
}

/// Looks at the engine for ever.
pub(crate) async fn watch(engine: Arc<dyn Engine>, health: watch::Sender<Health>) {
    loop {
        let ok = health.borrow().ok;
        tokio::time::sleep(if ok { LOOK_EVERY } else { LOOK_AGAIN }).await;
        let answer = bounded(DESCRIBE_WITHIN, engine.describe()).await;
        metrics::engine_answers(answer.is_ok());
        match answer {
            Ok(info) => {
                if !ok {
                    tracing::info!(engine = info.name, "engine answers again");
                }
                health.send_replace(Health { ok: true, info });
            }
            Err(error) => {
                if ok {
                    tracing::error!(
                        reason = error.message,
                        "engine does not answer; nothing new is placed here until it does"
                    );
                }
                health.send_modify(|health| health.ok = false);
            }
        }
    }
}

/// Asks until the engine says who it is and what it has. An engine that is silent is unknown, never empty.
pub(crate) async fn first_answers(engine: &dyn Engine) -> (EngineInfo, Vec<Found>) {
    let info = until_answered("describe", || bounded(DESCRIBE_WITHIN, engine.describe())).await;
    let found = until_answered("list", || bounded(LIST_WITHIN, engine.list())).await;
    metrics::engine_answers(true);
    (info, found)
}

async fn until_answered<T, F>(call: &'static str, mut make: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, EngineError>>,
{
    let mut backoff = Backoff::engine();
    let mut unanswered = Unanswered::default();
    loop {
        match make().await {
            Ok(answer) => return answer,
            Err(error) => {
                unanswered.again(call, &error.message);
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}

/// Calls to an engine without which the agent cannot begin. Until it can, coordinators hear nothing of this node, so its
/// own log and metrics must say why.
#[derive(Debug, Default)]
pub(crate) struct Unanswered {
    failures: u32,
    said_at: Option<Instant>,
}

impl Unanswered {
    /// One more.
    pub(crate) fn again(&mut self, call: &'static str, reason: &str) {
        metrics::engine_answers(false);
        self.failures += 1;
        if self.is_to_be_said() {
            tracing::warn!(
                call,
                failures = self.failures,
                reason,
                "the engine does not answer; this node is not in service; its ranks may run; is the engine up, and may the \
                 worker use it?"
            );
        }
    }

    fn is_to_be_said(&mut self) -> bool {
        let due = self.said_at.is_none_or(|at| at.elapsed() >= SAY_AGAIN_AFTER);
        if due {
            self.said_at = Some(Instant::now());
        }
        due
    }
}

async fn bounded<T>(within: Duration, call: impl Future<Output = Result<T, EngineError>>) -> Result<T, EngineError> {
    tokio::time::timeout(within, call).await.unwrap_or_else(|_| {
        let message = format!("no answer within {} s", within.as_secs());
        Err(EngineError { fault: Fault::Unavailable, message })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_stays_away_is_told_at_once_and_then_every_minute() {
        let mut unanswered = Unanswered::default();
        let mut said = Vec::new();
        for second in 0..150 {
            if unanswered.is_to_be_said() {
                said.push(second);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(said, [0, 60, 120]);
    }
}
