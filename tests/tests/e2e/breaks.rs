//! Things that break: workers, nodes, the coordinator, Core.

use super::{LIMIT, eventually, last_words, on_both_engines, run, shell, written};
use muster_domain::view::NodeView;
use muster_tests::core::{Faults, JobState};
use muster_tests::harness::{Engine, Site, SiteOptions};
use std::time::Duration;

on_both_engines! {
    a_worker_killed_and_restarted_adopts_what_runs;
    a_rank_that_ends_while_its_worker_is_away_is_not_lost;
    preparing_fails_on_one_node_and_the_attempt_moves_on;
    a_node_that_dies_fails_its_job_in_words_and_is_cleaned_when_it_returns;
    an_outage_of_the_coordinator_kills_nothing;
}

/// Says when it begins, and ends when it is let.
const PATIENT: &str = "echo begun >> /work/begun; while [ ! -e /work/go ]; do sleep 0.1; done; echo over >> /work/over";

async fn a_worker_killed_and_restarted_adopts_what_runs(engine: Engine) -> anyhow::Result<()> {
    let mut site = Site::start(SiteOptions::new(engine, 1)).await?;
    let id = site.core.submit(shell(PATIENT)).await?;
    site.core.wait_for(&id, |job| job.state == JobState::Running, LIMIT).await?;
    site.kill_worker("node-1").await?;
    site.wait_for_nodes(0).await?;
    site.start_worker("node-1")?;
    site.wait_for_nodes(1).await?;
    std::fs::write(site.work_folder(&id).join("go"), "")?;
    let job = site.core.wait_for(&id, |job| job.state.is_final(), LIMIT).await?;
    assert_eq!(job.states(), [JobState::Running, JobState::Success]);
    assert!(last_words(&job).contains("code 0"), "{}", last_words(&job));
    assert_eq!((written(&site, &id, "begun"), written(&site, &id, "over")), ("begun\n".into(), "over\n".into()));
    assert_eq!(site.story(&id).await?.job.attempt, 1);
    site.stop().await
}

async fn a_rank_that_ends_while_its_worker_is_away_is_not_lost(engine: Engine) -> anyhow::Result<()> {
    let mut site = Site::start(SiteOptions::new(engine, 1)).await?;
    let id = site.core.submit(shell(&format!("{PATIENT}; exit 5"))).await?;
    site.core.wait_for(&id, |job| job.state == JobState::Running, LIMIT).await?;
    site.kill_worker("node-1").await?;
    std::fs::write(site.work_folder(&id).join("go"), "")?;
    eventually("the rank is over", || !written(&site, &id, "over").is_empty()).await;
    site.start_worker("node-1")?;
    let job = site.core.wait_for(&id, |job| job.state.is_final(), LIMIT).await?;
    assert_eq!(job.state, JobState::Success);
    assert!(last_words(&job).contains("code 5"), "{}", last_words(&job));
    site.stop().await
}

async fn preparing_fails_on_one_node_and_the_attempt_moves_on(engine: Engine) -> anyhow::Result<()> {
    let folder = format!("node-1/{}/ranks", engine.name());
    let site = Site::start(SiteOptions::new(engine, 2)).await?;
    // The folder of its ranks is a file: nothing can be prepared on node-1, which would be chosen first.
    let ranks = site.folder().join(folder);
    std::fs::remove_dir_all(&ranks)?;
    std::fs::write(&ranks, "not a folder")?;
    let job = run(&site, shell("true").replicas(3)).await?;
    assert_eq!(job.state, JobState::Success);
    let story = site.story(&job.id).await?;
    assert_eq!((story.job.attempt, story.failed_attempts.len()), (2, 1));
    assert_eq!(story.failed_attempts[0].node, "node-1");
    assert!(story.ranks.iter().all(|rank| rank.node == "node-2"), "{:?}", story.ranks);
    assert!(job.was_told("node-1"), "the user hears of it");
    site.wait_until_settled(LIMIT).await?;
    site.stop().await
}

async fn a_node_that_dies_fails_its_job_in_words_and_is_cleaned_when_it_returns(engine: Engine) -> anyhow::Result<()> {
    let options = SiteOptions::new(engine, 2)
        .coordinator("MUSTER_TIMEOUTS_OFFLINE_AFTER_MS", "3000")
        .coordinator("MUSTER_TIMEOUTS_LOST_AFTER_MS", "6000");
    let mut site = Site::start(options).await?;
    let id = site.core.submit(shell("sleep 300").replicas(9)).await?;
    site.core.wait_for(&id, |job| job.state == JobState::Running, LIMIT).await?;
    site.kill_worker("node-2").await?;
    let job = site.core.wait_for(&id, |job| job.state.is_final(), LIMIT).await?;
    assert_eq!(job.state, JobState::Failure);
    assert!(last_words(&job).contains("node-2"), "{}", last_words(&job));
    let held: Vec<NodeView> = site.operator("/v1/nodes").await?;
    assert!(
        held.iter().any(|node| node.name == "node-2" && !node.ranks.is_empty()),
        "room is kept until it is confirmed free"
    );
    site.start_worker("node-2")?;
    site.wait_for_nodes(2).await?;
    site.wait_until_settled(LIMIT).await?;
    site.stop().await
}

async fn an_outage_of_the_coordinator_kills_nothing(engine: Engine) -> anyhow::Result<()> {
    let mut site = Site::start(SiteOptions::new(engine, 2)).await?;
    let id = site.core.submit(shell(PATIENT).replicas(2)).await?;
    site.core.wait_for(&id, |job| job.state == JobState::Running, LIMIT).await?;
    site.kill_coordinator().await?;
    site.start_coordinator(&[]).await?;
    site.wait_for_nodes(2).await?;
    std::fs::write(site.work_folder(&id).join("go"), "")?;
    let job = site.core.wait_for(&id, |job| job.state.is_final(), LIMIT).await?;
    assert_eq!(job.states(), [JobState::Running, JobState::Success]);
    assert_eq!(written(&site, &id, "begun"), "begun\nbegun\n", "each rank began once");
    site.stop().await
}

/// While Core is away jobs run, and afterwards it hears everything in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_core_delays_words_and_nothing_else() {
    let site = Site::start(SiteOptions::new(Engine::Process, 1)).await.unwrap();
    let id = site.core.submit(shell("sleep 1; exit 3")).await.unwrap();
    site.core.set_faults(Faults { fail_percent: 100, fail_status: 500, ..Faults::default() });
    site.wait_for_state(&id, "ended", LIMIT).await.unwrap();
    site.core.set_faults(Faults::default());
    let job = site.core.wait_for(&id, |job| job.state.is_final(), LIMIT).await.unwrap();
    assert_eq!(job.state, JobState::Success);
    assert!(last_words(&job).contains("code 3"), "{}", last_words(&job));
    site.wait_until_settled(LIMIT).await.unwrap();
    site.stop().await.unwrap();
}

/// Tokens expire; nobody notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_token_is_refreshed() {
    let site = Site::start(SiteOptions::new(Engine::Process, 1)).await.unwrap();
    run(&site, shell("true")).await.unwrap();
    site.core.revoke_tokens();
    let job = run(&site, shell("true")).await.unwrap();
    assert_eq!(job.states(), [JobState::Running, JobState::Success]);
    site.stop().await.unwrap();
}

/// A planned stop answers what it has accepted and leaves the rest to the next start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_is_asked_to_stop_does_so_at_once_and_cleanly() {
    let mut site = Site::start(SiteOptions::new(Engine::Process, 1)).await.unwrap();
    let id = site.core.submit(shell(PATIENT)).await.unwrap();
    site.core.wait_for(&id, |job| job.state == JobState::Running, LIMIT).await.unwrap();
    let status = site.take_coordinator().unwrap().terminate(Duration::from_secs(10)).await.unwrap();
    assert!(status.success(), "{status}");
    site.start_coordinator(&[]).await.unwrap();
    site.wait_for_nodes(1).await.unwrap();
    std::fs::write(site.work_folder(&id).join("go"), "").unwrap();
    let job = site.core.wait_for(&id, |job| job.state.is_final(), LIMIT).await.unwrap();
    assert_eq!(job.states(), [JobState::Running, JobState::Success]);
    site.stop().await.unwrap();
}
