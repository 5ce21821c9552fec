//! `make chaos`: a stream of jobs from the stand-in Core while coordinators, etcd members, agents and links are killed, paused
//! and cut off, and then a reckoning: was any job lost, any rank run twice, any charge wrong, any create answered late?

mod again;
mod answers;
mod dockerd;
mod lives;
mod load;
mod nemesis;
mod report;
mod verdict;

use crate::core::{Core, CoreOptions};
use crate::harness::{Engine, RankWatch, ReignWatch, Site, SiteOptions, StoreOptions, WorkerOptions};
use anyhow::Context;
use dockerd::Dockerd;
use load::Load;
use nemesis::{Nemesis, Struck};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, sleep};

pub use report::Outcome;

/// When faults have stopped, everything must be stable after this time, and nothing be owed after the second (I13; the
/// second also covers a job that Core gave up on, which is found out in a minute of denials).
const STABLE_WITHIN: Duration = Duration::from_secs(120);
const SETTLED_WITHIN: Duration = Duration::from_secs(300);

/// How long things are broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Each fault of the short list once or a few times; about a minute.
    Short,
    /// Every fault at least once, then at random until so many leaders were killed with -9.
    Kills(usize),
    /// Every fault at least once, then at random until this time has passed.
    For(Duration),
}

/// What a run is to be.
#[derive(Clone, Debug)]
pub struct ChaosOptions {
    /// How long things are broken.
    pub length: Length,
    /// The same seed breaks the same things in the same order. What else happens at the time is up to the machine.
    pub seed: u64,
    /// Folder for a Docker engine of this run's own, which the fourth worker uses and which is stopped and killed too;
    /// and a program that makes the images there, given the engine's socket.
    pub docker: Option<(PathBuf, PathBuf)>,
}

/// Runs it. What was found wrong is in the outcome.
///
/// # Errors
/// The site does not start, or what was broken cannot be repaired.
pub async fn run(options: ChaosOptions) -> anyhow::Result<Outcome> {
    let mut dockerd = match &options.docker {
        Some((folder, images)) => Some(Dockerd::start(folder, images).await?),
        None => None,
    };
    let mut site = match Site::start(site_options(&options, dockerd.as_ref())).await {
        Ok(site) => site,
        Err(error) => {
            if let Some(dockerd) = dockerd {
                dockerd.stop_for_good().await?;
            }
            return Err(error);
        }
    };
    report::first_lines(&options);
    let begin = Instant::now();
    let (reigns, ranks) = (ReignWatch::start(&site), RankWatch::start(site.rank_source()));
    let answers = answers::Answers::start(site.core.clone());
    let coordinators = site.coordinator_names().iter().map(|name| site.http_url_of(name)).collect();
    let load = Load::start(site.core.clone(), coordinators, options.seed);

    let struck = strike(&mut site, dockerd.as_mut(), &options, begin).await;
    let asked = load.stop().await;
    let finding = match struck {
        Ok(struck) => {
            println!("[{:6.1} s] nothing is broken any more; {} jobs are to end", seconds(begin), asked.len());
            let calm = calm_down(&mut site, &asked).await;
            let answers = answers.finish().await;
            let seen = verdict::Seen { asked, answers, reigns: reigns.reigns(), ranks: ranks.seen(), struck, calm };
            Ok(verdict::judge(&site, &seen).await?)
        }
        Err(error) => Err(error),
    };
    drop((reigns, ranks));
    let fine = finding.as_ref().is_ok_and(|outcome| outcome.failed() == 0);
    if fine {
        site.stop().await?;
    } else {
        println!("the logs and stores are left in {}", site.keep_folder().display());
    }
    if let Some(dockerd) = dockerd {
        dockerd.stop_for_good().await?;
    }
    finding
}

fn site_options(options: &ChaosOptions, dockerd: Option<&Dockerd>) -> SiteOptions {
    let short = options.length == Length::Short;
    let mut site = SiteOptions {
        proxied: true,
        // Small enough to be filled in seconds.
        store: StoreOptions::Etcd { members: 3, quota_backend_bytes: (!short).then_some(QUOTA_MIB << 20) },
        core: CoreOptions { follow_logs: false, ..CoreOptions::new("example", "http://127.0.0.1:1") },
        ..SiteOptions::over_etcd(Engine::Process, 4)
    };
    // What waits for the lease waits for less; the arithmetic is the same.
    site = site
        .coordinator("MUSTER_STORE_ETCD_LEASE_TTL_MS", "5000")
        .coordinator("MUSTER_STORE_ETCD_REQUEST_TIMEOUT_MS", "1000");
    if !short {
        site = site.coordinator("MUSTER_STORE_ETCD_SPACE_BUDGET_MIB", &QUOTA_MIB.to_string());
    }
    // Ranks do little but sleep; room is not what is tried here.
    site.workers = (1..=4)
        .map(|number| WorkerOptions {
            name: format!("node-{number}"),
            cores: 64,
            memory_gib: 256,
            engine: dockerd.filter(|_| number == 4).map(Dockerd::engine),
        })
        .collect();
    site
}

/// Of etcd, in a run that fills it: a run without fills needs a few MiB.
const QUOTA_MIB: u64 = 24;

async fn strike(
    site: &mut Site,
    mut dockerd: Option<&mut Dockerd>,
    options: &ChaosOptions,
    begin: Instant,
) -> anyhow::Result<Vec<Struck>> {
    let mut random = StdRng::seed_from_u64(options.seed);
    let all = nemesis::all(options.length == Length::Short, dockerd.is_some());
    let mut first = all.clone();
    first.shuffle(&mut random);
    let mut struck: Vec<Struck> = Vec::new();
    // Some jobs run before the first fault.
    sleep(Duration::from_secs(3)).await;
    loop {
        let kills = struck.iter().filter(|struck| struck.nemesis == Nemesis::KillLeader).count();
        let go_on = match options.length {
            Length::Short => false,
            Length::Kills(most) => kills < most,
            Length::For(time) => begin.elapsed() < time,
        };
        let next = match first.pop() {
            Some(nemesis) => nemesis,
            // Every second one is what the run is about.
            None if go_on && random.random_bool(0.5) => Nemesis::KillLeader,
            None if go_on => *all.choose(&mut random).context("there are faults")?,
            None => return Ok(struck),
        };
        let done = nemesis::strike(next, site, dockerd.as_deref_mut(), &mut random).await;
        let done =
            done.with_context(|| format!("{} s after the start: {}", begin.elapsed().as_secs(), next.words()))?;
        println!("[{:6.1} s] {}", seconds(begin), done.words());
        struck.push(done);
        sleep(Duration::from_millis(random.random_range(300..1_500))).await;
    }
}

/// How the site came to rest.
struct Calm {
    /// Until every accepted job was final at Core.
    stable: Result<Duration, String>,
    /// Until nothing was owed to Core and nothing held room.
    settled: Result<Duration, String>,
    /// Jobs that Core gave up on.
    given_up: usize,
}

async fn calm_down(site: &mut Site, asked: &[load::Asked]) -> Calm {
    let begin = Instant::now();
    let accepted: Vec<&str> = asked.iter().filter_map(|asked| asked.id.as_deref().ok()).collect();
    let open = |core: &Core| {
        let is_open = |id: &&str| core.job(id).is_some_and(|job| !job.state.is_final());
        accepted.iter().copied().filter(is_open).map(str::to_owned).collect::<Vec<_>>()
    };
    let stable = match site.core.wait_until(|core| open(core).is_empty(), STABLE_WITHIN).await {
        Ok(()) => Ok(begin.elapsed()),
        Err(_) => {
            let open = open(&site.core);
            let first = &open[..open.len().min(5)];
            Err(format!("{} jobs are not final after {} s, among them {first:?}", open.len(), STABLE_WITHIN.as_secs()))
        }
    };
    // A create that was refused when its outcome was not known may be durable all the same. Core denies the job then, and
    // many of them at once are a matter for the brake; an operator looks, and sees that Core is right.
    let given_up = site.core.deleted_jobs().len();
    if given_up > 0
        && let Err(error) = site.muster(&["brake", "release", "orphan"]).await
    {
        println!("the brake cannot be released: {error:#}");
    }
    let settled = site.wait_until_settled(SETTLED_WITHIN).await;
    Calm { stable, settled: settled.map(|()| begin.elapsed()).map_err(|error| format!("{error:#}")), given_up }
}

fn seconds(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64()
}
