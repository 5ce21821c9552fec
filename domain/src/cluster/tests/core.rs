//! What Core is told, in which order, and what its answers do.

use super::*;

#[test]
fn while_core_is_away_jobs_run_and_what_is_owed_is_kept_in_order() {
    let mut world = World::new(&[("a", 4)]);
    world.core_is_up = false;
    world.create(vec![spec("1", 1)]).unwrap();
    world.pass(5 * MINUTE);
    world.rank_ends("1", 0, RankEnd::Exited { code: 0 });
    assert!(world.released("1"));
    assert_eq!(
        world.unanswered.len(),
        1,
        "one update of a job is under way, and no charge before Core has shown to know it"
    );
    assert_eq!(world.cluster.cluster_view(world.now()).owed_to_core, 7);

    world.core_is_up = true;
    let owed = std::mem::take(&mut world.unanswered);
    world.perform_all(owed);
    let kinds: Vec<bool> = world.told("1").iter().map(|notice| matches!(notice, Notice::Ended { .. })).collect();
    assert_eq!(kinds, [false, true]);
    assert_eq!(world.periods_charged("1"), 5);
}

#[test]
fn after_a_restart_what_was_not_acknowledged_is_sent_again_with_the_same_amounts() {
    let mut world = World::new(&[("a", 4)]);
    world.create(vec![spec("1", 1)]).unwrap();
    world.core_is_up = false;
    world.pass(2 * MINUTE + 2_000);
    // Core booked the first window, but its answer was lost with the coordinator.
    let Some(Effect::Charge { charge, .. }) = world.unanswered.pop() else { panic!("a charge is under way") };
    world.charges.push(charge);
    world.core_is_up = true;
    world.restart();
    world.rank_ends("1", 0, RankEnd::Exited { code: 0 });
    assert_eq!(world.charges.len(), 3, "sent twice");
    assert_eq!(world.periods_charged("1"), 2, "booked once");
}

#[test]
fn an_empty_wallet_ends_the_job_and_is_charged_once() {
    let mut world = World::new(&[("a", 4)]);
    world.create(vec![spec("1", 1)]).unwrap();
    world.broke.insert(id("1"));
    world.pass(MINUTE + 2_000);
    assert_eq!(world.cause("1"), Some(EndCause::NoCredit));
    world.pass(5 * MINUTE);
    assert_eq!(world.charges.len(), 1);
}

#[test]
fn a_job_that_core_denies_three_times_over_a_minute_is_an_orphan() {
    let mut world = World::new(&[("a", 4)]);
    world.unknown_to_core.insert(id("1"));
    world.create(vec![spec("1", 1)]).unwrap();
    world.pass(55_000);
    assert_eq!(world.life("1"), "running");
    world.pass(10_000);
    assert_eq!(world.cause("1"), Some(EndCause::Orphaned));
    world.pass(10 * MINUTE);
    assert!(world.released("1"));
    assert_eq!(world.charges, vec![]);
    assert_eq!(world.cluster.cluster_view(world.now()).owed_to_core, 0);
}

#[test]
fn a_job_that_core_denies_only_at_first_goes_on() {
    let mut world = World::new(&[("a", 4)]);
    world.unknown_to_core.insert(id("1"));
    world.create(vec![spec("1", 1)]).unwrap();
    world.pass(40_000);
    world.unknown_to_core.clear();
    world.pass(5 * MINUTE);
    assert_eq!(world.life("1"), "running");
    assert!(world.periods_charged("1") >= 5);
}

#[test]
fn verify_fails_unknown_jobs_in_one_round_but_not_right_after_a_take_over() {
    let mut world = World::new(&[("a", 4)]);
    world.create(vec![spec("1", 1)]).unwrap();
    let asked = || Event::Verify { jobs: vec![id("1"), id("404")] };
    world.event(asked());
    assert_eq!(world.disowned, vec![], "just taken over");
    world.pass(61_000);
    world.event(asked());
    world.pass(10_000);
    assert_eq!(world.disowned, vec![id("404")], "the second round says the same");
    world.pass(2 * MINUTE);
    world.event(Event::Verify { jobs: vec![id("405")] });
    world.pass(10_000);
    assert_eq!(world.disowned.last(), Some(&id("405")));
}

#[test]
fn a_job_that_comes_after_a_leader_was_asked_about_it_is_not_called_unknown() {
    // A leader that was called absent although it lives may be asked about what its successor has just accepted. It
    // holds its tongue for longer than its lease lasts; whoever leads on knows better by then.
    let mut world = World::new(&[("a", 4)]);
    world.pass(3 * MINUTE);
    world.event(Event::Verify { jobs: vec![id("1")] });
    world.terminate("2");
    world.pass(8_000);
    assert_eq!(world.disowned, vec![]);
    world.create(vec![spec("1", 1)]).unwrap();
    world.pass(MINUTE);
    assert_eq!(world.disowned, vec![id("2")]);
}

#[test]
fn verify_of_many_unknown_jobs_smells_of_an_old_store() {
    let mut world = World::new(&[]);
    world.pass(10 * MINUTE);
    let jobs: Vec<JobId> = (0..20).map(|number| id(&format!("{number}"))).collect();
    world.event(Event::Verify { jobs: jobs.clone() });
    assert_eq!(world.disowned, vec![]);
    assert_eq!(world.alarms.len(), 1);
    world.pass(61_000);
    world.event(Event::Verify { jobs });
    world.pass(10_000);
    assert_eq!(world.disowned.len(), 20);
}

#[test]
fn extensions_that_core_has_not_heard_are_told_as_one() {
    let mut world = World::new(&[("a", 4)]);
    world.create(vec![spec("1", 1)]).unwrap();
    world.core_is_up = false;
    for _ in 0..4 {
        world.extend("1", MINUTE).unwrap();
    }
    world.core_is_up = true;
    let owed = std::mem::take(&mut world.unanswered);
    world.perform_all(owed);
    let totals: Vec<u64> = world
        .told("1")
        .iter()
        .filter_map(|notice| match notice {
            Notice::TimeAllocation { total_ms } => Some(*total_ms / MINUTE),
            _ => None,
        })
        .collect();
    assert_eq!(totals, [61, 64]);
}

#[test]
fn a_state_that_core_refuses_is_told_again_and_words_are_not() {
    let mut world = World::new(&[("a", 1)]);
    world.core_is_up = false;
    world.create(vec![spec("1", 1), spec("2", 1)]).unwrap();
    for effect in std::mem::take(&mut world.unanswered) {
        let Effect::Tell { job, number, .. } = effect else { panic!("{effect:?}") };
        world.event(Event::Told { job, number, delivery: Delivery::Rejected { why: "forbidden by a proxy".into() } });
    }
    assert_eq!((world.store[&id("1")].told, world.store[&id("2")].told), (0, 1));
    world.core_is_up = true;
    world.pass(5 * MINUTE);
    assert_eq!(world.told("1")[0], Notice::Running { nodes: vec!["a".into()] });
    assert_eq!(world.alarms.len(), 2);
}
