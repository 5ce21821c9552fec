//! The middle of the demo over etcd: the leader is killed while a gang runs and creates go on.

use super::jobs::DemoJob;
use super::say;
use crate::core::{Core, JobRequest, JobState, ProductReference};
use crate::harness::{BUSYBOX_IMAGE, Leader, RankWatch, ReignWatch, Site};
use anyhow::Context;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(60);
/// Between two small creates.
const CREATE_EVERY: Duration = Duration::from_millis(200);
/// Creates go on for so long before the kill, and after somebody leads again.
const CREATES_BEFORE: Duration = Duration::from_secs(2);
const CREATES_AFTER: Duration = Duration::from_secs(3);

/// What is watched from the beginning.
pub(super) struct Watches {
    pub(super) reigns: ReignWatch,
    pub(super) ranks: RankWatch,
}

impl Watches {
    pub(super) fn start(site: &Site) -> Self {
        Self { reigns: ReignWatch::start(site), ranks: RankWatch::start(site.rank_source()) }
    }
}

/// What came of the kill.
pub(super) struct Failover {
    pub(super) killed: Leader,
    pub(super) at: Instant,
    /// When another one first said that it leads.
    pub(super) led_again: Instant,
    pub(super) creates: Vec<Create>,
    /// Ranks that lived at the kill.
    pub(super) lived: Vec<(String, u32)>,
}

/// A small job of the stream.
pub(super) struct Create {
    pub(super) asked: Instant,
    pub(super) answered: Instant,
    /// When Core had heard that it runs; `None` if it never did.
    pub(super) ran: Option<Instant>,
    pub(super) ended_well: bool,
}

/// Kills the leader when the last job, a gang, has counted to ten; starts it again when another one leads.
pub(super) async fn kill_the_leader(
    site: &mut Site,
    jobs: &[DemoJob],
    begin: std::time::Instant,
) -> anyhow::Result<Failover> {
    let gang = &jobs.last().context("there are jobs")?.id;
    site.core.wait_for(gang, |job| job.state.is_final() || job.log(0).stdout.contains("step 10"), LIMIT).await?;
    let stop = CancellationToken::new();
    let stream = tokio::spawn(create_until(site.core.clone(), stop.clone()));
    sleep(CREATES_BEFORE).await;
    let lived = site.rank_source().look().await.live;
    let of_gang = lived.iter().filter(|rank| rank.job == *gang).count();
    let leader = site.wait_for_leader(None, LIMIT).await?;
    let at = Instant::now();
    site.kill_named(&leader.name).await?;
    say(begin, &format!("kill -9 of {}, the leader, while {of_gang} ranks of job {gang} run", leader.name));
    let next = site.wait_for_leader(Some(&leader), LIMIT).await?;
    let led_again = Instant::now();
    say(begin, &format!("{} leads, in term {}", next.name, next.term));
    sleep(CREATES_AFTER).await;
    stop.cancel();
    let creates = stream.await?;
    site.start_named(&leader.name).await?;
    say(begin, &format!("{} is back, and follows", leader.name));
    let lived = lived.into_iter().map(|rank| (rank.job, rank.rank)).collect();
    Ok(Failover { killed: leader, at, led_again, creates, lived })
}

/// One small job after the other; none waits for another.
async fn create_until(core: Core, stop: CancellationToken) -> Vec<Create> {
    let mut creates = JoinSet::new();
    let mut ticks = tokio::time::interval(CREATE_EVERY);
    while !stop.is_cancelled() {
        ticks.tick().await;
        creates.spawn(create(core.clone()));
    }
    creates.join_all().await
}

async fn create(core: Core) -> Create {
    let tiny = ProductReference::new("example-compute-tiny", "example-compute", "example");
    let request = JobRequest::new(BUSYBOX_IMAGE).command(["true"]).name("small").product(&tiny);
    let asked = Instant::now();
    let accepted = core.submit(request).await;
    let answered = Instant::now();
    let mut create = Create { asked, answered, ran: None, ended_well: false };
    if let Ok(id) = accepted {
        let ran = core.wait_for(&id, |job| job.started_at.is_some(), LIMIT).await;
        create.ran = ran.is_ok().then(Instant::now);
        let ended = core.wait_for(&id, |job| job.state.is_final(), LIMIT).await;
        create.ended_well = ended.is_ok_and(|job| job.states() == [JobState::Running, JobState::Success]);
    }
    create
}
