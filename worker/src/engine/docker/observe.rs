//! From what the engine says about a container to what the brain is told.

use super::Inner;
use super::call::{CallError, LOOK, call, node_fault, unavailable};
use super::label::{self, Identity, Labels};
use super::restart::LATEST_SIGNAL;
use super::settings::User;
use super::time::{parse_wall_ms, process_file, process_start};
use crate::engine::{EngineError, Found};
use bollard::errors::Error;
use bollard::models::{ContainerInspectResponse, ContainerState, ContainerStateStatusEnum};
use bollard::query_parameters::{ListContainersOptionsBuilder, WaitContainerOptionsBuilder};
use futures_util::{StreamExt, stream};
use muster_domain::agent::Observation;
use muster_domain::id::RankKey;
use muster_domain::rank::RankEnd;
use muster_domain::time::{Moment, Now};
use muster_runtime::clock;
use std::collections::HashMap;
use tokio::time::timeout;

/// How many containers are looked at side by side.
const LOOKS_AT_ONCE: usize = 8;

/// Where a container stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It was made, and never ran.
    Created,
    /// It runs.
    Running,
    /// It ran.
    Ended,
}

/// A container of ours.
#[derive(Clone, Debug)]
pub(super) struct Container {
    /// From its labels.
    pub(super) identity: Identity,
    /// Where it stands.
    pub(super) phase: Phase,
    /// Who its processes are.
    pub(super) user: User,
    /// The engine's own name for it.
    pub(super) id: String,
    /// What the engine says of it.
    pub(super) state: ContainerState,
}

impl Container {
    fn read(inner: &Inner, answer: ContainerInspectResponse) -> Option<Self> {
        let config = answer.config?;
        let identity = label::read(&inner.settings, &config.labels.unwrap_or_default())?;
        let user = config
            .user
            .as_deref()
            .and_then(|user| user.split_once(':'))
            .and_then(|(uid, gid)| Some(User { uid: uid.parse().ok()?, gid: gid.parse().ok()? }));
        let state = answer.state?;
        let phase = match state.status {
            Some(ContainerStateStatusEnum::CREATED) => Phase::Created,
            Some(
                ContainerStateStatusEnum::RUNNING
                | ContainerStateStatusEnum::PAUSED
                | ContainerStateStatusEnum::RESTARTING
                | ContainerStateStatusEnum::STOPPING,
            ) => Phase::Running,
            _ => Phase::Ended,
        };
        Some(Self { identity, phase, user: user.unwrap_or(User::ROOT), id: answer.id?, state })
    }

    /// When it started, on `CLOCK_BOOTTIME`: from the kernel where the process can be seen, else from the engine's wall
    /// clock, which is right as long as nobody sets it meanwhile.
    pub(super) fn started_at(&self, now: Now) -> Moment {
        let pid = self.state.pid.filter(|pid| *pid > 0);
        let started = pid.and_then(|pid| process_start(pid, &self.id)).unwrap_or_else(|| {
            let started = self.state.started_at.as_deref().and_then(parse_wall_ms).unwrap_or(now.wall_ms);
            Moment(now.moment.0.saturating_sub(now.wall_ms.saturating_sub(started)))
        });
        started.min(now.moment)
    }

    /// When it ended, on `CLOCK_BOOTTIME`: as long ago as the engine's wall clock says, because an engine that hung tells
    /// of an end late. A wall clock that was set meanwhile cannot make it later than now.
    fn ended_at(&self, now: Now) -> Moment {
        let ended = self.state.finished_at.as_deref().and_then(parse_wall_ms).unwrap_or(now.wall_ms);
        Moment(now.moment.0.saturating_sub(now.wall_ms.saturating_sub(ended)))
    }

    /// How long it ran by the engine's wall clock, in milliseconds: for a rank whose end or start nobody here saw.
    fn wall_age_ms(&self) -> u64 {
        let of = |text: &Option<String>| text.as_deref().and_then(parse_wall_ms);
        match (of(&self.state.started_at), of(&self.state.finished_at)) {
            (Some(started), Some(finished)) => finished.saturating_sub(started),
            _ => 0,
        }
    }

    /// `/proc/<pid>/status` of its first process, if it can be seen from here.
    pub(super) fn first_process_status(&self) -> Option<String> {
        process_file(self.state.pid.filter(|pid| *pid > 0)?, &self.id, "status")
    }

    /// How it ended.
    fn end(&self) -> RankEnd {
        end_of(self.state.exit_code.unwrap_or(0), self.state.oom_killed == Some(true))
    }
}

/// The end behind an exit code. Docker reports a signal as 128 + its number; only the signals that end a process count,
/// so that a program's own code such as 255 stays one.
fn end_of(code: i64, oom_killed: bool) -> RankEnd {
    // The flag is also set when the kernel killed a child that the rank could do without.
    if oom_killed && code != 0 {
        return RankEnd::OutOfMemory;
    }
    match i32::try_from(code) {
        Ok(code) => match code - 128 {
            signal @ (1..=15 | 24 | 25 | 31) => RankEnd::Killed { signal },
            _ => RankEnd::Exited { code: code & 0xff },
        },
        Err(_) => RankEnd::Exited { code: 255 },
    }
}

impl Inner {
    /// The container of this name, if there is one. One that is not ours is an error: it is never touched.
    pub(super) async fn find(&self, key: &RankKey) -> Result<Option<Container>, EngineError> {
        let name = label::container_name(&self.settings.cluster, key);
        match call(LOOK, self.docker.inspect_container(&name, None)).await {
            Ok(answer) => match Container::read(self, answer) {
                Some(container) if container.identity.key == *key => Ok(Some(container)),
                _ => Err(node_fault(format!(
                    "the container {name} exists and is not this worker's; remove it or choose another cluster name"
                ))),
            },
            Err(CallError::Missing(_)) => Ok(None),
            Err(error) => Err(error.on("the container could not be looked at")),
        }
    }

    /// Labels of all containers of this cluster on this engine, whichever worker's, that also carry `more`; with
    /// whether each has ended.
    pub(super) async fn labels_of_all(&self, more: &[(&str, &str)]) -> Result<Vec<(Labels, bool)>, EngineError> {
        let mut wanted = vec![format!("{}={}", label::CLUSTER, self.settings.cluster)];
        wanted.extend(more.iter().map(|(name, value)| format!("{name}={value}")));
        let filters = HashMap::from([("label".to_owned(), wanted)]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let all = call(LOOK, self.docker.list_containers(Some(options)))
            .await
            .map_err(|error| error.on("the containers could not be listed"))?;
        let ended = |state| {
            use bollard::models::ContainerSummaryStateEnum as State;
            matches!(state, Some(State::EXITED | State::DEAD | State::REMOVING))
        };
        Ok(all.into_iter().map(|one| (one.labels.unwrap_or_default(), ended(one.state))).collect())
    }

    /// Everything of this worker.
    pub(super) async fn list(&self) -> Result<Vec<Found>, EngineError> {
        let all = self.labels_of_all(&[(label::NODE, self.settings.node.as_str())]).await?;
        let keys: Vec<RankKey> = all
            .iter()
            .filter_map(|(labels, _)| {
                let identity = label::read(&self.settings, labels);
                if identity.is_none() {
                    tracing::warn!(?labels, "container has labels of this cluster that cannot be read; left alone");
                }
                Some(identity?.key)
            })
            .collect();
        let mut looks =
            stream::iter(keys.into_iter().map(|key| async move { self.find(&key).await })).buffered(LOOKS_AT_ONCE);
        let mut found = Vec::new();
        while let Some(look) = looks.next().await {
            // A container may go between list and look.
            if let Some(container) = look? {
                found.push(self.found(&container));
            }
        }
        Ok(found)
    }

    fn found(&self, container: &Container) -> Found {
        let observation = match container.phase {
            Phase::Created => Observation::Prepared { address: container.identity.address.clone() },
            Phase::Running => Observation::Started { started_at: self.note_start(container) },
            // The machine went down under it; what the engine says of its end is not how it ended.
            Phase::Ended if !container.identity.this_boot => {
                // How long it ran before that is proven only by what was reported then.
                Observation::Ended { end: RankEnd::Vanished, age_ms: 0 }
            }
            Phase::Ended => Observation::Ended {
                end: self.told(&container.identity.key, container.end()),
                age_ms: container.wall_age_ms(),
            },
        };
        Found { key: container.identity.key.clone(), term: container.identity.term, observation }
    }

    /// Remembers when a running container started. The first reading stays, so that repeated ones agree.
    pub(super) fn note_start(&self, container: &Container) -> Moment {
        let started = container.started_at(clock::now());
        *self.started().entry(container.identity.key.clone()).or_insert(started)
    }

    /// Waits for a rank's end.
    pub(super) async fn wait(&self, key: &RankKey) -> Result<(RankEnd, u64), EngineError> {
        let mut seen_running = false;
        loop {
            let Some(container) = self.find(key).await? else {
                // Somebody removed it. What it ran is proven only as far as somebody saw it run.
                let age_ms = match self.started().get(key) {
                    Some(started) if seen_running => clock::boottime().since_ms(*started),
                    _ => 0,
                };
                return Ok((RankEnd::Vanished, age_ms));
            };
            match container.phase {
                Phase::Created => return Err(unavailable("the rank has not been started")),
                Phase::Running => {
                    self.note_start(&container);
                    self.begin_watch(key);
                    let mut signals = std::pin::pin!(self.note_signals(key, &container));
                    let stopped = tokio::select! {
                        // The engine's signals come before what they cause, and are taken in first.
                        biased;
                        never = &mut signals => match never {},
                        stopped = self.wait_for_stop(key) => stopped,
                        never = self.remember_log_begin(key) => match never {},
                    };
                    self.end_watch(key, stopped.is_err());
                    if !self.engine_goes_on(&container).await {
                        // Signals come over another connection than the end, and may be read later.
                        let _ = timeout(LATEST_SIGNAL, signals).await;
                    }
                    stopped?;
                    seen_running = true;
                }
                Phase::Ended => {
                    let by_restart = self.ended_by_restart(&container).await?;
                    let ended_at = container.ended_at(clock::now());
                    let measured = self.started().get(key).map(|started| ended_at.since_ms(*started));
                    let age_ms = match measured {
                        Some(measured) if seen_running => measured,
                        // It ended before this look; a wall clock that was set must not make it longer than that.
                        Some(most) => container.wall_age_ms().min(most),
                        None => container.wall_age_ms(),
                    };
                    let end = if by_restart { RankEnd::EngineRestarted } else { self.told(key, container.end()) };
                    return Ok((end, age_ms));
                }
            }
        }
    }

    /// Returns when the container runs no more. Has no deadline: an engine that hangs makes this wait, one that goes
    /// away breaks the connection.
    pub(super) async fn wait_for_stop(&self, key: &RankKey) -> Result<(), EngineError> {
        let name = label::container_name(&self.settings.cluster, key);
        let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
        let mut answers = std::pin::pin!(self.docker.wait_container(&name, Some(options)));
        match answers.next().await {
            // An exit code other than 0 comes as an error of its own kind.
            Some(Ok(_) | Err(Error::DockerContainerWaitError { .. })) => Ok(()),
            Some(Err(error)) => match CallError::from(error) {
                CallError::Missing(_) => Ok(()),
                error => Err(unavailable(format!("the wait for the rank's end broke: {}", error.message()))),
            },
            None => Err(unavailable("the wait for the rank's end broke: the Docker Engine closed the connection")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_says_how_it_ended() {
        assert_eq!(end_of(0, false), RankEnd::Exited { code: 0 });
        assert_eq!(end_of(3, false), RankEnd::Exited { code: 3 });
        assert_eq!(end_of(255, false), RankEnd::Exited { code: 255 });
        assert_eq!(end_of(128, false), RankEnd::Exited { code: 128 });
        assert_eq!(end_of(137, false), RankEnd::Killed { signal: 9 });
        assert_eq!(end_of(143, false), RankEnd::Killed { signal: 15 });
        assert_eq!(end_of(137, true), RankEnd::OutOfMemory);
        assert_eq!(end_of(0, true), RankEnd::Exited { code: 0 });
        assert_eq!(end_of(i64::MAX, false), RankEnd::Exited { code: 255 });
    }
}
