//! I11 as operators meet it: verdicts that wait, and what lets them go; and a leader that doubts itself.

use super::*;
use crate::brake::Verdict;
use crate::view::BrakeView;

fn ten_jobs(world: &mut World) -> Vec<String> {
    let jobs: Vec<String> = (1..=10).map(|number| number.to_string()).collect();
    world.create(jobs.iter().map(|job| spec(job, 1)).collect()).unwrap();
    jobs
}

fn ended(world: &World, jobs: &[String]) -> usize {
    jobs.iter().filter(|job| world.cause(job).is_some()).count()
}

fn release(world: &mut World, verdict: Option<Verdict>) {
    assert_eq!(world.order(|request| Event::ReleaseBrake { request, verdict }), Ok(()));
}

fn brake(world: &World, verdict: Verdict) -> BrakeView {
    let view = world.cluster.cluster_view(world.now());
    view.brakes.into_iter().find(|brake| brake.verdict == verdict.name()).unwrap()
}

fn told_to_release(world: &World, verdict: Verdict) -> bool {
    let command = format!("`muster brake release {}`", verdict.name());
    world.alarms.iter().any(|alarm| alarm.contains("held back") && alarm.contains(&command))
}

#[test]
fn a_drain_of_many_jobs_is_held_back_until_an_operator_releases_it() {
    let mut world = World::new(&[("a", 10)]);
    let jobs = ten_jobs(&mut world);
    world.drain("a", Some(MINUTE));
    world.pass(2 * MINUTE);
    assert_eq!(ended(&world, &jobs), 3, "I11");
    assert!(told_to_release(&world, Verdict::Drain));
    let view = brake(&world, Verdict::Drain);
    assert_eq!((view.held, view.allowed, view.used, view.waiting), (true, 3, 3, 7));
    release(&mut world, Some(Verdict::Lost));
    assert_eq!(ended(&world, &jobs), 3, "that was another brake");
    release(&mut world, Some(Verdict::Drain));
    assert_eq!(ended(&world, &jobs), 10);
    let view = brake(&world, Verdict::Drain);
    assert_eq!((view.held, view.waiting, view.released_for_ms), (false, 0, Some(5 * MINUTE)));
    world.pass(6 * MINUTE);
    assert_eq!(brake(&world, Verdict::Drain).released_for_ms, None);
}

#[test]
fn without_a_release_they_go_on_a_few_at_a_time() {
    let mut world = World::new(&[("a", 10)]);
    let jobs = ten_jobs(&mut world);
    world.drain("a", Some(0));
    assert_eq!(ended(&world, &jobs), 3);
    world.pass(5 * MINUTE + 1_000);
    assert_eq!(ended(&world, &jobs), 6);
    let node = NodeName::new("a").unwrap();
    world.order(|request| Event::Uncordon { request, node }).unwrap();
    assert_eq!(brake(&world, Verdict::Drain).waiting, 0, "nobody waits for a drain that was taken back");
    world.pass(20 * MINUTE);
    assert_eq!(ended(&world, &jobs), 6);
}

#[test]
fn lost_jobs_wait_for_their_node_or_for_the_release() {
    for comes_back in [true, false] {
        let mut world = World::new(&[("a", 10)]);
        let jobs = ten_jobs(&mut world);
        world.cut("a");
        world.pass(31 * MINUTE);
        assert_eq!((ended(&world, &jobs), brake(&world, Verdict::Lost).waiting), (3, 7));
        assert!(told_to_release(&world, Verdict::Lost));
        if comes_back {
            world.connect("a");
            world.pass(2_000);
            assert_eq!(brake(&world, Verdict::Lost).waiting, 0);
        }
        release(&mut world, None);
        assert_eq!(ended(&world, &jobs), if comes_back { 3 } else { 10 });
    }
}

#[test]
fn empty_wallets_wait_for_money_or_for_the_release() {
    for pays in [true, false] {
        let mut world = World::new(&[("a", 10)]);
        let jobs = ten_jobs(&mut world);
        world.broke = jobs.iter().map(|job| id(job)).collect();
        world.pass(MINUTE + 2_000);
        assert_eq!((ended(&world, &jobs), brake(&world, Verdict::NoCredit).waiting), (3, 7));
        assert!(told_to_release(&world, Verdict::NoCredit));
        if pays {
            world.broke.clear();
            world.pass(MINUTE);
            assert_eq!(brake(&world, Verdict::NoCredit).waiting, 0, "Core has booked since");
        }
        release(&mut world, Some(Verdict::NoCredit));
        assert_eq!(ended(&world, &jobs), if pays { 3 } else { 10 });
    }
}

#[test]
fn jobs_that_core_denies_wait_for_it_or_for_the_release() {
    for remembers in [true, false] {
        let mut world = World::new(&[("a", 10)]);
        world.unknown_to_core = (1..=10).map(|number| id(&number.to_string())).collect();
        let jobs = ten_jobs(&mut world);
        world.pass(70_000);
        assert_eq!((ended(&world, &jobs), brake(&world, Verdict::Orphan).waiting), (3, 7));
        assert!(told_to_release(&world, Verdict::Orphan));
        if remembers {
            world.unknown_to_core.clear();
            world.pass(40_000);
            assert_eq!(brake(&world, Verdict::Orphan).waiting, 0);
        }
        release(&mut world, Some(Verdict::Orphan));
        assert_eq!(ended(&world, &jobs), if remembers { 3 } else { 10 });
    }
}

#[test]
fn a_leader_that_loses_more_than_half_of_its_nodes_at_once_offers_its_leadership_once() {
    let mut world = World::new(&[("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)]);
    world.create(vec![spec("1", 5)]).unwrap();
    world.cut("a");
    world.deaf_to.insert("b".into());
    world.pass(20_000);
    assert_eq!(world.yields, 0, "two of five");
    world.cut("c");
    world.pass(20_000);
    assert_eq!(world.yields, 1);
    assert!(world.alarms.iter().any(|alarm| alarm.starts_with("3 of 5 nodes fell silent at once")));
    world.cut("d");
    world.pass(MINUTE);
    for name in ["a", "c", "d"] {
        world.connect(name);
    }
    world.deaf_to.clear();
    world.pass(MINUTE);
    for name in ["a", "b", "c", "d"] {
        world.cut(name);
    }
    world.pass(MINUTE);
    assert_eq!((world.yields, world.life("1")), (1, "running"), "once in ten minutes");
}

#[test]
fn a_leader_that_no_node_dials_offers_its_leadership_every_ten_minutes() {
    let names = ["a", "b", "c"];
    let mut world = World::new(&names.map(|name| (name, 1)));
    world.create(vec![spec("1", 3)]).unwrap();
    for name in names {
        world.cut(name);
    }
    world.restart();
    world.pass(MINUTE - 1_000);
    assert_eq!(world.yields, 0);
    world.pass(1_000);
    assert_eq!((world.yields, world.life("1")), (1, "running"));
    assert!(world.alarms.last().unwrap().starts_with("none of the 3 nodes in service has dialled this coordinator"));
    world.pass(9 * MINUTE);
    assert_eq!(world.yields, 1);
    world.pass(MINUTE);
    assert_eq!(world.yields, 2, "it may be alone, or have resigned too lately to do so again");
    world.connect("b");
    world.pass(20 * MINUTE);
    assert_eq!(world.yields, 2, "one that dials shows that the leader can be reached");
}

#[test]
fn nodes_that_were_given_back_have_a_minute_to_dial() {
    let names = ["a", "b", "c"];
    let mut world = World::new(&names.map(|name| (name, 1)));
    for name in names {
        world.drain(name, None);
        world.cut(name);
    }
    world.restart();
    world.pass(10 * MINUTE);
    for name in names {
        let node = NodeName::new(name).unwrap();
        world.order(|request| Event::Uncordon { request, node }).unwrap();
    }
    world.pass(MINUTE - 1_000);
    assert_eq!(world.yields, 0);
    world.pass(1_000);
    assert_eq!(world.yields, 1);
}

#[test]
fn a_few_nodes_or_such_as_were_sent_away_need_not_dial() {
    for (names, sent_away) in [(vec!["a", "b"], 0), (vec!["a", "b", "c"], 1)] {
        let mut world = World::new(&names.iter().map(|name| (*name, 1)).collect::<Vec<_>>());
        for name in &names {
            world.cut(name);
        }
        for name in &names[..sent_away] {
            world.drain(name, None);
        }
        world.restart();
        world.pass(10 * MINUTE);
        assert_eq!(world.yields, 0);
    }
}

/// What the report of a node does not list any more, though its machine was not booted anew.
fn all_are_missing(world: &mut World) {
    world.workers.get_mut("a").unwrap().agent = Agent::new(AgentSettings { grace_ms: 10_000 }, 1);
    world.cut("a");
    world.connect("a");
    world.heartbeat("a");
}

#[test]
fn ranks_that_are_missing_without_a_reboot_count_for_the_brake() {
    let mut world = World::new(&[("a", 10)]);
    let jobs = ten_jobs(&mut world);
    all_are_missing(&mut world);
    assert_eq!((ended(&world, &jobs), brake(&world, Verdict::Lost).waiting), (3, 7), "I11");
    assert!(told_to_release(&world, Verdict::Lost));
    world.pass(5 * MINUTE + 1_000);
    assert_eq!(ended(&world, &jobs), 6);
    release(&mut world, Some(Verdict::Lost));
    assert_eq!(ended(&world, &jobs), 10);
}

#[test]
fn what_a_reboot_took_along_is_no_verdict() {
    let mut world = World::new(&[("a", 10)]);
    let jobs = ten_jobs(&mut world);
    world.reboot("a");
    world.heartbeat("a");
    assert_eq!(ended(&world, &jobs), 10);
    assert_eq!(brake(&world, Verdict::Lost).used, 0);
}

#[test]
fn what_was_started_after_a_reboot_was_not_taken_along_by_it() {
    let mut world = World::new(&[("a", 10)]);
    world.workers.get_mut("a").unwrap().connected = false;
    let jobs = ten_jobs(&mut world);
    assert_eq!(world.life("1"), "preparing", "it is placed and was never heard of there");
    world.reboot("a");
    world.heartbeat("a");
    assert_eq!(world.life("1"), "running");
    all_are_missing(&mut world);
    assert_eq!((ended(&world, &jobs), brake(&world, Verdict::Lost).waiting), (3, 7), "I11");
}

#[test]
fn a_take_over_counts_what_the_leader_before_has_judged() {
    let mut world = World::new(&[("a", 10)]);
    let jobs = ten_jobs(&mut world);
    world.drain("a", Some(0));
    assert_eq!(ended(&world, &jobs), 3);
    world.pass(2 * MINUTE);
    world.restart();
    assert_eq!((ended(&world, &jobs), brake(&world, Verdict::Drain).waiting), (3, 7), "I11");
    world.pass(3 * MINUTE + 1_000);
    assert_eq!(ended(&world, &jobs), 6);
}

#[test]
fn ranks_that_a_restart_of_their_engine_ended_are_no_verdict() {
    let mut world = World::new(&[("a", 10)]);
    let jobs = ten_jobs(&mut world);
    for job in &jobs {
        world.rank_ends(job, 0, RankEnd::EngineRestarted);
        assert_eq!(world.cause(job), Some(EndCause::EngineRestarted { node: "a".into(), rank: 0 }));
    }
    assert_eq!(brake(&world, Verdict::Lost).used, 0);
}

#[test]
fn nodes_that_go_one_by_one_or_were_sent_away_or_are_few_are_no_reason_to_doubt() {
    let five = [("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)];
    let mut world = World::new(&five);
    for name in ["a", "b", "c", "d", "e"] {
        world.cut(name);
        world.pass(2 * MINUTE);
    }
    assert_eq!(world.yields, 0, "one by one");

    let mut world = World::new(&five);
    for name in ["a", "b", "c", "d"] {
        world.drain(name, None);
        world.cut(name);
    }
    world.pass(MINUTE);
    assert_eq!(world.yields, 0, "sent away");

    let mut world = World::new(&[("a", 1), ("b", 1)]);
    world.cut("a");
    world.cut("b");
    world.pass(MINUTE);
    assert_eq!(world.yields, 0, "few");
}

#[test]
fn a_leader_that_slept_doubts_nobody() {
    let mut world = World::new(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
    world.pass(MINUTE);
    world.now_ms += 40 * MINUTE;
    world.event(Event::Tick);
    world.pass(MINUTE);
    assert_eq!(world.yields, 0);
    assert_eq!(world.cluster.cluster_view(world.now()).nodes_online, 4);
}
