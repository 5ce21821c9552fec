//! The checks, and what a check needs of an engine.

mod checks;

pub(crate) use checks::*;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use muster_domain::agent::Observation;
use muster_domain::id::{JobId, RankKey};
use muster_domain::job::spec::ContainerSpec;
use muster_domain::peers::{PeerFiles, RankAddress, host_name, peer_files};
use muster_domain::rank::{Assignment, RankEnd};
use muster_domain::resources::Resources;
use muster_worker::engine::{Engine, EngineError, Fault, LogSource};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Own mounts: `/work`, `/etc/ucloud`, `/etc/hosts`.
    Mounts,
    /// A limit of memory.
    MemoryLimit,
    /// A limit of processes.
    PidsLimit,
}

/// An engine under test, with its own state, cleaned up when dropped.
pub(crate) trait Fixture: Send + Sync {
    /// The engine's name.
    fn name(&self) -> &'static str;
    /// The engine, always the same.
    fn engine(&self) -> Arc<dyn Engine>;
    /// A new engine over the same state, as after the agent was killed and started again.
    fn restarted(&self) -> BoxFuture<'_, Arc<dyn Engine>>;
    /// An image that has a shell and `busybox`.
    fn image(&self) -> String;
    /// An image that nobody can have.
    fn missing_image(&self) -> String;
    /// Where `/work` of a job is on this machine.
    fn job_dir(&self, job: &JobId) -> PathBuf;
    /// Most processes of a rank.
    fn pids_limit(&self) -> u32;
    /// Most bytes kept of a log stream, roughly.
    fn log_limit_bytes(&self) -> u64;
    /// Whether the engine, as it is set up here, is meant to have it. What it never promised is not checked.
    fn promises(&self, _need: Need) -> bool {
        true
    }
    /// Whether this machine can have it; else why not.
    fn lacks(&self, need: Need) -> Option<String>;
}

/// Says that a check was not run, or fails if every check must.
pub(crate) fn not_run(engine: &str, check: &str, why: &str) {
    assert!(std::env::var("REQUIRE_ALL").as_deref() != Ok("1"), "{engine}: {check} must run, but {why}");
    // At the beginning of a line: the test command gathers these for its closing list.
    println!("\nNOT RUN: {engine}: {check}: {why}\n");
}

/// Makes one test per check. `$fixture` is an async function that gives `Result<impl Fixture, String>`.
macro_rules! engine_suite {
    ($fixture:path) => {
        engine_suite! { $fixture:
            exit_codes_are_kept []
            output_and_errors_are_separate []
            arguments_and_environment_arrive_as_they_are []
            the_working_directory_is_the_jobs_folder [Mounts]
            ranks_of_a_job_share_its_folder []
            peer_files_are_there_and_read_only [Mounts]
            ranks_reach_each_other_by_name_on_the_same_port [Mounts]
            too_much_memory_ends_the_rank [MemoryLimit]
            too_many_processes_are_refused [PidsLimit]
            a_polite_rank_ends_at_sigterm []
            a_stubborn_rank_ends_at_sigkill []
            kill_takes_grandchildren_too []
            a_new_agent_adopts_what_runs []
            a_new_agent_hears_of_an_end_it_missed []
            a_missing_image_is_the_jobs_fault []
            a_missing_command_is_the_jobs_fault []
            removing_twice_is_fine_and_logs_stay []
            logs_are_followed_live []
            a_flood_of_output_is_bounded_and_marked []
            a_prepared_rank_is_removed_cleanly []
            every_call_may_be_repeated []
        }
    };
    ($fixture:path: $($check:ident [$($need:ident)*])*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $check() {
            let fixture = match $fixture().await {
                Ok(fixture) => fixture,
                Err(why) => return $crate::suite::not_run(module_path!(), stringify!($check), &why),
            };
            let needs: &[$crate::suite::Need] = &[$($crate::suite::Need::$need),*];
            if !needs.iter().all(|need| $crate::suite::Fixture::promises(&fixture, *need)) {
                return;
            }
            for need in needs {
                if let Some(why) = $crate::suite::Fixture::lacks(&fixture, *need) {
                    let check = concat!(module_path!(), ": ", stringify!($check));
                    return $crate::suite::not_run($crate::suite::Fixture::name(&fixture), check, &why);
                }
            }
            let limit = std::time::Duration::from_secs(120);
            let check = $crate::suite::$check(&fixture);
            tokio::time::timeout(limit, check).await.expect("the check hangs");
        }
    )* };
}

const GIB: u64 = 1 << 30;

pub(crate) fn new_job() -> JobId {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    JobId::new(format!("{}{number:03}", std::process::id())).unwrap()
}

pub(crate) fn shell(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
}

pub(crate) fn assignment(
    fixture: &dyn Fixture,
    job: &JobId,
    rank: u32,
    replicas: u32,
    argv: Vec<String>,
) -> Assignment {
    Assignment {
        key: RankKey { job: job.clone(), rank, attempt: 1 },
        term: 7,
        container: ContainerSpec { image: fixture.image(), argv, in_work_directory: true, ..ContainerSpec::default() },
        resources: Resources { cores: 1, memory_bytes: GIB, gpus: 0 },
        replicas,
        host: host_name(job, rank),
        traceparent: None,
    }
}

pub(crate) fn script(fixture: &dyn Fixture, script: &str) -> Assignment {
    assignment(fixture, &new_job(), 0, 1, shell(script))
}

/// Prepares and starts all ranks of one job.
pub(crate) async fn start_gang(engine: &dyn Engine, gang: &[Assignment]) -> Result<(), EngineError> {
    let mut ranks = Vec::new();
    for rank in gang {
        ranks.push(RankAddress { host: rank.host.clone(), address: engine.prepare(rank).await? });
    }
    for rank in gang {
        let files = peer_files(&rank.key.job, rank.key.rank, rank.resources.cores, &ranks);
        engine.start(&rank.key, &files).await?;
    }
    Ok(())
}

pub(crate) async fn start(engine: &dyn Engine, rank: &Assignment) {
    start_gang(engine, std::slice::from_ref(rank)).await.unwrap();
}

pub(crate) async fn read_log(engine: &dyn Engine, key: &RankKey) -> (String, String) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut pieces = engine.logs(key);
    while let Some(piece) = pieces.next().await {
        let piece = piece.unwrap();
        assert!(piece.bytes.len() <= 32 << 10, "a piece has at most 32 KiB");
        let stream = if piece.source == LogSource::Stdout { &mut stdout } else { &mut stderr };
        stream.extend_from_slice(&piece.bytes);
    }
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(stdout), text(stderr))
}

/// Runs one rank to its end and removes it.
pub(crate) async fn run(fixture: &dyn Fixture, rank: &Assignment) -> (RankEnd, String, String) {
    let engine = fixture.engine();
    start(&*engine, rank).await;
    let (end, _) = engine.wait(&rank.key).await.unwrap();
    let (stdout, stderr) = read_log(&*engine, &rank.key).await;
    engine.remove(&rank.key).await.unwrap();
    (end, stdout, stderr)
}

/// Waits until a rank has written a line that contains `wanted`.
pub(crate) async fn await_output(engine: &dyn Engine, key: &RankKey, wanted: &str) {
    let mut pieces = engine.logs(key);
    let mut text = String::new();
    while !text.contains(wanted) {
        let piece = pieces.next().await.unwrap_or_else(|| panic!("the log ended without {wanted:?}: {text:?}"));
        text.push_str(&String::from_utf8_lossy(&piece.unwrap().bytes));
    }
}

pub(crate) async fn observation(engine: &dyn Engine, key: &RankKey) -> Option<Observation> {
    engine.list().await.unwrap().into_iter().find(|found| found.key == *key).map(|found| found.observation)
}

fn exited(code: i32) -> RankEnd {
    RankEnd::Exited { code }
}
