//! The worker's rules as timelines.

use super::*;
use crate::id::JobId;
use crate::resources::Resources;

fn key(attempt: u32) -> RankKey {
    RankKey { job: JobId::new("812").unwrap(), rank: 0, attempt }
}

fn assignment(attempt: u32) -> Assignment {
    Assignment {
        key: key(attempt),
        term: 1,
        container: Default::default(),
        resources: Resources::default(),
        replicas: 1,
        host: "j-812-rank-0".into(),
        traceparent: None,
    }
}

/// A worker under test: commands are numbered by themselves, time is what the test says.
struct Worker {
    agent: Agent,
    sequence: u64,
}

impl Worker {
    fn new() -> Self {
        let mut agent = Agent::new(AgentSettings { grace_ms: 10_000 }, 0);
        assert_eq!(agent.apply(Moment(0), AgentEvent::Connected { term: 1 }), vec![AgentEffect::SaveTerm(1)]);
        Self { agent, sequence: 0 }
    }

    fn told(&mut self, at: u64, term: Term, command: Command) -> Vec<AgentEffect> {
        self.sequence += 1;
        self.agent.apply(Moment(at), AgentEvent::Command { sequence: self.sequence, term, command })
    }

    fn saw(&mut self, at: u64, attempt: u32, observation: Observation) -> Vec<AgentEffect> {
        self.agent.apply(Moment(at), AgentEvent::Observed { key: key(attempt), observation })
    }

    fn tick(&mut self, at: u64) -> Vec<AgentEffect> {
        self.agent.apply(Moment(at), AgentEvent::Tick)
    }

    fn prepared(&mut self, attempt: u32) {
        self.told(1, 1, Command::Prepare(Box::new(assignment(attempt))));
        self.saw(2, attempt, Observation::Prepared { address: "127.64.0.2".into() });
    }

    fn running(limit: Option<u64>) -> Self {
        let mut worker = Self::new();
        worker.prepared(1);
        worker.told(3, 1, start(1, limit, 1_000));
        worker.saw(5, 1, Observation::Started { started_at: Moment(5) });
        worker
    }

    fn state(&self, at: u64) -> Option<RankState> {
        self.agent.reports(Moment(at)).into_iter().next().map(|report| report.state)
    }
}

fn start(attempt: u32, time_limit_ms: Option<u64>, not_after_ms: u64) -> Command {
    Command::Start { key: key(attempt), files: PeerFiles::default(), time_limit_ms, not_after_ms }
}

fn refused(effects: &[AgentEffect]) -> Option<&str> {
    effects.iter().find_map(|effect| match effect {
        AgentEffect::Refused { reason, .. } => Some(reason.as_str()),
        _ => None,
    })
}

#[test]
fn a_rank_is_prepared_started_ends_and_is_removed() {
    let mut worker = Worker::new();
    let effects = worker.told(1, 1, Command::Prepare(Box::new(assignment(1))));
    assert!(matches!(&effects[..], [AgentEffect::Prepare(_), AgentEffect::Report(_)]));
    worker.saw(2, 1, Observation::Prepared { address: "127.64.0.2".into() });
    assert_eq!(worker.state(2), Some(RankState::Prepared { address: "127.64.0.2".into() }));

    let effects = worker.told(3, 1, start(1, Some(60_000), 20_000));
    assert!(matches!(
        &effects[..],
        [AgentEffect::SaveTimeLimit { .. }, AgentEffect::Start { .. }, AgentEffect::Report(_)]
    ));
    worker.saw(5, 1, Observation::Started { started_at: Moment(4) });
    assert_eq!(worker.state(104), Some(RankState::Running { age_ms: 100 }));

    worker.saw(200, 1, Observation::Ended { end: RankEnd::Exited { code: 3 }, age_ms: 190 });
    assert_eq!(worker.state(999), Some(RankState::Ended { end: RankEnd::Exited { code: 3 }, age_ms: 190 }));
    assert_eq!(worker.told(201, 1, Command::Remove { key: key(1) }), vec![AgentEffect::Remove(key(1))]);
    assert!(matches!(worker.state(202), Some(RankState::Ended { .. })), "reported until it is gone");
    worker.saw(203, 1, Observation::Removed);
    assert_eq!(worker.state(204), None);
}

#[test]
fn commands_may_come_twice() {
    let mut worker = Worker::running(None);
    assert_eq!(worker.told(6, 1, Command::Prepare(Box::new(assignment(1)))), vec![]);
    assert_eq!(worker.told(6, 1, start(1, None, 1_000)), vec![]);
    assert_eq!(worker.told(7, 1, Command::Stop { key: key(1) }).len(), 2);
    assert_eq!(worker.told(8, 1, Command::Stop { key: key(1) }), vec![]);
}

#[test]
fn an_older_term_is_refused_also_after_a_restart() {
    let mut worker = Worker::running(None);
    assert_eq!(worker.agent.apply(Moment(6), AgentEvent::Connected { term: 4 }), vec![AgentEffect::SaveTerm(4)]);
    let effects = worker.told(7, 3, Command::Stop { key: key(1) });
    assert_eq!(refused(&effects), Some("the stop is of term 3, but term 4 is obeyed"));

    let mut restarted = Agent::new(AgentSettings { grace_ms: 1 }, 4);
    let stop = AgentEvent::Command { sequence: 1, term: 3, command: Command::Stop { key: key(1) } };
    assert!(refused(&restarted.apply(Moment(1), stop)).is_some());
}

#[test]
fn a_start_past_its_deadline_is_refused_and_may_come_again() {
    let mut worker = Worker::new();
    worker.prepared(1);
    let effects = worker.told(1_001, 1, start(1, None, 1_000));
    assert_eq!(refused(&effects), Some("the start came 1 ms after its deadline"));
    assert!(refused(&worker.told(1_002, 1, start(1, None, 2_000))).is_none());
}

#[test]
fn a_second_container_of_a_rank_is_never_started_beside_a_live_one() {
    let mut worker = Worker::running(None);
    worker.prepared(2);
    let effects = worker.told(10, 1, start(2, None, 1_000));
    assert_eq!(refused(&effects), Some("attempt 1 of this rank still lives here"));
    worker.saw(11, 1, Observation::Ended { end: RankEnd::Exited { code: 0 }, age_ms: 6 });
    assert!(refused(&worker.told(12, 1, start(2, None, 1_000))).is_none());
}

#[test]
fn an_older_attempt_is_not_prepared_beside_a_newer_one() {
    let mut worker = Worker::new();
    worker.prepared(2);
    let effects = worker.told(3, 1, Command::Prepare(Box::new(assignment(1))));
    assert_eq!(refused(&effects), Some("attempt 2 of this rank is here already"));
}

#[test]
fn the_agent_enforces_the_time_limit_itself_with_grace() {
    let mut worker = Worker::running(Some(60_000));
    assert_eq!(worker.agent.next_wakeup(), Some(Moment(60_005)));
    assert_eq!(worker.tick(60_004), vec![]);
    assert_eq!(worker.tick(60_005)[0], AgentEffect::Terminate(key(1)));
    assert_eq!(worker.agent.next_wakeup(), Some(Moment(70_005)));
    assert_eq!(worker.tick(70_005), vec![AgentEffect::Kill(key(1))]);
    assert_eq!(worker.tick(80_005), vec![AgentEffect::Kill(key(1))], "again, until it is gone");
    worker.saw(80_010, 1, Observation::Ended { end: RankEnd::Killed { signal: 9 }, age_ms: 80_005 });
    assert_eq!(worker.state(90_000), Some(RankState::Ended { end: RankEnd::TimeLimit, age_ms: 80_005 }));
}

#[test]
fn an_extension_moves_the_limit_and_is_kept() {
    let mut worker = Worker::running(Some(60_000));
    let effects = worker.told(10, 1, Command::SetTimeLimit { key: key(1), time_limit_ms: Some(90_000) });
    assert_eq!(effects[0], AgentEffect::SaveTimeLimit { key: key(1), time_limit_ms: Some(90_000) });
    assert_eq!(worker.agent.next_wakeup(), Some(Moment(90_005)));
    worker.told(11, 1, Command::SetTimeLimit { key: key(1), time_limit_ms: None });
    assert_eq!(worker.agent.next_wakeup(), None);
}

#[test]
fn a_stop_that_overtakes_the_engine_is_kept() {
    let mut worker = Worker::new();
    worker.told(1, 1, Command::Prepare(Box::new(assignment(1))));
    worker.told(2, 1, Command::Stop { key: key(1) });
    worker.saw(3, 1, Observation::Prepared { address: "x".into() });
    assert_eq!(worker.state(4), Some(RankState::Ended { end: RankEnd::Stopped, age_ms: 0 }));

    let mut worker = Worker::new();
    worker.prepared(1);
    worker.told(3, 1, start(1, None, 1_000));
    worker.told(4, 1, Command::Stop { key: key(1) });
    let effects = worker.saw(5, 1, Observation::Started { started_at: Moment(5) });
    assert_eq!(effects[0], AgentEffect::Terminate(key(1)));
}

#[test]
fn a_removal_during_preparation_undoes_what_the_engine_makes() {
    let mut worker = Worker::new();
    worker.told(1, 1, Command::Prepare(Box::new(assignment(1))));
    worker.told(2, 1, Command::Remove { key: key(1) });
    let effects = worker.saw(3, 1, Observation::Prepared { address: "x".into() });
    assert_eq!(effects[0], AgentEffect::Remove(key(1)));
    worker.saw(4, 1, Observation::Removed);
    assert_eq!(worker.state(5), None);
}

#[test]
fn what_runs_is_not_removed() {
    let mut worker = Worker::running(None);
    let effects = worker.told(9, 1, Command::Remove { key: key(1) });
    assert_eq!(refused(&effects), Some("it still runs; it must be stopped first"));
}

#[test]
fn a_failure_is_reported_until_it_is_removed() {
    let mut worker = Worker::new();
    worker.told(1, 1, Command::Prepare(Box::new(assignment(1))));
    worker.saw(2, 1, Observation::PrepareFailed { reason: "no such image".into(), retry: false });
    assert_eq!(worker.state(3), Some(RankState::Failed { reason: "no such image".into(), retry: false }));
    assert_eq!(worker.told(4, 1, Command::Remove { key: key(1) }), vec![AgentEffect::Remove(key(1))]);
}

#[test]
fn after_a_restart_what_runs_is_adopted_with_its_limit() {
    let mut agent = Agent::new(AgentSettings { grace_ms: 10 }, 1);
    let adopted = |observation, time_limit_ms| Adopted { key: key(1), term: 1, observation, time_limit_ms };
    let started = Observation::Started { started_at: Moment(100) };
    assert_eq!(agent.apply(Moment(150), AgentEvent::Adopt(vec![adopted(started.clone(), Some(1_000))])), vec![]);
    assert_eq!(agent.next_wakeup(), Some(Moment(1_100)));
    assert_eq!(agent.reports(Moment(200))[0].state, RankState::Running { age_ms: 100 });

    let mut late = Agent::new(AgentSettings { grace_ms: 10 }, 1);
    let effects = late.apply(Moment(5_000), AgentEvent::Adopt(vec![adopted(started, Some(1_000))]));
    assert_eq!(effects[0], AgentEffect::Terminate(key(1)), "its time ran out while nobody looked");

    let mut ended = Agent::new(AgentSettings { grace_ms: 10 }, 1);
    let end = Observation::Ended { end: RankEnd::Exited { code: 143 }, age_ms: 1_200 };
    ended.apply(Moment(5_000), AgentEvent::Adopt(vec![adopted(end, Some(1_000))]));
    assert_eq!(ended.reports(Moment(5_000))[0].state, RankState::Ended { end: RankEnd::TimeLimit, age_ms: 1_200 });
}

#[test]
fn an_end_that_nobody_saw_is_not_the_agents_own() {
    let vanished = Observation::Ended { end: RankEnd::Vanished, age_ms: 1_200 };
    let told = RankState::Ended { end: RankEnd::Vanished, age_ms: 1_200 };

    let mut stopping = Worker::running(None);
    stopping.told(9, 1, Command::Stop { key: key(1) });
    stopping.saw(1_205, 1, vanished.clone());
    assert_eq!(stopping.state(1_206), Some(told.clone()));

    let mut adopting = Agent::new(AgentSettings { grace_ms: 10 }, 1);
    let found = Adopted { key: key(1), term: 1, observation: vanished, time_limit_ms: Some(1_000) };
    adopting.apply(Moment(5_000), AgentEvent::Adopt(vec![found]));
    assert_eq!(adopting.reports(Moment(5_000))[0].state, told);
}

#[test]
fn command_numbers_are_counted_even_when_refused_and_begin_again_on_a_new_stream() {
    let mut worker = Worker::new();
    worker.told(1, 1, start(1, None, 10));
    assert_eq!(worker.agent.applied_sequence(), 1);
    worker.agent.apply(Moment(2), AgentEvent::Connected { term: 1 });
    assert_eq!(worker.agent.applied_sequence(), 0);
}
