//! Workers that break, coordinators that restart.

use super::*;

#[test]
fn a_restart_of_the_coordinator_changes_nothing_for_what_runs() {
    let mut world = World::new(&[("a", 4)]);
    world.create(vec![spec("1", 2)]).unwrap();
    world.pass(90_000);
    let commands = world.workers["a"].commands.len();
    world.restart();
    world.pass(90_000);
    assert_eq!(world.life("1"), "running");
    assert_eq!(world.workers["a"].commands.len(), commands, "nothing is started or stopped");
    world.rank_ends("1", 0, RankEnd::Exited { code: 0 });
    assert_eq!(world.periods_charged("1"), 3);
    assert_eq!(world.told("1").iter().filter(|notice| matches!(notice, Notice::Running { .. })).count(), 1);
}

#[test]
fn a_restart_at_any_write_loses_and_doubles_nothing() {
    // The coordinator dies after each write of the road, before anything that follows the write goes out.
    for crash_at in 1..12 {
        let mut world = World::new(&[("a", 2), ("b", 2)]);
        world.writes_until_crash = Some(crash_at);
        let request = world.request();
        world.event(Event::Create { request, jobs: vec![spec("1", 3)] });
        world.pass(20_000);
        assert_eq!(world.life("1"), "running", "crash at write {crash_at}");
        assert_eq!(world.store[&id("1")].attempt, 1, "crash at write {crash_at}");
        world.pass(2 * MINUTE);
        world.writes_until_crash = None;
        world.restart();
        world.rank_ends("1", 0, RankEnd::Exited { code: 0 });
        world.pass(2_000);
        assert!(world.released("1"));
        assert_eq!(world.periods_charged("1"), 2, "crash at write {crash_at}");
    }
}

#[test]
fn a_silent_node_is_waited_for_and_then_lost() {
    let mut world = World::new(&[("a", 1), ("b", 1)]);
    world.create(vec![spec("1", 2)]).unwrap();
    world.pass(MINUTE);
    world.cut("b");
    world.pass(29 * MINUTE);
    assert_eq!(world.life("1"), "running", "a job survives an outage of its node's network");
    world.pass(2 * MINUTE);
    assert_eq!(world.cause("1"), Some(EndCause::NodeLost { node: "b".into(), rank: 1 }));
    assert_eq!(world.life("1"), "ended");
    assert!(!world.released("1"), "room is freed only when removal is confirmed");
    world.connect("b");
    world.pass(20_000);
    assert!(world.released("1"), "the node came back and was told to stop and remove");
}

#[test]
fn a_node_that_comes_back_in_time_goes_on() {
    let mut world = World::new(&[("a", 1)]);
    world.create(vec![spec("1", 1)]).unwrap();
    world.cut("a");
    world.pass(20 * MINUTE);
    world.connect("a");
    world.pass(20 * MINUTE + 2_000);
    assert_eq!(world.life("1"), "running");
    assert_eq!(world.periods_charged("1"), 40);
}

#[test]
fn a_rebooted_node_says_that_its_ranks_are_gone() {
    let mut world = World::new(&[("a", 2)]);
    world.create(vec![spec("1", 1)]).unwrap();
    world.cut("a");
    let fresh = Agent::new(AgentSettings { grace_ms: 10_000 }, 1);
    world.workers.get_mut("a").unwrap().agent = fresh;
    world.connect("a");
    assert_eq!(world.cause("1"), Some(EndCause::NodeLost { node: "a".into(), rank: 0 }));
    assert!(world.released("1"));
}

#[test]
fn a_node_that_dies_before_the_start_costs_an_attempt_and_not_the_job() {
    let mut world = World::new(&[("a", 1), ("b", 1), ("c", 1)]);
    world.workers.get_mut("b").unwrap().connected = false;
    world.create(vec![spec("1", 2)]).unwrap();
    assert_eq!(world.life("1"), "preparing");
    world.cut("b");
    world.pass(35_000);
    assert_eq!(world.life("1"), "running");
    assert_eq!(world.store[&id("1")].failed_attempts[0].node.as_str(), "b");
}

#[test]
fn a_rank_that_may_be_running_is_never_placed_again() {
    let mut world = World::new(&[("a", 1), ("b", 1)]);
    world.hold_start = Some("b".into());
    world.create(vec![spec("1", 2)]).unwrap();
    assert_eq!(world.life("1"), "starting", "rank 0 runs on a, rank 1 was not started yet");
    world.cut("a");
    let key = RankKey { job: id("1"), rank: 1, attempt: 1 };
    let observation = Observation::StartFailed { reason: "disk full".into(), retry: true };
    world.agent("b", AgentEvent::Observed { key, observation });
    assert_eq!(world.life("1"), "undoing");
    world.pass(31 * MINUTE);
    assert_eq!(world.cause("1"), Some(EndCause::NodeLost { node: "a".into(), rank: 0 }));
    assert_eq!(world.store[&id("1")].attempt, 1);
}

#[test]
fn a_left_over_of_an_old_attempt_is_removed_and_an_unknown_container_is_left_alone() {
    let mut world = World::new(&[("a", 1), ("b", 1), ("c", 1)]);
    world.workers.get_mut("b").unwrap().connected = false;
    world.create(vec![spec("1", 2)]).unwrap();
    world.cut("b");
    world.pass(35_000);
    // The prepare of attempt 1 reached `b` after all; something of another store runs there, too.
    let report = |job: &str, attempt| crate::rank::RankReport {
        key: RankKey { job: id(job), rank: 1, attempt },
        state: crate::rank::RankState::Running { age_ms: 5 },
        time_limit_ms: None,
    };
    world.connect("b");
    world.workers.get_mut("b").unwrap().commands.clear();
    let session = world.workers["b"].session;
    let ranks = vec![report("1", 1), report("9", 1)];
    let report = Report { complete: true, ranks, engine_ok: true, ..Report::default() };
    world.event(Event::WorkerReport { session, report });
    let stop = Command::Stop { key: RankKey { job: id("1"), rank: 1, attempt: 1 } };
    assert_eq!(world.workers["b"].commands, vec![stop]);
    let views = world.cluster.node_views(world.now());
    assert_eq!(views[1].unknown_ranks, ["9-1-1"]);
    assert_eq!(world.alarms.len(), 1);
}

#[test]
fn a_worker_cannot_speak_for_ranks_of_another() {
    let mut world = World::new(&[("a", 1), ("b", 1)]);
    world.create(vec![spec("1", 1)]).unwrap();
    let other = if world.node_of("1", 0) == "a" { "b" } else { "a" };
    let session = world.workers[other].session;
    let ranks = vec![crate::rank::RankReport {
        key: RankKey { job: id("1"), rank: 0, attempt: 1 },
        state: crate::rank::RankState::Ended { end: RankEnd::Exited { code: 0 }, age_ms: 5 },
        time_limit_ms: None,
    }];
    world.event(Event::WorkerReport { session, report: Report { ranks, ..Report::default() } });
    assert_eq!(world.life("1"), "running");
}

#[test]
fn a_worker_that_obeyed_a_newer_term_is_turned_away() {
    let mut world = World::new(&[("a", 1)]);
    world.workers.get_mut("a").unwrap().agent = Agent::new(AgentSettings { grace_ms: 1 }, 7);
    let hello = Hello { last_term: 7, ..hello("a") };
    let effects = world.cluster.apply(world.now(), Event::WorkerHello { session: 99, hello: Box::new(hello) });
    assert!(matches!(&effects[..], [Effect::Close { session: 99, .. }]));
}

#[test]
fn a_lost_command_is_sent_again() {
    let mut world = World::new(&[("a", 1)]);
    world.workers.get_mut("a").unwrap().connected = false;
    world.create(vec![spec("1", 1)]).unwrap();
    world.workers.get_mut("a").unwrap().connected = true;
    assert_eq!(world.life("1"), "preparing");
    world.pass(6_000);
    assert_eq!(world.life("1"), "running");
}

#[test]
fn too_many_lost_jobs_at_once_are_held_back() {
    let mut world = World::new(&[("a", 10)]);
    let jobs: Vec<String> = (1..=10).map(|number| number.to_string()).collect();
    world.create(jobs.iter().map(|job| spec(job, 1)).collect()).unwrap();
    world.cut("a");
    world.pass(31 * MINUTE);
    let lost = jobs.iter().filter(|job| world.cause(job).is_some()).count();
    assert_eq!(lost, 3, "I11");
    assert!(world.alarms.iter().any(|alarm| alarm.contains("held back")));
    world.connect("a");
    world.pass(10 * MINUTE);
    let running = jobs.iter().filter(|job| world.life(job) == "running").count();
    assert_eq!(running, 7, "the others were never touched");
}

#[test]
fn a_start_that_may_have_been_taken_in_is_not_forgotten_by_what_was_sent_after_it() {
    let mut world = World::new(&[("a", 1), ("b", 1), ("c", 2)]);
    // `a` hears its start and is never heard again; its stream looks open. `b` cannot start.
    world.deaf_to.insert("a".into());
    world.hold_start = Some("b".into());
    let mut job = spec("1", 2);
    job.per_rank.cores = 1;
    world.cut("c");
    world.create(vec![job]).unwrap();
    assert_eq!(world.life("1"), "preparing", "nobody hears that a is prepared");
    world.deaf_to.clear();
    world.heartbeat("a");
    world.deaf_to.insert("a".into());
    world.heartbeat("b");
    assert_eq!(world.life("1"), "starting");
    let key = RankKey { job: id("1"), rank: 1, attempt: 1 };
    let observation = Observation::StartFailed { reason: "disk full".into(), retry: true };
    world.agent("b", AgentEvent::Observed { key, observation });
    world.connect("c");
    world.pass(5 * MINUTE);
    assert_eq!((world.life("1"), world.store[&id("1")].attempt), ("undoing", 1), "rank 0 may be running on a");
    world.deaf_to.clear();
    world.pass(20_000);
    assert_eq!((world.life("1"), world.store[&id("1")].attempt), ("running", 2), "a was heard and cleaned up");
}

#[test]
fn another_machine_under_the_same_name_is_turned_away() {
    let mut world = World::new(&[("a", 1)]);
    world.create(vec![spec("1", 1)]).unwrap();
    let clone = Hello { boot_id: "other".into(), sent_at_ms: u64::MAX, ..hello("a") };
    let effects = world.cluster.apply(world.now(), Event::WorkerHello { session: 99, hello: Box::new(clone.clone()) });
    assert!(matches!(&effects[0], Effect::Close { session: 99, reason } if reason.contains("node.name")));
    assert_eq!(world.life("1"), "running");
    // Once the first is gone, it may be the same node after a new boot.
    world.cut("a");
    let effects = world.cluster.apply(world.now(), Event::WorkerHello { session: 100, hello: Box::new(clone) });
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Send { session: 100, .. })));
}

#[test]
fn a_hello_that_comes_after_those_of_its_successor_is_turned_away() {
    let mut world = World::new(&[("a", 1)]);
    world.create(vec![spec("1", 1)]).unwrap();
    world.pass(10_000);
    let late = Event::WorkerHello { session: 99, hello: Box::new(hello("a")) };
    let effects = world.cluster.apply(world.now(), late);
    assert!(matches!(&effects[0], Effect::Close { session: 99, .. }));
    assert_eq!(world.life("1"), "running");
}

#[test]
fn a_node_that_never_returns_keeps_only_its_own_room() {
    let mut world = World::new(&[("a", 1), ("b", 1)]);
    world.create(vec![spec("1", 2)]).unwrap();
    world.cut("b");
    world.pass(31 * MINUTE);
    assert_eq!(world.cause("1"), Some(EndCause::NodeLost { node: "b".into(), rank: 1 }));
    let views = world.cluster.node_views(world.now());
    assert_eq!((views[0].cores_used, views[1].cores_used), (0, 1));
    world.create(vec![spec("2", 1)]).unwrap();
    assert_eq!(world.life("2"), "running");
    world.restart();
    assert_eq!(world.life("2"), "running");
}

#[test]
fn a_pause_of_the_leader_itself_is_nobodys_silence() {
    let mut world = World::new(&[("a", 1)]);
    world.create(vec![spec("1", 1)]).unwrap();
    world.pass(MINUTE);
    // The coordinator's machine is suspended for 40 minutes; the first thing that happens afterwards is a timer.
    world.now_ms += 40 * MINUTE;
    world.event(Event::Tick);
    assert_eq!(world.life("1"), "running");
    world.heartbeat("a");
    world.pass(MINUTE);
    assert_eq!(world.life("1"), "running");
}

#[test]
fn a_hello_from_before_the_take_over_ends_nothing() {
    // A worker gave up a stream before it got the job; its hello arrives after a change of leader, ahead of the real one.
    let mut world = World::new(&[("a", 1)]);
    let old = world.hello("a");
    world.pass(20_000);
    world.create(vec![spec("1", 1)]).unwrap();
    world.cut("a");
    world.restart();
    world.event(Event::WorkerHello { session: 900, hello: Box::new(old) });
    world.pass(5_000);
    assert_eq!(world.life("1"), "running", "an old hello says nothing about what came after it");
    world.connect("a");
    world.pass(MINUTE);
    assert_eq!((world.life("1"), world.cause("1")), ("running", None));
}

#[test]
fn a_hello_that_lists_a_rank_as_prepared_does_not_prove_that_it_does_not_run() {
    let mut world = World::new(&[("a", 1), ("b", 1), ("c", 1)]);
    world.hold_start = Some("b".into());
    world.create(vec![spec("1", 2)]).unwrap();
    let mut old = world.hello("a");
    assert!(matches!(old.ranks[0].state, crate::rank::RankState::Running { .. }));
    old.ranks[0].state = crate::rank::RankState::Prepared { address: "10.0.0.2".into() };
    let key = RankKey { job: id("1"), rank: 1, attempt: 1 };
    world.cut("a");
    let observation = Observation::StartFailed { reason: "disk full".into(), retry: true };
    world.agent("b", AgentEvent::Observed { key, observation });
    assert_eq!(world.life("1"), "undoing");
    world.restart();
    world.event(Event::WorkerHello { session: 900, hello: Box::new(old) });
    world.pass(5_000);
    assert_eq!((world.life("1"), world.store[&id("1")].attempt), ("undoing", 1), "rank 0 runs on a, for all we know");
}

#[test]
fn time_that_only_an_agent_without_its_engine_claims_is_not_charged() {
    let mut world = World::new(&[("a", 1)]);
    world.create(vec![spec("1", 1)]).unwrap();
    world.pass(30_000);
    world.engine_ok = false;
    world.pass(2 * MINUTE);
    assert_eq!(world.periods_charged("1"), 0, "it may have ended, unseen");
    let key = RankKey { job: id("1"), rank: 0, attempt: 1 };
    let ended = Observation::Ended { end: RankEnd::Exited { code: 0 }, age_ms: 45_000 };
    world.engine_ok = true;
    world.agent("a", AgentEvent::Observed { key, observation: ended });
    world.pass(MINUTE);
    assert_eq!((world.life("1"), world.periods_charged("1")), ("ended", 0));
}

#[test]
fn a_late_word_of_rank_0_does_not_make_the_gang_older() {
    // Rank 0 starts at once and is heard late; rank 1 starts 20 s after it. The gang runs from then on.
    let mut world = World::new(&[("a", 1), ("b", 1)]);
    world.hold_start = Some("b".into());
    world.create(vec![spec("1", 2)]).unwrap();
    world.cut("a");
    world.pass(18_000);
    let key = RankKey { job: id("1"), rank: 1, attempt: 1 };
    let started_at = Moment(world.now_ms);
    world.agent("b", AgentEvent::Observed { key, observation: Observation::Started { started_at } });
    world.connect("a");
    assert_eq!(world.life("1"), "running");
    let Life::Running { offset_ms, .. } = world.store[&id("1")].life else { panic!() };
    assert!((18_000..=21_000).contains(&offset_ms), "{offset_ms}");
    world.pass(61_000);
    world.rank_ends("1", 0, RankEnd::Exited { code: 0 });
    assert_eq!(world.periods_charged("1"), 1);
}

#[test]
fn a_worker_cannot_claim_more_time_than_has_passed() {
    let mut world = World::new(&[("a", 1)]);
    world.create(vec![spec("1", 1)]).unwrap();
    world.pass(10_000);
    let session = world.workers["a"].session;
    let ranks = vec![crate::rank::RankReport {
        key: RankKey { job: id("1"), rank: 0, attempt: 1 },
        state: crate::rank::RankState::Running { age_ms: 1_000_000_000 },
        time_limit_ms: Some(60 * MINUTE),
    }];
    world.event(Event::WorkerReport { session, report: Report { ranks, ..Report::default() } });
    assert_eq!(world.charges, vec![]);
    assert!(world.cluster.job_views(world.now(), &Words)[0].ran_ms <= 12_000);
}

/// Words do not matter here.
struct Words;

impl Wording for Words {
    fn outcome(&self, _: &EndCause) -> &'static str {
        ""
    }
    fn reason(&self, _: &EndCause) -> String {
        String::new()
    }
    fn update(&self, _: &Notice) -> (Option<String>, String) {
        (None, String::new())
    }
    fn charge_id(&self, _: &Charge) -> String {
        String::new()
    }
}

fn hello(name: &str) -> Hello {
    Hello {
        node: NodeName::new(name).unwrap(),
        boot_id: "boot-1".into(),
        capacity: Resources { cores: 1, memory_bytes: 1 << 40, gpus: 0 },
        categories: vec![],
        labels: BTreeMap::new(),
        network_zone: "z".into(),
        engine: "fake".into(),
        engine_version: "1".into(),
        version: "0".into(),
        last_term: 0,
        sent_at_ms: 0,
        ranks: vec![],
    }
}
