//! Several coordinators over etcd: one leads, the others follow and stand by, and nobody notices a change.

use super::{LIMIT, LOOK_EVERY, last_words, on_both_engines, shell, written};
use anyhow::Context;
use muster_domain::view::{ClusterView, JobStory, JobView};
use muster_tests::core::{Core, CoreJob, JobState, ProviderAnswer};
use muster_tests::harness::{Engine, Leader, RankWatch, Site, SiteOptions, StoreOptions, etcd_for_tests};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

on_both_engines! {
    nobody_notices_that_the_leader_is_killed;
}

/// Rank 0 runs until a whole minute can be charged; the others until they are ended. A gang is charged from when its last rank
/// has started, as far as its nodes can tell, so rank 0 waits for all and then a good deal longer, but far from two minutes.
const A_MINUTE: &str = r#"
    rank=$(cat /etc/ucloud/rank.txt)
    echo begun >> /work/begun-$rank
    [ $rank = 0 ] || sleep 600
    while [ $(ls /work | grep -c '^begun-') -lt 9 ]; do sleep 0.1; done
    sleep 75
"#;

/// Says when it begins, and ends when it is let.
const PATIENT: &str = "echo begun >> /work/begun-0; while [ ! -e /work/go ]; do sleep 0.1; done";

/// Followers of a leader.
fn others(site: &Site, leader: &Leader) -> Vec<String> {
    site.coordinator_names().into_iter().filter(|name| *name != leader.name).collect()
}

/// Nobody else leads. Where a machine was so busy that a lease ran out meanwhile, whoever came next leads in a later term; but
/// never `who`, which had no claim.
async fn leads_still(site: &Site, leader: &Leader, who: &str) -> anyhow::Result<()> {
    let now = site.wait_for_leader(None, LIMIT).await?;
    assert!(now == *leader || (now.term > leader.term && now.name != who), "{leader:?}, then {now:?}");
    Ok(())
}

/// The ranks that live, once there are so many: an engine that is busy may leave a look unanswered.
async fn live_ranks(site: &Site, count: usize) -> anyhow::Result<()> {
    let source = site.rank_source();
    let counted = async {
        while source.look().await.live.len() != count {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(LIMIT, counted).await.with_context(|| format!("there are not {count} live ranks"))
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
    live_ranks(&site, 9).await?;
    let killed = site.kill_leader().await?;
    let next = site.wait_for_leader(Some(&killed), LIMIT).await?;
    assert!(next.term > killed.term && next.name != killed.name, "{killed:?}, then {next:?}");
    let table = site.muster(&["cluster"]).await?;
    assert!(table.contains(&next.name) && table.contains(&next.term.to_string()), "{table}");
    let view: ClusterView = serde_json::from_str(&site.muster(&["cluster", "--output", "json"]).await?)?;
    assert_eq!((view.leader.map(|leader| leader.name), view.term), (Some(next.name.clone()), next.term));
    site.wait_for_nodes(2).await?;
    site.start_named(&killed.name).await?;
    leads_still(&site, &next, &killed.name).await?;

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
    // Core asks for products when it does not know them, and does not repeat that.
    site.core.retrieve_products().await.unwrap();
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
    // Below the lease of 9 s even on a machine that is busy; `make bench` has the figure.
    assert!(took < Duration::from_secs(5), "{took:?}");
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
        let leads = cluster.leader.is_some_and(|now| now.name == leader.name);
        assert!(leads || cluster.term > leader.term, "term {} after {leader:?}", cluster.term);

        std::fs::write(site.work_folder(&id).join("go"), "").unwrap();
        ended_well(&site, &id).await.unwrap();
    }
    site.stop().await.unwrap();
}

/// The largest body of a create (`protocol.md` 16.8), in bytes.
const MOST_CREATE_BYTES: usize = 32 << 20;

/// A create of two jobs that is so many bytes long: nearly all of them come before the second one.
fn large_create(bytes: usize, second: &Value) -> Value {
    let vector = include_str!("../../../ucloud/tests/vectors/jobs-dec-create-simple.json");
    let steps: Value = serde_json::from_str(vector).unwrap();
    let job = &steps[0]["request"]["items"][0];
    let mut jobs = [job.clone(), job.clone()];
    jobs[0]["id"] = json!("910001");
    jobs[0]["padding"] = json!("");
    jobs[1]["id"] = second.clone();
    let mut body = json!({ "items": jobs });
    let missing = bytes - body.to_string().len();
    body["items"][0]["padding"] = json!("x".repeat(missing));
    body
}

/// Calls again on 503, as Core does: a busy machine may not read so large a body in the time that an answer has. So it does when
/// the connection breaks: a body that is refused is not read to its end, and its sender may notice that before the answer.
async fn create_at(core: &Core, url: &str, body: &Value) -> ProviderAnswer {
    core.set_provider_url(url);
    let calls = async {
        loop {
            match core.call_as(Method::POST, "/ucloud/example/jobs", Some(body), "user").await {
                Ok(answer) if answer.status != 503 => return answer,
                Ok(_) | Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    };
    tokio::time::timeout(LIMIT, calls).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_passes_the_largest_create_on_and_refuses_what_the_leader_refuses() {
    if etcd_for_tests("a_follower_passes_the_largest_create_on_and_refuses_what_the_leader_refuses").is_none() {
        return;
    }
    let mut options = SiteOptions::over_etcd(Engine::Fake, 1);
    // How fast such a body is read is not what is tried here.
    options.core.call_timeout = LIMIT;
    let site = Site::start(options).await.unwrap();
    let leader = site.wait_for_leader(None, LIMIT).await.unwrap();
    let follower = site.http_url_of(&others(&site, &leader)[0]);
    let (good, wrong) = (json!("910002"), json!([]));
    for (bytes, second, expected) in [
        (MOST_CREATE_BYTES, &wrong, 400),
        (MOST_CREATE_BYTES + 1, &good, 413),
        (2 * MOST_CREATE_BYTES, &good, 413),
        (MOST_CREATE_BYTES, &good, 200),
    ] {
        let body = large_create(bytes, second);
        let passed_on = create_at(&site.core, &follower, &body).await;
        let at_leader = create_at(&site.core, &site.http_url_of(&leader.name), &body).await;
        assert_eq!(passed_on.status, expected, "{bytes} bytes: {}", passed_on.why());
        assert_eq!((passed_on.status, passed_on.body), (at_leader.status, at_leader.body), "{bytes} bytes");
        let jobs: Vec<JobView> = site.operator("/v1/jobs").await.unwrap();
        let mut ids: Vec<&str> = jobs.iter().map(|job| job.id.as_str()).collect();
        ids.sort_unstable();
        let accepted: &[&str] = if expected == 200 { &["910001", "910002"] } else { &[] };
        assert_eq!(ids, accepted, "after {bytes} bytes");
    }
    // Core knows nothing of these jobs, so the site is not waited for.
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
    // Whichever is asked, the woken one among them: its own term is over. The lease is so short here that on a busy machine
    // others may have followed `next`, even the woken one anew.
    for name in site.coordinator_names() {
        let woken = async {
            loop {
                match site.operator_of::<ClusterView>(&name, "/v1/cluster").await {
                    Ok(now) if now.term > next.term => break,
                    Ok(now) if now.leader.as_ref().is_some_and(|leader| leader.name == next.name) => break,
                    _ => tokio::time::sleep(LOOK_EVERY).await,
                }
            }
        };
        tokio::time::timeout(LIMIT, woken).await.unwrap_or_else(|_| panic!("{name} does not know {next:?}"));
    }
    let third = running(&site, PATIENT, 1).await.unwrap();
    assert!(site.wait_for_leader(None, LIMIT).await.unwrap().term >= next.term);
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
    assert_eq!(site.wait_for_leader(None, LIMIT).await.unwrap(), leader, "those that ran go on");
    site.stop().await.unwrap();
}

/// Other listeners than those of the coordinator that runs.
pub(super) fn elsewhere() -> Vec<(String, String)> {
    let keys = ["MUSTER_HTTP_LISTEN", "MUSTER_OPERATOR_LISTEN", "MUSTER_FLEET_LISTEN"];
    keys.map(|key| (key.to_owned(), "127.0.0.1:0".to_owned())).to_vec()
}
