//! The other calls of Core: products, utilisation, verification, access lists, initialisation.

use super::{LIMIT, command};
use muster_tests::core::JobState;
use muster_tests::harness::{Engine, Site, SiteOptions};
use reqwest::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn core_asks_what_is_offered_and_how_full_it_is() {
    let site = Site::start(SiteOptions::new(Engine::Fake, 2)).await.unwrap();
    let products = site.core.retrieve_products().await.unwrap();
    let ids: Vec<&str> = products.iter().filter_map(|product| product["product"]["id"].as_str()).collect();
    assert_eq!(ids, ["example-compute-1", "example-compute-2", "example-compute-tiny"]);
    for product in &products {
        for feature in ["enabled", "logs", "timeExtension", "utilization"] {
            assert_eq!(product["docker"][feature], json!(true), "{product}");
        }
        assert_eq!(product["virtualMachine"]["enabled"], json!(null), "Core rejects any other value");
    }

    let id = site.core.submit(command(["fake", "hang"]).replicas(3)).await.unwrap();
    site.core.wait_for(&id, |job| job.state == JobState::Running, LIMIT).await.unwrap();
    let utilization = site.core.utilization().await.unwrap();
    assert_eq!(utilization["capacity"]["cpu"].as_f64(), Some(16.0), "{utilization}");
    assert_eq!(utilization["usedCapacity"]["cpu"].as_f64(), Some(3.0), "{utilization}");
    assert_eq!(utilization["usedCapacity"]["memory"], json!(3_u64 << 30));
    assert_eq!(utilization["queueStatus"], json!({"running": 1, "pending": 0}));
    site.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_change_nothing_are_answered_well() {
    let site = Site::start(SiteOptions::new(Engine::Fake, 1)).await.unwrap();
    let id = site.core.submit(command(["fake", "hang"])).await.unwrap();
    site.core.wait_for(&id, |job| job.state == JobState::Running, LIMIT).await.unwrap();
    assert_eq!(site.core.verify_now().await.unwrap(), 1);
    let entry = json!({"resource": {"id": id}, "added": [], "deleted": []});
    let calls = [
        ("/ucloud/example/jobs/updateAcl", json!({"items": [entry]}), 200),
        ("/ucloud/example/jobs/init", json!({"principal": {"createdBy": "user", "project": null}}), 200),
        ("/ucloud/example/integration/init", json!({"username": "user"}), 200),
        ("/ucloud/example/jobs/suspend", json!({"items": [{"id": id}]}), 400),
        ("/ucloud/example/depositNotifications/pullRequest", json!({}), 200),
    ];
    for (path, body, status) in calls {
        let answer = site.core.call_as(Method::POST, path, Some(&body), "user").await.unwrap();
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
    let job = site.core.job(&id).unwrap();
    assert_eq!(job.states(), [JobState::Running], "the job was left alone");
    site.stop().await.unwrap();
}

/// A job that Core believes in and that nobody here knows is failed there, in words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminating_an_unknown_job_tells_core_that_it_failed() {
    let mut site = Site::start(SiteOptions::new(Engine::Fake, 1)).await.unwrap();
    let id = site.core.submit(command(["fake", "hang"])).await.unwrap();
    site.core.wait_for(&id, |job| job.state == JobState::Running, LIMIT).await.unwrap();
    // The store is lost; the workers go with it, since they would not obey a leader of an older term.
    for worker in site.worker_names() {
        site.kill_worker(&worker).await.unwrap();
    }
    site.kill_coordinator().await.unwrap();
    std::fs::remove_file(site.folder().join("coordinator.redb")).unwrap();
    site.start_coordinator(&[]).await.unwrap();
    site.core.terminate(&id).await.unwrap();
    let job = site.core.wait_for(&id, |job| job.state.is_final(), LIMIT).await.unwrap();
    assert_eq!(job.state, JobState::Failure);
    site.stop().await.unwrap();
}
