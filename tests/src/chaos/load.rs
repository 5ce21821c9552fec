//! The stream of jobs: what was asked of the provider, and what must come of it.

use super::again::{Again, How};
use super::lives;
use crate::core::{Core, CoreJob, JobRequest, JobState, ProductReference, Repeat, SubmitError};
use crate::harness::BUSYBOX_IMAGE;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Between two creates: six to seven a second.
const CREATE_EVERY: Duration = Duration::from_millis(150);
/// With so many jobs that have not ended none is added: what is tried is not how many ranks this machine can start.
const MOST_OPEN: usize = 150;
/// How many jobs run for a whole minute and are charged. They are the first, so that they live through most faults.
const MINUTES: usize = 8;
/// More than one charged minute, far from it and from two: a gang is charged from when its last rank has started, as far as
/// its nodes can tell.
const A_MINUTE_S: u64 = 75;

/// What a job does, by which its end is known beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Runs so many seconds and exits with this code.
    Exits {
        /// 1 to 12.
        seconds: u64,
        /// Its code.
        code: u8,
    },
    /// Runs for more than one charged minute, and less than two, once all its ranks have begun.
    AMinute,
    /// Runs until its time allocation is over.
    Expires,
    /// Runs until its user ends it.
    Terminated,
}

/// One create.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) kind: Kind,
    pub(super) replicas: u64,
    /// The id, if it was accepted.
    pub(super) id: Result<String, SubmitError>,
    /// What a second create of it was told.
    pub(super) again: Option<Again>,
}

impl Kind {
    fn choose(number: usize, random: &mut StdRng) -> Self {
        if number < MINUTES {
            return Self::AMinute;
        }
        match random.random_range(0..20) {
            0 => Self::Expires,
            1 => Self::Terminated,
            2..5 => Self::Exits { seconds: random.random_range(1..=3), code: 3 },
            _ => Self::Exits { seconds: random.random_range(1..=12), code: 0 },
        }
    }

    fn request(self, replicas: u64) -> JobRequest {
        let (seconds, code) = match self {
            Self::Exits { seconds, code } => (seconds, code),
            Self::AMinute => (A_MINUTE_S, 0),
            Self::Expires | Self::Terminated => (600, 0),
        };
        let tiny = ProductReference::new("example-compute-tiny", "example-compute", "example");
        let all_have_begun = if self == Self::AMinute { lives::wait_for_all(replicas) } else { String::new() };
        let script = all_have_begun + &lives::script(seconds, code);
        let request = JobRequest::new(BUSYBOX_IMAGE).command(["sh", "-c", &script]).product(&tiny).replicas(replicas);
        if self == Self::Expires { request.time_allocation(0, 0, 4) } else { request }
    }

    /// What is wrong with how such a job ended; `None` if it ended as it should.
    pub(super) fn wrong(self, job: &CoreJob) -> Option<String> {
        let (state, words) = match self {
            Self::Exits { code, .. } => (JobState::Success, format!("code {code}")),
            Self::AMinute => (JobState::Success, "code 0".to_owned()),
            Self::Expires => (JobState::Expired, "time allocation".to_owned()),
            Self::Terminated => (JobState::Success, "terminated".to_owned()),
        };
        // One that was terminated early may never have run.
        let ran = job.states().first() == Some(&JobState::Running) || self == Self::Terminated;
        let ended = job.state == state && job.was_told(&words);
        let told: Vec<&str> = job.history.iter().filter_map(|entry| entry.status.as_deref()).collect();
        (!ran || !ended).then(|| format!("job {}: {:?}, {told:?}; expected {state:?}, {words:?}", job.id, job.states()))
    }

    /// How long rank 0 runs if nothing else ends it: another rank that exits with another code than 0 would.
    pub(super) fn seconds(self) -> Option<u64> {
        match self {
            Self::Exits { seconds, code: 0 } => Some(seconds),
            Self::Exits { .. } => None,
            Self::AMinute => Some(A_MINUTE_S),
            Self::Expires | Self::Terminated => None,
        }
    }

    /// Whole minutes that must be charged.
    pub(super) fn minutes(self) -> i64 {
        i64::from(self == Self::AMinute)
    }
}

/// The stream, until it is stopped.
pub(super) struct Load {
    stop: CancellationToken,
    stream: JoinHandle<Vec<Asked>>,
}

impl Load {
    /// `coordinators` are the base URLs of each one's own UCloud side.
    pub(super) fn start(core: Core, coordinators: Vec<String>, seed: u64) -> Self {
        let stop = CancellationToken::new();
        let stream = tokio::spawn(stream(core, coordinators, StdRng::seed_from_u64(!seed), stop.clone()));
        Self { stop, stream }
    }

    /// No more creates; answers when those under way have been answered.
    pub(super) async fn stop(self) -> Vec<Asked> {
        self.stop.cancel();
        self.stream.await.unwrap_or_default()
    }
}

async fn stream(core: Core, coordinators: Vec<String>, mut random: StdRng, stop: CancellationToken) -> Vec<Asked> {
    let mut creates = JoinSet::new();
    let mut ticks = tokio::time::interval(CREATE_EVERY);
    let mut number = 0;
    while !stop.is_cancelled() {
        ticks.tick().await;
        let (jobs, ended) = core.count_jobs();
        if jobs - ended >= MOST_OPEN {
            continue;
        }
        let kind = Kind::choose(number, &mut random);
        let replicas = random.random_range(1..=3);
        creates.spawn(create(core.clone(), kind, replicas, Again::choose(&coordinators, &mut random)));
        number += 1;
    }
    creates.join_all().await
}

async fn create(core: Core, kind: Kind, replicas: u64, repeat: Option<(How, Repeat)>) -> Asked {
    let request = kind.request(replicas);
    let (id, again) = match repeat {
        None => (core.submit(request).await, None),
        Some((how, repeat)) => {
            let (id, told) = core.submit_twice(&request, &repeat).await;
            (id, told.map(|told| Again::new(how, told)))
        }
    };
    if let (Kind::Terminated, Ok(id)) = (kind, &id) {
        let id = id.clone();
        tokio::spawn(async move {
            sleep(Duration::from_secs(4)).await;
            // The user tries until it works; what was asked for must happen.
            while core.terminate(&id).await.is_err() {
                sleep(Duration::from_secs(1)).await;
            }
        });
    }
    Asked { kind, replicas, id, again }
}
