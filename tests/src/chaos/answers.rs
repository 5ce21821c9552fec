//! How each single create was answered, and how fast. Core keeps its last calls; they are collected while they are there.

use crate::core::{Call, Core, Direction};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Core waits so long for an answer, and a call is noted when it has ended.
const LONGEST: Duration = Duration::from_secs(6);
const COLLECT_EVERY: Duration = Duration::from_secs(3);

/// All creates of a run, call by call: a repeated one counts every time.
#[derive(Debug, Default)]
pub(super) struct CreateAnswers {
    /// Durations by status, microseconds; no status is no answer.
    pub(super) by_status: BTreeMap<Option<u16>, Vec<u64>>,
    /// What was said with an answer that is neither 200 nor 503.
    pub(super) odd: Vec<String>,
    /// When the first one began, by Core's clock.
    first_at: Option<u64>,
}

impl CreateAnswers {
    fn note(&mut self, call: &Call) {
        let since_ms = call.at.saturating_sub(*self.first_at.get_or_insert(call.at));
        self.by_status.entry(call.status).or_default().push(call.latency_us);
        if !matches!(call.status, Some(200 | 503)) {
            let (at_s, took_ms) = (since_ms as f64 / 1_000.0, call.latency_us / 1_000);
            self.odd.push(format!("[{at_s:6.1} s] {:?} after {took_ms} ms: {:?}", call.status, call.why));
        }
    }

    /// The slowest answer.
    pub(super) fn slowest(&self) -> Duration {
        Duration::from_micros(self.by_status.values().flatten().copied().max().unwrap_or(0))
    }
}

/// Collects in the background.
pub(super) struct Answers {
    stop: CancellationToken,
    task: JoinHandle<CreateAnswers>,
}

impl Answers {
    pub(super) fn start(core: Core) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(collect(core, stop.clone()));
        Self { stop, task }
    }

    /// All of them. No create may be under way.
    pub(super) async fn finish(self) -> CreateAnswers {
        self.stop.cancel();
        self.task.await.unwrap_or_default()
    }
}

async fn collect(core: Core, stop: CancellationToken) -> CreateAnswers {
    let mut answers = CreateAnswers::default();
    let mut from = 0;
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(COLLECT_EVERY) => {}
        }
        let calls = core.calls();
        // By Core's clock, which stamps a call when it begins.
        let newest = calls.iter().map(|call| call.at).max().unwrap_or(0);
        let to = if stop.is_cancelled() { u64::MAX } else { newest.saturating_sub(LONGEST.as_millis() as u64) };
        let is_create = |call: &&Call| {
            let ours = call.direction == Direction::ToProvider && call.method == "POST" && call.path.ends_with("/jobs");
            ours && (from..to).contains(&call.at)
        };
        for call in calls.iter().filter(is_create) {
            answers.note(call);
        }
        from = to.max(from);
    }
    answers
}
