//! The documents.

use crate::stage::*;
use muster_coordinator::election::Election;
use muster_coordinator::store::{Store, StoreError};
use muster_domain::effect::Write;
use muster_domain::id::NodeName;
use muster_domain::node::{Admission, NodeRecord};
use muster_domain::resources::Resources;
use std::collections::BTreeMap;

fn node(name: &str) -> NodeRecord {
    NodeRecord {
        name: NodeName::new(name).unwrap(),
        admission: Admission::Cordoned,
        drained_ms: 0,
        boot_id: "b".to_owned(),
        capacity: Resources { cores: 4, memory_bytes: 1 << 30, gpus: 0 },
        categories: Vec::new(),
        labels: BTreeMap::new(),
        network_zone: "z".to_owned(),
        engine: "fake".to_owned(),
        engine_version: "0".to_owned(),
        version: "0".to_owned(),
    }
}

#[tokio::test]
async fn what_is_committed_is_there_for_the_next_leader() {
    let Some((etcd, _folder)) = etcd("store", |_| {}).await else { return };
    let config = config(etcd.endpoints());
    let (a, term, documents) = leader(&config, "a").await;
    assert!(documents.jobs.is_empty() && documents.nodes.is_empty());
    let node = node("w-1");
    commit(&a, &term, vec![create("1"), create("2"), Write::Node(Box::new(node.clone()))]).await.unwrap();
    commit(&a, &term, vec![forget("2"), create("3")]).await.unwrap();
    let mut again = job("1");
    again.spec.name = Some("changed".to_owned());
    commit(&a, &term, vec![Write::Job(Box::new(again.clone()))]).await.unwrap();
    a.election.ended().await;
    a.election.resign().await;
    let (b, next, documents) = leader(&config, "b").await;
    assert!(next.term > term.term);
    assert_eq!(ids(&documents), ["1", "3"]);
    assert!(documents.jobs.contains(&again));
    assert_eq!(documents.nodes, [node]);
    commit(&b, &next, vec![forget("1"), Write::ForgetNode(NodeName::new("w-1").unwrap())]).await.unwrap();
    assert_eq!(keys_below(&etcd, "/muster/north/jobs/").await, ["/muster/north/jobs/3"]);
    assert!(keys_below(&etcd, "/muster/north/nodes/").await.is_empty());
}

#[tokio::test]
async fn of_two_leaders_that_race_the_stale_one_writes_nothing() {
    let Some((etcd, _folder)) = etcd("fencing", |_| {}).await else { return };
    let config = config(etcd.endpoints());
    let (a, old, _) = leader(&config, "a").await;
    commit(&a, &old, vec![create("1")]).await.unwrap();
    let b = parts(&config, "b").await;
    let winning = tokio::spawn(async move {
        let (leadership, documents) = lead(&b).await;
        (b, leadership, documents)
    });
    depose(&etcd).await;
    let (b, new, documents) = winning.await.unwrap();
    assert_eq!(ids(&documents), ["1"]);
    assert!(new.term > old.term);
    let refused = commit(&a, &old, vec![create("2")]).await.unwrap_err();
    assert_eq!(refused, StoreError::Fenced { held: new.term, ours: old.term });
    let refused = commit(&a, &old, vec![forget("1")]).await.unwrap_err();
    assert!(matches!(refused, StoreError::Fenced { .. }));
    soon(old.lost.cancelled()).await;
    assert!(!old.validity.holds(muster_runtime::clock::boottime()));
    commit(&b, &new, vec![create("3")]).await.unwrap();
    assert_eq!(keys_below(&etcd, "/muster/north/jobs/").await, ["/muster/north/jobs/1", "/muster/north/jobs/3"]);
}

#[tokio::test]
async fn a_document_that_somebody_else_wrote_is_a_conflict() {
    let Some((etcd, _folder)) = etcd("conflict", |_| {}).await else { return };
    let (a, term, _) = leader(&config(etcd.endpoints()), "a").await;
    commit(&a, &term, vec![create("1"), create("2")]).await.unwrap();
    raw(&etcd, &["put", "/muster/north/jobs/1", "{}"]).await;
    let refused = commit(&a, &term, vec![create("2"), create("1")]).await.unwrap_err();
    assert_eq!(refused, StoreError::Conflict("jobs/1".to_owned()));
    assert_eq!(version_of(&etcd, "/muster/north/jobs/2").await, 1);
    raw(&etcd, &["del", "/muster/north/jobs/2"]).await;
    let refused = commit(&a, &term, vec![forget("2")]).await.unwrap_err();
    assert_eq!(refused, StoreError::Conflict("jobs/2".to_owned()));
}

#[tokio::test]
async fn what_a_stranger_writes_ends_the_leadership_within_a_re_listing() {
    let Some((etcd, _folder)) = etcd("strangers", |_| {}).await else { return };
    let (a, term, _) = leader(&config(etcd.endpoints()), "a").await;
    commit(&a, &term, creates(250)).await.unwrap();
    raw(&etcd, &["put", "/muster/north/nodes/w-9", "{}"]).await;
    tokio::time::timeout(LONG * 2, term.lost.cancelled()).await.unwrap();
    // Everything is read again, and what cannot be read is named.
    a.election.ended().await;
    let again = soon(a.election.campaign()).await.unwrap();
    assert!(again.term > term.term);
    let error = soon(a.store.load(again.term)).await.unwrap_err().to_string();
    assert!(error.contains("/muster/north/nodes/w-9"), "{error}");
}

#[tokio::test]
async fn a_document_of_a_newer_version_is_named_and_left_alone() {
    let Some((etcd, _folder)) = etcd("newer documents", |_| {}).await else { return };
    let a = parts(&config(etcd.endpoints()), "a").await;
    let newer = r#"{"v":9,"bulk":"never accepted","job":{}}"#;
    raw(&etcd, &["put", "/muster/north/jobs/1", newer]).await;
    let leadership = soon(a.election.campaign()).await.unwrap();
    let error = soon(a.store.load(leadership.term)).await.unwrap_err().to_string();
    assert!(error.contains("/muster/north/jobs/1: it was written by a newer version"), "{error}");
    assert!(error.contains("run that version"), "{error}");
    assert_eq!(version_of(&etcd, "/muster/north/jobs/1").await, 1);
}

#[tokio::test]
async fn a_bulk_that_fits_no_transaction_is_accepted_as_a_whole() {
    let Some((etcd, _folder)) = etcd("bulk", |_| {}).await else { return };
    let config = config(etcd.endpoints());
    let (a, term, _) = leader(&config, "a").await;
    commit(&a, &term, creates(500)).await.unwrap();
    assert_eq!(keys_below(&etcd, "/muster/north/bulks/").await.len(), 1);
    // A document that is written again counts by itself.
    commit(&a, &term, creates(2)).await.unwrap();
    a.election.ended().await;
    let (again, documents) = lead(&a).await;
    assert_eq!(documents.jobs.len(), 500);
    assert_eq!(keys_below(&etcd, "/muster/north/bulks/").await.len(), 1);
    commit(&a, &again, creates(500)).await.unwrap();
    a.election.ended().await;
    let (_, documents) = lead(&a).await;
    assert_eq!(documents.jobs.len(), 500);
    assert!(keys_below(&etcd, "/muster/north/bulks/").await.is_empty(), "no document names it any more");
}

#[tokio::test]
async fn a_follower_that_was_warm_lists_what_is_there_now() {
    let Some((etcd, _folder)) = etcd("warm standby", |_| {}).await else { return };
    let config = config(etcd.endpoints());
    let (a, term, _) = leader(&config, "a").await;
    commit(&a, &term, creates(1000)).await.unwrap();
    let b = parts(&config, "b").await;
    // Longer than between two refreshments.
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    commit(&a, &term, vec![forget("00500"), forget("00501"), create("x")]).await.unwrap();
    let mut changed = job("00001");
    changed.spec.name = Some("changed".to_owned());
    commit(&a, &term, vec![Write::Job(Box::new(changed.clone()))]).await.unwrap();
    a.election.ended().await;
    a.election.resign().await;
    let (_, documents) = lead(&b).await;
    assert_eq!(documents.jobs.len(), 999);
    assert!(documents.jobs.contains(&changed) && documents.jobs.contains(&job("x")));
    assert!(!documents.jobs.contains(&job("00500")));
}

#[tokio::test]
async fn how_full_etcd_is_becomes_known() {
    let Some((etcd, _folder)) = etcd("space", |_| {}).await else { return };
    let parts = parts(&config(etcd.endpoints()), "a").await;
    let mut space = parts.store.space();
    let known = soon(space.wait_for(Option::is_some)).await.unwrap().unwrap();
    assert!(known.used_bytes > 0 && known.used_bytes < known.budget_bytes, "{known:?}");
    assert_eq!(known.budget_bytes, 2048 << 20);
}
