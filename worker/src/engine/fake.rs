//! The `fake` engine: ranks that exist only in a table, and do what their job's command line says.
//!
//! For tests, and for measuring the control plane: no process, no file, no task per rank. A job's argument vector is
//! `fake` and words of this little language; anything else ends at once with exit code 0.
//!
//! | words | effect |
//! |---|---|
//! | `run-ms N` | runs N milliseconds (default 0) |
//! | `exit C` | then exits with code C (default 0) |
//! | `signal S` | then is killed by signal S |
//! | `oom`, `vanish` | then is out of memory, or gone without a trace |
//! | `hang` | runs until it is ended |
//! | `ignore-term` | takes no notice of SIGTERM |
//! | `prepare-ms N`, `start-ms N` | takes that long to prepare, to start |
//! | `fail-prepare`, `fail-start` | fails so that another node may do better |
//! | `refuse-prepare`, `refuse-start` | fails so that no other node would do better |
//!
//! `FAKE_RANK_<rank>` in the job's environment holds words that replace the others for one rank, separated by blanks.

use super::{Engine, EngineError, EngineInfo, Fault, Found, LogPiece, LogSource};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use muster_domain::agent::Observation;
use muster_domain::id::{RankKey, Term};
use muster_domain::peers::PeerFiles;
use muster_domain::rank::{Assignment, RankEnd};
use muster_domain::time::Moment;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Logs of removed ranks that are kept; older ones are forgotten.
const KEPT_LOGS: usize = 4096;
/// Longer runs of a script are `hang`.
const MOST_MS: u64 = 365 * 24 * 60 * 60 * 1000;

/// Pretends to run ranks. Clones are the same engine, so that a test can restart an agent over it.
#[derive(Clone, Debug, Default)]
pub struct FakeEngine {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    ranks: BTreeMap<RankKey, Rank>,
    logs: BTreeMap<RankKey, Bytes>,
    removed: VecDeque<RankKey>,
    addresses: u32,
}

#[derive(Debug)]
struct Rank {
    term: Term,
    address: String,
    script: Script,
    log: Bytes,
    running: Option<Running>,
    end: Option<(RankEnd, u64)>,
    ended: Arc<Notify>,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    started_at: Moment,
    since: Instant,
    /// When it ends by itself.
    until: Option<Instant>,
}

/// What a rank does; see the module's text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Script {
    prepare_ms: u64,
    start_ms: u64,
    /// `None` hangs.
    run_ms: Option<u64>,
    end: RankEnd,
    ignores_term: bool,
    prepare_fails: Option<Fault>,
    start_fails: Option<Fault>,
}

impl Script {
    fn of(assignment: &Assignment) -> Self {
        let container = &assignment.container;
        if let Some(words) = container.env.get(&format!("FAKE_RANK_{}", assignment.key.rank)) {
            return Self::parse(words.split_ascii_whitespace());
        }
        match container.argv.split_first() {
            Some((program, words)) if program == "fake" => Self::parse(words.iter().map(String::as_str)),
            _ => Self::parse(std::iter::empty()),
        }
    }

    fn parse<'a>(mut words: impl Iterator<Item = &'a str>) -> Self {
        let mut script = Self {
            prepare_ms: 0,
            start_ms: 0,
            run_ms: Some(0),
            end: RankEnd::Exited { code: 0 },
            ignores_term: false,
            prepare_fails: None,
            start_fails: None,
        };
        while let Some(word) = words.next() {
            let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0).min(MOST_MS);
            match word {
                "run-ms" => script.run_ms = Some(number()),
                "prepare-ms" => script.prepare_ms = number(),
                "start-ms" => script.start_ms = number(),
                "exit" => script.end = RankEnd::Exited { code: i32::from(number() as u8) },
                "signal" => script.end = RankEnd::Killed { signal: i32::from(number() as u8) },
                "oom" => script.end = RankEnd::OutOfMemory,
                "vanish" => script.end = RankEnd::Vanished,
                "hang" => script.run_ms = None,
                "ignore-term" => script.ignores_term = true,
                "fail-prepare" => script.prepare_fails = Some(Fault::Node),
                "refuse-prepare" => script.prepare_fails = Some(Fault::Job),
                "fail-start" => script.start_fails = Some(Fault::Node),
                "refuse-start" => script.start_fails = Some(Fault::Job),
                // A word for a newer version, or none of ours: the job ends well, and its log says what it was.
                _ => {}
            }
        }
        script
    }
}

impl Rank {
    /// Ends it by its own script if that is due. Nothing else watches the time.
    fn settle(&mut self) {
        if let (None, Some(running)) = (&self.end, self.running)
            && running.until.is_some_and(|until| until <= Instant::now())
        {
            self.end = Some((self.script.end.clone(), self.script.run_ms.unwrap_or(0)));
        }
    }

    fn end_by(&mut self, signal: i32) {
        self.settle();
        if let (None, Some(running)) = (&self.end, self.running) {
            let age_ms = u64::try_from(running.since.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.end = Some((RankEnd::Killed { signal }, age_ms));
            self.ended.notify_waiters();
        }
    }

    fn observation(&mut self) -> Observation {
        self.settle();
        match (&self.end, self.running) {
            (Some((end, age_ms)), _) => Observation::Ended { end: end.clone(), age_ms: *age_ms },
            (None, Some(running)) => Observation::Started { started_at: running.started_at },
            (None, None) => Observation::Prepared { address: self.address.clone() },
        }
    }
}

/// What a waiting caller has to do next.
enum Step {
    Ended(RankEnd, u64),
    Sleep(Option<Instant>, Arc<Notify>),
}

impl FakeEngine {
    /// An engine without ranks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn end_of(&self, key: &RankKey) -> Result<(RankEnd, u64), EngineError> {
        loop {
            let (step, notified);
            {
                let mut table = self.table();
                let rank = table.ranks.get_mut(key).ok_or_else(|| unknown(key))?;
                rank.settle();
                step = match (&rank.end, rank.running) {
                    (Some((end, age_ms)), _) => Step::Ended(end.clone(), *age_ms),
                    (None, Some(running)) => Step::Sleep(running.until, Arc::clone(&rank.ended)),
                    (None, None) => return Err(failed(Fault::Node, format!("rank {key} has not been started"))),
                };
                // Listening begins while the table is locked, so that no end falls in between.
                notified = match &step {
                    Step::Sleep(_, ended) => Some(Arc::clone(ended).notified_owned()),
                    Step::Ended(..) => None,
                };
            }
            match (step, notified) {
                (Step::Ended(end, age_ms), _) => return Ok((end, age_ms)),
                (Step::Sleep(Some(until), _), Some(notified)) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(until) => {}
                        () = notified => {}
                    }
                }
                (Step::Sleep(None, _), Some(notified)) => notified.await,
                (Step::Sleep(..), None) => {}
            }
        }
    }
}

fn failed(fault: Fault, message: String) -> EngineError {
    EngineError { fault, message }
}

fn unknown(key: &RankKey) -> EngineError {
    failed(Fault::Node, format!("rank {key} is not on this node"))
}

async fn pause(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

impl Engine for FakeEngine {
    fn describe(&self) -> BoxFuture<'_, Result<EngineInfo, EngineError>> {
        let info = EngineInfo {
            name: "fake".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            network_zone: "fake".to_owned(),
            warnings: vec!["this node runs nothing: its engine is the fake one".to_owned()],
        };
        Box::pin(async { Ok(info) })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Found>, EngineError>> {
        Box::pin(async {
            let mut table = self.table();
            let found = |(key, rank): (&RankKey, &mut Rank)| Found {
                key: key.clone(),
                term: rank.term,
                observation: rank.observation(),
            };
            Ok(table.ranks.iter_mut().map(found).collect())
        })
    }

    fn prepare<'a>(&'a self, assignment: &'a Assignment) -> BoxFuture<'a, Result<String, EngineError>> {
        Box::pin(async move {
            if let Some(rank) = self.table().ranks.get(&assignment.key) {
                return Ok(rank.address.clone());
            }
            let script = Script::of(assignment);
            pause(script.prepare_ms).await;
            if let Some(fault) = script.prepare_fails {
                return Err(failed(fault, format!("the image `{}` cannot be had", assignment.container.image)));
            }
            let mut table = self.table();
            table.addresses = table.addresses.wrapping_add(1);
            let [_, a, b, c] = table.addresses.to_be_bytes();
            let rank = Rank {
                term: assignment.term,
                address: format!("127.{a}.{b}.{c}"),
                script,
                log: Bytes::from(format!("rank {} of {}\n", assignment.key.rank, assignment.replicas)),
                running: None,
                end: None,
                ended: Arc::default(),
            };
            // A second call for the same rank may have been quicker; there is one rank for a key.
            let rank = table.ranks.entry(assignment.key.clone()).or_insert(rank);
            Ok(rank.address.clone())
        })
    }

    fn start<'a>(&'a self, key: &'a RankKey, _files: &'a PeerFiles) -> BoxFuture<'a, Result<Moment, EngineError>> {
        Box::pin(async move {
            let (fails, start_ms) = match self.table().ranks.get(key) {
                Some(Rank { running: Some(running), .. }) => return Ok(running.started_at),
                Some(rank) => (rank.script.start_fails, rank.script.start_ms),
                None => return Err(unknown(key)),
            };
            pause(start_ms).await;
            if let Some(fault) = fails {
                return Err(failed(fault, "the command cannot be started".to_owned()));
            }
            let mut table = self.table();
            let rank = table.ranks.get_mut(key).ok_or_else(|| unknown(key))?;
            let since = Instant::now();
            let running = rank.running.get_or_insert_with(|| Running {
                started_at: muster_runtime::clock::boottime(),
                since,
                until: rank.script.run_ms.map(|ms| since + Duration::from_millis(ms)),
            });
            Ok(running.started_at)
        })
    }

    fn wait<'a>(&'a self, key: &'a RankKey) -> BoxFuture<'a, Result<(RankEnd, u64), EngineError>> {
        Box::pin(self.end_of(key))
    }

    fn terminate<'a>(&'a self, key: &'a RankKey) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            if let Some(rank) = self.table().ranks.get_mut(key).filter(|rank| !rank.script.ignores_term) {
                rank.end_by(15);
            }
            Ok(())
        })
    }

    fn kill<'a>(&'a self, key: &'a RankKey) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            if let Some(rank) = self.table().ranks.get_mut(key) {
                rank.end_by(9);
            }
            Ok(())
        })
    }

    fn remove<'a>(&'a self, key: &'a RankKey) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            let mut table = self.table();
            if let Some(mut rank) = table.ranks.remove(key) {
                rank.end_by(9);
                if rank.running.is_some() {
                    table.logs.insert(key.clone(), rank.log);
                    table.removed.push_back(key.clone());
                }
                if table.removed.len() > KEPT_LOGS
                    && let Some(oldest) = table.removed.pop_front()
                {
                    table.logs.remove(&oldest);
                }
            }
            Ok(())
        })
    }

    fn logs(&self, key: &RankKey) -> BoxStream<'static, Result<LogPiece, EngineError>> {
        let (table, key) = (self.table(), key.clone());
        let kept = table.logs.get(&key).cloned();
        let log = kept.clone().or_else(|| table.ranks.get(&key).map(|rank| rank.log.clone()));
        drop(table);
        let Some(bytes) = log else { return stream::iter([Err(unknown(&key))]).boxed() };
        let first = stream::iter([Ok(LogPiece { source: LogSource::Stdout, bytes })]);
        if kept.is_some() {
            return first.boxed();
        }
        let engine = self.clone();
        // Ends with the rank, or with its removal.
        let until_end = async move { drop(engine.end_of(&key).await) };
        first.chain(until_end.into_stream().filter_map(|()| async { None })).boxed()
    }
}

#[cfg(test)]
mod tests;
