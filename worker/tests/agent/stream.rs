//! What passes over the stream, and what happens when it breaks.

use crate::coordinator::{Coordinator, key, prepare, soon, start, state};
use crate::flaky::Flaky;
use crate::{Captured, Running, secret, settings};
use muster_domain::effect::ToWorker;
use muster_domain::rank::{Command, RankEnd, RankState};
use muster_proto::{Downlink, v1};
use std::time::Duration;

#[tokio::test]
async fn a_rank_lives_and_every_step_is_reported_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;
    let worker = Running::start(settings(directory.path(), vec![coordinator.url()]), &Flaky::default());
    let mut session = coordinator.welcome(5).await;
    let hello = session.hello.clone();
    assert_eq!((hello.node.as_str(), hello.engine.as_str(), hello.last_term), ("n1", "fake", 0));
    assert_eq!((hello.labels["rack"].as_str(), hello.capacity.cores), ("3", 4));
    assert!(hello.ranks.is_empty() && !hello.boot_id.is_empty() && hello.sent_at_ms > 0);

    let key = key("7");
    session.command(5, prepare(&key, 5, &["run-ms", "50", "exit", "3"])).await;
    let (report, state) = session.news(&key).await;
    assert_eq!((report.applied_sequence, state), (1, RankState::Preparing));
    assert!(report.engine_ok);
    let (report, state) = session.news(&key).await;
    assert!(matches!(state, RankState::Prepared { .. }), "{state:?}");
    assert_eq!(report.applied_sequence, 1);
    session.command(5, start(&key, Some(60_000))).await;
    let (report, state) = session.news(&key).await;
    assert_eq!((report.applied_sequence, state), (2, RankState::Starting));
    assert_eq!(report.ranks[0].time_limit_ms, Some(60_000));
    assert!(matches!(session.news(&key).await.1, RankState::Running { .. }));
    let (_, state) = session.news(&key).await;
    assert_eq!(state, RankState::Ended { end: RankEnd::Exited { code: 3 }, age_ms: 50 });
    session.command(5, Command::Remove { key: key.clone() }).await;
    let (report, state) = session.news(&key).await;
    assert_eq!((report.applied_sequence, state), (3, RankState::Removed));
    let heartbeat = session.heartbeat().await;
    assert!(heartbeat.ranks.is_empty() && heartbeat.applied_sequence == 3);
    worker.stop().await;
    session.gone().await;
}

#[tokio::test]
async fn the_death_of_a_coordinator_leaves_ranks_alone_and_all_is_reported_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;
    let worker = Running::start(settings(directory.path(), vec![coordinator.url()]), &Flaky::default());
    let (hangs, ends) = (key("1"), key("2"));
    let mut session = coordinator.welcome(5).await;
    session.run(5, &hangs, &["hang"], None).await;
    session.run(5, &ends, &["run-ms", "300"], None).await;
    drop(session);
    let address = coordinator.die().await;
    // Long enough for the second rank to end while nobody listens.
    tokio::time::sleep(Duration::from_millis(600)).await;

    let mut coordinator = Coordinator::at(address, None).await;
    let session = coordinator.session().await;
    assert_eq!(session.hello.last_term, 5);
    assert!(matches!(state(&session.hello.ranks, &hangs), Some(RankState::Running { age_ms: 500.. })));
    let ended = RankState::Ended { end: RankEnd::Exited { code: 0 }, age_ms: 300 };
    assert_eq!(state(&session.hello.ranks, &ends), Some(ended));
    worker.stop().await;
}

/// A number of an older stream would make the leader believe that commands of this one were taken in.
#[tokio::test]
async fn numbers_of_an_older_stream_are_never_said_on_a_newer_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;
    let worker = Running::start(settings(directory.path(), vec![coordinator.url()]), &Flaky::default());
    let key = key("1");
    let mut session = coordinator.welcome(5).await;
    session.run(5, &key, &["run-ms", "1500"], None).await;
    drop(session);
    let address = coordinator.die().await;
    let mut coordinator = Coordinator::at(address, None).await;
    let mut session = coordinator.session().await;
    assert!(matches!(state(&session.hello.ranks, &key), Some(RankState::Running { .. })));
    // Long enough for the rank to end before the welcome; of that nothing is said yet.
    tokio::time::sleep(Duration::from_millis(2_000)).await;
    session.say(ToWorker::Welcome { term: 6 }).await;
    let first = session.report().await;
    assert!(first.complete && first.applied_sequence == 0, "{first:?}");
    assert!(matches!(first.ranks[0].state, RankState::Ended { .. }));
    session.command(6, Command::Stop { key: key.clone() }).await;
    assert_eq!(session.heartbeat_after(1).await.applied_sequence, 1);
    worker.stop().await;
}

#[tokio::test]
async fn commands_of_an_older_term_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;
    let engine = Flaky::default();
    let worker = Running::start(settings(directory.path(), vec![coordinator.url()]), &engine);
    let (old, new) = (key("1"), key("2"));
    let mut session = coordinator.welcome(5).await;
    session.command(4, prepare(&old, 4, &[])).await;
    session.command(5, prepare(&new, 5, &[])).await;
    let heartbeat = session.heartbeat_after(2).await;
    assert_eq!(heartbeat.ranks.iter().map(|rank| &rank.key).collect::<Vec<_>>(), [&new]);
    worker.stop().await;

    // The term outlives the agent.
    let worker = Running::start(settings(directory.path(), vec![coordinator.url()]), &engine);
    let mut session = coordinator.welcome(4).await;
    assert_eq!(session.hello.last_term, 5);
    session.command(4, prepare(&old, 4, &[])).await;
    let heartbeat = session.heartbeat_after(1).await;
    assert_eq!(state(&heartbeat.ranks, &old), None);
    worker.stop().await;
}

#[tokio::test]
async fn a_wrong_join_secret_is_refused_and_the_right_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::at("127.0.0.1:0".parse().unwrap(), Some("right")).await;
    let mut wrong = settings(directory.path(), vec![coordinator.url()]);
    wrong.join_secret = secret("w-r-o-n-g");
    let log = Captured::default();
    let guard = log.listen();
    let worker = Running::start(wrong.clone(), &Flaky::default());
    coordinator.refusal().await;
    soon("a line in the log", async {
        while !log.text().contains("compare fleet.token_file with the coordinator's") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(!coordinator.has_session());
    assert!(!log.text().contains("Bearer") && !log.text().contains("w-r-o-n-g"), "the secret itself is never logged");
    worker.stop().await;
    drop(guard);
    let right = muster_worker::Settings { join_secret: secret("right"), ..wrong };
    let worker = Running::start(right, &Flaky::default());
    coordinator.welcome(1).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_restarted_agent_adopts_what_runs() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;
    let engine = Flaky::default();
    let worker = Running::start(settings(directory.path(), vec![coordinator.url()]), &engine);
    let (limited, ended) = (key("1"), key("2"));
    let mut session = coordinator.welcome(5).await;
    session.run(5, &limited, &["hang"], Some(2_500)).await;
    session.run(5, &ended, &["run-ms", "200"], None).await;
    worker.kill().await;
    session.gone().await;
    tokio::time::sleep(Duration::from_millis(300)).await;

    let worker = Running::start(settings(directory.path(), vec![coordinator.url()]), &engine);
    let mut session = coordinator.welcome(5).await;
    let found = session.hello.ranks.iter().find(|rank| rank.key == limited).unwrap();
    assert_eq!(found.time_limit_ms, Some(2_500), "the journal kept it");
    assert!(matches!(found.state, RankState::Running { .. }));
    assert!(matches!(state(&session.hello.ranks, &ended), Some(RankState::Ended { .. })));
    // The limit is enforced although the leader says nothing.
    loop {
        if let RankState::Ended { end, .. } = session.news(&limited).await.1 {
            assert_eq!(end, RankEnd::TimeLimit);
            break;
        }
    }
    worker.stop().await;
}

#[tokio::test]
async fn another_coordinator_is_tried_and_a_refusal_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let mut follower = Coordinator::start().await;
    let mut leader = Coordinator::start().await;
    // Nobody listens on port 1.
    let list = vec!["http://127.0.0.1:1".to_owned(), follower.url(), leader.url()];
    let worker = Running::start(settings(directory.path(), list), &Flaky::default());
    let session = follower.session().await;
    session.send(Downlink::Refused { reason: "not the leader".to_owned() }.into()).await;
    let mut accepted = leader.welcome(3).await;
    session.gone().await;
    accepted.heartbeat().await;
    worker.stop().await;
}

#[tokio::test]
async fn a_redirect_is_followed_and_logs_go_where_the_stream_goes() {
    let directory = tempfile::tempdir().unwrap();
    let mut follower = Coordinator::start().await;
    let mut leader = Coordinator::start().await;
    let worker = Running::start(settings(directory.path(), vec![follower.url()]), &Flaky::default());
    let session = follower.session().await;
    session.send(Downlink::Redirect { address: leader.url(), term: 5 }.into()).await;
    let mut accepted = leader.welcome(5).await;
    session.gone().await;
    let key = key("1");
    accepted.run(5, &key, &["run-ms", "10"], None).await;
    accepted.send(Downlink::OpenLog { log_id: 77, key }.into()).await;
    assert_eq!(leader.log().await.log_id, 77);
    worker.stop().await;
}

#[tokio::test]
async fn a_leader_that_steps_down_or_dies_is_replaced_in_less_than_a_second() {
    let directory = tempfile::tempdir().unwrap();
    let (mut first, mut second) = (Coordinator::start().await, Coordinator::start().await);
    let list = vec![first.url(), second.url()];
    let worker = Running::start(settings(directory.path(), list), &Flaky::default());
    let key = key("1");
    let mut session = first.welcome(5).await;
    session.run(5, &key, &["hang"], None).await;
    let begun = std::time::Instant::now();
    session.send(Downlink::Redirect { address: String::new(), term: 5 }.into()).await;
    let session = second.welcome(6).await;
    assert!(matches!(state(&session.hello.ranks, &key), Some(RankState::Running { .. })));
    drop(session);
    second.die().await;
    let session = first.welcome(7).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(matches!(state(&session.hello.ranks, &key), Some(RankState::Running { .. })));
    worker.stop().await;
}

#[tokio::test]
async fn nonsense_and_silence_end_a_stream_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;
    let mut impatient = settings(directory.path(), vec![coordinator.url()]);
    impatient.silence = Duration::from_millis(700);
    let worker = Running::start(impatient, &Flaky::default());
    let key = key("1");
    let mut session = coordinator.welcome(5).await;
    session.run(5, &key, &["hang"], None).await;
    session.send(v1::SessionResponse { message: None }).await;
    session.gone().await;

    let session = coordinator.session().await;
    session.command_before_welcome(&key).await;
    session.gone().await;

    let mut session = coordinator.welcome(5).await;
    for _ in 0..8 {
        let sent_at_ms = session.heartbeat().await.sent_at_ms;
        session.say(ToWorker::Heard { sent_at_ms, term: 5 }).await;
    }
    // Heartbeats that are answered kept it open past the limit; now nothing is said.
    session.gone().await;
    let session = coordinator.session().await;
    assert!(matches!(state(&session.hello.ranks, &key), Some(RankState::Running { .. })));
    worker.stop().await;
}

#[tokio::test]
async fn logs_are_pushed_while_heartbeats_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;
    let worker = Running::start(settings(directory.path(), vec![coordinator.url()]), &Flaky::default());
    let key = key("1");
    let mut session = coordinator.welcome(5).await;
    session.run(5, &key, &["run-ms", "10"], None).await;
    session.send(Downlink::OpenLog { log_id: 77, key: key.clone() }.into()).await;
    let log = coordinator.log().await;
    assert_eq!(log.log_id, 77);
    let (text, error) = log.read().await;
    assert!(!text.is_empty() && error.is_none(), "{text:?} {error:?}");
    session.heartbeat().await;
    // A reader that leaves at once disturbs nobody.
    session.send(Downlink::OpenLog { log_id: 78, key }.into()).await;
    drop(coordinator.log().await);
    session.heartbeat().await;
    worker.stop().await;
    soon("the stream's end", session.gone()).await;
}
