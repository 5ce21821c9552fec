use super::*;
use crate::core::outbox::Outbox;
use crate::election::Validity;
use crate::fleet::sessions::Sessions;
use crate::testing::job;
use futures_util::future::BoxFuture;
use muster_domain::effect::{Documents, Refusal, RefusalKind, ToWorker, Write};
use muster_domain::id::{JobId, ProviderId, Term};
use muster_ucloud::v2021::words::Words;
use std::sync::Mutex;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A store whose commits end when the test says so.
#[derive(Default)]
struct Scripted {
    full: watch::Sender<bool>,
    /// Documents of each commit, in order.
    seen: Mutex<Vec<Vec<String>>>,
    gate: Mutex<VecDeque<oneshot::Receiver<Result<(), StoreError>>>>,
}

impl Scripted {
    fn expect(&self) -> oneshot::Sender<Result<(), StoreError>> {
        let (sender, receiver) = oneshot::channel();
        self.gate.lock().unwrap().push_back(receiver);
        sender
    }

    fn seen(&self) -> Vec<Vec<String>> {
        self.seen.lock().unwrap().clone()
    }
}

impl Store for Scripted {
    fn load(&self, _: Term) -> BoxFuture<'_, Result<Documents, StoreError>> {
        Box::pin(async { Ok(Documents::default()) })
    }

    fn batch_documents(&self) -> usize {
        1024
    }

    fn space(&self) -> watch::Receiver<Option<crate::store::Space>> {
        watch::Sender::new(None).subscribe()
    }

    fn full(&self) -> watch::Receiver<bool> {
        self.full.subscribe()
    }

    fn commit(&self, _: Term, writes: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>> {
        let names = writes.iter().map(|write| match write {
            Write::Job(job) => job.spec.id.to_string(),
            Write::ForgetJob(job) => format!("-{job}"),
            Write::Node(_) | Write::ForgetNode(_) => write.key().to_string(),
        });
        self.seen.lock().unwrap().push(names.collect());
        let gate = self.gate.lock().unwrap().pop_front();
        Box::pin(async move {
            match gate {
                Some(gate) => gate.await.unwrap(),
                None => Ok(()),
            }
        })
    }
}

struct Stage {
    store: Arc<Scripted>,
    decisions: mpsc::Sender<Decision>,
    changes: broadcast::Receiver<JobId>,
    lost: CancellationToken,
    task: JoinHandle<Result<(), StoreError>>,
}

fn leading() -> Leadership {
    Leadership { term: 1, lost: CancellationToken::new(), validity: Validity::unbounded() }
}

fn stage() -> Stage {
    let store = Arc::new(Scripted::default());
    let (decisions, queue) = mpsc::channel(100);
    let (sender, changes) = broadcast::channel(100);
    let words = Words { provider: ProviderId::new("example").unwrap() };
    let dispatch = Dispatch::new(Sessions::serving(), Outbox::new(words), sender, Arc::default(), Metrics::new());
    let lost = CancellationToken::new();
    let leadership = Leadership { lost: lost.clone(), ..leading() };
    let task = tokio::spawn(run(store.clone(), leadership, queue, dispatch, Metrics::new()));
    Stage { store, decisions, changes, lost, task }
}

fn write(id: &str) -> Effect {
    Effect::Write { write: Write::Job(Box::new(job(id))), milestones: vec![Milestone::Other] }
}

fn changed(id: &str) -> Effect {
    Effect::Changed { job: JobId::new(id).unwrap() }
}

fn decision(effects: Vec<Effect>) -> Decision {
    Decision { effects, caller: None }
}

/// Lets every other task run until it waits.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn nothing_leaves_before_it_is_durable_and_order_is_kept() {
    let mut stage = stage();
    let (first, second) = (stage.store.expect(), stage.store.expect());
    let (reply, mut answer) = oneshot::channel();
    let accepted = vec![write("1"), Effect::Reply { request: 7, reply: Ok(()) }, changed("1")];
    stage.decisions.send(Decision { effects: accepted, caller: Some((7, reply)) }).await.unwrap();
    settle().await;
    // Decided while the first commit is under way: gathered for the second one.
    stage.decisions.send(decision(vec![write("2"), changed("2")])).await.unwrap();
    stage.decisions.send(decision(vec![changed("3")])).await.unwrap();
    stage.decisions.send(decision(vec![write("2"), write("4"), changed("4")])).await.unwrap();
    settle().await;
    assert_eq!(stage.store.seen(), [["1"]]);
    assert!(answer.try_recv().is_err());
    assert!(stage.changes.try_recv().is_err());
    first.send(Ok(())).unwrap();
    settle().await;
    assert_eq!(answer.try_recv().unwrap(), Ok(()));
    assert_eq!(stage.changes.try_recv().unwrap().as_str(), "1");
    // The last write of a document stands for all of its batch.
    assert_eq!(stage.store.seen(), [vec!["1"], vec!["2", "4"]]);
    assert!(stage.changes.try_recv().is_err(), "a decision without writes overtook one with");
    second.send(Ok(())).unwrap();
    settle().await;
    for id in ["2", "3", "4"] {
        assert_eq!(stage.changes.try_recv().unwrap().as_str(), id);
    }
    drop(stage.decisions);
    assert_eq!(stage.task.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn after_a_failed_commit_nothing_leaves() {
    let mut stage = stage();
    let first = stage.store.expect();
    let (reply, answer) = oneshot::channel();
    let effects = vec![changed("0"), write("1"), Effect::Reply { request: 7, reply: Ok(()) }];
    stage.decisions.send(Decision { effects, caller: Some((7, reply)) }).await.unwrap();
    settle().await;
    stage.decisions.send(decision(vec![changed("2")])).await.unwrap();
    first.send(Err(StoreError::Failed("the disk is full".to_owned()))).unwrap();
    let ended = stage.task.await.unwrap();
    assert_eq!(ended, Err(StoreError::Failed("the disk is full".to_owned())));
    assert!(stage.changes.try_recv().is_err());
    assert!(answer.await.is_err());
    assert!(stage.decisions.send(decision(vec![changed("3")])).await.is_err());
}

#[tokio::test]
async fn a_worker_hears_only_of_what_is_durable() {
    let store = Arc::new(Scripted::default());
    let (decisions, queue) = mpsc::channel(100);
    let (changes, _) = broadcast::channel(100);
    let sessions = Sessions::serving();
    let words = Words { provider: ProviderId::new("example").unwrap() };
    let dispatch = Dispatch::new(sessions.clone(), Outbox::new(words), changes, Arc::default(), Metrics::new());
    let mut worker = sessions.open().unwrap();
    let commit = store.expect();
    tokio::spawn(run(store.clone(), leading(), queue, dispatch, Metrics::new()));
    let message = ToWorker::Heard { sent_at_ms: 5, term: 1 };
    let send = Effect::Send { session: worker.session, message: message.clone(), traceparent: None };
    decisions.send(decision(vec![write("1"), send])).await.unwrap();
    settle().await;
    assert!(worker.messages.try_recv().is_err());
    commit.send(Ok(())).unwrap();
    assert_eq!(worker.messages.recv().await.unwrap(), message.into());
}

#[tokio::test]
async fn a_lost_leader_keeps_its_effects_to_itself() {
    let mut stage = stage();
    let commit = stage.store.expect();
    stage.decisions.send(decision(vec![write("1"), changed("1")])).await.unwrap();
    settle().await;
    stage.lost.cancel();
    commit.send(Ok(())).unwrap();
    assert!(stage.task.await.unwrap().is_err());
    assert!(stage.changes.try_recv().is_err());
}

fn forget(id: &str) -> Effect {
    Effect::Write { write: Write::ForgetJob(JobId::new(id).unwrap()), milestones: vec![Milestone::Other] }
}

#[tokio::test]
async fn removals_overtake_a_commit_that_waits_for_room_and_nothing_else_does() {
    let mut stage = stage();
    let (waiting, removal) = (stage.store.expect(), stage.store.expect());
    stage.decisions.send(decision(vec![write("1"), changed("1")])).await.unwrap();
    settle().await;
    for effects in [vec![write("2"), changed("2")], vec![forget("3")], vec![forget("1")], vec![forget("2")]] {
        stage.decisions.send(decision(effects)).await.unwrap();
    }
    settle().await;
    assert_eq!(stage.store.seen(), [["1"]], "a store that is merely slow is waited for");
    stage.store.full.send_replace(true);
    settle().await;
    assert_eq!(stage.store.seen(), [["1"], ["-3"]]);
    // While that one is under way, the next ones gather.
    stage.decisions.send(decision(vec![forget("4")])).await.unwrap();
    stage.decisions.send(decision(vec![forget("5"), changed("5")])).await.unwrap();
    stage.decisions.send(decision(vec![forget("6")])).await.unwrap();
    settle().await;
    assert_eq!(stage.store.seen().len(), 2);
    removal.send(Ok(())).unwrap();
    settle().await;
    assert_eq!(stage.store.seen()[2..], [["-4", "-6"]]);
    assert!(stage.changes.try_recv().is_err(), "what is not durable was spoken of");
    // There is room: the rest comes in its order.
    stage.store.full.send_replace(false);
    waiting.send(Ok(())).unwrap();
    settle().await;
    assert_eq!(stage.store.seen()[3..], [["-1", "-2", "-5"]]);
    for id in ["1", "2", "5"] {
        assert_eq!(stage.changes.try_recv().unwrap().as_str(), id);
    }
    drop(stage.decisions);
    assert_eq!(stage.task.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_commit_that_gets_room_does_not_wait_for_the_removals_ahead_of_it_to_speak() {
    let mut stage = stage();
    let (waiting, removal) = (stage.store.expect(), stage.store.expect());
    stage.store.full.send_replace(true);
    stage.decisions.send(decision(vec![write("1"), changed("1")])).await.unwrap();
    stage.decisions.send(decision(vec![])).await.unwrap();
    settle().await;
    stage.decisions.send(decision(vec![forget("2")])).await.unwrap();
    settle().await;
    // Of the same document as a removal under way: behind it.
    stage.decisions.send(decision(vec![write("2"), changed("2")])).await.unwrap();
    waiting.send(Ok(())).unwrap();
    settle().await;
    assert_eq!(stage.changes.try_recv().unwrap().as_str(), "1");
    assert_eq!(stage.store.seen(), [["1"], ["-2"]]);
    removal.send(Ok(())).unwrap();
    settle().await;
    assert_eq!(stage.store.seen()[2..], [["2"]]);
    assert_eq!(stage.changes.try_recv().unwrap().as_str(), "2");
    drop(stage.decisions);
    assert_eq!(stage.task.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn whoever_is_turned_away_hears_so_while_others_wait_for_room() {
    let mut stage = stage();
    let waiting = stage.store.expect();
    stage.store.full.send_replace(true);
    stage.decisions.send(decision(vec![write("1")])).await.unwrap();
    settle().await;
    let mut answers = Vec::new();
    for (request, kind) in [(7, RefusalKind::Conflict), (8, RefusalKind::Unavailable)] {
        let (reply, answer) = oneshot::channel();
        let refusal = Refusal { kind, why: "no".to_owned() };
        let effects = vec![changed("2"), Effect::Reply { request, reply: Err(refusal) }];
        stage.decisions.send(Decision { effects, caller: Some((request, reply)) }).await.unwrap();
        answers.push(answer);
    }
    settle().await;
    assert!(answers[0].try_recv().is_err(), "a conflict may rest on what is not durable yet");
    assert_eq!(answers[1].try_recv().unwrap().unwrap_err().kind, RefusalKind::Unavailable);
    assert!(stage.changes.try_recv().is_err(), "what else was decided with it waits");
    waiting.send(Ok(())).unwrap();
    settle().await;
    assert!(answers[0].try_recv().is_ok() && stage.changes.try_recv().is_ok());
    drop(stage.decisions);
    assert_eq!(stage.task.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn while_the_store_is_full_the_queue_stays_bounded_and_a_closed_channel_is_no_end() {
    let stage = stage();
    let waiting = stage.store.expect();
    stage.store.full.send_replace(true);
    stage.decisions.send(decision(vec![write("1")])).await.unwrap();
    settle().await;
    let mut sent = 0;
    loop {
        match stage.decisions.try_send(decision(vec![write(&format!("n{sent}"))])) {
            Ok(()) => sent += 1,
            Err(_) if stage.decisions.capacity() == 0 => {
                settle().await;
                if stage.decisions.capacity() == 0 {
                    break;
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(sent, WAITING_DECISIONS + stage.decisions.max_capacity());
    drop(stage.decisions);
    settle().await;
    assert_eq!(stage.store.seen(), [["1"]]);
    waiting.send(Ok(())).unwrap();
    assert_eq!(stage.task.await.unwrap(), Ok(()));
    assert_eq!(stage.store.seen().concat().len(), sent + 1);
}

#[tokio::test]
async fn a_removal_that_fails_ends_everything() {
    let stage = stage();
    let (_waiting, removal) = (stage.store.expect(), stage.store.expect());
    stage.store.full.send_replace(true);
    stage.decisions.send(decision(vec![write("1"), changed("1")])).await.unwrap();
    settle().await;
    stage.decisions.send(decision(vec![forget("2")])).await.unwrap();
    removal.send(Err(StoreError::Fenced { held: 2, ours: 1 })).unwrap();
    assert_eq!(stage.task.await.unwrap(), Err(StoreError::Fenced { held: 2, ours: 1 }));
    assert!(stage.decisions.is_closed());
}
