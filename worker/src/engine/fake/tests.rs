use super::*;
use muster_domain::id::JobId;
use muster_domain::job::spec::ContainerSpec;
use muster_domain::resources::Resources;

fn assignment(rank: u32, words: &str) -> Assignment {
    let argv = ["fake"].into_iter().chain(words.split_ascii_whitespace()).map(str::to_owned).collect();
    Assignment {
        key: RankKey { job: JobId::new("7").unwrap(), rank, attempt: 1 },
        term: 3,
        container: ContainerSpec { image: "acme/batch:1.0.0".to_owned(), argv, ..ContainerSpec::default() },
        resources: Resources::default(),
        replicas: 2,
        host: format!("j-7-rank-{rank}"),
        traceparent: None,
    }
}

async fn run(engine: &FakeEngine, assignment: &Assignment) -> Result<(RankEnd, u64), EngineError> {
    engine.prepare(assignment).await?;
    engine.start(&assignment.key, &PeerFiles::default()).await?;
    engine.wait(&assignment.key).await
}

#[tokio::test(start_paused = true)]
async fn a_script_says_how_a_rank_ends() {
    let engine = FakeEngine::new();
    let ends = [
        ("run-ms 50 exit 3", (RankEnd::Exited { code: 3 }, 50)),
        ("", (RankEnd::Exited { code: 0 }, 0)),
        ("oom", (RankEnd::OutOfMemory, 0)),
        ("run-ms 7 signal 11", (RankEnd::Killed { signal: 11 }, 7)),
        ("vanish unheard-of", (RankEnd::Vanished, 0)),
    ];
    for (rank, (words, end)) in (0..).zip(ends) {
        assert_eq!(run(&engine, &assignment(rank, words)).await, Ok(end), "{words}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rank_may_have_a_script_of_its_own() {
    let engine = FakeEngine::new();
    let mut second = assignment(1, "hang");
    second.container.env.insert("FAKE_RANK_1".to_owned(), "exit 4".to_owned());
    assert_eq!(run(&engine, &second).await.unwrap().0, RankEnd::Exited { code: 4 });
}

#[tokio::test(start_paused = true)]
async fn failures_say_whose_fault_they_are() {
    let engine = FakeEngine::new();
    let wanted = [
        ("fail-prepare", Fault::Node),
        ("refuse-prepare", Fault::Job),
        ("fail-start", Fault::Node),
        ("refuse-start", Fault::Job),
    ];
    for (rank, (words, fault)) in (0..).zip(wanted) {
        assert_eq!(run(&engine, &assignment(rank, words)).await.unwrap_err().fault, fault, "{words}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hanging_rank_ends_by_a_signal_and_a_stubborn_one_by_the_second() {
    let engine = FakeEngine::new();
    let stubborn = assignment(0, "hang ignore-term");
    engine.prepare(&stubborn).await.unwrap();
    engine.start(&stubborn.key, &PeerFiles::default()).await.unwrap();
    let restarted = engine.clone();
    let key = stubborn.key.clone();
    let waiting = tokio::spawn(async move { restarted.wait(&key).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    engine.terminate(&stubborn.key).await.unwrap();
    assert!(matches!(engine.list().await.unwrap()[0].observation, Observation::Started { .. }));
    engine.kill(&stubborn.key).await.unwrap();
    assert_eq!(waiting.await.unwrap(), Ok((RankEnd::Killed { signal: 9 }, 20)));
    let polite = assignment(1, "hang");
    engine.prepare(&polite).await.unwrap();
    engine.start(&polite.key, &PeerFiles::default()).await.unwrap();
    engine.terminate(&polite.key).await.unwrap();
    assert_eq!(engine.wait(&polite.key).await.unwrap().0, RankEnd::Killed { signal: 15 });
}

#[tokio::test(start_paused = true)]
async fn the_log_ends_with_the_rank_and_outlives_it() {
    let engine = FakeEngine::new();
    let rank = assignment(1, "run-ms 50");
    engine.prepare(&rank).await.unwrap();
    engine.start(&rank.key, &PeerFiles::default()).await.unwrap();
    let log: Vec<_> = engine.logs(&rank.key).collect().await;
    let piece = LogPiece { source: LogSource::Stdout, bytes: Bytes::from_static(b"rank 1 of 2\n") };
    assert_eq!(log, [Ok(piece.clone())]);
    engine.remove(&rank.key).await.unwrap();
    engine.remove(&rank.key).await.unwrap();
    assert!(engine.list().await.unwrap().is_empty());
    let log: Vec<_> = engine.logs(&rank.key).collect().await;
    assert_eq!(log, [Ok(piece)]);
}
