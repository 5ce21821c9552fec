//! Several coordinators over etcd: one leads, the others follow and stand by, and nobody notices a change.

use super::{LIMIT, last_words, on_both_engines, shell, written};
use muster_domain::view::{ClusterView, JobStory};
use muster_tests::core::{CoreJob, JobState};
use muster_tests::harness::{Engine, Leader, RankWatch, Site, SiteOptions, StoreOptions, etcd_for_tests};
use rustix::process::Signal;
use std::time::{Duration, Instant};

on_both_engines! {
    nobody_notices_that_the_leader_is_killed;
}

/// Rank 0 runs for a whole minute and a little; the others until they are ended.
const A_MINUTE: &str = r#"
    rank=$(cat /etc/ucloud/rank.txt)
    echo begun >> /work/begun-$rank
    if [ $rank = 0 ]; then sleep 61; else sleep 600; fi
"#;

/// Says when it begins, and ends when it is let.
const PATIENT: &str = "echo begun >> /work/begun-0; while [ ! -e /work/go ]; do sleep 0.1; done";

/// Followers of a leader.
fn others(site: &Site, leader: &Leader) -> Vec<String> {
    site.coordinator_names().into_iter().filter(|name| *name != leader.name).collect()
}

async fn running(site: &Site, script: &str, replicas: u64) -> anyhow::Result<String> {
    let id = site.core.submit(shell(script).replicas(replicas)).await?;
    site.core.wait_for(&id, |job| job.state == JobState::Running || job.state.is_final(), LIMIT).await?;
    Ok(id)
}

async fn ended_well(site: &Site, id: &str) -> anyhow::Result<CoreJob> {
    let job = site.core.wait_for(id, |job| job.state.is_final(), LIMIT).await?;
    assert_eq!(job.states(), [JobState::Running, JobState::Success], "{:?}", job.history);
    assert!(last_words(&job).contains("code 0"), "{}", last_words(&job));
    Ok(job)
}

async fn nobody_notices_that_the_leader_is_killed(engine: Engine) -> anyhow::Result<()> {
    if etcd_for_tests("nobody_notices_that_the_leader_is_killed").is_none() {
        return Ok(());
    }
    let mut site = Site::start(SiteOptions::over_etcd(engine, 2)).await?;
    let watch = RankWatch::start(site.rank_source());
    let id = running(&site, A_MINUTE, 9).await?;
    assert_eq!(site.rank_source().look().await.live.len(), 9);
    let killed = site.kill_leader().await?;
    let next = site.wait_for_leader(Some(&killed), LIMIT).await?;
    assert!(next.term > killed.term && next.name != killed.name, "{killed:?}, then {next:?}");
    let table = site.muster(&["cluster"]).await?;
    assert!(table.contains(&next.name) && table.contains(&next.term.to_string()), "{table}");
    let view: ClusterView = serde_json::from_str(&site.muster(&["cluster", "--output", "json"]).await?)?;
    assert_eq!((view.leader.map(|leader| leader.name), view.term), (Some(next.name.clone()), next.term));
    site.wait_for_nodes(2).await?;
    site.start_named(&killed.name).await?;
    assert_eq!(site.leader().await, Some(next), "the one that is back follows");

    ended_well(&site, &id).await?;
    site.wait_until_settled(LIMIT).await?;
    for rank in 0..9 {
        assert_eq!(written(&site, &id, &format!("begun-{rank}")), "begun\n");
    }
    let seen = watch.seen();
    assert!(seen.doubles.is_empty() && seen.restarts().is_empty(), "{:?} {:?}", seen.doubles, seen.restarts());
    assert_eq!(site.story(&id).await?.job.attempt, 1);
    let charges: Vec<(i64, i64)> =
        site.core.charges_of(&id).iter().map(|charge| (charge.units, charge.periods)).collect();
    assert_eq!(charges, [(1, 9)], "one minute of nine ranks");
    drop(watch);
    site.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_asked_to_stop_hands_over_at_once() {
    if etcd_for_tests("a_leader_that_is_asked_to_stop_hands_over_at_once").is_none() {
        return;
    }
    let mut site = Site::start(SiteOptions::over_etcd(Engine::Fake, 2)).await.unwrap();
    let first = site.wait_for_leader(None, LIMIT).await.unwrap();
    site.core.reset_creates();
    let core = site.core.clone();
    let creates = tokio::spawn(async move {
        for _ in 0..60 {
            core.submit(super::command(["fake", "run-ms", "10"])).await.unwrap();
        }
    });
    let asked = Instant::now();
    site.coordinators[&first.name].signal(Signal::TERM).unwrap();
    let next = site.wait_for_leader(Some(&first), LIMIT).await.unwrap();
    let took = asked.elapsed();
    // Far below the lease even beside other tests; `make bench` has the figure.
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_ne!(next.name, first.name);
    let mut stopped = site.coordinators.remove(&first.name).unwrap();
    assert!(stopped.ended(LIMIT).await.unwrap().success(), "{}", stopped.log_tail());
    creates.await.unwrap();
    let answers = site.core.creates();
    assert!(answers.by_status.keys().all(|status| [200, 503].contains(status)), "{:?}", answers.by_status);
    assert_eq!((answers.by_status.get(&200), answers.unanswered), (Some(&60), 0));
    site.wait_until_settled(LIMIT).await.unwrap();
    site.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_coordinator_answers_core_and_operators() {
    if etcd_for_tests("any_coordinator_answers_core_and_operators").is_none() {
        return;
    }
    let site = Site::start(SiteOptions::over_etcd(Engine::Process, 1)).await.unwrap();
    let leader = site.wait_for_leader(None, LIMIT).await.unwrap();
    for follower in others(&site, &leader) {
        // Core knows no other: create, follow over WebSocket and extend all go through the follower.
        site.core.set_provider_url(&site.http_url_of(&follower));
        let id = running(&site, &format!("echo hello by {follower}; {PATIENT}"), 1).await.unwrap();
        let heard = format!("hello by {follower}\n");
        site.core.wait_for(&id, |job| job.log(0).stdout == heard, LIMIT).await.unwrap();
        let before = site.core.job(&id).unwrap().allocation.unwrap();
        site.core.extend(&id, 0, 5, 0).await.unwrap();
        site.core.wait_for(&id, |job| job.allocation == Some(before + 300_000), LIMIT).await.unwrap();

        let story: JobStory = site.operator_of(&follower, &format!("/v1/jobs/{id}")).await.unwrap();
        assert_eq!(story.job.state, "running");
        let cluster: ClusterView = site.operator_of(&follower, "/v1/cluster").await.unwrap();
        assert_eq!(cluster.leader.map(|leader| leader.name).as_deref(), Some(leader.name.as_str()));
        assert_eq!(cluster.nodes_online, 1);

        std::fs::write(site.work_folder(&id).join("go"), "").unwrap();
        ended_well(&site, &id).await.unwrap();
    }
    site.stop().await.unwrap();
}

/// The old leader wakes up and believes that it leads: it may say so to nobody who acts on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_slept_past_its_lease_steps_down() {
    if etcd_for_tests("a_leader_that_slept_past_its_lease_steps_down").is_none() {
        return;
    }
    let options = SiteOptions::over_etcd(Engine::Process, 2)
        .coordinator("MUSTER_STORE_ETCD_LEASE_TTL_MS", "4000")
        .coordinator("MUSTER_STORE_ETCD_REQUEST_TIMEOUT_MS", "1000");
    let mut site = Site::start(options).await.unwrap();
    let watch = RankWatch::start(site.rank_source());
    let first = running(&site, PATIENT, 1).await.unwrap();
    let asleep = site.wait_for_leader(None, LIMIT).await.unwrap();
    site.pause(&asleep.name).unwrap();
    let next = site.wait_for_leader(Some(&asleep), LIMIT).await.unwrap();
    assert!(next.term > asleep.term);
    let second = running(&site, PATIENT, 1).await.unwrap();
    site.resume(&asleep.name).unwrap();
    let woken: ClusterView =
        site.wait_for_operator("/v1/cluster", |cluster: &ClusterView| cluster.term == next.term, LIMIT).await.unwrap();
    assert_eq!(woken.leader.map(|leader| leader.name).as_deref(), Some(next.name.as_str()));
    let third = running(&site, PATIENT, 1).await.unwrap();
    assert_eq!(site.leader().await, Some(next));
    for id in [first, second, third] {
        std::fs::write(site.work_folder(&id).join("go"), "").unwrap();
        ended_well(&site, &id).await.unwrap();
        assert_eq!(written(&site, &id, "begun-0"), "begun\n");
    }
    assert!(watch.seen().doubles.is_empty(), "{:?}", watch.seen().doubles);
    drop(watch);
    site.stop().await.unwrap();
}

/// What a coordinator says that cannot start, or waits; nothing that runs is harmed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_coordinator_of_one_name_is_refused() {
    if etcd_for_tests("a_second_coordinator_of_one_name_is_refused").is_none() {
        return;
    }
    let store = StoreOptions::Etcd { members: 1, quota_backend_bytes: None };
    let site = Site::start(SiteOptions { coordinators: 2, store, ..SiteOptions::new(Engine::Fake, 1) }).await.unwrap();
    let leader = site.wait_for_leader(None, LIMIT).await.unwrap();
    for name in site.coordinator_names() {
        let log = site.folder().join(format!("{name}-again.log"));
        let mut second = site.coordinator_process(&name, &elsewhere(), &log).unwrap();
        assert!(!second.ended(LIMIT).await.unwrap().success());
        let complaint = second.log_tail();
        for word in [name.as_str(), "coordinator.name"] {
            assert!(complaint.contains(word), "no {word:?} in:\n{complaint}");
        }
    }
    assert_eq!(site.leader().await, Some(leader), "those that ran go on");
    site.stop().await.unwrap();
}

/// Other listeners than those of the coordinator that runs.
pub(super) fn elsewhere() -> Vec<(String, String)> {
    let keys = ["MUSTER_HTTP_LISTEN", "MUSTER_OPERATOR_LISTEN", "MUSTER_FLEET_LISTEN"];
    keys.map(|key| (key.to_owned(), "127.0.0.1:0".to_owned())).to_vec()
}
