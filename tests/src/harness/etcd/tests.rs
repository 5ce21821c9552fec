//! Against a real etcd of whatever version the test command chose.

use super::*;
use std::process::Output;
use tempfile::TempDir;

async fn cluster(test: &str, change: impl FnOnce(&mut EtcdOptions)) -> Option<(EtcdCluster, TempDir)> {
    let mut options = EtcdOptions::new(etcd_for_tests(test)?);
    change(&mut options);
    let folder = tempfile::Builder::new().prefix("muster-etcd-").tempdir().unwrap();
    let cluster = EtcdCluster::start(options, folder.path()).await.unwrap();
    Some((cluster, folder))
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

impl EtcdCluster {
    async fn put(&self, key: &str, value: &str) {
        let output = self.ctl(&["put", key, value]).await.unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }

    async fn get(&self, key: &str) -> String {
        let output = self.ctl(&["get", "--print-value-only", key]).await.unwrap();
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn pids(&self) -> Vec<u32> {
        self.members.iter().filter_map(|member| member.process.as_ref()?.pid()).collect()
    }
}

#[tokio::test]
async fn one_member_keeps_its_data_over_a_kill() {
    let Some((mut cluster, _folder)) = cluster("one member", |_| {}).await else { return };
    cluster.put("key", "value").await;
    cluster.kill(0).await.unwrap();
    assert!(!cluster.is_running(0));
    assert!(cluster.ctl(&["get", "key"]).await.is_err(), "nobody is left to ask");
    cluster.restart(0).await.unwrap();
    assert_eq!(cluster.get("key").await, "value");
    cluster.stop(0).await.unwrap();
    cluster.restart(0).await.unwrap();
    assert_eq!(cluster.get("key").await, "value");
}

#[tokio::test]
async fn three_members_survive_the_kill_and_the_pause_of_their_leader_and_the_kill_of_all() {
    let Some((mut cluster, _folder)) = cluster("three members", |options| options.members = 3).await else { return };
    assert_eq!(cluster.endpoints().len(), 3);
    cluster.put("key", "1").await;

    let killed = cluster.leader().await.unwrap();
    cluster.kill(killed).await.unwrap();
    cluster.wait_healthy().await.unwrap();
    cluster.put("key", "2").await;
    assert_ne!(cluster.leader().await.unwrap(), killed);
    cluster.restart(killed).await.unwrap();

    let paused = cluster.leader().await.unwrap();
    cluster.pause(paused).unwrap();
    cluster.wait_healthy().await.unwrap();
    cluster.put("key", "3").await;
    assert_ne!(cluster.leader().await.unwrap(), paused);
    cluster.resume(paused).unwrap();
    cluster.wait_healthy().await.unwrap();

    for member in 0..3 {
        cluster.kill(member).await.unwrap();
    }
    for member in 0..3 {
        cluster.launch(member).unwrap();
    }
    cluster.wait_healthy().await.unwrap();
    assert_eq!(cluster.get("key").await, "3");
}

#[tokio::test]
async fn a_full_store_refuses_writes_until_room_is_made() {
    let quota = |options: &mut EtcdOptions| {
        options.members = 3;
        options.quota_backend_bytes = Some(8 * 1024 * 1024);
    };
    let Some((mut cluster, _folder)) = cluster("quota", quota).await else { return };
    cluster.put("key", "before").await;
    cluster.fill().await.unwrap();
    let refused = cluster.ctl(&["put", "key", "full"]).await.unwrap();
    assert!(!refused.status.success() && text(&refused).contains("database space exceeded"), "{}", text(&refused));
    assert_eq!(cluster.get("key").await, "before");
    // A full member that comes back serves reads all the same.
    cluster.restart(0).await.unwrap();
    cluster.make_room().await.unwrap();
    cluster.put("key", "after").await;
    cluster.fill().await.unwrap();
    cluster.make_room().await.unwrap();
    assert_eq!(cluster.get("key").await, "after");
}

#[tokio::test]
async fn clients_need_a_certificate_and_a_password_where_both_are_asked_for() {
    let guarded = |options: &mut EtcdOptions| {
        options.members = 3;
        options.tls = true;
        options.quota_backend_bytes = Some(4 * 1024 * 1024);
        options.auth = Some(("muster".to_owned(), "a secret: 1".to_owned()));
    };
    let Some((mut cluster, _folder)) = cluster("TLS and auth", guarded).await else { return };
    cluster.put("key", "value").await;
    assert!(cluster.endpoints().iter().all(|endpoint| endpoint.starts_with("https://127.0.0.1:")));
    for file in [cluster.ca_file(), cluster.client_certificate(), cluster.client_key()] {
        assert!(file.unwrap().is_file());
    }

    let user = cluster.ctl(&["--user=muster:a secret: 1", "put", "another", "value"]).await.unwrap();
    assert!(user.status.success(), "{}", text(&user));
    let administers = cluster.ctl(&["--user=muster:a secret: 1", "user", "list"]).await.unwrap();
    assert!(text(&administers).contains("permission denied"), "{}", text(&administers));
    let wrong = cluster.ctl(&["--user=muster:wrong", "get", "key"]).await.unwrap();
    assert!(text(&wrong).contains("authentication failed"), "{}", text(&wrong));
    let plain = cluster.endpoints()[0].replace("https", "http");
    let stranger = tokio::process::Command::new(cluster.options.binaries.join("etcdctl"))
        .args(["--endpoints", &plain, "--command-timeout=1s", "get", "key"])
        .env_clear()
        .output()
        .await
        .unwrap();
    assert!(!stranger.status.success(), "a client without a certificate was served");

    cluster.fill().await.unwrap();
    cluster.make_room().await.unwrap();
    cluster.kill(1).await.unwrap();
    cluster.restart(1).await.unwrap();
    assert_eq!(cluster.get("key").await, "value");
}

#[tokio::test]
async fn a_dropped_cluster_leaves_no_process_behind_paused_or_not() {
    let Some((mut cluster, _folder)) = cluster("drop", |options| options.members = 3).await else { return };
    cluster.pause(1).unwrap();
    let pids = cluster.pids();
    assert_eq!(pids.len(), 3);
    drop(cluster);
    for pid in pids {
        // A process that was not reaped yet has no arguments any more.
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(arguments.is_empty(), "{pid} still runs");
    }
}

#[tokio::test]
async fn a_member_that_cannot_start_says_why() {
    let Some(binaries) = etcd_for_tests("a member that cannot start") else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("etcd-0"), "no folder").unwrap();
    let error = EtcdCluster::start(EtcdOptions::new(binaries), folder.path()).await.unwrap_err();
    assert!(format!("{error:#}").contains("etcd-0 does not serve"), "{error:#}");
    assert!(format!("{error:#}").contains("its log ends:\n{"), "{error:#}");
}
