//! A job as Core keeps it, and what a test or a user may see of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::product::ProductReference;

/// The state of a job in Core (protocol 8.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum JobState {
    /// Not all replicas started.
    InQueue,
    /// All replicas started.
    Running,
    /// Temporary, without meaning to Core.
    Canceling,
    /// Ended without an error of the scheduler.
    Success,
    /// Ended by the provider's fault.
    Failure,
    /// The time allocation ran out.
    Expired,
}

impl JobState {
    /// Reads the wire's word; `None` if it is not one of the six.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "IN_QUEUE" => Self::InQueue,
            "RUNNING" => Self::Running,
            "CANCELING" => Self::Canceling,
            "SUCCESS" => Self::Success,
            "FAILURE" => Self::Failure,
            "EXPIRED" => Self::Expired,
            _ => return None,
        })
    }

    /// The wire's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InQueue => "IN_QUEUE",
            Self::Running => "RUNNING",
            Self::Canceling => "CANCELING",
            Self::Success => "SUCCESS",
            Self::Failure => "FAILURE",
            Self::Expired => "EXPIRED",
        }
    }

    /// Whether the job has ended: later changes are ignored.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Expired)
    }
}

/// What became of an update (protocol 6.4, steps 3 to 5). Every update is in the history, whatever its verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It changed the job.
    Applied,
    /// It had only a message.
    MessageOnly,
    /// Skipped: `expectedState` is not the job's state.
    ExpectedStateDiffers,
    /// Skipped: `expectedDifferentState` and the job has that state already.
    SameState,
    /// Ignored: the job is final.
    AlreadyFinal,
}

/// One entry of a job's history.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// When Core received it, milliseconds since 1970 by Core's clock.
    pub at: u64,
    /// The state that was asked for.
    pub state: Option<JobState>,
    /// The message to the user.
    pub status: Option<String>,
    /// The output folder that was set.
    pub output_folder: Option<String>,
    /// New total allocation, milliseconds.
    pub new_time_allocation: Option<u64>,
    /// Guard: apply only in this state.
    pub expected_state: Option<JobState>,
    /// Guard: apply only if the state would change.
    pub expected_different_state: Option<bool>,
    /// What became of it.
    pub verdict: Verdict,
}

impl HistoryEntry {
    /// A message of Core itself, without a state.
    pub(super) fn message(at: u64, status: String) -> Self {
        Self {
            at,
            state: None,
            status: Some(status),
            output_folder: None,
            new_time_allocation: None,
            expected_state: None,
            expected_different_state: None,
            verdict: Verdict::MessageOnly,
        }
    }

    fn to_wire(&self) -> Value {
        json!({
            "timestamp": self.at,
            "state": self.state,
            "status": self.status,
            "outputFolder": self.output_folder,
            "newTimeAllocation": self.new_time_allocation,
            "expectedState": self.expected_state,
            "expectedDifferentState": self.expected_different_state,
        })
    }
}

/// The log of one rank as `follow` delivered it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RankLog {
    /// Everything that came as standard output.
    pub stdout: String,
    /// Everything that came as standard error.
    pub stderr: String,
    /// Whether text was dropped because the log outgrew what the stand-in keeps.
    pub cut: bool,
}

/// How far the log subscription of a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Following {
    /// No subscription was made, or logs are not followed.
    Never,
    /// A subscription is open, or about to be opened again.
    Open,
    /// The provider answered with status 200 after the job was final: the log is whole.
    Ended,
    /// The provider answered with this status: the viewer sees no more.
    Refused(u16),
    /// The socket was lost, or no end came within 10 s of the job's end.
    Abandoned,
}

/// A job as seen at one moment.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CoreJob {
    /// Id, assigned by Core.
    pub id: String,
    /// Present state.
    pub state: JobState,
    /// Every update ever received, and Core's own messages, in order of arrival.
    pub history: Vec<HistoryEntry>,
    /// Creation, milliseconds since 1970.
    pub created_at: u64,
    /// First `RUNNING`, milliseconds since 1970.
    pub started_at: Option<u64>,
    /// When the state became final, milliseconds since 1970.
    pub ended_at: Option<u64>,
    /// Total time allocation, milliseconds; `None` if the job has no limit.
    pub allocation: Option<u64>,
    /// Output folder pushed by the provider.
    pub output_folder: Option<String>,
    /// Id that the provider gave in its answer to `create`.
    pub provider_generated_id: Option<String>,
    /// Whether the provider has accepted the job.
    pub confirmed: bool,
    /// Replicas asked for.
    pub replicas: u64,
    /// Product the job runs on.
    pub product: ProductReference,
    /// Who pays: the project, else the creator.
    pub payer: String,
    /// Logs by rank.
    pub logs: BTreeMap<u32, Arc<RankLog>>,
    /// State of the log subscription.
    pub following: Following,
    /// How often a log subscription was opened.
    pub subscriptions: u32,
}

impl CoreJob {
    /// The log of a rank; empty if nothing came.
    pub fn log(&self, rank: u32) -> RankLog {
        self.logs.get(&rank).map(|log| log.as_ref().clone()).unwrap_or_default()
    }

    /// Whether some message of the history contains `words`.
    pub fn was_told(&self, words: &str) -> bool {
        self.history.iter().any(|entry| entry.status.as_deref().is_some_and(|status| status.contains(words)))
    }

    /// The states that were really entered, in order.
    pub fn states(&self) -> Vec<JobState> {
        let applied = self.history.iter().filter(|entry| entry.verdict == Verdict::Applied);
        applied.filter_map(|entry| entry.state).collect()
    }
}

/// Core's own record of a job.
pub(super) struct JobRecord {
    pub(super) view: CoreJob,
    pub(super) created_by: String,
    pub(super) application: String,
    /// The job as sent to the provider, compact JSON; the changeable parts are overlaid by [`JobRecord::render`].
    pub(super) source: String,
    /// When `verify` last named it; monotonic.
    pub(super) verified: Option<tokio::time::Instant>,
    /// Grows with every change.
    pub(super) revision: watch::Sender<u64>,
}

/// What to put into a rendered job besides the plain parts.
#[derive(Default)]
pub(super) struct Render<'a> {
    pub(super) product: Option<&'a Value>,
    pub(super) support: Option<&'a Value>,
    pub(super) updates: bool,
    pub(super) others: bool,
    pub(super) seen_by_provider: bool,
}

impl JobRecord {
    /// Tells everybody who waits for this job.
    pub(super) fn changed(&self) {
        self.revision.send_modify(|revision| *revision += 1);
    }

    /// The job as JSON, in its present state.
    pub(super) fn render(&self, with: &Render<'_>) -> Value {
        let mut job: Value = serde_json::from_str(&self.source).unwrap_or_default();
        let view = &self.view;
        let expires_at =
            view.started_at.zip(view.allocation).map(|(started, allocation)| started.saturating_add(allocation));
        let updates: Vec<Value> =
            if with.updates { view.history.iter().map(HistoryEntry::to_wire).collect() } else { Vec::new() };
        let status = &mut job["status"];
        status["state"] = json!(view.state);
        status["startedAt"] = json!(view.started_at);
        status["expiresAt"] = json!(expires_at);
        status["resolvedProduct"] = json!(with.product);
        status["resolvedSupport"] = match (with.product, with.support) {
            (Some(product), Some(support)) => json!({"product": product, "support": support}),
            _ => Value::Null,
        };
        job["updates"] = Value::Array(updates);
        job["output"] = view.output_folder.as_ref().map_or(Value::Null, |folder| json!({"outputFolder": folder}));
        if let Some(allocation) = view.allocation {
            job["specification"]["timeAllocation"] = duration(allocation);
        }
        if with.seen_by_provider {
            job["permissions"] =
                json!({"myself": ["PROVIDER"], "others": if with.others { json!([]) } else { Value::Null }});
        }
        job
    }
}

/// A `SimpleDuration` of so many milliseconds, whole seconds.
pub(super) fn duration(total_ms: u64) -> Value {
    let seconds = total_ms / 1000;
    json!({"hours": seconds / 3600, "minutes": seconds / 60 % 60, "seconds": seconds % 60})
}

/// Milliseconds of a `SimpleDuration`; `None` if it is null or not one.
pub(super) fn duration_ms(value: &Value) -> Option<u64> {
    let field = |name: &str| value.get(name).map_or(Some(0), Value::as_u64);
    if !value.is_object() {
        return None;
    }
    let minutes = field("hours")?.checked_mul(60)?.checked_add(field("minutes")?)?;
    minutes.checked_mul(60)?.checked_add(field("seconds")?)?.checked_mul(1000)
}
