//! Money over whole lives: for random lives of jobs, the charges are the exact time in whole periods.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Fate {
    Pass(u64),
    Restart,
    Cut,
    Connect,
    Extend,
    CoreAway(bool),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => (1..180_u64).prop_map(|seconds| Fate::Pass(seconds * 1_000)),
        1 => Just(Fate::Restart),
        1 => Just(Fate::Cut),
        2 => Just(Fate::Connect),
        1 => Just(Fate::Extend),
        1 => any::<bool>().prop_map(Fate::CoreAway),
    ]
}

fn core_returns(world: &mut World) {
    world.core_is_up = true;
    while !world.unanswered.is_empty() {
        let owed = std::mem::take(&mut world.unanswered);
        world.perform_all(owed);
    }
}

#[test]
fn a_worker_that_stood_still_proves_nothing_at_once() {
    let mut world = World::new(&[("a", 1)]);
    world.create(vec![spec("1", 1)]).unwrap();
    world.pass(50_000);
    world.deaf_to.insert("a".into());
    world.pass(5_000);
    world.now_ms += 10_000;
    world.deaf_to.clear();
    world.heartbeat("a");
    let key = RankKey { job: id("1"), rank: 0, attempt: 1 };
    let ended = Observation::Ended { end: RankEnd::Exited { code: 0 }, age_ms: 56_000 };
    world.agent("a", AgentEvent::Observed { key, observation: ended });
    assert_eq!(
        (world.released("1"), world.periods_charged("1")),
        (true, 0),
        "it had ended while its agent stood still"
    );
}

#[test]
fn an_engine_is_back_from_the_word_that_says_so() {
    let mut world = World::new(&[("a", 1)]);
    world.create(vec![spec("1", 1)]).unwrap();
    world.pass(30_000);
    world.engine_ok = false;
    world.pass(4_000);
    world.deaf_to.insert("a".into());
    world.pass(40_000);
    world.deaf_to.clear();
    world.engine_ok = true;
    world.heartbeat("a");
    let key = RankKey { job: id("1"), rank: 0, attempt: 1 };
    let ended = Observation::Ended { end: RankEnd::Exited { code: 0 }, age_ms: 32_000 };
    world.agent("a", AgentEvent::Observed { key, observation: ended });
    assert_eq!((world.released("1"), world.periods_charged("1")), (true, 0), "it had ended while its engine was away");
}

/// A job over two nodes that has run for three minutes and a little, and the node of its rank 1.
fn a_gang_of_two() -> (World, String) {
    let mut world = World::new(&[("a", 1), ("b", 1)]);
    world.create(vec![spec("1", 2)]).unwrap();
    let other = world.node_of("1", 1);
    world.pass(3 * MINUTE + 10_000);
    (world, other)
}

/// Reliability B.5: charge to the last evidence, of every rank.
#[test]
fn a_gang_is_charged_to_the_last_evidence_of_a_rank_that_is_lost() {
    let (mut world, other) = a_gang_of_two();
    assert_eq!(world.periods_charged("1"), 3);
    world.cut(&other);
    world.pass(20 * MINUTE);
    assert_eq!((world.life("1"), world.periods_charged("1")), ("running", 3), "nobody knows whether rank 1 runs");
    world.restart();
    world.pass(12 * MINUTE);
    assert_eq!((world.life("1"), world.periods_charged("1")), ("running", 3), "waited for anew");
    world.pass(20 * MINUTE);
    assert_eq!(world.cause("1"), Some(EndCause::NodeLost { node: other, rank: 1 }));
    assert_eq!(world.periods_charged("1"), 3);
}

#[test]
fn a_rank_that_had_failed_unseen_proves_nothing_after_its_end() {
    let (mut world, other) = a_gang_of_two();
    world.cut(&other);
    world.rank_ends("1", 1, RankEnd::Exited { code: 1 });
    world.pass(20 * MINUTE);
    world.connect(&other);
    assert_eq!(world.cause("1"), Some(EndCause::Exited { rank: 1, code: 1 }));
    assert_eq!(world.periods_charged("1"), 3, "rank 0 went on alone");
}

#[test]
fn a_rank_that_comes_back_proves_what_ran_meanwhile() {
    let (mut world, other) = a_gang_of_two();
    world.cut(&other);
    world.pass(20 * MINUTE);
    world.connect(&other);
    world.pass(20_000);
    assert_eq!((world.life("1"), world.periods_charged("1")), ("running", 23));
}

#[test]
fn a_rank_that_has_ended_well_needs_to_prove_nothing() {
    let mut world = World::new(&[("a", 1), ("b", 1)]);
    world.create(vec![spec("1", 2)]).unwrap();
    world.rank_ends("1", 1, RankEnd::Exited { code: 0 });
    let other = world.node_of("1", 1);
    world.cut(&other);
    world.pass(10 * MINUTE + 2_000);
    assert_eq!((world.life("1"), world.periods_charged("1")), ("running", 10));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn whatever_happens_the_charges_are_the_exact_time(fates in prop::collection::vec(fate(), 1..25), window in 1..6_u32) {
        let mut world = World::new(&[("a", 4)]);
        let mut job = spec("1", 2);
        job.price.window_periods = window;
        job.time_limit_ms = Some(10_000 * MINUTE);
        world.create(vec![job]).unwrap();
        let started_ms = world.now_ms;
        for fate in fates {
            match fate {
                Fate::Pass(ms) => world.pass(ms),
                Fate::Restart => world.restart(),
                Fate::Cut if world.workers["a"].connected => world.cut("a"),
                Fate::Connect if !world.workers["a"].connected => world.connect("a"),
                Fate::Extend => drop(world.extend("1", MINUTE)),
                Fate::CoreAway(true) => world.core_is_up = false,
                Fate::CoreAway(false) => core_returns(&mut world),
                Fate::Cut | Fate::Connect => {}
            }
            prop_assert!(u64::from(world.periods_charged("1")) * MINUTE <= world.now_ms - started_ms);
        }
        // A cut of more than half an hour is a lost node; then only what is proven is charged.
        let ran_ms = world.now_ms - started_ms;
        let lost = world.cause("1").is_some();
        if !world.workers["a"].connected {
            world.connect("a");
        }
        if !lost {
            world.rank_ends("1", 0, RankEnd::Exited { code: 0 });
        }
        core_returns(&mut world);
        world.pass(60_000);
        core_returns(&mut world);
        prop_assert!(world.released("1"));
        let charged = u64::from(world.periods_charged("1"));
        if lost {
            prop_assert!(charged <= ran_ms / MINUTE);
        } else {
            prop_assert_eq!(charged, ran_ms / MINUTE);
        }
        prop_assert_eq!(world.cluster.cluster_view(world.now()).owed_to_core, 0);
    }
}
