//! What happens when the engine is away or wrong.

use crate::coordinator::{Coordinator, key, prepare, start};
use crate::flaky::Flaky;
use crate::{Running, settings};
use muster_domain::rank::{Command, RankEnd, RankState};
use std::sync::atomic::Ordering;
use std::time::Duration;

#[tokio::test]
async fn an_engine_that_is_silent_at_start_is_never_taken_for_empty() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;
    let engine = Flaky::default();
    let key = key("1");
    let worker = Running::start(settings(directory.path(), vec![coordinator.url()]), &engine);
    let mut session = coordinator.welcome(5).await;
    session.run(5, &key, &["hang"], None).await;
    worker.kill().await;
    engine.set_down(true);
    let worker = Running::start(settings(directory.path(), vec![coordinator.url()]), &engine);
    while engine.in_vain.load(Ordering::SeqCst) < 3 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!coordinator.has_session(), "no hello before the engine has said what it has");
    engine.set_down(false);
    let session = coordinator.session().await;
    assert_eq!(session.hello.ranks.len(), 1);
    worker.stop().await;
}

#[tokio::test]
async fn preparing_is_repeated_for_a_while_and_then_another_node_may_try() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;
    let engine = Flaky::default();
    let mut settings = settings(directory.path(), vec![coordinator.url()]);
    settings.engine_patience = Duration::from_millis(900);
    let worker = Running::start(settings, &engine);
    let mut session = coordinator.welcome(5).await;
    engine.set_down(true);
    let (patient, hopeless) = (key("1"), key("2"));
    session.command(5, prepare(&patient, 5, &[])).await;
    assert_eq!(session.news(&patient).await.1, RankState::Preparing);
    while engine.in_vain.load(Ordering::SeqCst) < 1 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    engine.set_down(false);
    assert!(matches!(session.news(&patient).await.1, RankState::Prepared { .. }));

    engine.set_down(true);
    session.command(5, prepare(&hopeless, 5, &[])).await;
    assert_eq!(session.news(&hopeless).await.1, RankState::Preparing);
    let failed = RankState::Failed { reason: "the engine is away".to_owned(), retry: true };
    assert_eq!(session.news(&hopeless).await.1, failed);
    worker.stop().await;
}

#[tokio::test]
async fn a_start_without_an_answer_is_undone_before_it_counts_as_failed() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;
    let engine = Flaky::default();
    let mut settings = settings(directory.path(), vec![coordinator.url()]);
    settings.engine_patience = Duration::from_millis(100);
    let worker = Running::start(settings, &engine);
    let mut session = coordinator.welcome(5).await;
    let key = key("1");
    session.command(5, prepare(&key, 5, &["hang"])).await;
    while !matches!(session.news(&key).await.1, RankState::Prepared { .. }) {}
    engine.set_down(true);
    session.command(5, start(&key, None)).await;
    assert_eq!(session.news(&key).await.1, RankState::Starting);
    while engine.in_vain.load(Ordering::SeqCst) < 4 {
        assert_eq!(session.heartbeat().await.ranks[0].state, RankState::Starting, "it may run, unseen");
    }
    engine.set_down(false);
    assert!(matches!(session.news(&key).await.1, RankState::Failed { retry: true, .. }));
    assert_eq!(engine.removals.load(Ordering::SeqCst), 1, "nothing is left that could be started late");
    worker.stop().await;
}

#[tokio::test]
async fn ending_and_removing_are_repeated_until_the_engine_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;
    let engine = Flaky::default();
    let worker = Running::start(settings(directory.path(), vec![coordinator.url()]), &engine);
    let mut session = coordinator.welcome(5).await;
    let key = key("1");
    session.run(5, &key, &["hang", "ignore-term"], None).await;
    engine.set_down(true);
    session.command(5, Command::Stop { key: key.clone() }).await;
    while engine.in_vain.load(Ordering::SeqCst) < 2 {
        assert!(matches!(session.heartbeat().await.ranks[0].state, RankState::Running { .. }));
    }
    engine.set_down(false);
    loop {
        if let RankState::Ended { end, .. } = session.news(&key).await.1 {
            assert_eq!(end, RankEnd::Stopped);
            break;
        }
    }
    session.command(5, Command::Remove { key: key.clone() }).await;
    assert_eq!(session.news(&key).await.1, RankState::Removed);
    worker.stop().await;
}

#[tokio::test]
async fn a_job_that_no_node_can_run_is_not_retried_and_a_panic_of_the_engine_is_survived() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;
    let engine = Flaky::default();
    let worker = Running::start(settings(directory.path(), vec![coordinator.url()]), &engine);
    let mut session = coordinator.welcome(5).await;
    let (refused, failed, good) = (key("1"), key("2"), key("3"));
    session.command(5, prepare(&refused, 5, &["refuse-prepare"])).await;
    session.news(&refused).await;
    assert!(matches!(session.news(&refused).await.1, RankState::Failed { retry: false, .. }));
    session.command(5, prepare(&failed, 5, &["fail-prepare"])).await;
    session.news(&failed).await;
    assert!(matches!(session.news(&failed).await.1, RankState::Failed { retry: true, .. }));
    engine.start_panics.store(true, Ordering::SeqCst);
    session.run(5, &good, &["hang"], None).await;
    worker.stop().await;
}
