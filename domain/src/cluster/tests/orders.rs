//! Nodes' documents, and what operators order about nodes.

use super::*;
use crate::effect::RefusalKind;
use crate::node::Admission;

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn cordon(world: &mut World, name: &str) {
    assert_eq!(world.order(|request| Event::Cordon { request, node: node(name) }), Ok(()));
}

fn uncordon(world: &mut World, name: &str) {
    assert_eq!(world.order(|request| Event::Uncordon { request, node: node(name) }), Ok(()));
}

fn forget(world: &mut World, name: &str) -> Reply {
    world.order(|request| Event::ForgetNode { request, node: node(name) })
}

fn waiting(reason: &str) -> Notice {
    Notice::Waiting { reason: reason.to_owned() }
}

#[test]
fn a_node_is_written_when_it_says_something_new_and_never_by_a_heartbeat() {
    let mut world = World::new(&[("a", 2)]);
    assert_eq!(world.writes, 1);
    world.pass(MINUTE);
    world.cut("a");
    world.connect("a");
    assert_eq!(world.writes, 1, "a reconnect without change");
    world.workers.get_mut("a").unwrap().cores = 3;
    world.connect("a");
    assert_eq!((world.writes, world.nodes[&node("a")].capacity.cores), (2, 3));
    world.reboot("a");
    assert_eq!((world.writes, world.nodes[&node("a")].boot_id.as_str()), (3, "boot-2"));
}

#[test]
fn after_a_take_over_nodes_are_known_before_they_are_heard() {
    let mut world = World::new(&[("a", 4)]);
    world.cut("a");
    world.restart();
    let view = world.view("a");
    assert_eq!((view.state.as_str(), view.cores, view.heard_ms_ago), ("offline", 4, None));
    let cluster = world.cluster.cluster_view(world.now());
    assert_eq!((cluster.nodes, cluster.nodes_online), (1, 0));
    world.create(vec![spec("1", 4), spec("2", 5)]).unwrap();
    assert_eq!(world.told("1"), [waiting("no machine of this type is in service: node a is offline")]);
    assert_eq!(world.told("2"), [waiting("no machine of this type is online")], "not even when a is back");
    world.connect("a");
    assert_eq!((world.life("1"), world.life("2")), ("running", "queued"));
}

#[test]
fn a_cordoned_node_gets_nothing_new_and_keeps_what_it_has() {
    let mut world = World::new(&[("a", 2)]);
    world.create(vec![spec("1", 1)]).unwrap();
    cordon(&mut world, "a");
    world.create(vec![spec("2", 1)]).unwrap();
    assert_eq!(world.told("2"), [waiting("no machine of this type is in service: node a is cordoned")]);
    world.restart();
    world.pass(5 * MINUTE);
    assert_eq!((world.life("1"), world.life("2")), ("running", "queued"));
    assert_eq!(world.view("a").admission, "cordoned");
    uncordon(&mut world, "a");
    assert_eq!((world.life("2"), world.view("a").admission.as_str()), ("running", "schedulable"));
}

#[test]
fn a_job_behind_others_hears_of_cordoned_nodes_too() {
    let mut world = World::new(&[("a", 1), ("b", 1), ("c", 1)]);
    for name in ["b", "c"] {
        cordon(&mut world, name);
    }
    world.create(vec![spec("1", 1), spec("2", 1), spec("3", 3)]).unwrap();
    let reason = "other jobs hold the machines: 0 of 1 ranks would fit now; 2 nodes are cordoned";
    assert_eq!(world.told("2"), [waiting(reason)]);
    world.terminate("2");
    world.create(vec![spec("4", 2)]).unwrap();
    let reason = "the machines of this type that are in service hold 1 of 2 ranks: nodes b, c are cordoned";
    assert_eq!(world.told("4"), [waiting(reason)]);
}

#[test]
fn an_order_about_a_node_that_is_not_known_says_so() {
    let mut world = World::new(&[("a", 1)]);
    let orders: [fn(RequestId) -> Event; 4] = [
        |request| Event::Cordon { request, node: node("x") },
        |request| Event::Drain { request, node: node("x"), deadline_ms: None },
        |request| Event::Uncordon { request, node: node("x") },
        |request| Event::ForgetNode { request, node: node("x") },
    ];
    for order in orders {
        let refusal = world.order(order).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::NotFound);
        assert_eq!(refusal.why, "node x is not known here; `muster nodes` lists all that are");
    }
    assert_eq!(world.writes, 1);
}

#[test]
fn the_same_order_again_changes_nothing_and_another_deadline_replaces_the_first() {
    let mut world = World::new(&[("a", 1)]);
    world.drain("a", Some(10 * MINUTE));
    world.pass(5 * MINUTE);
    let writes = world.writes;
    world.drain("a", Some(10 * MINUTE));
    assert_eq!((world.writes, world.view("a").drain_ends_in_ms), (writes, Some(5 * MINUTE)));
    world.drain("a", Some(20 * MINUTE));
    assert_eq!(world.view("a").drain_ends_in_ms, Some(20 * MINUTE));
    world.drain("a", None);
    assert_eq!(world.view("a").drain_ends_in_ms, None);
    let writes = world.writes;
    cordon(&mut world, "a");
    cordon(&mut world, "a");
    assert_eq!(world.writes, writes + 1);
}

#[test]
fn what_runs_on_a_drained_node_goes_on_until_the_deadline() {
    let mut world = World::new(&[("a", 2)]);
    let mut endless = spec("1", 1);
    endless.time_limit_ms = None;
    world.create(vec![endless, spec("2", 1)]).unwrap();
    world.drain("a", Some(10 * MINUTE));
    world.pass(9 * MINUTE);
    assert_eq!((world.life("1"), world.view("a").admission.as_str()), ("running", "draining"));
    world.rank_ends("2", 0, RankEnd::Exited { code: 0 });
    world.pass(MINUTE);
    assert_eq!(world.cause("1"), Some(EndCause::Drained { node: "a".into() }));
    assert_eq!(world.cause("2"), Some(EndCause::Exited { rank: 0, code: 0 }), "in time");
    assert!(world.released("1"));
    assert_eq!(world.periods_charged("1"), 10);
    let ended = Notice::Ended { cause: EndCause::Drained { node: "a".into() } };
    assert_eq!(world.told("1").last(), Some(&ended));
    assert_eq!((world.view("a").admission.as_str(), world.view("a").ranks.len()), ("drained", 0));
}

#[test]
fn the_deadline_wakes_the_cluster_by_itself() {
    let mut world = World::new(&[("a", 1)]);
    world.create(vec![spec("1", 1)]).unwrap();
    world.heartbeat("a");
    world.drain("a", Some(3_000));
    assert_eq!(world.cluster.next_wakeup(), Some(Moment(world.now_ms + 3_000)));
}

#[test]
fn a_drain_without_a_deadline_waits_for_the_jobs() {
    let mut world = World::new(&[("a", 1)]);
    world.create(vec![spec("1", 1)]).unwrap();
    world.drain("a", None);
    world.pass(50 * MINUTE);
    assert_eq!((world.life("1"), world.view("a").admission.as_str()), ("running", "draining"));
    world.pass(11 * MINUTE);
    assert_eq!(world.cause("1"), Some(EndCause::TimeLimit));
    assert_eq!(world.view("a").admission, "drained");
}

#[test]
fn what_is_being_prepared_on_a_drained_node_is_placed_elsewhere_at_once() {
    let mut world = World::new(&[("a", 1), ("b", 2)]);
    world.workers.get_mut("a").unwrap().connected = false;
    world.create(vec![spec("1", 1)]).unwrap();
    assert_eq!((world.life("1"), world.node_of("1", 0).as_str()), ("preparing", "a"));
    world.drain("a", Some(60 * MINUTE));
    assert_eq!((world.life("1"), world.node_of("1", 0).as_str()), ("running", "b"));
    let job = &world.store[&id("1")];
    assert_eq!((job.attempt, job.failed_attempts.len()), (2, 0));
    let reason = "node a was taken out of service before the job ran; it is placed again";
    assert_eq!(world.told("1"), [waiting(reason), Notice::Running { nodes: vec!["b".into()] }]);
}

#[test]
fn what_may_have_started_on_a_drained_node_goes_on() {
    let mut world = World::new(&[("a", 1), ("b", 2)]);
    world.hold_start = Some("a".into());
    world.create(vec![spec("1", 1)]).unwrap();
    assert_eq!(world.life("1"), "starting");
    world.drain("a", None);
    assert_eq!(world.life("1"), "starting", "its engine may have started it");
    let key = RankKey { job: id("1"), rank: 0, attempt: 1 };
    let started_at = Moment(world.now_ms);
    world.agent("a", AgentEvent::Observed { key, observation: Observation::Started { started_at } });
    assert_eq!((world.life("1"), world.node_of("1", 0).as_str()), ("running", "a"));
    assert_eq!(world.view("a").admission, "draining");
    world.rank_ends("1", 0, RankEnd::Exited { code: 0 });
    assert_eq!(world.view("a").admission, "drained");
}

#[test]
fn a_node_whose_rank_has_ended_well_is_not_needed_by_the_rest_of_its_gang() {
    let mut world = World::new(&[("a", 1), ("b", 1)]);
    world.create(vec![spec("1", 2)]).unwrap();
    let other = world.node_of("1", 1);
    world.rank_ends("1", 1, RankEnd::Exited { code: 0 });
    world.drain(&other, Some(MINUTE));
    world.pass(2 * MINUTE);
    assert_eq!(world.life("1"), "running");
    world.workers.get_mut(&other).unwrap().connected = false;
    world.pass(40 * MINUTE);
    assert_eq!(world.life("1"), "running");
}

#[test]
fn a_withdrawn_attempt_is_not_counted_among_the_failed_ones() {
    let mut world = World::new(&[("a", 1), ("b", 2)]);
    world.workers.get_mut("a").unwrap().connected = false;
    world.workers.get_mut("b").unwrap().refuses = Some(("disk full".into(), true));
    world.create(vec![spec("1", 1)]).unwrap();
    world.drain("a", None);
    let reason = "rank 0 on node b: disk full (attempt 3 of 3)".to_owned();
    assert_eq!(world.cause("1"), Some(EndCause::CannotStart { reason }));
    assert_eq!(world.store[&id("1")].attempt, 4);
}

#[test]
fn a_gang_over_two_nodes_ends_as_a_whole() {
    let mut world = World::new(&[("a", 1), ("b", 1)]);
    world.create(vec![spec("1", 2)]).unwrap();
    world.drain("b", Some(MINUTE));
    world.pass(MINUTE);
    assert_eq!(world.cause("1"), Some(EndCause::Drained { node: "b".into() }));
    let key = RankKey { job: id("1"), rank: u32::from(world.node_of("1", 0) != "a"), attempt: 1 };
    assert!(world.workers["a"].commands.contains(&Command::Stop { key }));
    assert!(world.released("1"));
}

#[test]
fn a_gang_over_two_nodes_that_does_not_run_yet_waits_as_a_whole() {
    let mut world = World::new(&[("a", 1), ("b", 1)]);
    world.workers.get_mut("b").unwrap().connected = false;
    world.create(vec![spec("1", 2)]).unwrap();
    assert_eq!(world.life("1"), "preparing");
    world.drain("b", None);
    assert_eq!(world.life("1"), "queued");
    assert_eq!(world.cluster.utilization().cores_used, 0, "the other rank's room is free, too");
    world.connect("b");
    world.pass(10_000);
    assert_eq!(world.life("1"), "queued");
    uncordon(&mut world, "b");
    world.pass(10_000);
    assert_eq!((world.life("1"), world.store[&id("1")].attempt), ("running", 2));
}

#[test]
fn uncordon_takes_a_drain_back_and_cordon_its_deadline() {
    let mut world = World::new(&[("a", 1), ("b", 1)]);
    world.create(vec![spec("1", 1), spec("2", 1)]).unwrap();
    for name in ["a", "b"] {
        world.drain(name, Some(5 * MINUTE));
    }
    world.pass(4 * MINUTE);
    uncordon(&mut world, "a");
    cordon(&mut world, "b");
    world.pass(10 * MINUTE);
    assert_eq!((world.life("1"), world.life("2")), ("running", "running"));
    assert_eq!((world.view("a").admission.as_str(), world.view("b").admission.as_str()), ("schedulable", "cordoned"));
}

#[test]
fn a_take_over_puts_the_deadline_of_a_drain_off_by_a_minute_at_most() {
    let mut world = World::new(&[("a", 1)]);
    world.create(vec![spec("1", 1)]).unwrap();
    world.drain("a", Some(10 * MINUTE));
    let writes = world.writes;
    world.pass(8 * MINUTE + 50_000);
    assert!(world.writes - writes <= 3 * 8, "a note and a charge a minute, not one a heartbeat");
    world.restart();
    assert_eq!(world.view("a").drain_ends_in_ms, Some(2 * MINUTE), "never less than was promised");
    world.drain("a", Some(10 * MINUTE));
    assert_eq!(world.view("a").drain_ends_in_ms, Some(2 * MINUTE), "the same order again changes nothing");
    world.pass(2 * MINUTE - 1_000);
    assert_eq!(world.life("1"), "running");
    world.pass(1_000);
    assert_eq!(world.cause("1"), Some(EndCause::Drained { node: "a".into() }));
    let writes = world.writes;
    world.pass(10 * MINUTE);
    assert_eq!(world.writes, writes, "what is over is not noted any more");
    assert_eq!(world.order(|request| Event::Uncordon { request, node: node("a") }), Ok(()));
    world.drain("a", Some(10 * MINUTE));
    assert_eq!(world.view("a").drain_ends_in_ms, Some(10 * MINUTE), "a new drain begins anew");
}

#[test]
fn a_leader_that_dies_between_the_order_and_its_consequences_is_followed_by_one_that_draws_them() {
    let mut world = World::new(&[("a", 1), ("b", 2)]);
    world.workers.get_mut("a").unwrap().connected = false;
    world.create(vec![spec("1", 1)]).unwrap();
    assert_eq!(world.life("1"), "preparing");
    world.nodes.get_mut(&node("a")).unwrap().admission = Admission::Draining { deadline_ms: None };
    world.restart();
    // Whether the old leader had sent a start nobody knows; `a` has to say so.
    world.connect("a");
    assert_eq!((world.life("1"), world.node_of("1", 0).as_str()), ("running", "b"));
    assert_eq!(world.store[&id("1")].failed_attempts.len(), 0);
}

#[test]
fn a_node_is_forgotten_only_when_nothing_needs_it() {
    let mut world = World::new(&[("a", 1), ("b", 1)]);
    let why = |reply: Reply| {
        let refusal = reply.unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Conflict);
        refusal.why
    };
    world.create(vec![spec("1", 2)]).unwrap();
    assert_eq!(why(forget(&mut world, "b")), "node b is connected; stop its worker first");
    world.cut("b");
    assert!(why(forget(&mut world, "b")).starts_with("job 1 may still run on node b; "));
    world.pass(31 * MINUTE);
    assert_eq!((world.life("1"), world.released("1")), ("ended", false));
    assert_eq!(forget(&mut world, "b"), Ok(()));
    assert!(world.released("1"), "the machine is declared gone");
    assert!(!world.nodes.contains_key(&node("b")));
    assert_eq!(world.cluster.cluster_view(world.now()).nodes, 1);
    world.restart();
    assert_eq!(world.cluster.cluster_view(world.now()).nodes, 1);

    // It was not gone at all: what it still has is told to go, and it is taken in like any new node.
    world.connect("b");
    world.pass(20_000);
    assert_eq!(world.workers["b"].agent.reports(Moment(world.now_ms)), vec![]);
    assert_eq!((world.view("b").state.as_str(), world.view("b").admission.as_str()), ("online", "schedulable"));
}
