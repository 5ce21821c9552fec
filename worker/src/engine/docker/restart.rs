//! Whether a rank was ended by a restart of the engine.
//!
//! Without `live-restore`, a dockerd that is stopped gives every container its stop signal, and ten seconds later kills
//! what still lives; one that is killed leaves its containers running, and the next one does the same to them before it
//! serves anybody (seen with 20.10). The container itself keeps only an exit code: 137 or 143 as if anybody had killed it,
//! 255 if containerd went down too, or whatever a program makes of SIGTERM.
//!
//! What tells a restart from all else is the engine's log of events, which lives and dies with one run of dockerd. A run
//! that does not remember a recent end was not there when it happened; one that remembers its own signal, and began while
//! our connection was broken, sent it on its own account. A dockerd that is going down takes no new connections, so the
//! log is always asked for over a new one: whoever answers there is the run that stays.
//!
//! Of an end that came while the worker itself was away nothing of this is known, and nothing is concluded.

use super::Inner;
use super::call::{CallError, LOOK, call, unavailable};
use super::observe::Container;
use super::time::parse_wall_ms;
use crate::engine::EngineError;
use bollard::errors::Error;
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::StreamExt;
use muster_domain::id::RankKey;
use muster_runtime::clock;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How many events the engine keeps at least; after as many it may have dropped what we look for (it keeps 256).
const LOG_LENGTH: usize = 200;
/// A signal this long before the end has something to do with it. The engine's own grace is 10 s, or 15 s as it shuts down.
const SIGNAL_TO_END_MS: u64 = 30_000;
/// How long the engine may take to write down an end that it has shown already.
const LATEST_NEWS_MS: u64 = 1_000;
/// How much later than the end of a rank a signal that came before it may arrive, over its own connection.
pub(super) const LATEST_SIGNAL: Duration = Duration::from_millis(50);

/// What this worker noticed of a rank that it saw running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watch {
    /// Whether containers were to outlive the engine.
    live_restore: bool,
    /// The connection broke while the rank ran.
    lost: bool,
    /// When the engine last signalled the rank, by its wall clock in milliseconds; on whose behalf it does not say.
    signalled_at_ms: Option<u64>,
    /// What was concluded, so that all answers agree.
    verdict: Option<bool>,
}

/// All that is known of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Testimony {
    /// The exit code.
    code: i64,
    /// The kernel killed a process of it for memory.
    out_of_memory: bool,
    /// Containers outlive the engine, before and after.
    live_restore: bool,
    /// The connection broke while the rank was last seen to run.
    lost: bool,
    /// An engine signalled it shortly before.
    signalled: bool,
    /// Whether the run of dockerd that answers now remembers the end; `None` if it has too much else to remember.
    remembered: Option<bool>,
}

/// See the module's text. A code that any program may give proves nothing by itself: one that nobody signalled, and whose
/// code is its own, has ended by itself.
fn by_restart(known: &Testimony) -> bool {
    if known.live_restore || known.out_of_memory && known.code != 0 {
        return false;
    }
    let like_a_kill = matches!(known.code, 255 | 137 | 143);
    match known.remembered {
        Some(true) => known.lost && known.signalled,
        Some(false) => known.signalled || like_a_kill,
        None => known.lost && (known.signalled || like_a_kill),
    }
}

/// What a run of dockerd remembers of one container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Memory {
    events: usize,
    died: bool,
    signalled_at_ms: Option<u64>,
}

impl Memory {
    fn take(&mut self, event: &EventMessage, container: &str) {
        self.events += 1;
        if event.actor.as_ref().and_then(|actor| actor.id.as_deref()) != Some(container) {
            return;
        }
        match event.action.as_deref() {
            Some("die") => self.died = true,
            Some("kill") => self.signalled_at_ms = signal_time(event).or(self.signalled_at_ms),
            _ => {}
        }
    }

    fn remembered(&self) -> Option<bool> {
        if self.died || self.events < LOG_LENGTH { Some(self.died) } else { None }
    }
}

/// When the engine sent a signal.
fn signal_time(event: &EventMessage) -> Option<u64> {
    event.time_nano.and_then(|nanos| u64::try_from(nanos / 1_000_000).ok())
}

/// A time as the engine's queries take it.
fn engine_time(wall_ms: u64) -> String {
    format!("{}.{:03}000000", wall_ms / 1000, wall_ms % 1000)
}

impl Inner {
    /// The rank runs: whatever was noticed before is over.
    pub(super) fn begin_watch(&self, key: &RankKey) {
        let live_restore = self.live_restore.load(Ordering::Relaxed);
        let watch = Watch { live_restore, lost: false, signalled_at_ms: None, verdict: None };
        self.watches().insert(key.clone(), watch);
    }

    /// The rank runs no more, or the connection broke. The next run of dockerd has not been heard yet, so what is known
    /// of live-restore is still the setting under which the rank ran.
    pub(super) fn end_watch(&self, key: &RankKey, lost: bool) {
        if let Some(watch) = self.watches().get_mut(key) {
            watch.lost = lost;
            watch.live_restore = self.live_restore.load(Ordering::Relaxed);
        }
    }

    /// Writes down that the engine signals the rank: once this run of dockerd has ended, nobody else knows. Never
    /// returns: runs beside the wait for the rank's end.
    pub(super) async fn note_signals(&self, key: &RankKey, container: &Container) -> Infallible {
        // Containers that outlive the engine are not signalled by it.
        if !self.live_restore.load(Ordering::Relaxed) {
            let filter = |name: &str, value: &str| (name.to_owned(), vec![value.to_owned()]);
            let filters = HashMap::from([
                filter("type", "container"),
                filter("event", "kill"),
                filter("container", &container.id),
            ]);
            let since = engine_time(clock::now().wall_ms.saturating_sub(LATEST_NEWS_MS));
            let options = EventsOptionsBuilder::new().since(&since).filters(&filters).build();
            let mut events = std::pin::pin!(self.docker.events(Some(options)));
            while let Some(Ok(event)) = events.next().await {
                if let Some(watch) = self.watches().get_mut(key) {
                    watch.signalled_at_ms = signal_time(&event).or(watch.signalled_at_ms);
                }
            }
        }
        std::future::pending().await
    }

    /// Whether no signal from before the rank's end can matter that has not been read yet: an engine that goes on and
    /// has the end in its log did not end the rank by its own going down. That is then concluded.
    pub(super) async fn engine_goes_on(&self, container: &Container) -> bool {
        let key = &container.identity.key;
        let Some(watch) = self.watches().get(key).copied() else { return true };
        if watch.live_restore || watch.lost {
            // With live-restore there are no signals to be read.
            return watch.live_restore;
        }
        let Ok(engine) = self.connect_anew() else { return false };
        let since_ms = clock::now().wall_ms.saturating_sub(SIGNAL_TO_END_MS);
        let goes_on = call(LOOK, memory_of(&engine, &container.id, since_ms)).await.is_ok_and(|memory| memory.died);
        if goes_on && let Some(watch) = self.watches().get_mut(key) {
            watch.verdict = Some(false);
        }
        goes_on
    }

    fn connect_anew(&self) -> Result<Docker, CallError> {
        Ok(Docker::connect_with_unix(self.settings.socket_path(), LOOK.as_secs(), API_DEFAULT_VERSION)?)
    }

    /// Whether a restart of the engine ended this container.
    ///
    /// # Errors
    /// The engine does not answer, as when it is just going down: nothing is known yet.
    pub(super) async fn ended_by_restart(&self, container: &Container) -> Result<bool, EngineError> {
        let key = &container.identity.key;
        let Some(watch) = self.watches().get(key).copied() else { return Ok(false) };
        if let Some(verdict) = watch.verdict {
            return Ok(verdict);
        }
        let verdict = if watch.live_restore && !watch.lost {
            false
        } else {
            let known = self.testimony(container, &watch).await?;
            tracing::debug!(%key, ?known, "end compared with what the engine remembers");
            by_restart(&known)
        };
        if verdict {
            tracing::warn!(%key, "rank was ended by a restart of the Docker Engine; with live-restore it would have lived");
        }
        if let Some(watch) = self.watches().get_mut(key) {
            watch.verdict = Some(verdict);
        }
        Ok(verdict)
    }

    async fn testimony(&self, container: &Container, watch: &Watch) -> Result<Testimony, EngineError> {
        let silent = |error: CallError| {
            unavailable(format!("the engine could not be asked how the rank ended: {}", error.message()))
        };
        let engine = self.connect_anew().map_err(silent)?;
        let mut live_restore = watch.live_restore;
        // What cannot be read says nothing, and must not keep the end from being told.
        if live_restore {
            match call(LOOK, engine.info()).await {
                Ok(info) => live_restore = info.live_restore_enabled == Some(true),
                Err(error @ CallError::Silent(_)) => return Err(silent(error)),
                Err(error) => {
                    tracing::warn!(
                        reason = error.message(),
                        "live-restore of the Docker Engine is taken to be as before"
                    );
                }
            }
        }
        let state = &container.state;
        let finished_ms = state.finished_at.as_deref().and_then(parse_wall_ms).unwrap_or(clock::now().wall_ms);
        let since_ms = finished_ms.saturating_sub(SIGNAL_TO_END_MS);
        let memory = match call(LOOK, memory_of(&engine, &container.id, since_ms)).await {
            Ok(memory) => memory,
            Err(error @ CallError::Silent(_)) => return Err(silent(error)),
            Err(error) => {
                tracing::warn!(reason = error.message(), "events of the Docker Engine cannot be read");
                Memory { events: LOG_LENGTH, ..Memory::default() }
            }
        };
        let signals = [watch.signalled_at_ms, memory.signalled_at_ms];
        Ok(Testimony {
            code: state.exit_code.unwrap_or(0),
            out_of_memory: state.oom_killed == Some(true),
            live_restore,
            lost: watch.lost,
            signalled: signals.into_iter().flatten().any(|signal_ms| signal_ms >= since_ms),
            remembered: memory.remembered(),
        })
    }
}

/// What the engine's log has of a container: up to its end, for which it is given time to be written down.
async fn memory_of(engine: &Docker, container: &str, since_ms: u64) -> Result<Memory, Error> {
    let until_ms = clock::now().wall_ms + LATEST_NEWS_MS;
    let options = EventsOptionsBuilder::new().since(&engine_time(since_ms)).until(&engine_time(until_ms)).build();
    let mut events = std::pin::pin!(engine.events(Some(options)));
    let mut memory = Memory::default();
    while !memory.died
        && let Some(event) = events.next().await
    {
        match event {
            Ok(event) => memory.take(&event, container),
            // An event of a kind that is not known here. The client reads no further, so what may follow is not denied.
            Err(Error::JsonDataError { .. } | Error::JsonSerdeError { .. }) => memory.events = LOG_LENGTH,
            Err(error) => return Err(error),
        }
    }
    Ok(memory)
}

#[cfg(test)]
#[path = "restart_tests.rs"]
mod tests;
