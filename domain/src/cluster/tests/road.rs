//! The road of design section 3, row by row.

use super::*;

#[test]
fn a_job_goes_from_create_to_its_last_charge() {
    let mut world = World::new(&[("a", 4)]);
    assert_eq!(world.create(vec![spec("1", 1)]), Ok(()));
    assert_eq!(world.life("1"), "running");
    assert_eq!(world.told("1"), [Notice::Running { nodes: vec!["a".into()] }]);

    world.pass(150_000);
    world.rank_ends("1", 0, RankEnd::Exited { code: 0 });
    assert_eq!(world.cause("1"), Some(EndCause::Exited { rank: 0, code: 0 }));
    assert!(world.released("1"));
    assert_eq!(world.told("1").len(), 2);
    assert_eq!(world.periods_charged("1"), 2);
    assert_eq!(world.cluster.cluster_view(world.now()).owed_to_core, 0);
    assert_eq!(world.cluster.utilization().cores_used, 0);
}

#[test]
fn twenty_three_ranks_find_each_other_on_three_workers() {
    let mut world = World::new(&[("a", 8), ("b", 8), ("c", 8)]);
    world.create(vec![spec("1", 23)]).unwrap();
    assert_eq!(world.life("1"), "running");
    let starts: Vec<&Command> =
        world.workers.values().flat_map(|w| &w.commands).filter(|c| matches!(c, Command::Start { .. })).collect();
    assert_eq!(starts.len(), 23);
    for start in starts {
        let Command::Start { key, files, .. } = start else { unreachable!() };
        assert_eq!(files.hosts.len(), 23);
        assert_eq!(files.files["number_of_nodes.txt"], "23\n");
        assert_eq!(files.hosts[key.rank as usize].1, format!("j-1-rank-{}", key.rank));
    }
}

#[test]
fn nobody_starts_before_everybody_is_prepared() {
    let mut world = World::new(&[("a", 2), ("b", 1)]);
    world.workers.get_mut("b").unwrap().connected = false;
    // `b` is still believed to be online, but nothing reaches it.
    world.create(vec![spec("1", 3)]).unwrap();
    assert_eq!(world.life("1"), "preparing");
    let started = world.workers["a"].commands.iter().any(|command| matches!(command, Command::Start { .. }));
    assert!(!started);
    world.connect("b");
    assert_eq!(world.life("1"), "running");
}

#[test]
fn a_repeated_create_is_the_same_job_and_another_one_is_a_conflict() {
    let mut world = World::new(&[("a", 4)]);
    world.create(vec![spec("1", 1)]).unwrap();
    assert_eq!(world.create(vec![spec("1", 1)]), Ok(()));
    assert_eq!(world.store[&id("1")].attempt, 1);
    let refusal = world.create(vec![spec("2", 1), spec("1", 2)]).unwrap_err();
    assert_eq!(refusal.kind, crate::effect::RefusalKind::Conflict);
    assert!(refusal.why.starts_with("items[1].id: job 1 was accepted before"), "{}", refusal.why);
    assert!(!world.store.contains_key(&id("2")), "all or nothing");
}

#[test]
fn a_job_that_waits_says_why_and_starts_when_there_is_room() {
    let mut world = World::new(&[("a", 2)]);
    world.create(vec![spec("1", 2), spec("2", 1)]).unwrap();
    assert_eq!(world.life("2"), "queued");
    let reason = "other jobs hold the machines: 0 of 1 ranks would fit now".to_owned();
    assert_eq!(world.told("2"), [Notice::Waiting { reason }]);
    world.rank_ends("1", 0, RankEnd::Exited { code: 0 });
    assert_eq!(world.life("2"), "running");
}

#[test]
fn a_job_for_machines_that_are_not_there_waits_for_them() {
    let mut world = World::new(&[]);
    world.create(vec![spec("1", 1)]).unwrap();
    assert_eq!(world.told("1"), [Notice::Waiting { reason: "no machine of this type is online".into() }]);
}

#[test]
fn a_node_that_cannot_prepare_is_avoided_by_the_next_attempt() {
    let mut world = World::new(&[("a", 2), ("b", 4)]);
    world.workers.get_mut("a").unwrap().refuses = Some(("disk full".into(), true));
    world.create(vec![spec("1", 1)]).unwrap();
    assert_eq!(world.life("1"), "running");
    let job = &world.store[&id("1")];
    assert_eq!((job.attempt, world.node_of("1", 0).as_str()), (2, "b"));
    assert_eq!(job.failed_attempts[0].reason, "rank 0 on node a: disk full");
    assert!(matches!(world.told("1")[0], Notice::AttemptFailed { attempt: 1, .. }));
}

#[test]
fn a_node_that_cannot_even_clean_up_does_not_hold_the_next_attempt() {
    let mut world = World::new(&[("a", 2), ("b", 4)]);
    let broken = world.workers.get_mut("a").unwrap();
    broken.refuses = Some(("disk full".into(), true));
    broken.keeps_everything = true;
    world.create(vec![spec("1", 1)]).unwrap();
    assert_eq!((world.life("1"), world.node_of("1", 0).as_str()), ("running", "b"));
    world.workers.get_mut("a").unwrap().commands.clear();
    world.pass(20_000);
    let removal = Command::Remove { key: RankKey { job: id("1"), rank: 0, attempt: 1 } };
    assert!(world.workers["a"].commands.contains(&removal), "the left-over is told to go again and again");
}

#[test]
fn operators_hear_of_a_rank_that_does_not_go() {
    let mut world = World::new(&[("a", 2)]);
    world.workers.get_mut("a").unwrap().keeps_everything = true;
    world.create(vec![spec("1", 1), spec("2", 1)]).unwrap();
    world.terminate("1");
    world.pass(4 * MINUTE);
    assert_eq!(world.alarms, Vec::<String>::new());
    world.pass(2 * MINUTE);
    assert_eq!((world.released("1"), world.alarms.len()), (false, 1));
    assert!(world.alarms[0].starts_with("rank 0 of job 1 is still on node a, 5 min after it was told to go"));
}

#[test]
fn after_three_attempts_the_job_fails_in_words() {
    let mut world = World::new(&[("a", 2)]);
    world.workers.get_mut("a").unwrap().refuses = Some(("disk full".into(), true));
    world.create(vec![spec("1", 1)]).unwrap();
    let reason = "rank 0 on node a: disk full (attempt 3 of 3)".to_owned();
    assert_eq!(world.cause("1"), Some(EndCause::CannotStart { reason }));
    assert!(world.released("1"));
    assert_eq!(world.charges, vec![]);
}

#[test]
fn what_the_job_got_wrong_is_not_tried_again() {
    let mut world = World::new(&[("a", 2), ("b", 2)]);
    for worker in world.workers.values_mut() {
        worker.refuses = Some(("no such image".into(), false));
    }
    world.create(vec![spec("1", 4)]).unwrap();
    assert!(matches!(world.cause("1"), Some(EndCause::CannotStart { .. })));
    assert_eq!(world.store[&id("1")].attempt, 1);
    assert!(world.released("1"), "the ranks that were prepared are undone");
}

#[test]
fn the_bad_end_of_any_rank_ends_the_gang_and_the_good_one_does_not() {
    let mut world = World::new(&[("a", 8)]);
    world.create(vec![spec("1", 3)]).unwrap();
    world.rank_ends("1", 2, RankEnd::Exited { code: 0 });
    assert_eq!(world.life("1"), "running");
    world.rank_ends("1", 1, RankEnd::Exited { code: 7 });
    assert_eq!(world.cause("1"), Some(EndCause::Exited { rank: 1, code: 7 }));
    assert!(world.released("1"));
}

#[test]
fn memory_explains_more_than_what_it_caused() {
    let mut world = World::new(&[("a", 8)]);
    world.create(vec![spec("1", 2)]).unwrap();
    world.rank_ends("1", 1, RankEnd::OutOfMemory);
    assert_eq!(world.cause("1"), Some(EndCause::OutOfMemory { rank: 1 }));
}

#[test]
fn the_time_limit_is_the_agents_and_an_extension_moves_it() {
    let mut world = World::new(&[("a", 8)]);
    let mut short = spec("1", 2);
    short.time_limit_ms = Some(5 * MINUTE);
    world.create(vec![short]).unwrap();
    world.pass(3 * MINUTE);
    world.extend("1", 5 * MINUTE).unwrap();
    assert_eq!(world.told("1").last(), Some(&Notice::TimeAllocation { total_ms: 10 * MINUTE }));
    world.pass(5 * MINUTE);
    assert_eq!(world.life("1"), "running");
    world.pass(2 * MINUTE + 2_000);
    assert_eq!(world.cause("1"), Some(EndCause::TimeLimit));
    assert_eq!(world.periods_charged("1"), 10);
}

#[test]
fn extend_is_all_or_nothing_and_names_the_item() {
    let mut world = World::new(&[("a", 8)]);
    world.create(vec![spec("1", 1)]).unwrap();
    let request = world.request();
    let wish = |job: &str| crate::event::Extension { job: id(job), add_ms: MINUTE };
    world.event(Event::Extend { request, items: vec![wish("1"), wish("404")] });
    let refusal = world.replies.remove(&request).unwrap().unwrap_err();
    assert_eq!(refusal.why, "items[1].job.id: job 404 is not known here");
    assert_eq!(world.store[&id("1")].time_limit_ms, Some(60 * MINUTE));
}

#[test]
fn terminate_ends_a_job_in_every_phase() {
    let mut world = World::new(&[("a", 1)]);
    world.create(vec![spec("1", 1), spec("2", 1)]).unwrap();
    world.terminate("2");
    assert_eq!((world.life("2"), world.cause("2")), ("ended", Some(EndCause::Terminated)));
    world.terminate("1");
    assert_eq!((world.life("1"), world.cause("1")), ("ended", Some(EndCause::Terminated)));
    world.terminate("1");
    assert_eq!(world.told("1").len(), 2, "said once");

    let mut world = World::new(&[("a", 1), ("b", 1)]);
    world.workers.get_mut("b").unwrap().connected = false;
    world.create(vec![spec("1", 2)]).unwrap();
    assert_eq!(world.life("1"), "preparing");
    world.terminate("1");
    world.connect("b");
    world.pass(10_000);
    assert_eq!((world.life("1"), world.released("1")), ("ended", true));
    assert_eq!(world.charges, vec![]);
}

#[test]
fn terminate_of_an_unknown_job_tells_core_that_it_failed() {
    let mut world = World::new(&[]);
    world.terminate("404");
    world.pass(10_000);
    assert_eq!(world.disowned, vec![id("404")]);
}

#[test]
fn an_ended_job_is_forgotten_after_its_retention() {
    let mut world = World::new(&[("a", 1)]);
    world.create(vec![spec("1", 1)]).unwrap();
    world.rank_ends("1", 0, RankEnd::Exited { code: 0 });
    world.now_ms += 24 * 60 * MINUTE - 1;
    world.event(Event::Tick);
    assert!(world.store.contains_key(&id("1")));
    assert!(world.cluster.next_wakeup().unwrap().0 > world.now_ms, "an idle cluster does not spin");
    world.now_ms += 1;
    world.event(Event::Tick);
    assert!(!world.store.contains_key(&id("1")));
}

#[test]
fn a_long_queue_of_one_machine_type_does_not_hide_another() {
    let mut world = World::new(&[("a", 2)]);
    let mut jobs: Vec<JobSpec> = (1..=1_100).map(|number| spec(&number.to_string(), 900)).collect();
    let mut other = spec("other", 1);
    other.product.category = "other".into();
    jobs.push(other);
    world.create(jobs).unwrap();
    assert_eq!(world.life("other"), "running");
}
