//! What a coordinator says that cannot work with its etcd: each a message that says what to do, and no damage.

use super::leadership::elsewhere;
use super::{LIMIT, eventually};
use muster_domain::view::ClusterView;
use muster_tests::harness::{
    Engine, EtcdCluster, EtcdOptions, Process, Site, SiteOptions, StoreOptions, etcd_for_tests,
};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

async fn site() -> Site {
    let store = StoreOptions::Etcd { members: 1, quota_backend_bytes: None };
    Site::start(SiteOptions { coordinators: 2, store, ..SiteOptions::new(Engine::Fake, 1) }).await.unwrap()
}

/// A further coordinator of another name, with these keys instead of its file's.
fn another(site: &Site, keys: &[(&str, &str)]) -> Process {
    let mut environment = elsewhere();
    environment.push(("MUSTER_COORDINATOR_NAME".to_owned(), "another".to_owned()));
    environment.extend(keys.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let log = site.folder().join(format!("another-{}.log", rand::random::<u32>()));
    site.coordinator_process("coordinator-1", &environment, &log).unwrap()
}

async fn says(mut process: Process, words: &[&str]) {
    let status = process.ended(LIMIT).await.unwrap();
    let log = process.log_tail();
    assert!(!status.success(), "{log}");
    for word in words {
        assert!(log.contains(word), "no {word:?} in:\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_an_operator_can_mend_is_said_in_words() {
    let Some(binaries) = etcd_for_tests("what_only_an_operator_can_mend_is_said_in_words") else { return };
    let mut site = site().await;
    let leader = site.wait_for_leader(None, LIMIT).await.unwrap();

    // Credentials.
    let auth = Some(("muster".to_owned(), "right".to_owned()));
    let guarded = EtcdOptions { auth, ..EtcdOptions::new(binaries) };
    let guarded = EtcdCluster::start(guarded, &site.folder().join("guarded")).await.unwrap();
    let password = site.folder().join("password");
    std::fs::write(&password, "wrong").unwrap();
    std::fs::set_permissions(&password, Permissions::from_mode(0o400)).unwrap();
    let (endpoints, file) = (guarded.endpoints().join(","), password.display().to_string());
    let process = another(
        &site,
        &[
            ("MUSTER_STORE_ETCD_ENDPOINTS", &endpoints),
            ("MUSTER_STORE_ETCD_USER", "muster"),
            ("MUSTER_STORE_ETCD_PASSWORD_FILE", &file),
        ],
    );
    says(process, &["store.etcd.user", "store.etcd.password_file"]).await;
    says(another(&site, &[("MUSTER_STORE_ETCD_ENDPOINTS", &endpoints)]), &["store.etcd.user"]).await;

    // A prefix with somebody else's keys.
    let etcd = site.etcd.as_ref().unwrap();
    let foreign = format!("/elsewhere/{}/settings", site.cluster_name());
    etcd.ctl(&["put", &foreign, "of another program"]).await.unwrap();
    let process = another(&site, &[("MUSTER_STORE_ETCD_PREFIX", "/elsewhere"), ("MUSTER_TELEMETRY_LOG", "info")]);
    says(process, &["/elsewhere", "belong to another", "store.etcd.prefix"]).await;
    let kept = etcd.ctl(&["get", &foreign, "--print-value-only"]).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&kept.stdout).trim(), "of another program");

    // A store of a newer version.
    let newer = format!("/newer/{}/meta", site.cluster_name());
    etcd.ctl(&["put", &newer, r#"{"schema": 99}"#]).await.unwrap();
    says(another(&site, &[("MUSTER_STORE_ETCD_PREFIX", "/newer")]), &["newer version"]).await;

    assert_eq!(site.wait_for_leader(None, LIMIT).await.unwrap(), leader, "those that ran go on");
    site.wait_for_nodes(1).await.unwrap();
    site.stop().await.unwrap();
}

/// It mends itself: the process waits, says so, and is alive for whoever asks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_cannot_be_reached_is_waited_for() {
    if etcd_for_tests("an_etcd_that_cannot_be_reached_is_waited_for").is_none() {
        return;
    }
    let mut site = site().await;
    site.etcd.as_mut().unwrap().kill(0).await.unwrap();
    let mut process = another(&site, &[]);
    let endpoint = site.etcd.as_ref().unwrap().endpoints().remove(0);
    let endpoint = endpoint.trim_start_matches("http://");
    eventually("its log names the etcd that is away", || process.log().contains(endpoint)).await;
    assert!(process.is_running(), "{}", process.log_tail());
    site.etcd.as_mut().unwrap().restart(0).await.unwrap();
    let led = |cluster: &ClusterView| cluster.leader.is_some() && cluster.nodes_online == 1;
    site.wait_for_operator("/v1/cluster", led, LIMIT).await.unwrap();
    process.terminate(LIMIT).await.unwrap();
    site.stop().await.unwrap();
}
