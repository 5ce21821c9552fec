use super::*;
use crate::core::outbox::Outbox;
use crate::election::Validity;
use crate::fleet::sessions::Sessions;
use crate::testing::job;
use futures_util::future::BoxFuture;
use muster_domain::effect::{Documents, Effect, ToWorker, Write};
use muster_domain::id::{JobId, ProviderId, Term};
use muster_ucloud::v2021::words::Words;
use std::sync::Mutex;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A store whose commits end when the test says so.
#[derive(Default)]
struct Scripted {
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

    fn space(&self) -> tokio::sync::watch::Receiver<Option<crate::store::Space>> {
        tokio::sync::watch::Sender::new(None).subscribe()
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
    let dispatch =
        Dispatch::new(Sessions::serving(), Outbox::new(words), sender, CancellationToken::new(), Metrics::new());
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
    let dispatch =
        Dispatch::new(sessions.clone(), Outbox::new(words), changes, CancellationToken::new(), Metrics::new());
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
