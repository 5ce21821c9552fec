//! Conversations with a scripted cluster and scripted workers.

use super::follow::{LogText, Outcome, Pace, Whereabouts, follow};
use crate::fleet::logs::{LogRelay, LogRequest, LogSink, LogSource};
use crate::handle::NotAnswered;
use bytes::Bytes;
use muster_domain::cluster::{JobLocation, RankLocation};
use muster_domain::id::{Attempt, JobId, Rank, RankKey, SessionId};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;

/// Quick, so that the tests are.
const PACE: Pace = Pace {
    grace_after_end: Duration::from_millis(100),
    first_pause: Duration::from_millis(5),
    longest_pause: Duration::from_millis(20),
    look_again: Duration::from_millis(20),
};
/// Longer than all of these.
const A_WHILE: Duration = Duration::from_millis(300);

/// A job that the test moves about.
#[derive(Clone)]
struct Stage {
    location: Arc<Mutex<Option<JobLocation>>>,
    changes: broadcast::Sender<JobId>,
}

impl Whereabouts for Stage {
    async fn locate(&self, _: JobId) -> Result<Option<JobLocation>, NotAnswered> {
        Ok(self.location.lock().unwrap().clone())
    }

    fn changes(&self) -> broadcast::Receiver<JobId> {
        self.changes.subscribe()
    }
}

/// The stage, one worker's stream and the follower.
struct Play {
    stage: Stage,
    relay: LogRelay,
    texts: mpsc::Receiver<LogText>,
    following: JoinHandle<Outcome>,
}

fn id() -> JobId {
    JobId::new("812").unwrap()
}

fn rank(rank: Rank, attempt: Attempt, session: Option<SessionId>, started: bool) -> RankLocation {
    RankLocation { key: RankKey { job: id(), rank, attempt }, node: "n1".to_owned(), session, started }
}

fn place(ended: bool, replicas: u32, ranks: Vec<RankLocation>) -> JobLocation {
    JobLocation { ended, replicas, ranks }
}

impl Play {
    fn begin(location: Option<JobLocation>) -> Self {
        let stage = Stage { location: Arc::new(Mutex::new(location)), changes: broadcast::channel(16).0 };
        let relay = LogRelay::new();
        let (told, texts) = mpsc::channel(4);
        let (seen, logs) = (stage.clone(), relay.clone());
        let following = tokio::spawn(async move { follow(&seen, &logs, &id(), &told, PACE).await });
        Self { stage, relay, texts, following }
    }

    fn worker(&self, session: SessionId) -> mpsc::Receiver<LogRequest> {
        let (requests, asked) = mpsc::channel(8);
        self.relay.attach(session, requests);
        asked
    }

    fn moves(&self, location: JobLocation) {
        *self.stage.location.lock().unwrap() = Some(location);
        let _ = self.stage.changes.send(id());
    }

    /// The next request to open a log, taken up.
    async fn opened(&self, asked: &mut mpsc::Receiver<LogRequest>) -> (RankKey, LogSink) {
        loop {
            let LogRequest { log_id, key } = asked.recv().await.unwrap();
            if let Some(sink) = self.relay.begin(log_id) {
                return (key, sink);
            }
        }
    }

    async fn text(&mut self) -> (Rank, String) {
        let LogText { rank, text, .. } = self.texts.recv().await.unwrap();
        (rank, text)
    }

    async fn ends(self) -> Outcome {
        self.following.await.unwrap()
    }
}

async fn out(sink: &LogSink, text: &str) {
    assert!(sink.push(LogSource::Stdout, Bytes::from(text.as_bytes().to_vec())).await);
}

#[tokio::test]
async fn every_rank_is_told_to_its_end_and_then_the_job() {
    let both = |ended| place(ended, 2, vec![rank(0, 1, Some(3), true), rank(1, 1, Some(3), true)]);
    let mut play = Play::begin(Some(both(false)));
    let mut asked = play.worker(3);
    let (zero, zero_log) = play.opened(&mut asked).await;
    let (one, one_log) = play.opened(&mut asked).await;
    assert_eq!((zero.rank, one.rank), (0, 1));
    out(&zero_log, "a").await;
    assert_eq!(play.text().await, (0, "a".to_owned()));
    assert!(one_log.push(LogSource::Stderr, Bytes::from_static(b"w\xc3")).await);
    assert!(one_log.push(LogSource::Stdout, Bytes::from_static(b"o")).await);
    assert!(one_log.push(LogSource::Stderr, Bytes::from_static(b"\xa6\n")).await);
    // Each stream of a rank has its own half characters.
    assert_eq!(play.text().await, (1, "w".to_owned()));
    assert_eq!(play.text().await, (1, "o".to_owned()));
    let last = play.texts.recv().await.unwrap();
    assert_eq!(last, LogText { rank: 1, source: LogSource::Stderr, text: "æ\n".to_owned() });

    // The job's end does not cut a log that still has something to say.
    play.moves(both(true));
    drop(one_log);
    out(&zero_log, "z").await;
    assert_eq!(play.text().await, (0, "z".to_owned()));
    assert!(!play.following.is_finished());
    drop(zero_log);
    assert_eq!(play.ends().await, Outcome::Ended);
}

#[tokio::test]
async fn a_job_that_waits_is_followed_once_it_starts() {
    let mut play = Play::begin(Some(place(false, 1, vec![])));
    let mut asked = play.worker(3);
    tokio::time::sleep(A_WHILE).await;
    play.moves(place(false, 1, vec![rank(0, 1, Some(3), false)]));
    tokio::time::sleep(A_WHILE).await;
    assert!(asked.try_recv().is_err());
    play.moves(place(false, 1, vec![rank(0, 1, Some(3), true)]));
    let (_, log) = play.opened(&mut asked).await;
    out(&log, "hello").await;
    assert_eq!(play.text().await, (0, "hello".to_owned()));
    drop(log);
    tokio::time::sleep(A_WHILE).await;
    assert!(!play.following.is_finished());
    play.moves(place(true, 1, vec![rank(0, 1, Some(3), true)]));
    assert_eq!(play.ends().await, Outcome::Ended);
}

#[tokio::test]
async fn a_worker_that_comes_back_goes_on_where_it_left() {
    let mut play = Play::begin(Some(place(false, 1, vec![rank(0, 1, Some(3), true)])));
    let mut asked = play.worker(3);
    let (_, log) = play.opened(&mut asked).await;
    out(&log, "one tw").await;
    assert!(log.push(LogSource::Stdout, Bytes::from_static(b"\xe6\xbc")).await);
    assert_eq!(play.text().await, (0, "one tw".to_owned()));
    log.fail("the node went away").await;
    play.relay.detach(3);
    play.moves(place(false, 1, vec![rank(0, 1, None, true)]));
    tokio::time::sleep(A_WHILE).await;
    assert!(!play.following.is_finished());

    let mut again = play.worker(4);
    // Nobody says that the job changed; it did not.
    *play.stage.location.lock().unwrap() = Some(place(false, 1, vec![rank(0, 1, Some(4), true)]));
    let (_, log) = play.opened(&mut again).await;
    out(&log, "one").await;
    out(&log, " tw漢o").await;
    assert_eq!(play.text().await, (0, "漢o".to_owned()));
    drop(log);
    play.moves(place(true, 1, vec![rank(0, 1, Some(4), true)]));
    assert_eq!(play.ends().await, Outcome::Ended);
}

#[tokio::test]
async fn a_new_attempt_is_told_from_its_beginning() {
    let mut play = Play::begin(Some(place(false, 1, vec![rank(0, 1, Some(3), true)])));
    let mut asked = play.worker(3);
    let (_, first) = play.opened(&mut asked).await;
    out(&first, "first").await;
    assert_eq!(play.text().await, (0, "first".to_owned()));
    play.moves(place(false, 1, vec![rank(0, 2, Some(3), true)]));
    let (key, second) = play.opened(&mut asked).await;
    assert_eq!(key.attempt, 2);
    first.abandoned().await;
    out(&second, "again").await;
    assert_eq!(play.text().await, (0, "again".to_owned()));
    drop(second);
    play.moves(place(true, 1, vec![rank(0, 2, Some(3), true)]));
    assert_eq!(play.ends().await, Outcome::Ended);
}

#[tokio::test]
async fn what_cannot_be_read_after_the_end_is_given_up() {
    for ranks in
        [vec![], vec![rank(0, 1, Some(9), true)], vec![rank(0, 1, None, true)], vec![rank(0, 1, Some(9), false)]]
    {
        let play = Play::begin(Some(place(true, 1, ranks)));
        assert_eq!(play.ends().await, Outcome::Ended);
    }
}

#[tokio::test]
async fn a_job_that_is_forgotten_has_ended() {
    let play = Play::begin(Some(place(false, 1, vec![])));
    tokio::task::yield_now().await;
    *play.stage.location.lock().unwrap() = None;
    let _ = play.stage.changes.send(id());
    assert_eq!(play.ends().await, Outcome::Ended);
}

#[tokio::test]
async fn an_unknown_job_and_a_listener_who_leaves() {
    assert_eq!(Play::begin(None).ends().await, Outcome::Unknown);
    let play = Play::begin(Some(place(false, 1, vec![])));
    let mut asked = play.worker(3);
    play.moves(place(false, 1, vec![rank(0, 1, Some(3), true)]));
    let (_, log) = play.opened(&mut asked).await;
    drop(play.texts);
    assert_eq!(play.following.await.unwrap(), Outcome::Abandoned);
    log.abandoned().await;
}
