//! Whether the engine answers.

use crate::backoff::Backoff;
use crate::engine::{Engine, EngineError, EngineInfo, Fault, Found};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long the engine may take to say who it is.
const DESCRIBE_WITHIN: Duration = Duration::from_secs(5);
/// How long it may take to list its ranks at the start of the agent.
const LIST_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at an engine that answered.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Between two looks at one that did not.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

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
        match bounded(DESCRIBE_WITHIN, engine.describe()).await {
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
    (info, found)
}

async fn until_answered<T, F>(call: &'static str, mut make: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, EngineError>>,
{
    let mut backoff = Backoff::engine();
    let mut failures = 0_u32;
    loop {
        match make().await {
            Ok(answer) => return answer,
            Err(error) => {
                failures += 1;
                if failures.is_power_of_two() {
                    tracing::error!(
                        call,
                        failures,
                        reason = error.message,
                        "engine does not answer at start; is it up, and may the worker use it?"
                    );
                }
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}

async fn bounded<T>(within: Duration, call: impl Future<Output = Result<T, EngineError>>) -> Result<T, EngineError> {
    tokio::time::timeout(within, call).await.unwrap_or_else(|_| {
        let message = format!("no answer within {} s", within.as_secs());
        Err(EngineError { fault: Fault::Unavailable, message })
    })
}
