//! Answers that are lost, processes that end half-way, and an etcd that is full.

use crate::stage::*;
use muster_coordinator::config::EtcdConfig;
use muster_coordinator::election::Election;
use muster_coordinator::store::{Store, StoreError};
use muster_tests::harness::{Direction, EtcdCluster, FaultProxy};
use std::time::Duration;

async fn proxy(etcd: &EtcdCluster) -> FaultProxy {
    let target = etcd.endpoints()[0].trim_start_matches("http://").parse().unwrap();
    FaultProxy::start(target).await.unwrap()
}

fn through(proxy: &FaultProxy) -> EtcdConfig {
    EtcdConfig { lease_ttl_ms: 9_000, ..config(vec![format!("http://{}", proxy.address())]) }
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_lands_once_and_is_known_to() {
    let Some((etcd, _folder)) = etcd("lost answers", |_| {}).await else { return };
    let proxy = proxy(&etcd).await;
    let (a, term, _) = leader(&through(&proxy), "a").await;
    commit(&a, &term, vec![create("gone")]).await.unwrap();
    for number in 0..4 {
        // Held answers arrive late, answers of a cut connection never.
        if number % 2 == 0 {
            proxy.blackhole(Direction::FromTarget)
        } else {
            proxy.delay_ms(200)
        }
        let writes = vec![create(&number.to_string()), create("same")];
        let mut committing = Box::pin(a.store.commit(term.term, writes));
        let early = tokio::time::timeout(Duration::from_millis(300), &mut committing).await;
        assert!(early.is_err(), "the answer was held back");
        if number % 2 == 1 {
            proxy.cut();
        } else {
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
        proxy.heal();
        soon(committing).await.unwrap();
        assert_eq!(version_of(&etcd, &format!("/muster/north/jobs/{number}")).await, 1);
        assert_eq!(version_of(&etcd, "/muster/north/jobs/same").await, number + 1);
    }
    // A removal too.
    proxy.blackhole(Direction::FromTarget);
    let mut committing = Box::pin(a.store.commit(term.term, vec![forget("gone")]));
    assert!(tokio::time::timeout(Duration::from_millis(1200), &mut committing).await.is_err());
    proxy.heal();
    soon(committing).await.unwrap();
    commit(&a, &term, vec![create("gone")]).await.unwrap();
    assert!(!term.lost.is_cancelled());
}

#[tokio::test]
async fn a_bulk_that_was_never_accepted_is_dropped_as_a_whole() {
    let Some((etcd, _folder)) = etcd("half a bulk", |_| {}).await else { return };
    let proxy = proxy(&etcd).await;
    let (a, term, _) = leader(&through(&proxy), "a").await;
    commit(&a, &term, vec![create("before")]).await.unwrap();
    // Every transaction takes 200 ms, so that the process ends between the first and the last.
    proxy.delay_ms(100);
    let some = async { while keys_below(&etcd, "/muster/north/jobs/").await.len() < 2 {} };
    tokio::select! {
        done = a.store.commit(term.term, creates(2000)) => panic!("all at once: {done:?}"),
        () = some => {}
    }
    let written = keys_below(&etcd, "/muster/north/jobs/").await.len();
    assert!(written < 2001, "{written} documents are there");
    assert!(keys_below(&etcd, "/muster/north/bulks/").await.is_empty());
    drop(a);
    depose(&etcd).await;
    let config = config(etcd.endpoints());
    let (b, term, documents) = leader(&config, "b").await;
    assert_eq!(ids(&documents), ["before"]);
    assert_eq!(keys_below(&etcd, "/muster/north/jobs/").await, ["/muster/north/jobs/before"]);
    // The same request again is accepted.
    commit(&b, &term, creates(2000)).await.unwrap();
    b.election.ended().await;
    let (_, documents) = lead(&b).await;
    assert_eq!(documents.jobs.len(), 2001);
}

#[tokio::test]
async fn a_full_etcd_takes_removals_holds_the_rest_and_loses_nothing() {
    let quota = |options: &mut muster_tests::harness::EtcdOptions| {
        options.members = 3;
        options.quota_backend_bytes = Some(8 << 20);
    };
    let Some((etcd, _folder)) = etcd("a full etcd", quota).await else { return };
    let (a, term, _) = leader(&EtcdConfig { space_budget_mib: 8, ..config(etcd.endpoints()) }, "a").await;
    commit(&a, &term, vec![create("1"), create("2")]).await.unwrap();
    etcd.fill().await.unwrap();
    commit(&a, &term, vec![forget("1")]).await.unwrap();
    assert_eq!(keys_below(&etcd, "/muster/north/jobs/").await, ["/muster/north/jobs/2"]);
    // Room for removals comes first, also out of one batch.
    let mut committing = Box::pin(a.store.commit(term.term, vec![create("3"), forget("2")]));
    let pending = tokio::time::timeout(Duration::from_secs(5), &mut committing).await;
    assert!(pending.is_err(), "{pending:?}");
    assert!(!term.lost.is_cancelled(), "keepalives work in a full etcd");
    assert!(keys_below(&etcd, "/muster/north/jobs/").await.is_empty());
    etcd.make_room().await.unwrap();
    soon(committing).await.unwrap();
    assert_eq!(keys_below(&etcd, "/muster/north/jobs/").await, ["/muster/north/jobs/3"]);
    assert_eq!(version_of(&etcd, "/muster/north/jobs/3").await, 1);
}

#[tokio::test]
async fn in_a_full_etcd_a_removal_overtakes_a_put_that_waits_and_both_land_once() {
    let quota = |options: &mut muster_tests::harness::EtcdOptions| options.quota_backend_bytes = Some(8 << 20);
    let Some((etcd, _folder)) = etcd("removals in a full etcd", quota).await else { return };
    let proxy = proxy(&etcd).await;
    let (a, term, _) = leader(&through(&proxy), "a").await;
    commit(&a, &term, vec![create("1"), create("2"), create("3")]).await.unwrap();
    let mut full = a.store.full();
    assert!(!*full.borrow());
    etcd.fill().await.unwrap();
    let store = a.store.clone();
    let putting = tokio::spawn(async move { store.commit(term.term, vec![create("1"), create("4")]).await });
    soon(full.wait_for(|full| *full)).await.unwrap();
    commit(&a, &term, vec![forget("2")]).await.unwrap();
    assert_eq!(keys_below(&etcd, "/muster/north/jobs/").await, ["/muster/north/jobs/1", "/muster/north/jobs/3"]);
    assert!(*full.borrow(), "a removal says nothing about room for puts");
    // Documents of the put are its own until it ends.
    let refused = commit(&a, &term, vec![forget("1")]).await.unwrap_err();
    assert!(matches!(refused, StoreError::Failed(_)), "{refused}");
    // What became of a removal without an answer is found out as for any write, past the put.
    proxy.blackhole(Direction::FromTarget);
    let mut removing = Box::pin(a.store.commit(term.term, vec![forget("3")]));
    assert!(tokio::time::timeout(Duration::from_millis(1200), &mut removing).await.is_err());
    proxy.heal();
    soon(removing).await.unwrap();
    assert!(!putting.is_finished());
    etcd.make_room().await.unwrap();
    soon(putting).await.unwrap().unwrap();
    assert!(!*full.borrow());
    assert_eq!(keys_below(&etcd, "/muster/north/jobs/").await, ["/muster/north/jobs/1", "/muster/north/jobs/4"]);
    assert_eq!(version_of(&etcd, "/muster/north/jobs/1").await, 2);
    assert_eq!(version_of(&etcd, "/muster/north/jobs/4").await, 1);
    // The ledger knows of all of it.
    commit(&a, &term, vec![create("2"), create("3"), forget("1"), create("4")]).await.unwrap();
    assert!(!term.lost.is_cancelled());
}

#[tokio::test]
async fn a_put_that_is_dropped_in_a_full_etcd_leaves_nothing_that_claims_to_know() {
    let quota = |options: &mut muster_tests::harness::EtcdOptions| options.quota_backend_bytes = Some(8 << 20);
    let Some((etcd, _folder)) = etcd("a dropped put", quota).await else { return };
    let (a, term, _) = leader(&config(etcd.endpoints()), "a").await;
    commit(&a, &term, vec![create("1"), create("2")]).await.unwrap();
    etcd.fill().await.unwrap();
    let mut full = a.store.full();
    tokio::select! {
        put = a.store.commit(term.term, vec![create("3")]) => panic!("{put:?}"),
        seen = full.wait_for(|full| *full) => drop(seen.unwrap()),
    }
    let refused = commit(&a, &term, vec![forget("1")]).await.unwrap_err();
    assert!(matches!(refused, StoreError::Failed(_)), "{refused}");
    // Listed anew, it is known again.
    soon(a.store.load(term.term)).await.unwrap();
    commit(&a, &term, vec![forget("1")]).await.unwrap();
}

#[tokio::test]
async fn an_etcd_that_is_slow_is_told_of_before_a_leadership_is_lost_to_it() {
    let Some((etcd, _folder)) = etcd("slow keepalives", |_| {}).await else { return };
    let proxy = proxy(&etcd).await;
    let (mut lines, _logging) = logged();
    let (_a, term, _) = leader(&EtcdConfig { request_timeout_ms: 3_000, ..through(&proxy) }, "a").await;
    assert!(!std::iter::from_fn(|| lines.try_recv().ok()).any(|line| line.contains("for keepalives")));
    // More than a third of 9 s for the round trip; no keepalive is answered in time for a request, but for the lease.
    proxy.delay_ms(1_600);
    let told = async { while !lines.recv().await.unwrap().contains("for keepalives") {} };
    soon(told).await;
    assert!(!term.lost.is_cancelled());
    proxy.heal();
}
