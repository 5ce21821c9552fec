//! What operators see and do: `muster`, health, configuration of the binaries.

use super::{LIMIT, run, shell};
use muster_tests::core::JobState;
use muster_tests::harness::{Engine, Site, SiteOptions, binary};
use serde_json::Value;
use std::process::Command;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn muster_tells_of_nodes_and_jobs_as_table_and_as_json() {
    let site = Site::start(SiteOptions::new(Engine::Process, 2)).await.unwrap();
    let id = site.core.submit(shell("while [ ! -e /work/go ]; do sleep 0.1; done; exit 4").replicas(2)).await.unwrap();
    site.core.wait_for(&id, |job| job.state == JobState::Running, LIMIT).await.unwrap();

    let nodes = site.muster(&["nodes"]).await.unwrap();
    assert!(nodes.contains("node-1") && nodes.contains("node-2") && nodes.contains("online"), "{nodes}");
    let nodes: Value = serde_json::from_str(&site.muster(&["nodes", "--output", "json"]).await.unwrap()).unwrap();
    assert_eq!(nodes[0]["cores"], 8);
    let jobs = site.muster(&["jobs"]).await.unwrap();
    assert!(jobs.contains(&id) && jobs.contains("running"), "{jobs}");

    std::fs::write(site.work_folder(&id).join("go"), "").unwrap();
    site.core.wait_for(&id, |job| job.state.is_final(), LIMIT).await.unwrap();
    site.wait_until_settled(LIMIT).await.unwrap();
    let story = site.muster(&["job", &id]).await.unwrap();
    for word in ["node-1", "exit code 4", "SUCCESS", "RUNNING", "muster/busybox:1"] {
        assert!(story.contains(word), "no {word:?} in:\n{story}");
    }
    let story: Value = serde_json::from_str(&site.muster(&["job", &id, "--output", "json"]).await.unwrap()).unwrap();
    assert_eq!(story["ranks"].as_array().unwrap().len(), 2);
    let unknown = site.muster(&["job", "404"]).await.unwrap_err().to_string();
    assert!(unknown.contains("404"), "{unknown}");
    site.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_opened_once() {
    let site = Site::start(SiteOptions::new(Engine::Fake, 1)).await.unwrap();
    let log = site.folder().join("second.log");
    let mut second = site
        .coordinator_process(
            "coordinator",
            &[
                ("MUSTER_HTTP_LISTEN".into(), "127.0.0.1:0".into()),
                ("MUSTER_OPERATOR_LISTEN".into(), "127.0.0.1:0".into()),
                ("MUSTER_FLEET_LISTEN".into(), "127.0.0.1:0".into()),
            ],
            &log,
        )
        .unwrap();
    assert!(!second.ended(LIMIT).await.unwrap().success());
    let log = second.log_tail();
    assert!(log.contains("coordinator.redb"), "{log}");
    site.stop().await.unwrap();
}

/// A renewal at Core replaces key and refresh token at once; SIGHUP takes the new key over, without a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_key_is_taken_over_on_hangup() {
    let site = Site::start(SiteOptions::new(Engine::Process, 1)).await.unwrap();
    run(&site, shell("true")).await.unwrap();
    site.core.renew_keys().await.unwrap();
    let refused = site.core.submit(shell("true")).await.unwrap_err();
    assert_eq!(refused.status, 401, "{refused:?}");
    site.coordinators["coordinator"].signal(rustix::process::Signal::HUP).unwrap();
    let deadline = tokio::time::Instant::now() + LIMIT;
    while site.core.utilization().await.is_err() && tokio::time::Instant::now() < deadline {
        tokio::task::yield_now().await;
    }
    let job = run(&site, shell("true")).await.unwrap();
    assert_eq!(job.state, JobState::Success);
    site.stop().await.unwrap();
}

/// Every binary: `--version`, `--print-config`, `--check-config`; wrong configurations name file and key, all at once.
#[test]
fn binaries_explain_their_configuration() {
    for name in ["muster-coordinator", "muster-worker", "muster"] {
        let run = |arguments: &[&str]| Command::new(binary(name).unwrap()).args(arguments).output().unwrap();
        let version = run(&["--version"]);
        assert!(String::from_utf8_lossy(&version.stdout).contains(env!("CARGO_PKG_VERSION")), "{name}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    std::fs::write(&file, "[http]\nlisten = \"nowhere\"\nlissten = 3\n[accounting]\nwindow_ms = \"1s\"\n").unwrap();
    let output = Command::new(binary("muster-coordinator").unwrap())
        .args(["--config", file.to_str().unwrap(), "--check-config"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let complaint = String::from_utf8_lossy(&output.stderr);
    for word in ["bad.toml", "http.listen", "lissten", "provider.id", "core.url"] {
        assert!(complaint.contains(word), "no {word:?} in:\n{complaint}");
    }
}

/// The examples that operators start from are right.
#[test]
fn the_example_configurations_are_accepted() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/systemd");
    for (name, file) in [("muster-coordinator", "coordinator.toml"), ("muster-worker", "worker.toml")] {
        let file = format!("{folder}/{file}");
        let output = Command::new(binary(name).unwrap()).args(["--config", &file, "--check-config"]).output().unwrap();
        assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
