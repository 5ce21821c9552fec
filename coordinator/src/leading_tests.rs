use super::*;
use crate::core::client::{ClientSettings, Timing};
use crate::core::token::RefreshToken;
use crate::election::{Identity, Standing};
use crate::testing::arbiter::Arbiter;
use crate::testing::{hello, settings, spec};
use futures_util::future::BoxFuture;
use muster_domain::effect::Write;
use muster_domain::id::Term;
use muster_runtime::secret::Secret;
use std::collections::VecDeque;
use std::sync::Mutex;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A store that fails as told before it works.
struct Failing {
    store: Arbiter,
    full: watch::Sender<bool>,
    loads: Mutex<VecDeque<StoreError>>,
    commits: Mutex<VecDeque<StoreError>>,
}

impl Store for Failing {
    fn load(&self, term: Term) -> BoxFuture<'_, Result<Documents, StoreError>> {
        match self.loads.lock().unwrap().pop_front() {
            Some(error) => Box::pin(async { Err(error) }),
            None => self.store.load(term),
        }
    }

    fn commit(&self, term: Term, writes: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>> {
        match self.commits.lock().unwrap().pop_front() {
            Some(error) => Box::pin(async { Err(error) }),
            None => self.store.commit(term, writes),
        }
    }

    fn batch_documents(&self) -> usize {
        self.store.batch_documents()
    }

    fn space(&self) -> watch::Receiver<Option<Space>> {
        self.store.space()
    }

    fn full(&self) -> watch::Receiver<bool> {
        self.full.subscribe()
    }
}

struct Stage {
    arbiter: Arbiter,
    full: watch::Sender<bool>,
    handle: Handle,
    standing: watch::Receiver<Standing>,
    core: TcpListener,
    stop: CancellationToken,
    task: JoinHandle<Result<(), StoreError>>,
}

fn identity(name: &str) -> Identity {
    let text = String::new;
    Identity { name: name.to_owned(), http: text(), operator: text(), fleet: text(), version: text() }
}

/// A coordinator `a` that will lead, over a store that fails so at first.
async fn stage(is_shared: bool, loads: &[StoreError], commits: &[StoreError]) -> Stage {
    muster_runtime::tls::install_provider();
    let arbiter = Arbiter::new();
    let seat = arbiter.seat(identity("a"));
    let (loads, commits) = (loads.iter().cloned().collect(), commits.iter().cloned().collect());
    let full = watch::Sender::new(false);
    let store =
        Failing { store: arbiter.clone(), full: full.clone(), loads: Mutex::new(loads), commits: Mutex::new(commits) };
    let seat = Seat { store: Arc::new(store), is_shared, ..seat };
    let core = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = CoreClient::new(ClientSettings {
        url: format!("http://{}", core.local_addr().unwrap()),
        refresh_token: RefreshToken::Fixed(Secret::new("refresh")),
        ca_file: None,
        timing: Timing::default(),
    });
    let (changes, _) = broadcast::channel(16);
    let handle = Handle::vacant(changes.clone());
    let (standing, stop) = (seat.election.standing(), CancellationToken::new());
    let leading = Leading {
        seat,
        settings: Settings { offline_after_ms: 300, ..settings() },
        handle: handle.clone(),
        changes,
        sessions: Sessions::default(),
        client: client.unwrap(),
        words: Words { provider: settings().provider },
        metrics: Metrics::new(),
    };
    let task = tokio::spawn(leading.run(stop.clone()));
    arbiter.elect(Some("a"));
    Stage { arbiter, full, handle, standing, core, stop, task }
}

impl Stage {
    async fn is(&mut self, wanted: impl FnMut(&Standing) -> bool) {
        let soon = tokio::time::timeout(Duration::from_secs(10), self.standing.wait_for(wanted));
        soon.await.expect("it stands otherwise").unwrap();
    }

    async fn create(&self, id: &str) -> bool {
        let reply = self.handle.call(|request| Event::Create { request, jobs: vec![spec(id)] }).await;
        reply.is_ok_and(|reply| reply.is_ok())
    }

    async fn stop(self) -> Result<(), StoreError> {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

fn failed() -> StoreError {
    StoreError::Failed("no answer".to_owned())
}

#[tokio::test]
async fn a_store_that_cannot_be_listed_yet_is_listed_again() {
    let mut stage = stage(true, &[failed(), failed()], &[]).await;
    stage.is(Standing::leads).await;
    assert!(stage.create("1").await);
    assert_eq!(stage.stop().await, Ok(()));
}

#[tokio::test]
async fn after_a_fenced_write_nothing_is_answered_until_leadership_is_won_again() {
    let fenced = StoreError::Fenced { held: 2, ours: 1 };
    let mut stage = stage(true, &[], &[fenced]).await;
    stage.is(Standing::leads).await;
    assert!(!stage.create("1").await);
    assert!(!stage.arbiter.has("1"));
    stage.is(|standing| standing.leads() && standing.term == Some(2)).await;
    assert!(stage.create("1").await);
    assert_eq!(stage.stop().await, Ok(()));
}

#[tokio::test]
async fn a_store_of_its_own_that_fails_stops_the_coordinator() {
    for (loads, commits) in [(vec![failed()], vec![]), (vec![], vec![failed()])] {
        let stage = stage(false, &loads, &commits).await;
        while !stage.task.is_finished() {
            stage.create("1").await;
            tokio::task::yield_now().await;
        }
        assert_eq!(stage.task.await.unwrap(), Err(failed()));
    }
}

#[tokio::test]
async fn a_call_to_core_does_not_outlive_the_leadership_that_made_it() {
    let mut stage = stage(true, &[], &[]).await;
    stage.is(Standing::leads).await;
    assert!(stage.create("1").await);
    let ends = |handle: Handle| async move {
        let jobs = vec![spec("1").id];
        handle.call(|request| Event::Terminate { request, jobs }).await
    };
    ends(stage.handle.clone()).await.unwrap().unwrap();
    // Core takes the connection and says nothing.
    let (mut call, _) = stage.core.accept().await.unwrap();
    stage.arbiter.elect(None);
    let mut said = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(5), call.read_to_end(&mut said)).await;
    closed.expect("the call goes on").ok();
    stage.is(|standing| standing.role == Role::Follower).await;
    assert!(!stage.create("2").await);
    assert_eq!(stage.stop().await, Ok(()));
}

#[tokio::test]
async fn a_leader_that_hears_nobody_any_more_lets_another_one_try() {
    let mut stage = stage(true, &[], &[]).await;
    stage.is(Standing::leads).await;
    for session in 1..=8 {
        let hello = Box::new(hello(&format!("n{session}")));
        stage.handle.tell(Event::WorkerHello { session, hello }).await.unwrap();
    }
    // For a while it does not campaign itself.
    stage.is(|standing| !standing.leads()).await;
    assert_eq!(stage.stop().await, Ok(()));
}

#[tokio::test]
async fn a_leader_that_is_refused_the_listing_lets_others_try_at_once() {
    let mut stage = stage(true, &[StoreError::Refused("an administrator must mend this".to_owned())], &[]).await;
    let begun = Instant::now();
    stage.is(|standing| standing.leads() && standing.term == Some(2)).await;
    assert!(begun.elapsed() < LOAD_WITHIN / 2, "{:?}", begun.elapsed());
    assert_eq!(stage.stop().await, Ok(()));
}

#[tokio::test]
async fn a_store_that_refuses_a_write_for_want_of_room_is_full_until_it_takes_one() {
    let mut stage = stage(true, &[], &[]).await;
    stage.is(Standing::leads).await;
    assert!(stage.create("1").await);
    let mut next = 2;
    for is_full in [true, false] {
        stage.full.send_replace(is_full);
        let heard = async {
            while stage.create(&next.to_string()).await == is_full {
                next += 1;
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), heard).await.expect("the brain was not told");
    }
    assert_eq!(stage.stop().await, Ok(()));
}

#[tokio::test]
async fn a_leader_that_cannot_read_a_document_leaves_leadership_to_others_at_once() {
    let unreadable = StoreError::Unreadable("a newer version wrote it".to_owned());
    let mut stage = stage(true, &[unreadable], &[]).await;
    let begun = Instant::now();
    // It gave the first term back, and is the only one that could have the second.
    stage.is(|standing| standing.role == Role::Follower && standing.term == Some(2)).await;
    assert!(begun.elapsed() < LOAD_WITHIN / 2, "{:?}", begun.elapsed());
    // It does not campaign, although nobody else leads.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(stage.standing.borrow().role, Role::Follower);
    assert_eq!(stage.stop().await, Ok(()));
}
