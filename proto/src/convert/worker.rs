//! What a worker says about itself and its ranks.

use super::{Malformed, check, required};
use crate::{MAX_REASON_BYTES, MAX_REPORTED_RANKS, v1};
use muster_domain::id::NodeName;
use muster_domain::rank::{RankEnd, RankReport, RankState};
use muster_domain::worker::{Hello, Report};

/// Most categories and most labels of one node.
const MAX_LABELS: usize = 1024;
/// Longest name of something: a zone, a version, a category, a label.
const MAX_NAME_BYTES: usize = 256;

impl From<Hello> for v1::Hello {
    fn from(hello: Hello) -> Self {
        Self {
            node: hello.node.into(),
            boot_id: hello.boot_id,
            capacity: Some(hello.capacity.into()),
            categories: hello.categories,
            labels: hello.labels,
            network_zone: hello.network_zone,
            engine: hello.engine,
            engine_version: hello.engine_version,
            version: hello.version,
            last_term: hello.last_term,
            sent_at_ms: hello.sent_at_ms,
            ranks: hello.ranks.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::Hello> for Hello {
    type Error = Malformed;
    fn try_from(hello: v1::Hello) -> Result<Self, Malformed> {
        check::count("categories", hello.categories.len(), MAX_LABELS)?;
        let categories = hello.categories.into_iter().map(|name| check::text("categories", name, MAX_NAME_BYTES));
        Ok(Self {
            node: NodeName::new(hello.node).map_err(|error| Malformed::new("node", error.to_string()))?,
            boot_id: check::text("boot_id", hello.boot_id, MAX_NAME_BYTES)?,
            capacity: required("capacity", hello.capacity)?,
            categories: categories.collect::<Result<_, _>>()?,
            labels: check::texts("labels", hello.labels, MAX_LABELS, MAX_NAME_BYTES, MAX_NAME_BYTES)?,
            network_zone: check::text("network_zone", hello.network_zone, MAX_NAME_BYTES)?,
            engine: check::text("engine", hello.engine, MAX_NAME_BYTES)?,
            engine_version: check::text("engine_version", hello.engine_version, MAX_NAME_BYTES)?,
            version: check::text("version", hello.version, MAX_NAME_BYTES)?,
            last_term: hello.last_term,
            sent_at_ms: hello.sent_at_ms,
            ranks: ranks(hello.ranks)?,
        })
    }
}

impl From<Report> for v1::Report {
    fn from(report: Report) -> Self {
        Self {
            sent_at_ms: report.sent_at_ms,
            applied_sequence: report.applied_sequence,
            complete: report.complete,
            ranks: report.ranks.into_iter().map(Into::into).collect(),
            engine_ok: report.engine_ok,
        }
    }
}

impl TryFrom<v1::Report> for Report {
    type Error = Malformed;
    fn try_from(report: v1::Report) -> Result<Self, Malformed> {
        Ok(Self {
            sent_at_ms: report.sent_at_ms,
            applied_sequence: report.applied_sequence,
            complete: report.complete,
            ranks: ranks(report.ranks)?,
            engine_ok: report.engine_ok,
        })
    }
}

fn ranks(ranks: Vec<v1::RankReport>) -> Result<Vec<RankReport>, Malformed> {
    check::count("ranks", ranks.len(), MAX_REPORTED_RANKS)?;
    let convert = |(index, report)| {
        RankReport::try_from(report).map_err(|error: Malformed| error.under(&format!("ranks[{index}]")))
    };
    ranks.into_iter().enumerate().map(convert).collect()
}

impl From<RankReport> for v1::RankReport {
    fn from(report: RankReport) -> Self {
        use v1::rank_report::State;
        let state = match report.state {
            RankState::Preparing => State::Preparing(v1::RankPreparing {}),
            RankState::Prepared { address } => State::Prepared(v1::RankPrepared { address }),
            RankState::Starting => State::Starting(v1::RankStarting {}),
            RankState::Removed => State::Removed(v1::RankRemoved {}),
            RankState::Running { age_ms } => State::Running(v1::RankRunning { age_ms }),
            RankState::Ended { end, age_ms } => State::Ended(ended(&end, age_ms)),
            RankState::Failed { reason, retry } => State::Failed(v1::RankFailed { reason: check::cut(reason), retry }),
        };
        Self { key: Some(report.key.into()), time_limit_ms: report.time_limit_ms, state: Some(state) }
    }
}

impl TryFrom<v1::RankReport> for RankReport {
    type Error = Malformed;
    fn try_from(report: v1::RankReport) -> Result<Self, Malformed> {
        use v1::rank_report::State;
        let state = match report.state.ok_or_else(|| Malformed::new("state", "missing"))? {
            State::Preparing(_) => RankState::Preparing,
            State::Prepared(prepared) => {
                RankState::Prepared { address: check::word("prepared.address", prepared.address)? }
            }
            State::Starting(_) => RankState::Starting,
            State::Removed(_) => RankState::Removed,
            State::Running(running) => RankState::Running { age_ms: running.age_ms },
            State::Ended(ended) => RankState::Ended { end: end(&ended)?, age_ms: ended.age_ms },
            State::Failed(failed) => RankState::Failed {
                reason: check::text("failed.reason", failed.reason, MAX_REASON_BYTES)?,
                retry: failed.retry,
            },
        };
        Ok(Self { key: required("key", report.key)?, state, time_limit_ms: report.time_limit_ms })
    }
}

fn ended(end: &RankEnd, age_ms: u64) -> v1::RankEnded {
    let (kind, code, signal) = match end {
        RankEnd::Exited { code } => (v1::EndKind::Exited, *code, 0),
        RankEnd::OutOfMemory => (v1::EndKind::OutOfMemory, 0, 0),
        RankEnd::Killed { signal } => (v1::EndKind::Killed, 0, *signal),
        RankEnd::TimeLimit => (v1::EndKind::TimeLimit, 0, 0),
        RankEnd::Stopped => (v1::EndKind::Stopped, 0, 0),
        // An older receiver refuses a kind that it does not know, and the whole stream with it; a field it passes over.
        RankEnd::Vanished | RankEnd::EngineRestarted => (v1::EndKind::Vanished, 0, 0),
    };
    let engine_restarted = *end == RankEnd::EngineRestarted;
    v1::RankEnded { kind: kind.into(), code, signal, age_ms, engine_restarted }
}

fn end(ended: &v1::RankEnded) -> Result<RankEnd, Malformed> {
    let unknown = || Malformed::new("ended.kind", format!("{}, expected a known way to end", ended.kind));
    Ok(match v1::EndKind::try_from(ended.kind).map_err(|_| unknown())? {
        v1::EndKind::Unspecified => return Err(unknown()),
        v1::EndKind::Exited => RankEnd::Exited { code: ended.code },
        v1::EndKind::OutOfMemory => RankEnd::OutOfMemory,
        v1::EndKind::Killed => RankEnd::Killed { signal: ended.signal },
        v1::EndKind::TimeLimit => RankEnd::TimeLimit,
        v1::EndKind::Stopped => RankEnd::Stopped,
        v1::EndKind::Vanished if ended.engine_restarted => RankEnd::EngineRestarted,
        v1::EndKind::Vanished => RankEnd::Vanished,
    })
}
