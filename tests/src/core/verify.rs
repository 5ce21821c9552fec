//! The verification cycle (protocol 10.2).

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::client::CallFailure;
use super::job::Render;
use super::shared::Shared;

/// Jobs in one `verify` call.
const PER_CALL: usize = 100;

/// Scans on Core's cadence until the stand-in stops. A refused `verify` is only logged.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut scans = tokio::time::interval_at(Instant::now() + shared.options.verify_scan, shared.options.verify_scan);
    scans.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            _ = scans.tick() => {}
        }
        let jobs = due(&shared, false);
        if jobs.is_empty() {
            continue;
        }
        if let Err(failure) = send(&shared, jobs).await {
            tracing::warn!(status = failure.status, why = failure.why, "verify failed");
        }
    }
}

/// Verifies every live job now, whenever it was verified last. Answers how many were named.
pub(super) async fn everything(shared: &Shared) -> Result<usize, CallFailure> {
    let jobs = due(shared, true);
    let count = jobs.len();
    for part in jobs.chunks(PER_CALL) {
        send(shared, part.to_vec()).await?;
    }
    Ok(count)
}

async fn send(shared: &Shared, jobs: Vec<Value>) -> Result<(), CallFailure> {
    let answer =
        shared.system_call(Method::POST, &shared.provider_path("jobs/verify"), Some(&json!({"items": jobs}))).await?;
    if answer.is_success() { Ok(()) } else { Err(CallFailure::answer(&answer, 1)) }
}

/// Live, confirmed jobs that are due, marked as verified now.
fn due(shared: &Shared, all: bool) -> Vec<Value> {
    let now = Instant::now();
    let each = shared.options.verify_each;
    let mut state = shared.state();
    let live = state.jobs.values_mut().filter(|record| record.view.confirmed && !record.view.state.is_final());
    let due = live.filter(|record| all || record.verified.is_none_or(|last| now.duration_since(last) >= each));
    let limit = if all { usize::MAX } else { PER_CALL };
    due.take(limit)
        .map(|record| {
            record.verified = Some(now);
            record.render(&Render { updates: true, ..Render::default() })
        })
        .collect()
}
