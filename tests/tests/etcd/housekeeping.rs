//! What the store does by the way: gives up history nobody needs, and measures the space that etcd takes.

use crate::stage::*;
use muster_coordinator::config::EtcdConfig;
use muster_coordinator::election::Election;
use muster_coordinator::etcd::{EtcdParts, Rhythm};
use muster_coordinator::store::{Space, Store};
use muster_tests::harness::EtcdCluster;
use std::time::Duration;
use tokio::sync::mpsc;

const OFTEN: Duration = Duration::from_millis(50);
/// No such thing happens within a test.
const NEVER: Duration = Duration::from_secs(24 * 3600);

fn rhythm() -> Rhythm {
    Rhythm { warm_every: OFTEN, look_every: NEVER, measure_every: OFTEN, compact_every: NEVER..2 * NEVER }
}

fn compacts() -> Rhythm {
    Rhythm { compact_every: OFTEN..2 * OFTEN, ..rhythm() }
}

/// The revision at which etcd is.
async fn present(etcd: &EtcdCluster) -> u64 {
    let answer = raw(etcd, &["get", "/", "--write-out=json"]).await;
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    answer["header"]["revision"].as_u64().unwrap()
}

/// Whether etcd still has the history of a revision.
async fn remembers(etcd: &EtcdCluster, revision: u64) -> bool {
    let output = etcd.ctl(&["get", "/muster/north/meta", &format!("--rev={revision}")]).await.unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() || complaint.contains("compacted"), "{complaint}");
    output.status.success()
}

/// Lets the housekeeping go round so many times.
async fn rounds(parts: &EtcdParts, count: usize) {
    let mut space = parts.store.space();
    for _ in 0..count {
        soon(space.changed()).await.unwrap();
    }
}

#[tokio::test]
async fn a_follower_leaves_history_alone_and_the_leader_gives_it_up() {
    let Some((etcd, _folder)) = etcd("compaction", |_| {}).await else { return };
    let leading = parts_with(&config(etcd.endpoints()), "a", rhythm()).await;
    let (term, _) = lead(&leading).await;
    let following = parts_with(&config(etcd.endpoints()), "b", compacts()).await;
    let old = present(&etcd).await;
    commit(&leading, &term, vec![create("1")]).await.unwrap();
    // Long enough for many compactions: each is due after two rounds at most.
    rounds(&following, 20).await;
    assert!(remembers(&etcd, old).await, "a follower compacted");
    leading.election.resign().await;
    let (term, _) = lead(&following).await;
    // etcd tells nobody of a compaction: it is asked after each round.
    soon(async {
        while remembers(&etcd, old).await {
            rounds(&following, 1).await;
        }
    })
    .await;
    // Nothing but history is gone, and the leader works on.
    assert_eq!(version_of(&etcd, "/muster/north/jobs/1").await, 1);
    commit(&following, &term, vec![create("1"), create("2")]).await.unwrap();
    assert!(!term.lost.is_cancelled());
}

/// Puts junk until the store has measured so much.
async fn fill_to(etcd: &EtcdCluster, store: &impl Store, percent: u64) -> Space {
    let junk = "x".repeat(100 << 10);
    let mut space = store.space();
    for piece in 0.. {
        raw(etcd, &["put", &format!("junk/{percent}/{piece}"), &junk]).await;
        soon(space.changed()).await.unwrap();
        let seen = space.borrow_and_update().unwrap();
        if seen.used_bytes >= seen.budget_bytes / 100 * percent {
            return seen;
        }
    }
    unreachable!("a put takes space");
}

/// Lines that say that etcd fills up, of those logged by now.
fn told(lines: &mut mpsc::UnboundedReceiver<String>) -> usize {
    std::iter::from_fn(|| lines.try_recv().ok()).filter(|line| line.contains("etcd fills up")).count()
}

#[tokio::test]
async fn an_operator_is_told_once_at_each_share_of_the_space_that_etcd_really_takes() {
    let Some((etcd, _folder)) = etcd("space as measured", |_| {}).await else { return };
    let (mut lines, _logging) = logged();
    let config = EtcdConfig { space_budget_mib: 4, ..config(etcd.endpoints()) };
    let a = parts_with(&config, "a", rhythm()).await;
    let begun = soon(a.store.space().wait_for(Option::is_some)).await.unwrap().unwrap();
    assert!(begun.budget_bytes == 4 << 20 && begun.used_bytes < 1 << 20, "{begun:?}");
    assert_eq!(told(&mut lines), 0);
    for percent in [60, 80] {
        let seen = fill_to(&etcd, &a.store, percent).await;
        assert_eq!(told(&mut lines), 1, "at {percent} %: {seen:?}");
        // It is what etcd itself says of its file.
        let status = raw(&etcd, &["endpoint", "status", "--write-out=json"]).await;
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let says = status[0]["Status"]["dbSize"].as_u64().unwrap();
        let mut space = a.store.space();
        let seen = soon(space.wait_for(|space| space.is_some_and(|space| space.used_bytes >= says))).await;
        let used_bytes = seen.unwrap().unwrap().used_bytes;
        assert!(used_bytes < says + (1 << 20), "{used_bytes} {says}");
    }
    // Nothing more is said while nothing changes.
    rounds(&a, 5).await;
    assert_eq!(told(&mut lines), 0);
}
