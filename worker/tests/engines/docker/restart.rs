//! What becomes of ranks when their dockerd is stopped or killed, and what is said of it. Each check has a dockerd of its
//! own.

use super::dockerd::Dockerd;
use super::{DockerFixture, fixture_at};
use crate::suite::{Fixture, await_output, not_run, observation, script, start};
use muster_domain::agent::Observation;
use muster_domain::id::RankKey;
use muster_domain::rank::{Assignment, RankEnd};
use muster_worker::engine::docker::NetworkMode;
use muster_worker::engine::{Engine, Fault};
use rustix::process::{Pid, Signal, kill_process};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A program that takes no notice of SIGTERM, as process 1 of its container.
const DEAF: &str = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
/// One that goes in peace, with a code of its own.
const POLITE: &str = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done";
/// One with the code that a shell gives for SIGTERM.
const USUAL: &str = "trap 'exit 143' TERM; echo ready; while :; do sleep 0.1; done";

/// How long a check may take.
const LIMIT: Duration = Duration::from_secs(300);

async fn fixture(live_restore: bool) -> Result<(Dockerd, DockerFixture), String> {
    let dockerd = Dockerd::start(live_restore).await?;
    let network = NetworkMode::Host { address: "127.0.0.1".to_owned() };
    let fixture = fixture_at(dockerd.socket(), Some(network)).await.unwrap();
    Ok((dockerd, fixture))
}

/// Starts a rank, and waits for its end as the agent does: through whatever becomes of the engine.
async fn running(fixture: &DockerFixture, program: &str) -> (Assignment, JoinHandle<(RankEnd, u64)>) {
    let engine = fixture.engine();
    let rank = script(fixture, program);
    start(&*engine, &rank).await;
    let waiting = tokio::spawn(end_of(Arc::clone(&engine), rank.key.clone()));
    await_output(&*engine, &rank.key, "ready").await;
    (rank, waiting)
}

async fn end_of(engine: Arc<dyn Engine>, key: RankKey) -> (RankEnd, u64) {
    loop {
        match engine.wait(&key).await {
            Ok(end) => return end,
            Err(error) => assert_eq!(error.fault, Fault::Unavailable, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn a_restart_without_live_restore_is_told_as_one(signal: Signal) {
    let check = format!("a_restart_without_live_restore_is_told_as_one, by {signal:?}");
    let (mut dockerd, fixture) = match fixture(false).await {
        Ok(made) => made,
        Err(why) => return not_run("docker", &check, &why),
    };
    let engine = fixture.engine();
    let info = engine.describe().await.unwrap();
    assert!(info.version.ends_with(" without live-restore"), "{info:?}");
    // Ends that came before are their own.
    let (killed, killed_end) = running(&fixture, DEAF).await;
    let container = fixture.inspect(&killed.key.job, 0).await;
    let pid = i32::try_from(container.state.unwrap().pid.unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    assert_eq!(killed_end.await.unwrap().0, RankEnd::Killed { signal: 9 });
    let (own, own_end) = running(&fixture, "echo ready; until [ -e end ]; do sleep 0.1; done; exit 255").await;
    std::fs::write(fixture.job_dir(&own.key.job).join("end"), "").unwrap();
    assert_eq!(own_end.await.unwrap().0, RankEnd::Exited { code: 255 });
    let (by_hand, by_hand_end) = running(&fixture, USUAL).await;
    let name = format!("muster-{}-{}-0-1", fixture.settings.cluster, by_hand.key.job);
    fixture.client().stop_container(&name, None).await.unwrap();
    assert_eq!(by_hand_end.await.unwrap().0, RankEnd::Killed { signal: 15 }, "an operator's docker stop");

    let mut ranks = Vec::new();
    let began = Instant::now();
    for program in [DEAF, POLITE, USUAL] {
        ranks.push(running(&fixture, program).await);
    }
    dockerd.end(signal).await;
    dockerd.start_again().await;
    for ((rank, waiting), program) in ranks.iter_mut().zip([DEAF, POLITE, USUAL]) {
        let (end, age_ms) = waiting.await.unwrap();
        assert_eq!(end, RankEnd::EngineRestarted, "{program}");
        assert!(age_ms > 0 && u128::from(age_ms) <= began.elapsed().as_millis(), "{age_ms}");
        assert_eq!(engine.wait(&rank.key).await.unwrap().0, RankEnd::EngineRestarted, "and so it stays");
    }
    assert_eq!(engine.wait(&killed.key).await.unwrap().0, RankEnd::Killed { signal: 9 });
    // An agent that was away over the restart did not see it, and concludes nothing.
    let adopted = observation(&*fixture.restarted().await, &ranks[0].0.key).await;
    assert!(matches!(adopted, Some(Observation::Ended { end: RankEnd::Killed { signal: 9 }, .. })), "{adopted:?}");
    for (rank, _) in ranks {
        engine.remove(&rank.key).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_engine_ends_its_ranks_and_says_so() {
    timeout(LIMIT, a_restart_without_live_restore_is_told_as_one(Signal::TERM)).await.expect("the check hangs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_engine_ends_its_ranks_and_says_so() {
    timeout(LIMIT, a_restart_without_live_restore_is_told_as_one(Signal::KILL)).await.expect("the check hangs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_live_restore_ranks_outlive_their_engine() {
    timeout(LIMIT, ranks_outlive_their_engine()).await.expect("the check hangs");
}

async fn ranks_outlive_their_engine() {
    let (mut dockerd, fixture) = match fixture(true).await {
        Ok(made) => made,
        Err(why) => return not_run("docker", "with_live_restore_ranks_outlive_their_engine", &why),
    };
    let engine = fixture.engine();
    assert!(!engine.describe().await.unwrap().version.contains("live-restore"));
    let (lives, end_of_life) = running(&fixture, "echo ready; until [ -e end ]; do sleep 0.1; done; exit 3").await;
    for signal in [Signal::TERM, Signal::KILL] {
        let (dies, own_end) = running(&fixture, "echo ready; until [ -e end ]; do sleep 0.1; done; exit 137").await;
        dockerd.end(signal).await;
        std::fs::write(fixture.job_dir(&dies.key.job).join("end"), "").unwrap();
        dockerd.start_again().await;
        // The end came while the engine was away, and was the rank's own.
        assert_eq!(own_end.await.unwrap().0, RankEnd::Killed { signal: 9 }, "{signal:?}");
        let seen = observation(&*engine, &lives.key).await;
        assert!(matches!(seen, Some(Observation::Started { .. })), "{signal:?}: {seen:?}");
        engine.remove(&dies.key).await.unwrap();
    }
    assert!(!end_of_life.is_finished());
    std::fs::write(fixture.job_dir(&lives.key.job).join("end"), "").unwrap();
    assert_eq!(end_of_life.await.unwrap().0, RankEnd::Exited { code: 3 });
    engine.remove(&lives.key).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_fails_after_its_dockerd_was_killed_leaves_nothing_behind() {
    timeout(LIMIT, nothing_is_left_behind()).await.expect("the check hangs");
}

async fn nothing_is_left_behind() {
    let (mut dockerd, fixture) = match fixture(true).await {
        Ok(made) => made,
        Err(why) => {
            return not_run("docker", "a_check_that_fails_after_its_dockerd_was_killed_leaves_nothing_behind", &why);
        }
    };
    let (rank, waiting) = running(&fixture, DEAF).await;
    let pid = fixture.inspect(&rank.key.job, 0).await.state.unwrap().pid.unwrap();
    let arguments = || std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let folder = PathBuf::from(dockerd.socket()).parent().unwrap().to_owned();
    dockerd.end(Signal::KILL).await;
    assert!(!arguments().is_empty(), "the rank lives");
    waiting.abort();
    drop(fixture);
    drop(dockerd);
    assert_eq!(arguments(), "");
    assert!(!folder.exists(), "something is mounted in it still");
}
