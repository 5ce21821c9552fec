//! How long users wait when the leader changes: from its kill, or from the request to stop, until another one leads, until a
//! create is accepted that was made after it, and until that job runs. Three coordinators over three etcd members, fake ranks.

use super::{fake, options};
use crate::core::Core;
use crate::harness::{Engine, Leader, Site, SiteOptions};
use anyhow::Context;
use rustix::process::Signal;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const LIMIT: Duration = Duration::from_secs(60);
/// Between two creates while there is no leader. Each waits at a follower.
const CREATE_EVERY: Duration = Duration::from_millis(25);
/// Between two changes: the one that was stopped is back, its followers have caught up.
const REST: Duration = Duration::from_millis(500);

/// How the leader goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Going {
    Killed,
    AskedToStop,
}

/// Milliseconds from the leader's going.
#[derive(Default)]
struct Waits {
    led: Vec<f64>,
    accepted: Vec<f64>,
    ran: Vec<f64>,
}

pub(super) async fn run(times: usize) -> anyhow::Result<()> {
    let over_etcd = SiteOptions::over_etcd(Engine::Fake, 2);
    let mut site = Site::start(SiteOptions {
        coordinators: over_etcd.coordinators,
        store: over_etcd.store,
        ..options(Engine::Fake, 2)
    })
    .await?;
    for (going, words) in [(Going::Killed, "leader killed with -9"), (Going::AskedToStop, "leader asked to stop")] {
        let mut waits = Waits::default();
        for _ in 0..times {
            one(&mut site, going, &mut waits).await.context(words)?;
        }
        println!("{:<70}{:>10}{:>10}{:>10}", format!("{words}, {times} times"), "p50", "p99", "most");
        for (what, figures) in
            [("another one leads", waits.led), ("a create is accepted", waits.accepted), ("that job runs", waits.ran)]
        {
            let [half, most_all, most] = percentiles(figures);
            println!("  until {what:<62}{half:>10.0}{most_all:>10.0}{most:>10.0}  ms");
        }
    }
    site.stop().await
}

async fn one(site: &mut Site, going: Going, waits: &mut Waits) -> anyhow::Result<()> {
    sleep(REST).await;
    site.wait_for_nodes(2).await?;
    let leader = site.wait_for_leader(None, LIMIT).await?;
    let begin = Instant::now();
    match going {
        Going::Killed => site.kill_named(&leader.name).await?,
        Going::AskedToStop => site.coordinators[&leader.name].signal(Signal::TERM)?,
    }
    let core = site.core.clone();
    let (led, job) = tokio::join!(next_leader(site, &leader, begin), next_job(core, begin));
    let (accepted, ran) = job?;
    waits.led.push(led?);
    waits.accepted.push(accepted);
    waits.ran.push(ran);
    if going == Going::AskedToStop {
        site.coordinators.remove(&leader.name).context("it runs")?.ended(LIMIT).await?;
    }
    site.start_named(&leader.name).await
}

async fn next_leader(site: &Site, old: &Leader, begin: Instant) -> anyhow::Result<f64> {
    site.wait_for_leader(Some(old), LIMIT).await?;
    Ok(milliseconds(begin))
}

/// Creates one job after the other, none waiting for another, until one has run. Answers when the first was accepted, and
/// when the first ran.
async fn next_job(core: Core, begin: Instant) -> anyhow::Result<(f64, f64)> {
    let mut jobs = JoinSet::new();
    let mut ticks = tokio::time::interval(CREATE_EVERY);
    let mut first: Option<(f64, f64)> = None;
    loop {
        tokio::select! {
            _ = ticks.tick(), if first.is_none() => {
                jobs.spawn(job(core.clone(), begin));
            }
            Some(done) = jobs.join_next() => {
                // The user of a job that was refused tries again, which the next tick does.
                let Some((accepted, ran)) = done?? else { continue };
                let earlier = first.unwrap_or((accepted, ran));
                first = Some((earlier.0.min(accepted), earlier.1.min(ran)));
            }
            else => return first.context("a job ran"),
        }
        if begin.elapsed() > LIMIT {
            anyhow::bail!("no job ran within {LIMIT:?}");
        }
    }
}

/// `None`: it was refused after all of Core's attempts.
async fn job(core: Core, begin: Instant) -> anyhow::Result<Option<(f64, f64)>> {
    let Ok(id) = core.submit(fake()).await else { return Ok(None) };
    let accepted = milliseconds(begin);
    core.wait_for(&id, |job| job.started_at.is_some(), LIMIT).await?;
    Ok(Some((accepted, milliseconds(begin))))
}

fn milliseconds(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1_000.0
}

/// The middle, the 99th of a hundred, the largest.
fn percentiles(mut figures: Vec<f64>) -> [f64; 3] {
    figures.sort_by(f64::total_cmp);
    [50, 99, 100].map(|percent| {
        let place = (figures.len() * percent).div_ceil(100).max(1) - 1;
        figures.get(place).copied().unwrap_or_default()
    })
}
