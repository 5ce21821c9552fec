//! What the coordinator counts, with names, units and meaning. Labels are closed sets of our own words; nothing that a
//! user typed and no identifier becomes a label. The last two are made where they are counted: in [`crate::auth`] and in
//! `http/observe.rs`. `docs/metrics.md` tells operators what to do about them.
//!
//! | name | unit | kind | labels | meaning |
//! |---|---|---|---|---|
//! | `muster.job.milestones` | `{milestone}` | counter | `milestone` | durable steps of jobs |
//! | `muster.commits` | `{commit}` | counter | | transactions that became durable |
//! | `muster.commit.documents` | `{document}` | histogram | | documents in one transaction |
//! | `muster.commit.duration` | `s` | histogram | | from handing a batch to the store until it is durable |
//! | `muster.worker.sessions` | `{session}` | up-down counter | | open streams of workers |
//! | `muster.worker.refused` | `{message}` | counter | `reason` | messages or streams of workers that were refused |
//! | `muster.core.sent` | `{item}` | counter | `kind`, `outcome` | updates and charges that Core has answered |
//! | `muster.core.failures` | `{call}` | counter | `kind` | calls to Core that failed and will be repeated |
//! | `muster.worker.redirected` | `{stream}` | counter | | workers that were sent to another coordinator, or told that none leads |
//! | `muster.leadership.leads` | `1` | gauge | | 1 while this coordinator leads, else 0 |
//! | `muster.leadership.term` | `1` | gauge | | the term of the leader that this coordinator knows |
//! | `muster.leadership.changes` | `{leader}` | counter | | leaders that this coordinator has seen begin |
//! | `muster.leadership.vacancy` | `s` | counter | | time in which this coordinator knew of no leader; added when there is one again |
//! | `muster.leadership.keepalive.duration` | `s` | histogram | | from sending a keepalive to etcd until it answers; without an answer until the next one, at most a lease's life |
//! | `muster.forwarded` | `{request}` | counter | `door`, `outcome` | requests that came while another coordinator led, or none |
//! | `muster.alarms` | `{alarm}` | counter | | times an operator was called |
//! | `muster.http.rejected_tokens` | | counter | `reason` | calls and WebSocket frames refused because of their token |
//! | `http.server.request.duration` | `s` | histogram | `http.request.method`, `http.route`, `http.response.status_code` | from a request's head to its answer, of UCloud's and the operators' listener |

use muster_domain::effect::Milestone;
use muster_domain::id::Term;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, UpDownCounter};
use opentelemetry::{KeyValue, global};
use std::time::Duration;

/// The coordinator's instruments. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    milestones: Counter<u64>,
    commits: Counter<u64>,
    commit_documents: Histogram<u64>,
    commit_duration: Histogram<f64>,
    sessions: UpDownCounter<i64>,
    refused: Counter<u64>,
    sent: Counter<u64>,
    failures: Counter<u64>,
    alarms: Counter<u64>,
    redirected: Counter<u64>,
    leads: Gauge<u64>,
    term: Gauge<u64>,
    leaders: Counter<u64>,
    vacancy: Counter<f64>,
    keepalive_duration: Histogram<f64>,
    forwarded: Counter<u64>,
}

impl Metrics {
    /// Instruments of the process-wide meter. Make them after telemetry is set up.
    #[must_use]
    pub fn new() -> Self {
        Self::of(&global::meter("muster-coordinator"))
    }

    fn of(meter: &Meter) -> Self {
        Self {
            milestones: meter
                .u64_counter("muster.job.milestones")
                .with_unit("{milestone}")
                .with_description("durable steps of jobs")
                .build(),
            commits: meter
                .u64_counter("muster.commits")
                .with_unit("{commit}")
                .with_description("transactions that became durable")
                .build(),
            commit_documents: meter
                .u64_histogram("muster.commit.documents")
                .with_unit("{document}")
                .with_description("documents in one transaction")
                .with_boundaries(vec![1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0])
                .build(),
            commit_duration: meter
                .f64_histogram("muster.commit.duration")
                .with_unit("s")
                .with_description("time until a transaction is durable")
                .with_boundaries(vec![0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0])
                .build(),
            sessions: meter
                .i64_up_down_counter("muster.worker.sessions")
                .with_unit("{session}")
                .with_description("open streams of workers")
                .build(),
            refused: meter
                .u64_counter("muster.worker.refused")
                .with_unit("{message}")
                .with_description("messages or streams of workers that were refused")
                .build(),
            sent: meter
                .u64_counter("muster.core.sent")
                .with_unit("{item}")
                .with_description("updates and charges that Core has answered")
                .build(),
            failures: meter
                .u64_counter("muster.core.failures")
                .with_unit("{call}")
                .with_description("calls to Core that failed and will be repeated")
                .build(),
            alarms: meter
                .u64_counter("muster.alarms")
                .with_unit("{alarm}")
                .with_description("times an operator was called")
                .build(),
            redirected: meter
                .u64_counter("muster.worker.redirected")
                .with_unit("{stream}")
                .with_description("workers that were sent to another coordinator, or told that none leads")
                .build(),
            leads: meter
                .u64_gauge("muster.leadership.leads")
                .with_unit("1")
                .with_description("1 while this coordinator leads, else 0")
                .build(),
            term: meter
                .u64_gauge("muster.leadership.term")
                .with_unit("1")
                .with_description("the term of the leader that this coordinator knows")
                .build(),
            leaders: meter
                .u64_counter("muster.leadership.changes")
                .with_unit("{leader}")
                .with_description("leaders that this coordinator has seen begin")
                .build(),
            vacancy: meter
                .f64_counter("muster.leadership.vacancy")
                .with_unit("s")
                .with_description("time in which this coordinator knew of no leader")
                .build(),
            keepalive_duration: meter
                .f64_histogram("muster.leadership.keepalive.duration")
                .with_unit("s")
                .with_description("time until etcd answers a keepalive")
                .with_boundaries(vec![0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0])
                .build(),
            forwarded: meter
                .u64_counter("muster.forwarded")
                .with_unit("{request}")
                .with_description("requests that came while another coordinator led, or none")
                .build(),
        }
    }

    /// A job reached a durable step.
    pub fn milestone(&self, milestone: Milestone) {
        self.milestones.add(1, &[KeyValue::new("milestone", milestone.name())]);
    }

    /// A transaction became durable.
    pub fn committed(&self, documents: usize, took: Duration) {
        self.commits.add(1, &[]);
        self.commit_documents.record(u64::try_from(documents).unwrap_or(u64::MAX), &[]);
        self.commit_duration.record(took.as_secs_f64(), &[]);
    }

    /// A worker's stream was opened.
    pub fn session_opened(&self) {
        self.sessions.add(1, &[]);
    }

    /// A worker's stream ended.
    pub fn session_ended(&self) {
        self.sessions.add(-1, &[]);
    }

    /// A worker was refused; `reason` is one of our own words.
    pub fn refused(&self, reason: &'static str) {
        self.refused.add(1, &[KeyValue::new("reason", reason)]);
    }

    /// Core answered an item of this kind, with this outcome; both are our own words.
    pub fn sent(&self, kind: &'static str, outcome: &'static str) {
        self.sent.add(1, &[KeyValue::new("kind", kind), KeyValue::new("outcome", outcome)]);
    }

    /// A call of this kind failed and will be repeated.
    pub fn call_failed(&self, kind: &'static str) {
        self.failures.add(1, &[KeyValue::new("kind", kind)]);
    }

    /// A worker was sent elsewhere.
    pub fn redirected(&self) {
        self.redirected.add(1, &[]);
    }

    /// Whether this coordinator leads, and the term of the leader it knows.
    pub fn standing(&self, leads: bool, term: Option<Term>) {
        self.leads.record(u64::from(leads), &[]);
        if let Some(term) = term {
            self.term.record(term, &[]);
        }
    }

    /// A leader was seen that was not known before, after so long without one.
    pub fn leader_seen(&self, vacant: Duration) {
        self.leaders.add(1, &[]);
        self.vacancy.add(vacant.as_secs_f64(), &[]);
    }

    /// etcd answered a keepalive after so long.
    pub fn kept(&self, took: Duration) {
        self.keepalive_duration.record(took.as_secs_f64(), &[]);
    }

    /// A request came while this coordinator did not lead; both labels are our own words.
    pub fn forwarded(&self, door: &'static str, outcome: &'static str) {
        self.forwarded.add(1, &[KeyValue::new("door", door), KeyValue::new("outcome", outcome)]);
    }

    /// An operator was called.
    pub fn alarm(&self) {
        self.alarms.add(1, &[]);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
