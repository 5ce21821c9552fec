//! A whole coordinator over a real etcd that has become of no use.

use super::tests::{config, tasks};
use super::*;
use crate::auth::fixture;
use crate::config::EtcdConfig;
use crate::election::Election;
use crate::http::tests::stage::{items, job};
use crate::store::Store;
use crate::testing::etcd::Etcd;
use etcd_client::{Client, Permission};
use muster_domain::leadership::Role;
use reqwest::StatusCode;
use serde_json::json;
use std::time::Instant;
use tempfile::TempDir;

/// What may be waited for on a machine that is busy with builds.
const LONG: Duration = Duration::from_secs(30);
const ROOT: &str = "/muster/north/";

struct Coordinator {
    running: Running,
    edges: Tasks,
    inner: Tasks,
    _folder: TempDir,
}

async fn coordinator(etcd: EtcdConfig) -> Coordinator {
    let folder = tempfile::tempdir().unwrap();
    let (edges, inner) = tasks();
    let mut config = config(folder.path());
    config.cluster.name = "north".to_owned();
    (config.store.kind, config.store.etcd) = (StoreKind::Etcd, etcd);
    let running = start(&config, &edges, &inner).await.unwrap();
    Coordinator { running, edges, inner, _folder: folder }
}

impl Coordinator {
    async fn is(&self, role: Role) {
        let mut standing = self.running.standing.clone();
        let stands = standing.wait_for(|standing| standing.role == role);
        tokio::time::timeout(LONG, stands).await.unwrap_or_else(|_| panic!("it is not {}", role.name())).unwrap();
    }

    async fn create(&self, id: &str) -> (StatusCode, String, Duration) {
        let begun = Instant::now();
        let url = format!("http://{}/ucloud/example/jobs", self.running.addresses.http);
        let mut job = job(id);
        job["specification"]["product"] =
            json!({"id": "u1-standard-1", "category": "u1-standard", "provider": "example"});
        let request = reqwest::Client::new().post(url).bearer_auth(fixture::token()).body(items(&[job]).to_string());
        let answer = request.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap(), begun.elapsed())
    }
}

/// Everything below the root, or just what an election needs.
async fn allow(admin: &mut Client, everything: bool) {
    for permission in admin.role_get("coordinators").await.unwrap().permissions() {
        let options = etcd_client::RoleRevokePermissionOptions::new().with_range_end(permission.range_end());
        admin.role_revoke_permission("coordinators", permission.key(), Some(options)).await.unwrap();
    }
    let mut granted = vec![Permission::write(ROOT).with_prefix()];
    if everything {
        granted = vec![Permission::read_write(ROOT).with_prefix()];
    } else {
        granted
            .extend([Permission::read_write(format!("{ROOT}leader")), Permission::read_write(format!("{ROOT}meta"))]);
        granted.push(Permission::read_write(format!("{ROOT}coordinators/")).with_prefix());
    }
    for permission in granted {
        admin.role_grant_permission("coordinators", permission).await.unwrap();
    }
}

#[tokio::test]
async fn a_leader_that_may_not_list_says_so_and_lets_others_try_until_it_may() {
    let Some(etcd) = Etcd::start("no right to list", None).await else { return };
    let mut admin = etcd.client(None).await.unwrap();
    admin.role_add("root").await.unwrap();
    admin.user_add("root", "secret", None).await.unwrap();
    admin.user_grant_role("root", "root").await.unwrap();
    admin.role_add("coordinators").await.unwrap();
    admin.user_add("muster", "secret", None).await.unwrap();
    admin.user_grant_role("muster", "coordinators").await.unwrap();
    admin.role_grant_permission("coordinators", Permission::read_write(ROOT).with_prefix()).await.unwrap();
    admin.auth_enable().await.unwrap();
    let root = Some(("root", "secret"));
    let config = EtcdConfig {
        user: Some("muster".to_owned()),
        password_file: Some(etcd.password_file("secret")),
        ..etcd.config()
    };
    let a = coordinator(config.clone()).await;
    a.is(Role::Leader).await;
    allow(&mut etcd.client(root).await.unwrap(), false).await;
    etcd.client(root).await.unwrap().delete(format!("{ROOT}leader"), None).await.unwrap();
    // It wins, may not list, gives leadership back, and tries again; it does not keep what others may be able to use.
    for _ in 0..3 {
        a.is(Role::BecomingLeader).await;
        let begun = Instant::now();
        a.is(Role::Follower).await;
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
    // What it says is for whoever can mend it.
    let text = String::new;
    let identity =
        Identity { name: "other".to_owned(), http: text(), operator: text(), fleet: text(), version: text() };
    let (cluster, stop) = (ClusterName::new("north").unwrap(), CancellationToken::new());
    let nowhere: SocketAddr = "0.0.0.0:9".parse().unwrap();
    a.inner.stop_token().cancel();
    allow(&mut etcd.client(root).await.unwrap(), true).await;
    let b = etcd::connect(&config, &cluster, identity, nowhere, stop).await.unwrap();
    allow(&mut etcd.client(root).await.unwrap(), false).await;
    let won = tokio::time::timeout(LONG, b.election.campaign()).await.unwrap().unwrap();
    let refused = b.store.load(won.term).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(_)), "{refused:?}");
    assert!(refused.to_string().contains("etcdctl role grant-permission"), "{refused}");
    allow(&mut etcd.client(root).await.unwrap(), true).await;
    b.store.load(won.term).await.unwrap();
    drain(&a.edges, &a.inner).await.unwrap();
}

#[tokio::test]
async fn while_etcd_has_no_room_creates_are_refused_at_once_and_none_of_them_runs_later() {
    let Some(etcd) = Etcd::start("no room", Some(8 << 20)).await else { return };
    let a = coordinator(etcd.config()).await;
    a.is(Role::Leader).await;
    assert_eq!(a.create("1").await.0, StatusCode::OK);
    let mut admin = etcd.client(None).await.unwrap();
    Etcd::fill(&mut admin).await;
    // The first one finds out. What became of it only etcd can tell, when there is room.
    let (status, body, took) = a.create("2").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    for id in 3..9 {
        let (status, body, took) = a.create(&id.to_string()).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
        assert!(body.contains("nearly full") && took < Duration::from_secs(1), "{took:?}: {body}");
    }
    Etcd::make_room(&mut admin).await;
    let taken = async {
        while a.create("9").await.0 != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LONG, taken).await.expect("there is room again, and nothing is taken");
    let jobs = Etcd::keys_below(&mut admin, &format!("{ROOT}jobs/")).await;
    assert_eq!(jobs, ["1", "2", "9"].map(|id| format!("{ROOT}jobs/{id}")));
    drain(&a.edges, &a.inner).await.unwrap();
}
