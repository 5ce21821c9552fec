//! Nodes taken out of service, and the brake on automatic ends, with `muster` against real processes.

use super::{LIMIT, command, last_words, run, shell, written};
use muster_domain::view::{BrakeView, ClusterView, NodeView};
use muster_tests::core::{JobRequest, JobState};
use muster_tests::harness::{Engine, Site, SiteOptions};

/// Ends when it is let.
const PATIENT: &str = "while [ ! -e /work/go ]; do sleep 0.1; done";

async fn running(site: &Site, request: JobRequest) -> String {
    let id = site.core.submit(request).await.unwrap();
    site.core.wait_for(&id, |job| job.state == JobState::Running, LIMIT).await.unwrap();
    id
}

async fn node_of(site: &Site, id: &str) -> String {
    site.story(id).await.unwrap().ranks[0].node.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cordoned_node_keeps_what_it_has_and_gets_nothing_new() {
    let mut site = Site::start(SiteOptions::new(Engine::Process, 2)).await.unwrap();
    let id = running(&site, shell(PATIENT)).await;
    let node = node_of(&site, &id).await;
    let said = site.muster(&["node", "cordon", &node]).await.unwrap();
    assert!(said.contains(&node) && said.contains("cordoned"), "{said}");
    for _ in 0..3 {
        let job = run(&site, shell("true")).await.unwrap();
        assert_ne!(node_of(&site, &job.id).await, node);
    }
    // What an operator said outlives the coordinator.
    site.kill_coordinator().await.unwrap();
    site.start_coordinator(&[]).await.unwrap();
    site.wait_for_nodes(2).await.unwrap();
    let nodes = site.muster(&["nodes"]).await.unwrap();
    assert!(nodes.lines().any(|line| line.contains(&node) && line.contains("cordoned")), "{nodes}");
    std::fs::write(site.work_folder(&id).join("go"), "").unwrap();
    let job = site.core.wait_for(&id, |job| job.state.is_final(), LIMIT).await.unwrap();
    assert_eq!(job.state, JobState::Success);
    site.muster(&["node", "uncordon", &node]).await.unwrap();
    let nodes: Vec<NodeView> = site.operator("/v1/nodes").await.unwrap();
    assert!(nodes.iter().all(|node| node.admission == "schedulable"), "{nodes:?}");
    let unknown = site.muster_output(&["node", "cordon", "nobody"]).await.unwrap();
    assert_eq!(unknown.status.code(), Some(3), "{unknown:?}");
    site.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_node_ends_what_runs_at_the_deadline_in_words_its_user_reads() {
    let site = Site::start(SiteOptions::new(Engine::Process, 2)).await.unwrap();
    let quick = running(&site, shell("while [ ! -e /work/go ]; do sleep 0.1; done; echo whole > /work/last")).await;
    let node = node_of(&site, &quick).await;
    site.muster(&["node", "drain", &node]).await.unwrap();
    std::fs::write(site.work_folder(&quick).join("go"), "").unwrap();
    let job = site.core.wait_for(&quick, |job| job.state.is_final(), LIMIT).await.unwrap();
    assert_eq!(job.state, JobState::Success, "without a deadline ranks end by themselves");
    assert_eq!(written(&site, &quick, "last"), "whole\n");
    site.muster(&["node", "uncordon", &node]).await.unwrap();

    // A gang over both nodes ends as a whole, and a job on the other one goes on.
    let gang = running(&site, shell(PATIENT).replicas(9)).await;
    let said = site.muster(&["node", "drain", &node, "--deadline", "1s"]).await.unwrap();
    assert!(said.contains("draining"), "{said}");
    let other = running(&site, shell(PATIENT)).await;
    let job = site.core.wait_for(&gang, |job| job.state.is_final(), LIMIT).await.unwrap();
    assert_eq!(job.states(), [JobState::Running, JobState::Failure]);
    assert!(last_words(&job).contains("taken out of service") && last_words(&job).contains(&node), "{job:?}");
    let drained = |nodes: &Vec<NodeView>| nodes.iter().any(|it| it.name == node && it.admission == "drained");
    site.wait_for_operator("/v1/nodes", drained, LIMIT).await.unwrap();
    assert_eq!(site.core.job(&other).unwrap().state, JobState::Running);
    site.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_brake_holds_back_the_fourth_end_until_an_operator_lets_go() {
    let site = Site::start(SiteOptions::new(Engine::Fake, 1)).await.unwrap();
    let mut jobs = Vec::new();
    for _ in 0..5 {
        jobs.push(running(&site, command(["fake", "hang"])).await);
    }
    site.muster(&["node", "drain", "node-1", "--deadline", "1s"]).await.unwrap();
    let held = |cluster: &ClusterView| cluster.brakes.iter().any(|brake| brake.verdict == "drain" && brake.held);
    let cluster = site.wait_for_operator("/v1/cluster", held, LIMIT).await.unwrap();
    assert!(cluster.alarms.iter().any(|alarm| alarm.contains("muster brake")), "{:?}", cluster.alarms);
    let ended = || jobs.iter().filter(|id| site.core.job(id).is_some_and(|job| job.state.is_final())).count();
    site.core.wait_until(|_| ended() == 3, LIMIT).await.unwrap();
    let brakes: Vec<BrakeView> =
        serde_json::from_str(&site.muster(&["brake", "--output", "json"]).await.unwrap()).unwrap();
    let drain = brakes.iter().find(|brake| brake.verdict == "drain").unwrap();
    assert_eq!((drain.used, drain.waiting, drain.held), (3, 2, true));
    assert!(site.muster(&["brake"]).await.unwrap().contains("2 jobs are held back"));
    assert_eq!(ended(), 3);
    site.muster(&["brake", "release", "drain"]).await.unwrap();
    site.core.wait_until(|_| ended() == 5, LIMIT).await.unwrap();
    site.wait_until_settled(LIMIT).await.unwrap();
    site.stop().await.unwrap();
}
