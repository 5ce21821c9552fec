//! What only an operator can mend is told in words, and nothing is damaged.

use crate::stage::*;
use muster_coordinator::config::EtcdConfig;
use muster_coordinator::etcd::{EtcdError, connect};
use muster_domain::id::ClusterName;
use muster_tests::harness::{EtcdOptions, free_port};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

async fn refused(config: &EtcdConfig) -> EtcdError {
    let cluster = cluster_name();
    soon(connect(config, &cluster, identity("a", "0.0.0.0:9"), nowhere(), CancellationToken::new())).await.unwrap_err()
}

fn says(error: &EtcdError, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
}

fn secret(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    path
}

#[tokio::test]
async fn wrong_credentials_and_missing_rights_are_told() {
    let auth = |options: &mut EtcdOptions| options.auth = Some(("muster".to_owned(), "right".to_owned()));
    let Some((etcd, folder)) = etcd("credentials", auth).await else { return };
    let plain = config(etcd.endpoints());
    let user = |name: &str, password: &str| EtcdConfig {
        user: Some(name.to_owned()),
        password_file: Some(secret(folder.path(), &format!("{name}-{password}"), password)),
        ..plain.clone()
    };
    says(&refused(&user("muster", "wrong")).await, &["refuses the user or the password", "store.etcd.password_file"]);
    says(&refused(&user("nobody", "right")).await, &["store.etcd.user"]);
    says(&refused(&plain).await, &["refuses the user or the password", "store.etcd.user"]);
    raw(&etcd, &["user", "add", "powerless:right"]).await;
    let error = refused(&user("powerless", "right")).await;
    says(&error, &["grant-permission", "--prefix=true readwrite /muster/north/"]);
    let missing = EtcdConfig { password_file: Some(folder.path().join("none")), ..user("muster", "right") };
    says(&refused(&missing).await, &["store.etcd.password_file: cannot read"]);

    let (a, term, _) = leader(&user("muster", "right"), "a").await;
    commit(&a, &term, vec![create("1")]).await.unwrap();
    // A role that has this cluster's keys and no others is enough.
    raw(&etcd, &["role", "add", "north"]).await;
    raw(&etcd, &["role", "grant-permission", "north", "--prefix=true", "readwrite", "/muster/north/"]).await;
    raw(&etcd, &["user", "grant-role", "powerless", "north"]).await;
    let b = parts(&user("powerless", "right"), "b").await;
    depose(&etcd).await;
    drop(a);
    let (term, documents) = lead(&b).await;
    assert_eq!(ids(&documents), ["1"]);
    commit(&b, &term, vec![create("2")]).await.unwrap();
}

#[tokio::test]
async fn certificates_are_checked_on_both_sides() {
    let tls = |options: &mut EtcdOptions| {
        options.tls = true;
        options.members = 3;
    };
    let Some((etcd, folder)) = etcd("certificates", tls).await else { return };
    let key = folder.path().join("client.key");
    std::fs::copy(etcd.client_key().unwrap(), &key).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o400)).unwrap();
    let right = EtcdConfig {
        ca_file: etcd.ca_file().map(Path::to_owned),
        certificate_file: etcd.client_certificate().map(Path::to_owned),
        key_file: Some(key),
        ..config(etcd.endpoints())
    };
    let without = EtcdConfig { certificate_file: None, key_file: None, ..right.clone() };
    // Whether etcd's alert is read before its end of the connection is a matter of luck; without it this looks like an
    // etcd that is stopped, and is waited for, with a hint in the log.
    let name = cluster_name();
    let connecting = connect(&without, &name, identity("a", "0.0.0.0:9"), nowhere(), CancellationToken::new());
    if let Ok(refused) = tokio::time::timeout(Duration::from_secs(2), connecting).await {
        says(&refused.unwrap_err(), &["each other's certificates", "store.etcd.certificate_file"]);
    }
    let other = EtcdConfig { ca_file: etcd.client_certificate().map(Path::to_owned), ..right.clone() };
    says(&refused(&other).await, &["each other's certificates", "store.etcd.ca_file"]);
    let (a, term, _) = leader(&right, "a").await;
    commit(&a, &term, creates(300)).await.unwrap();
}

#[tokio::test]
async fn an_etcd_that_cannot_be_reached_is_waited_for() {
    let Some((etcd, _folder)) = etcd("unreachable", |_| {}).await else { return };
    let away = config(vec![format!("http://127.0.0.1:{}", free_port())]);
    let stop = CancellationToken::new();
    let connecting = tokio::spawn({
        let stop = stop.clone();
        async move { connect(&away, &cluster_name(), identity("a", "0.0.0.0:9"), nowhere(), stop).await }
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!connecting.is_finished(), "it is no reason to end");
    stop.cancel();
    assert!(matches!(soon(connecting).await.unwrap(), Err(EtcdError::Stopped)));
    // One member that is away does not matter.
    let dead = format!("http://127.0.0.1:{}", free_port());
    let (a, term, _) = leader(&config(vec![dead, etcd.endpoints()[0].clone()]), "a").await;
    commit(&a, &term, vec![create("1")]).await.unwrap();
}

#[tokio::test]
async fn keys_of_somebody_else_are_left_alone() {
    let Some((etcd, _folder)) = etcd("foreign keys", |_| {}).await else { return };
    let config = config(etcd.endpoints());
    raw(&etcd, &["put", "/muster/north/settings", "theirs"]).await;
    says(&refused(&config).await, &["below /muster/north/ belong to another", "store.etcd.prefix"]);
    assert_eq!(keys_below(&etcd, "").await, ["/muster/north/settings"]);

    raw(&etcd, &["put", "/muster/north/meta", r#"{"schema":1,"cluster":"south","incarnation":0,"created_by":"0"}"#])
        .await;
    says(&refused(&config).await, &["belong to another cluster", "names cluster south, not north"]);
    raw(&etcd, &["put", "/muster/north/meta", "theirs"]).await;
    says(&refused(&config).await, &["belong to another cluster", "is not ours"]);
    raw(&etcd, &["put", "/muster/north/meta", r#"{"schema":7,"else":"?"}"#]).await;
    says(&refused(&config).await, &["newer version", "schema 7, this version knows 1", "run that version"]);
    assert_eq!(keys_below(&etcd, "").await.len(), 2);

    // Two clusters in one etcd do not see each other.
    let south = ClusterName::new("south").unwrap();
    connect(&config, &south, identity("a", "0.0.0.0:9"), nowhere(), CancellationToken::new()).await.unwrap();
}

#[tokio::test]
async fn a_second_coordinator_of_one_name_does_not_start() {
    let Some((etcd, _folder)) = etcd("names", |_| {}).await else { return };
    let config = config(etcd.endpoints());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let first = parts_at(&config, "a", &address).await;
    let error = refused(&config).await;
    says(&error, &["another coordinator named a runs at", &address, "coordinator.name"]);
    // One that was killed leaves a name that is free when its lease ends.
    drop(first);
    let begun = Instant::now();
    let second = parts(&config, "a").await;
    assert!(begun.elapsed() < TTL + BUSY, "{:?}", begun.elapsed());
    drop(second);
}

#[tokio::test]
async fn a_name_whose_process_is_gone_is_taken_over_at_once() {
    let Some((etcd, _folder)) = etcd("names of the dead", |_| {}).await else { return };
    let config = EtcdConfig { lease_ttl_ms: 30_000, ..config(etcd.endpoints()) };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let first = parts_at(&config, "a", &listener.local_addr().unwrap().to_string()).await;
    drop((first, listener));
    let begun = Instant::now();
    let _second = parts(&config, "a").await;
    assert!(begun.elapsed() < BUSY, "{:?}", begun.elapsed());
}
