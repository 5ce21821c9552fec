//! The demo: what it runs, what it tells while it runs, and what it holds against what came out.

mod failover;
mod jobs;
mod leadership;
mod report;

use crate::core::{Core, CoreJob};
use crate::harness::{Engine, Site, SiteOptions};
use failover::Watches;
use jobs::DemoJob;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// After so long the demo has failed, whatever it waits for.
const LIMIT: Duration = Duration::from_secs(150);

/// What the demo is to be.
#[derive(Clone, Debug, Default)]
pub struct DemoOptions {
    /// Socket of the Docker engine that runs the ranks; without it the process engine does.
    pub docker: Option<String>,
    /// Three coordinators over three etcd members instead of one with the embedded store; the leader is killed.
    pub over_etcd: bool,
    /// How long the cluster stays up after its jobs.
    pub stay: Option<Duration>,
}

/// Runs the demo. Answers whether all came out as expected.
///
/// # Errors
/// The cluster does not start, or a job is not accepted.
pub async fn run(demo: DemoOptions) -> anyhow::Result<bool> {
    let begin = Instant::now();
    let engine = match demo.docker {
        Some(socket) => Engine::Docker { socket },
        None => Engine::Process,
    };
    println!("{}", report::first_line(&engine)?);
    let (mut options, cast) = if demo.over_etcd {
        (SiteOptions::over_etcd(engine, 3), "three etcd members, three coordinators")
    } else {
        (SiteOptions::new(engine, 3), "one coordinator with the embedded store")
    };
    say(begin, &format!("starting a stand-in Core, {cast} and three workers"));
    options.core.verify_each = Duration::from_secs(10);
    options.core.verify_scan = Duration::from_secs(5);
    let mut site = Site::start(options).await?;
    say(begin, "node-1, node-2 and node-3 are online; submitting four jobs as Core's users would");

    let jobs = jobs::submit(&site.core).await?;
    for job in &jobs {
        say(begin, &format!("job {} is accepted: {}", job.id, job.title));
    }
    let ids: Vec<String> = jobs.iter().map(|job| job.id.clone()).collect();
    let narrator = tokio::spawn(narrate(site.core.clone(), ids, begin));
    let watches = demo.over_etcd.then(|| Watches::start(&site));
    let core = site.core.clone();
    let failover = async {
        match demo.over_etcd {
            true => failover::kill_the_leader(&mut site, &jobs, begin).await.map(Some),
            false => Ok(None),
        }
    };
    let ends = tokio::time::timeout(LIMIT, jobs::see_to_the_end(&core, &jobs, demo.over_etcd));
    let (failover, done) = tokio::join!(failover, ends);
    let failover = failover?;
    let settled = site.wait_until_settled(Duration::from_secs(15)).await;
    narrator.abort();
    match done {
        Ok(result) => result?,
        Err(_) => say(begin, &format!("not everything ended within {} s", LIMIT.as_secs())),
    }
    if let Err(error) = settled {
        say(begin, &format!("something is still owed: {error:#}"));
    }

    let mut fine = report::print(&site, &jobs).await?;
    match (&watches, &failover) {
        (Some(watches), Some(failover)) => {
            fine &= leadership::print(&site, &jobs, watches, failover, begin).await?;
        }
        _ => println!("\n$ muster jobs --all\n{}", site.muster(&["jobs", "--all"]).await?),
    }
    drop(watches);
    say(begin, if fine { "all is as expected" } else { "NOT all is as expected" });
    if let Some(stay) = demo.stay {
        report::how_to_talk(&site, &jobs, stay);
        tokio::select! {
            () = tokio::time::sleep(stay) => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
    site.stop().await?;
    Ok(fine)
}

/// `90s`, `10m`, `1h`, or seconds.
///
/// # Errors
/// The text is none of them.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len());
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(format!("{text:?} is no duration: expected 90s, 10m, 1h, or seconds")),
    };
    let number: u64 =
        number.parse().map_err(|_| format!("{text:?} is no duration: expected 90s, 10m, 1h, or seconds"))?;
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

fn say(begin: Instant, what: &str) {
    println!("[{:5.1} s] {what}", begin.elapsed().as_secs_f64());
}

/// Prints what Core hears of the jobs, when it hears it.
async fn narrate(core: Core, ids: Vec<String>, begin: Instant) {
    let mut printed: BTreeMap<String, usize> = BTreeMap::new();
    loop {
        for job in ids.iter().filter_map(|id| core.job(id)) {
            let seen = printed.entry(job.id.clone()).or_default();
            for entry in job.history.iter().skip(*seen) {
                let state = entry.state.map(|state| format!("{} ", state.as_str())).unwrap_or_default();
                say(begin, &format!("job {}: {state}{:?}", job.id, entry.status.as_deref().unwrap_or_default()));
            }
            *seen = job.history.len();
        }
        let counts = printed.clone();
        let news = |core: &Core| {
            let grew = |job: &CoreJob| job.history.len() > counts.get(&job.id).copied().unwrap_or(0);
            ids.iter().filter_map(|id| core.job(id)).any(|job| grew(&job))
        };
        if core.wait_until(news, LIMIT).await.is_err() {
            return;
        }
    }
}

/// A job's log as a user sees it: what Core streamed, else what was saved beside the job's output.
fn log_of(site: &Site, job: &DemoJob) -> String {
    let streamed = site.core.job(&job.id).map(|seen| seen.log(0).stdout).unwrap_or_default();
    if !streamed.is_empty() {
        return streamed;
    }
    std::fs::read_to_string(site.work_folder(&job.id).join("stdout.txt")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_people_write_them() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse_duration("1h"), Ok(Duration::from_secs(3_600)));
        assert_eq!(parse_duration("45"), Ok(Duration::from_secs(45)));
        assert!(parse_duration("soon").is_err());
        assert!(parse_duration("5d").is_err());
    }
}
