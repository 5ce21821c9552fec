//! End to end, with real processes: a stand-in Core, a coordinator, workers, and ranks on the process and docker engines.
//!
//! Every scenario that an engine can be the cause of is written once and runs on both. Where there is no Docker engine the
//! docker half is named as not run, or fails if `REQUIRE_ALL=1`.

mod bad_input;
mod breaks;
mod calls;
mod crash;
mod drain;
mod ends;
mod leadership;
mod operator;
mod refused_over_etcd;
mod road;
mod trace;

use muster_tests::core::{CoreJob, JobRequest, ProductReference};
use muster_tests::harness::{BUSYBOX_IMAGE, Site};
use std::time::Duration;

/// How long anything may take on a machine that is busy with other tests; some jobs run for more than a minute of it.
const LIMIT: Duration = Duration::from_secs(180);
/// Files and logs tell nobody that they were written; they are looked at often.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// One scenario on both engines.
macro_rules! on_both_engines {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        mod process {
            $($(#[$doc])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(muster_tests::harness::Engine::Process).await.unwrap();
            })*
        }
        mod docker {
            $($(#[$doc])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let Some(engine) = muster_tests::harness::Engine::docker_for_tests(stringify!($name)) else { return };
                super::$name(engine).await.unwrap();
            })*
        }
    };
}
use on_both_engines;

/// A job of the smallest machine type with this command line.
fn command<const N: usize>(words: [&str; N]) -> JobRequest {
    let tiny = ProductReference::new("example-compute-tiny", "example-compute", "example");
    JobRequest::new(BUSYBOX_IMAGE).command(words).product(&tiny)
}

/// A job of the smallest machine type that runs a shell script.
fn shell(script: &str) -> JobRequest {
    command(["sh", "-c", script])
}

/// Submits a job and waits for its end at Core.
async fn run(site: &Site, request: JobRequest) -> anyhow::Result<CoreJob> {
    let id = site.core.submit(request).await?;
    site.core.wait_for(&id, |job| job.state.is_final(), LIMIT).await
}

/// The words by which the end was told.
fn last_words(job: &CoreJob) -> String {
    job.history.iter().rev().find_map(|entry| entry.status.clone()).unwrap_or_default()
}

/// Waits until something outside of Core and the operators' API is so.
async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let looking = async {
        while !is_so() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(LIMIT, looking).await.unwrap_or_else(|_| panic!("{what}: not so after {LIMIT:?}"));
}

/// What a rank has written into the job's folder.
fn written(site: &Site, job: &str, name: &str) -> String {
    std::fs::read_to_string(site.work_folder(job).join(name)).unwrap_or_default()
}
