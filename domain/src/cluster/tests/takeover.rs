//! A new leader meets what the old one left: adopted, unknown, obsolete and missing ranks, jobs in every phase, a Core
//! that asks (reliability B.2 to B.5); and a store that is nearly full.

use super::*;
use crate::rank::{RankReport, RankState};
use crate::schedule::Wait;

fn line(job: &str, rank: u32, attempt: u32, state: RankState) -> RankReport {
    RankReport { key: RankKey { job: id(job), rank, attempt }, state, time_limit_ms: None }
}

fn complete(applied_sequence: u64, ranks: Vec<RankReport>) -> Report {
    Report { complete: true, engine_ok: true, applied_sequence, ranks, sent_at_ms: 0 }
}

#[test]
fn what_runs_is_adopted_and_charged_without_a_gap() {
    let mut world = World::new(&[("a", 1), ("b", 1)]);
    world.create(vec![spec("1", 2)]).unwrap();
    for _ in 0..6 {
        world.pass(50_000);
        world.restart();
        assert_eq!(world.life("1"), "running");
    }
    // A new leader charges what runs once its workers, all of them, have shown for 10 s that their engines answer.
    world.pass(14_000);
    assert_eq!(world.periods_charged("1"), 5);
    let started = |world: &World, name: &str| {
        world.workers[name].commands.iter().filter(|command| matches!(command, Command::Start { .. })).count()
    };
    assert_eq!((started(&world, "a"), started(&world, "b")), (1, 1), "adopted, never started again");
    world.rank_ends("1", 0, RankEnd::Exited { code: 0 });
    assert_eq!((world.periods_charged("1"), world.released("1")), (5, true));
}

#[test]
fn what_no_job_accounts_for_is_left_alone_and_an_operator_is_told() {
    let mut world = World::new(&[("a", 1)]);
    world.restart();
    world.workers.get_mut("a").unwrap().connected = false;
    let session = world.workers["a"].session;
    for _ in 0..3_600 {
        world.now_ms += 2_000;
        let ranks = vec![line("9", 0, 1, RankState::Running { age_ms: 5 })];
        world.event(Event::WorkerReport { session, report: complete(0, ranks) });
    }
    assert_eq!(world.workers["a"].commands, vec![], "never killed");
    assert_eq!((world.view("a").unknown_ranks, world.alarms.len()), (vec!["9-0-1".to_owned()], 1));
    world.create(vec![spec("1", 1)]).unwrap();
    assert_eq!(world.node_of("1", 0), "a", "and it takes no room that is counted");
}

#[test]
fn what_an_older_attempt_left_goes_by_order_of_the_new_leader() {
    let mut world = World::new(&[("a", 1), ("b", 1), ("c", 1)]);
    world.workers.get_mut("b").unwrap().connected = false;
    world.create(vec![spec("1", 2)]).unwrap();
    world.cut("b");
    world.pass(35_000);
    assert_eq!((world.life("1"), world.store[&id("1")].attempt), ("running", 2));
    world.restart();
    world.connect("b");
    let session = world.workers["b"].session;
    let key = RankKey { job: id("1"), rank: 1, attempt: 1 };
    for (state, order) in [
        (RankState::Running { age_ms: 5 }, Command::Stop { key: key.clone() }),
        (RankState::Prepared { address: "10.0.0.9".into() }, Command::Remove { key: key.clone() }),
    ] {
        world.workers.get_mut("b").unwrap().commands.clear();
        world.event(Event::WorkerReport { session, report: complete(0, vec![line("1", 1, 1, state)]) });
        assert_eq!(world.workers["b"].commands, vec![order]);
        world.event(Event::WorkerReport { session, report: complete(0, vec![]) });
    }
    assert_eq!(world.life("1"), "running");
    // A newer attempt than the store knows is nobody's left-over: the store may be an old copy.
    world.workers.get_mut("b").unwrap().commands.clear();
    let ranks = vec![line("1", 1, 3, RankState::Running { age_ms: 5 })];
    world.event(Event::WorkerReport { session, report: complete(0, ranks) });
    assert_eq!((world.workers["b"].commands.len(), world.view("b").unknown_ranks.len()), (0, 1));
}

#[test]
fn a_job_of_which_a_newer_attempt_runs_than_an_old_copy_of_the_store_knows_is_not_placed_again() {
    let mut world = World::new(&[("a", 1), ("b", 1)]);
    world.cut("b");
    let ranks = vec![line("1", 0, 1, RankState::Running { age_ms: 5 })];
    world.workers.get_mut("a").unwrap().cores = 0;
    world.connect("a");
    world.create(vec![spec("1", 1)]).unwrap();
    let session = world.workers["a"].session;
    world.event(Event::WorkerReport { session, report: complete(0, ranks) });
    world.connect("b");
    assert_eq!(world.life("1"), "queued", "there is room on b, but it may be running on a");
    let node = NodeName::new("a").unwrap();
    assert_eq!(world.cluster.jobs[&id("1")].wait, Some(Wait::Unaccounted { node }));
    assert_eq!(world.workers["a"].commands, vec![], "I9: it is left alone");
    // An operator has looked, and removed it.
    world.event(Event::WorkerReport { session, report: complete(0, vec![]) });
    assert_eq!((world.life("1"), world.node_of("1", 0).as_str()), ("running", "b"));
    // The present attempt on another node than it was placed on is no left-over of ours.
    let ranks = vec![line("1", 0, 1, RankState::Running { age_ms: 5 })];
    world.event(Event::WorkerReport { session, report: complete(0, ranks) });
    assert_eq!((world.workers["a"].commands.len(), world.view("a").unknown_ranks.len()), (0, 1));
}

#[test]
fn what_is_missing_is_lost_only_when_its_node_has_said_all_and_heard_all() {
    let mut world = World::new(&[("a", 1)]);
    world.create(vec![spec("1", 1)]).unwrap();
    world.cut("a");
    world.restart();
    world.pass(20 * MINUTE);
    assert_eq!(world.life("1"), "running", "silence is not absence");
    world.connect("a");
    let session = world.workers["a"].session;
    world.event(Event::WorkerReport { session, report: Report { complete: false, ..complete(9, vec![]) } });
    assert_eq!(world.life("1"), "running", "news are not everything");
    // A command about it is under way: the report may be older than what the command does.
    world.workers.get_mut("a").unwrap().connected = false;
    world.extend("1", MINUTE).unwrap();
    world.event(Event::WorkerReport { session, report: complete(0, vec![]) });
    assert_eq!(world.life("1"), "running");
    world.event(Event::WorkerReport { session, report: complete(1, vec![]) });
    assert_eq!(world.cause("1"), Some(EndCause::NodeLost { node: "a".into(), rank: 0 }));
}

#[test]
fn a_node_that_was_rebooted_around_a_take_over_has_lost_what_ran_and_nothing_else() {
    for reboots_first in [true, false] {
        let mut world = World::new(&[("a", 1), ("b", 1)]);
        world.create(vec![spec("1", 2)]).unwrap();
        world.pass(150_000);
        world.cut("b");
        if reboots_first {
            world.workers.get_mut("b").unwrap().boot += 1;
            world.workers.get_mut("b").unwrap().agent = Agent::new(AgentSettings { grace_ms: 10_000 }, 1);
            world.restart();
            world.connect("b");
        } else {
            world.restart();
            world.reboot("b");
        }
        assert_eq!(world.cause("1"), Some(EndCause::NodeLost { node: "b".into(), rank: 1 }));
        assert_eq!((world.released("1"), world.periods_charged("1")), (true, 2));
        assert_eq!(world.nodes[&NodeName::new("b").unwrap()].boot_id, "boot-2");
        world.create(vec![spec("2", 2)]).unwrap();
        assert_eq!(world.life("2"), "running");
    }
}

#[test]
fn a_node_that_was_rebooted_before_the_start_costs_an_attempt_at_most() {
    let mut world = World::new(&[("a", 1)]);
    world.hold_start = Some("a".into());
    world.create(vec![spec("1", 1)]).unwrap();
    assert_eq!(world.life("1"), "starting");
    world.hold_start = None;
    world.cut("a");
    world.restart();
    world.reboot("a");
    world.pass(10_000);
    assert_eq!((world.life("1"), world.store[&id("1")].attempt), ("running", 2));
    assert_eq!(world.store[&id("1")].failed_attempts[0].reason, "rank 0 vanished from node a before it was started");
}

#[test]
fn a_verify_storm_right_after_a_take_over_fails_nobody() {
    let mut world = World::new(&[("a", 20)]);
    let known: Vec<JobId> = (1..=20).map(|number| id(&number.to_string())).collect();
    world.create(known.iter().map(|job| spec(job.as_str(), 1)).collect()).unwrap();
    world.pass(10 * MINUTE);
    world.restart();
    let asked =
        |more: &[&str]| Event::Verify { jobs: known.iter().cloned().chain(more.iter().map(|job| id(job))).collect() };
    for _ in 0..50 {
        world.event(asked(&["404", "405"]));
        world.now_ms += 1_000;
    }
    assert_eq!(world.disowned, vec![]);
    world.pass(20_000);
    world.event(asked(&["404"]));
    world.pass(10_000);
    assert_eq!(world.disowned, vec![id("404")], "asked again after a minute, it is unknown indeed");
    assert!(known.iter().all(|job| world.life(job.as_str()) == "running"));
}

/// Brings job 1 into a phase, and says what lets it go on.
type Phase = (&'static str, fn(&mut World), fn(&mut World));

#[test]
fn a_job_in_any_phase_goes_on_where_it_was() {
    let phases: [Phase; 7] = [
        (
            "queued",
            |world| {
                world.create(vec![spec("0", 2), spec("1", 2)]).unwrap();
            },
            |world| world.terminate("0"),
        ),
        (
            "preparing",
            |world| {
                world.workers.get_mut("b").unwrap().connected = false;
                world.create(vec![spec("1", 2)]).unwrap();
            },
            |world| world.connect("b"),
        ),
        (
            "starting",
            |world| {
                world.hold_start = Some("b".into());
                world.create(vec![spec("1", 2)]).unwrap();
            },
            |world| {
                let key = RankKey { job: id("1"), rank: u32::from(world.node_of("1", 0) != "b"), attempt: 1 };
                let observation = Observation::Started { started_at: Moment(world.now_ms) };
                world.agent("b", AgentEvent::Observed { key, observation });
            },
        ),
        (
            "running",
            |world| {
                world.create(vec![spec("1", 2)]).unwrap();
            },
            |_| {},
        ),
        (
            "undoing",
            |world| {
                world.hold_start = Some("b".into());
                world.create(vec![spec("1", 2)]).unwrap();
                world.cut("a");
                let key = RankKey { job: id("1"), rank: u32::from(world.node_of("1", 0) != "b"), attempt: 1 };
                let observation = Observation::StartFailed { reason: "disk full".into(), retry: true };
                world.agent("b", AgentEvent::Observed { key, observation });
                world.hold_start = None;
            },
            |world| world.connect("a"),
        ),
        (
            "stopping",
            |world| {
                world.create(vec![spec("1", 2)]).unwrap();
                world.cut("a");
                world.terminate("1");
            },
            |world| world.connect("a"),
        ),
        (
            "ended",
            |world| {
                world.workers.get_mut("a").unwrap().keeps_everything = true;
                world.create(vec![spec("1", 2)]).unwrap();
                world.terminate("1");
                world.cut("a");
                let worker = world.workers.get_mut("a").unwrap();
                worker.keeps_everything = false;
                worker.agent = Agent::new(AgentSettings { grace_ms: 10_000 }, 1);
            },
            |world| world.connect("a"),
        ),
    ];
    for (phase, bring, let_go) in phases {
        let mut world = World::new(&[("a", 1), ("b", 1)]);
        bring(&mut world);
        assert_eq!(world.life("1"), phase);
        let room = world.cluster.node_views(world.now());
        world.restart();
        assert_eq!(world.life("1"), phase, "nothing is decided before anybody was heard");
        let restored = world.cluster.node_views(world.now());
        let used = |views: &[NodeView]| views.iter().map(|view| view.ranks.clone()).collect::<Vec<_>>();
        if phase != "ended" {
            assert_eq!(used(&restored), used(&room), "{phase}: the same room is taken");
        }
        let_go(&mut world);
        world.pass(20_000);
        match phase {
            "stopping" | "ended" => assert_eq!(world.cause("1"), Some(EndCause::Terminated), "{phase}"),
            _ => {
                assert_eq!(world.life("1"), "running", "{phase}");
                world.rank_ends("1", 0, RankEnd::Exited { code: 0 });
                world.pass(2_000);
            }
        }
        assert!(world.released("1"), "{phase}");
        let views = world.cluster.node_views(world.now());
        assert!(views.iter().all(|view| view.cores_used == 0), "{phase}");
        let ends = world.told("1").iter().filter(|notice| matches!(notice, Notice::Ended { .. })).count();
        assert_eq!(ends, 1, "{phase}");
    }
}

#[test]
fn a_store_that_is_nearly_full_is_relieved_by_decisions_that_only_remove() {
    let mut world = World::new(&[("a", 200)]);
    let names: Vec<String> = (1..=150).map(|number| number.to_string()).collect();
    world.create(names.iter().map(|job| spec(job, 1)).collect()).unwrap();
    for job in &names {
        world.rank_ends(job, 0, RankEnd::Exited { code: 0 });
        world.now_ms += 10;
    }
    world.create(vec![spec("late", 1), spec("runs", 1)]).unwrap();
    world.now_ms += 20 * 60 * MINUTE;
    world.workers.get_mut("a").unwrap().agent = Agent::new(AgentSettings { grace_ms: 10_000 }, 1);
    world.restart();
    let documents =
        Documents { jobs: world.store.values().cloned().collect(), nodes: world.nodes.values().cloned().collect() };
    let keeps_long = Settings { retention_ms: 30 * 24 * 60 * MINUTE, ..settings() };
    let at = |hours: u64, ms: u64| Now {
        moment: Moment(world.now_ms + ms),
        wall_ms: world.now().wall_ms + hours * 60 * MINUTE + ms,
    };
    let (mut cluster, _) = Cluster::restore(keeps_long, 9, at(0, 0), documents);
    let forgotten = |effects: &[Effect]| {
        let writes = effects.iter().filter_map(|effect| match effect {
            Effect::Write { write, .. } => Some(write),
            _ => None,
        });
        let mut jobs = Vec::new();
        for write in writes {
            match write {
                Write::ForgetJob(job) => jobs.push(job.clone()),
                other => panic!("{other:?}"),
            }
        }
        jobs
    };
    let full = || Event::StoreSpace { used_bytes: 81 << 20, budget_bytes: 100 << 20 };
    assert_eq!(forgotten(&cluster.apply(at(0, 0), full())), vec![], "nothing is a day old");
    let first = forgotten(&cluster.apply(at(4, 0), full()));
    assert_eq!(first.len(), 100);
    assert!(names[..100].iter().all(|job| first.contains(&id(job))), "the oldest first");
    assert_eq!(cluster.next_wakeup(), Some(at(4, 0).moment), "what else is due follows at once");
    assert_eq!(forgotten(&cluster.apply(at(4, 1), Event::Tick)), vec![]);
    assert_eq!(forgotten(&cluster.apply(at(4, 1_001), Event::Tick)).len(), 50);
    assert_eq!(forgotten(&cluster.apply(at(4, 2_002), full())), vec![]);
    assert_eq!(cluster.cluster_view(at(4, 0)).jobs_ended, 2, "what ended a moment ago stays");
}
