//! Who leads.

use crate::stage::*;
use muster_coordinator::config::EtcdConfig;
use muster_coordinator::election::Election;
use muster_coordinator::etcd::EtcdParts;
use muster_coordinator::store::{Store, StoreError};
use muster_domain::leadership::Role;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// Starts candidates that lead when they win.
fn campaign(parts: EtcdParts) -> tokio::task::JoinHandle<(EtcdParts, muster_coordinator::election::Leadership)> {
    tokio::spawn(async move {
        let (leadership, _) = lead(&parts).await;
        (parts, leadership)
    })
}

#[tokio::test]
async fn only_one_leads_and_a_killed_leader_is_succeeded_when_its_lease_ends() {
    let Some((etcd, _folder)) = etcd("election", |options| options.members = 3).await else { return };
    let config = config(etcd.endpoints());
    let (a, first, _) = leader(&config, "a").await;
    let b = parts(&config, "b").await;
    let mut standing = b.election.standing();
    let waiting = campaign(b);
    let seen = soon(standing.wait_for(|standing| standing.leader.is_some())).await.unwrap().clone();
    assert_eq!(seen.leader, Some(identity("a", "0.0.0.0:9")));
    assert_eq!((seen.role, seen.term), (Role::Follower, Some(first.term)));
    let own = a.election.standing().borrow().clone();
    assert_eq!((own.role, own.term), (Role::Leader, Some(first.term)));
    tokio::time::sleep(TTL + Duration::from_secs(1)).await;
    assert!(!waiting.is_finished() && !first.lost.is_cancelled(), "the lease is kept");

    drop(a);
    let killed = Instant::now();
    let (b, second) = soon(waiting).await.unwrap();
    let took = killed.elapsed();
    assert!(took > Duration::from_secs(1) && took < TTL + BUSY, "{took:?}");
    assert!(second.term > first.term);
    let own = soon(standing.wait_for(|standing| standing.leads())).await.unwrap().clone();
    assert_eq!((own.term, own.leader), (Some(second.term), Some(identity("b", "0.0.0.0:9"))));
    drop(b);
}

#[tokio::test]
async fn a_leader_that_resigns_hands_over_at_once() {
    let Some((etcd, _folder)) = etcd("resigning", |_| {}).await else { return };
    let config = EtcdConfig { lease_ttl_ms: 30_000, ..config(etcd.endpoints()) };
    let (a, first, _) = leader(&config, "a").await;
    let b = parts(&config, "b").await;
    let mut standing = b.election.standing();
    let waiting = campaign(b);
    soon(standing.wait_for(|standing| standing.leader.is_some())).await.unwrap();
    let resigned = Instant::now();
    a.election.ended().await;
    a.election.resign().await;
    let (_b, second) = soon(waiting).await.unwrap();
    assert!(resigned.elapsed() < BUSY, "{:?}", resigned.elapsed());
    assert!(second.term > first.term && first.lost.is_cancelled());
    assert_eq!(keys_below(&etcd, "/muster/north/coordinators/").await, ["/muster/north/coordinators/b"]);
    let stands = a.election.standing().borrow().role;
    assert_eq!(stands, Role::Follower);
}

#[tokio::test]
async fn a_leader_whose_address_refuses_is_succeeded_at_once() {
    let Some((etcd, _folder)) = etcd("absence", |_| {}).await else { return };
    let config = EtcdConfig { lease_ttl_ms: 30_000, ..config(etcd.endpoints()) };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let a = parts_at(&config, "a", &listener.local_addr().unwrap().to_string()).await;
    let (first, _) = lead(&a).await;
    let waiting = campaign(parts(&config, "b").await);
    // The follower holds a connection to the leader.
    let (held, _) = soon(listener.accept()).await.unwrap();
    drop(a);
    assert!(!waiting.is_finished());
    let killed = Instant::now();
    drop((listener, held));
    let (_b, second) = soon(waiting).await.unwrap();
    assert!(killed.elapsed() < BUSY, "{:?}", killed.elapsed());
    assert!(second.term > first.term);
}

#[tokio::test]
async fn a_coordinator_that_is_started_again_succeeds_itself_at_once() {
    let Some((etcd, _folder)) = etcd("restart", |_| {}).await else { return };
    let config = EtcdConfig { lease_ttl_ms: 30_000, ..config(etcd.endpoints()) };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let a = parts_at(&config, "a", &address).await;
    let (first, _) = lead(&a).await;
    drop(a);
    let begun = Instant::now();
    let again = parts_at(&config, "a", &address).await;
    let (second, _) = lead(&again).await;
    assert!(begun.elapsed() < BUSY, "{:?}", begun.elapsed());
    assert!(second.term > first.term);
}

#[tokio::test]
async fn a_leadership_that_ended_can_be_won_again_with_a_higher_term() {
    let Some((etcd, _folder)) = etcd("again", |_| {}).await else { return };
    let (a, first, _) = leader(&config(etcd.endpoints()), "a").await;
    a.election.fenced();
    assert!(first.lost.is_cancelled() && !first.validity.holds(muster_runtime::clock::boottime()));
    a.election.ended().await;
    let (second, _) = lead(&a).await;
    assert!(second.term > first.term);
    // Without having been fenced, too.
    a.election.ended().await;
    assert!(second.lost.is_cancelled());
    let (third, _) = lead(&a).await;
    assert!(third.term > second.term);
}

#[tokio::test]
async fn leadership_won_while_nobody_waits_is_kept_for_who_asks_next_or_given_back() {
    let Some((etcd, _folder)) = etcd("cancelled campaigns", |_| {}).await else { return };
    let config = config(etcd.endpoints());
    let a = parts(&config, "a").await;
    for wait_ms in [1, 5, 10, 20, 40, 300] {
        // A campaign that is dropped half-way, or won and dropped unseen.
        let _ = tokio::time::timeout(Duration::from_millis(wait_ms), a.election.campaign()).await;
    }
    let (leadership, _) = lead(&a).await;
    commit(&a, &leadership, vec![create("1")]).await.unwrap();
    a.election.ended().await;
    let _ = tokio::time::timeout(Duration::from_millis(1), a.election.campaign()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    a.election.resign().await;
    let (_b, _, documents) = leader(&config, "b").await;
    assert_eq!(ids(&documents), ["1"]);
}

#[tokio::test]
async fn a_raised_incarnation_outranks_every_term_before_it() {
    let Some((etcd, _folder)) = etcd("incarnation", |_| {}).await else { return };
    let before = config(etcd.endpoints());
    let (a, first, _) = leader(&before, "a").await;
    let raised = EtcdConfig { incarnation: 2, ..before.clone() };
    let b = parts(&raised, "b").await;
    // A coordinator that was not told of it leads in the higher one too.
    a.election.ended().await;
    let (second, _) = lead(&a).await;
    assert_eq!((first.term >> 48, second.term >> 48), (0, 2));
    commit(&a, &second, vec![create("1")]).await.unwrap();
    a.election.ended().await;
    a.election.resign().await;
    let (third, documents) = lead(&b).await;
    assert_eq!(third.term >> 48, 2);
    assert!(third.term > second.term);
    assert_eq!(ids(&documents), ["1"]);
}

#[tokio::test]
async fn a_leader_that_etcd_does_not_answer_stops_in_time_and_comes_back() {
    let Some((mut etcd, _folder)) = etcd("doubt", |_| {}).await else { return };
    let (a, first, _) = leader(&config(etcd.endpoints()), "a").await;
    etcd.pause(0).unwrap();
    let paused = Instant::now();
    soon(first.lost.cancelled()).await;
    let took = paused.elapsed();
    assert!(took < TTL, "nothing may be let out when the lease may be over: {took:?}");
    let refused = commit(&a, &first, vec![create("1")]).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unknown(_)), "{refused:?}");
    a.election.ended().await;
    etcd.resume(0).unwrap();
    let (second, documents) = lead(&a).await;
    assert!(second.term > first.term);
    // The write was on its way when etcd woke up; it is there as a whole or not at all, and never lands later.
    let present = ids(&documents);
    let keys = keys_below(&etcd, "/muster/north/jobs/").await;
    assert_eq!(present.len(), keys.len());
}

#[tokio::test]
async fn leadership_survives_the_death_of_an_etcd_member() {
    let Some((mut etcd, _folder)) = etcd("members", |options| options.members = 3).await else { return };
    let config = EtcdConfig { lease_ttl_ms: 9_000, ..config(etcd.endpoints()) };
    let (a, leadership, _) = leader(&config, "a").await;
    for round in 0..3 {
        let member = etcd.leader().await.unwrap();
        match round {
            0 => etcd.kill(member).await.unwrap(),
            _ => etcd.pause(member).unwrap(),
        }
        for number in 0..5 {
            commit(&a, &leadership, vec![create(&format!("{round}-{number}"))]).await.unwrap();
        }
        match round {
            0 => etcd.restart(member).await.unwrap(),
            _ => etcd.resume(member).unwrap(),
        }
        etcd.wait_healthy().await.unwrap();
    }
    assert!(!leadership.lost.is_cancelled());
    assert_eq!(keys_below(&etcd, "/muster/north/jobs/").await.len(), 15);
    assert!(a.store.load(leadership.term).await.is_ok());
}

#[tokio::test]
async fn a_follower_that_is_cut_off_from_etcd_does_not_know_who_leads_for_longer_than_a_lease() {
    let Some((mut etcd, _folder)) = etcd("cut off", |_| {}).await else { return };
    let config = config(etcd.endpoints());
    let (a, _, _) = leader(&config, "a").await;
    let b = parts(&config, "b").await;
    let mut standing = b.election.standing();
    let waiting = campaign(b);
    soon(standing.wait_for(|standing| standing.leader.is_some())).await.unwrap();
    tokio::time::sleep(TTL * 2).await;
    assert!(standing.borrow().leader.is_some(), "etcd answers all the time");
    etcd.pause(0).unwrap();
    let paused = Instant::now();
    soon(standing.wait_for(|standing| standing.leader.is_none())).await.unwrap();
    assert!(paused.elapsed() < TTL + BUSY, "{:?}", paused.elapsed());
    etcd.resume(0).unwrap();
    soon(standing.wait_for(|standing| standing.leader.is_some())).await.unwrap();
    waiting.abort();
    drop(a);
}

#[tokio::test]
async fn a_leader_whose_address_refuses_wrongly_is_deposed_once_and_then_only_by_its_lease() {
    let Some((etcd, _folder)) = etcd("wrong proofs", |_| {}).await else { return };
    let config = config(etcd.endpoints());
    let held = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    // Nobody listens where it says, as behind a firewall that refuses.
    let a = parts_at(&config, "a", &closed.to_string()).await;
    let (first, _) = lead(&a).await;
    let b = parts_at(&config, "b", &held.local_addr().unwrap().to_string()).await;
    let (second, _) = lead(&b).await;
    soon(first.lost.cancelled()).await;
    a.election.ended().await;
    b.election.ended().await;
    let (third, _) = lead(&a).await;
    assert!(third.term > second.term);
    let waiting = campaign(b);
    tokio::time::sleep(TTL).await;
    assert!(!waiting.is_finished() && !third.lost.is_cancelled());
    waiting.abort();
}
