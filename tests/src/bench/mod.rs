//! The benchmarks: create latency, jobs per second, gangs, changes of leader, containers against the bare engine.
//!
//! Everything runs on one machine: the stand-in Core, the coordinator and the workers share its cores, and the figures
//! include all of them. The load of the machine is printed beside the figures.

mod containers;
mod failover;

use crate::core::{CoreJob, JobRequest, ProductReference};
use crate::harness::{BUSYBOX_IMAGE, Engine, Site, SiteOptions};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(300);

/// One of the measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Measure {
    /// Latency of creates.
    Create,
    /// Jobs per second.
    Jobs,
    /// Gangs of processes.
    Gangs,
    /// Changes of the leader; needs etcd.
    Failover,
    /// Containers against the bare engine; needs Docker.
    Containers,
}

/// Runs the measurements, or only one of them, and prints them. The leader is killed, and asked to stop, so many times.
///
/// # Errors
/// A cluster does not start, or a job does not end.
pub async fn run(docker: Option<String>, rounds: usize, only: Option<Measure>, changes: usize) -> anyhow::Result<()> {
    let wanted = |measure| only.is_none_or(|only| only == measure);
    println!("load before: {}", load());
    if wanted(Measure::Create) {
        create_latency(rounds).await?;
    }
    if wanted(Measure::Jobs) {
        throughput("jobs/s, fake engine, 1 rank, bulks of 50", Engine::Fake, fake(), 2_000, rounds).await?;
        throughput("jobs/s, process engine, 1 rank", Engine::Process, shell("true"), 300, rounds).await?;
    }
    if wanted(Measure::Gangs) {
        for size in [1, 4, 16] {
            gang(size, rounds).await?;
        }
    }
    if wanted(Measure::Failover) {
        failover::run(changes).await?;
    }
    if wanted(Measure::Containers) {
        match docker {
            Some(socket) => containers::run(&socket, rounds).await?,
            None => println!("containers: not measured, no Docker engine"),
        }
    }
    println!("load after: {}", load());
    Ok(())
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}

fn fake() -> JobRequest {
    request().command(["fake", "run-ms", "0"])
}

fn shell(script: &str) -> JobRequest {
    request().command(["sh", "-c", script])
}

fn request() -> JobRequest {
    let tiny = ProductReference::new("example-compute-tiny", "example-compute", "example");
    JobRequest::new(BUSYBOX_IMAGE).product(&tiny)
}

/// Workers with room for everything at once, logs not followed: the control plane is measured.
fn options(engine: Engine, workers: usize) -> SiteOptions {
    let mut options = SiteOptions::new(engine, workers);
    for worker in &mut options.workers {
        (worker.cores, worker.memory_gib) = (4_096, 16_384);
    }
    options.core.follow_logs = false;
    options
}

/// The middle of a number of figures, with the smallest and the largest.
fn middle(mut figures: Vec<f64>) -> (f64, f64, f64) {
    figures.sort_by(f64::total_cmp);
    (figures[figures.len() / 2], figures[0], figures[figures.len() - 1])
}

fn print(what: &str, unit: &str, figures: Vec<f64>) {
    let (median, least, most) = middle(figures);
    println!("{what:<58} {median:>9.1} {unit:<5} ({least:.1} to {most:.1})");
}

/// From Core's call to our answer, which is durable by then; one after the other.
async fn create_latency(rounds: usize) -> anyhow::Result<()> {
    let site = Site::start(options(Engine::Fake, 2)).await?;
    let (mut half, mut most) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        site.core.reset_creates();
        for _ in 0..200 {
            site.core.submit(fake()).await?;
        }
        let creates = site.core.creates();
        half.extend(creates.percentile_us(50.0).map(|us| us as f64 / 1_000.0));
        most.extend(creates.percentile_us(95.0).map(|us| us as f64 / 1_000.0));
    }
    print("create as Core sees it, p50", "ms", half);
    print("create as Core sees it, p95", "ms", most);
    site.stop().await
}

/// From the first create to the last end as Core sees it.
async fn throughput(what: &str, engine: Engine, job: JobRequest, count: usize, rounds: usize) -> anyhow::Result<()> {
    let site = Site::start(options(engine, 2)).await?;
    let mut figures = Vec::new();
    for _ in 0..rounds {
        let begin = Instant::now();
        let mut ids = Vec::new();
        let bulk = vec![job.clone(); 50];
        while ids.len() < count {
            ids.extend(site.core.submit_bulk(&bulk[..bulk.len().min(count - ids.len())]).await?);
        }
        for id in &ids {
            site.core.wait_for(id, |job| job.state.is_final(), LIMIT).await?;
        }
        figures.push(count as f64 / begin.elapsed().as_secs_f64());
        site.wait_until_settled(LIMIT).await?;
    }
    print(what, "/s", figures);
    site.stop().await
}

/// A gang of trivial processes: until it runs as Core sees it, and until all has ended.
async fn gang(size: u64, rounds: usize) -> anyhow::Result<()> {
    let site = Site::start(options(Engine::Process, 2)).await?;
    let (mut running, mut ended) = (Vec::new(), Vec::new());
    for _ in 0..rounds * 3 {
        let begin = Instant::now();
        let id = site.core.submit(shell("true").replicas(size)).await?;
        let started = |job: &CoreJob| job.started_at.is_some();
        site.core.wait_for(&id, started, LIMIT).await?;
        running.push(begin.elapsed().as_secs_f64() * 1_000.0);
        site.core.wait_for(&id, |job| job.state.is_final(), LIMIT).await?;
        ended.push(begin.elapsed().as_secs_f64() * 1_000.0);
        site.wait_until_settled(LIMIT).await?;
    }
    print(&format!("gang of {size} processes, submit to RUNNING at Core"), "ms", running);
    print(&format!("gang of {size} processes, submit to ended at Core"), "ms", ended);
    site.stop().await
}
