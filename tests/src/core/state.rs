//! Everything Core remembers, behind one lock that is never held across an await.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

use super::job::{CoreJob, Following, JobRecord, JobState, duration_ms};
use super::ledger::Ledger;
use super::product::{Catalogue, ProductReference};

const CALLS_KEPT: usize = 10_000;
const CREATES_KEPT: usize = 200_000;
const TOKENS_KEPT: usize = 1_000;

/// Who called whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// Core called the provider.
    ToProvider,
    /// The provider called Core.
    FromProvider,
}

/// One call that was made, in either direction.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// When it began, milliseconds since 1970.
    pub at: u64,
    /// Who called.
    pub direction: Direction,
    /// HTTP method.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// Status of the answer; `None`: no answer (refused, timed out, cut).
    pub status: Option<u16>,
    /// Duration, microseconds.
    pub latency_us: u64,
    /// Reason given in an error answer, or what went wrong with the connection.
    pub why: Option<String>,
}

/// How `create` calls were answered by the provider. Single calls: a repeated one counts every time.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateStatistics {
    /// Number of answers by status.
    pub by_status: BTreeMap<u16, u64>,
    /// Calls without an answer.
    pub unanswered: u64,
    /// Durations of calls answered with 200, microseconds, in order of arrival; the first 200,000.
    pub latencies_us: Vec<u64>,
}

impl CreateStatistics {
    /// The latency, microseconds, below which `percent` of the successful calls lie; `None` without any.
    pub fn percentile_us(&self, percent: f64) -> Option<u64> {
        let mut sorted = self.latencies_us.clone();
        sorted.sort_unstable();
        let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.max(1) - 1).or(sorted.last()).copied()
    }
}

pub(super) struct State {
    pub(super) jobs: BTreeMap<u64, JobRecord>,
    next_id: u64,
    /// Jobs that were deleted because the provider did not accept them.
    pub(super) deleted: BTreeSet<String>,
    pub(super) unknown: BTreeSet<String>,
    pub(super) catalogue: Catalogue,
    pub(super) ledger: Ledger,
    pub(super) calls: VecDeque<Call>,
    pub(super) creates: CreateStatistics,
    pub(super) connected: BTreeSet<String>,
    /// Access tokens handed out and not revoked, oldest first.
    issued: VecDeque<String>,
    revoked: VecDeque<String>,
    /// How often tokens were revoked.
    pub(super) revocations: u64,
}

impl State {
    pub(super) fn new(first_id: u64, default_balance: Option<i64>, catalogue: Catalogue) -> Self {
        Self {
            jobs: BTreeMap::new(),
            next_id: first_id,
            deleted: BTreeSet::new(),
            unknown: BTreeSet::new(),
            catalogue,
            ledger: Ledger::new(default_balance),
            calls: VecDeque::new(),
            creates: CreateStatistics::default(),
            connected: BTreeSet::new(),
            issued: VecDeque::new(),
            revoked: VecDeque::new(),
            revocations: 0,
        }
    }

    /// Whether the provider may name this id in a control call.
    pub(super) fn knows(&self, id: &str) -> bool {
        !self.unknown.contains(id) && self.record(id).is_some()
    }

    pub(super) fn record(&self, id: &str) -> Option<&JobRecord> {
        self.jobs.get(&key(id)?)
    }

    pub(super) fn record_mut(&mut self, id: &str) -> Option<&mut JobRecord> {
        self.jobs.get_mut(&key(id)?)
    }

    /// Takes the next free id.
    pub(super) fn assign_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// Stores a job that was assigned `id`, unconfirmed. `job` is complete but for `id` and `createdAt`.
    pub(super) fn insert(&mut self, id: u64, job: &Value, product: ProductReference, now_ms: u64) -> Arc<str> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let specification = &job["specification"];
        let created_by = text(&job["owner"]["createdBy"]).unwrap_or_else(|| "_ucloud".to_owned());
        let view = CoreJob {
            id: id.to_string(),
            state: JobState::InQueue,
            history: Vec::new(),
            created_at: now_ms,
            started_at: None,
            ended_at: None,
            allocation: duration_ms(&specification["timeAllocation"]),
            output_folder: None,
            provider_generated_id: None,
            confirmed: false,
            replicas: specification["replicas"].as_u64().unwrap_or(1),
            product,
            payer: text(&job["owner"]["project"]).unwrap_or_else(|| created_by.clone()),
            logs: BTreeMap::new(),
            following: Following::Never,
            subscriptions: 0,
        };
        let record = JobRecord {
            created_by,
            application: text(&specification["application"]["name"]).unwrap_or_default(),
            source: job.to_string(),
            verified: None,
            revision: watch::Sender::new(0),
            view,
        };
        self.jobs.insert(id, record);
        id.to_string().into()
    }

    /// Removes jobs that the provider did not accept (reliability F3).
    pub(super) fn delete(&mut self, ids: &[Arc<str>]) {
        for id in ids {
            if let Some(record) = key(id).and_then(|key| self.jobs.remove(&key)) {
                record.changed();
                self.deleted.insert(id.to_string());
            }
        }
    }

    pub(super) fn note_call(&mut self, call: Call) {
        if call.direction == Direction::ToProvider && call.method == "POST" && call.path.ends_with("/jobs") {
            match call.status {
                Some(status) => *self.creates.by_status.entry(status).or_default() += 1,
                None => self.creates.unanswered += 1,
            }
            if call.status == Some(200) && self.creates.latencies_us.len() < CREATES_KEPT {
                self.creates.latencies_us.push(call.latency_us);
            }
        }
        push_bounded(&mut self.calls, call, CALLS_KEPT);
    }

    pub(super) fn note_token(&mut self, token: String) {
        push_bounded(&mut self.issued, token, TOKENS_KEPT);
    }

    pub(super) fn revoke_tokens(&mut self) {
        self.revocations += 1;
        for token in std::mem::take(&mut self.issued) {
            push_bounded(&mut self.revoked, token, TOKENS_KEPT);
        }
    }

    pub(super) fn is_revoked(&self, token: &str) -> bool {
        self.revoked.iter().any(|revoked| revoked == token)
    }
}

/// Job ids are decimal numbers of 64 bits, written plainly.
fn key(id: &str) -> Option<u64> {
    id.parse::<u64>().ok().filter(|number| number.to_string() == id)
}

pub(super) fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, limit: usize) {
    if queue.len() == limit {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// Core's wall clock, milliseconds since 1970.
#[allow(clippy::disallowed_methods, reason = "Core is another system and stamps with a clock of its own")]
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
