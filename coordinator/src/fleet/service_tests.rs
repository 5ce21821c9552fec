use super::*;
use crate::election::Identity;
use crate::handle::Input;
use bytes::Bytes;
use muster_domain::effect::ToWorker;
use muster_domain::id::{JobId, RankKey};
use muster_domain::worker::{Hello, Report};
use muster_proto::v1::fleet_service_client::FleetServiceClient;
use muster_proto::{Downlink, v1};
use std::net::SocketAddr;
use tokio::sync::broadcast;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;

struct Stage {
    standing: watch::Sender<Standing>,
    address: SocketAddr,
    fleet: Fleet,
    heard: mpsc::Receiver<Input>,
}

/// A worker's end of a stream.
struct Worker {
    says: mpsc::Sender<SessionRequest>,
    hears: Streaming<SessionResponse>,
}

impl Stage {
    async fn new() -> Self {
        let (inputs, heard) = mpsc::channel(100);
        let (changes, _) = broadcast::channel(1);
        let standing = watch::Sender::new(Standing { role: Role::Leader, term: Some(7), leader: None });
        let fleet = Fleet {
            handle: Handle::new(inputs, changes),
            sessions: Sessions::serving(),
            logs: LogRelay::new(),
            standing: standing.subscribe(),
            join_secret: Some(Arc::new(Secret::new("join"))),
            metrics: Metrics::new(),
            waiting: Fleet::waiting_room(),
            stop: CancellationToken::new(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(fleet.clone(), listener));
        Self { standing, address, fleet, heard }
    }

    async fn client(&self) -> FleetServiceClient<Channel> {
        FleetServiceClient::connect(format!("http://{}", self.address)).await.unwrap()
    }

    async fn connect(&self, secret: &str) -> Result<Worker, Status> {
        let (says, said) = mpsc::channel(100);
        let request = signed(ReceiverStream::new(said), secret);
        let hears = self.client().await.session(request).await?.into_inner();
        Ok(Worker { says, hears })
    }

    async fn hear(&mut self) -> Event {
        match tokio::time::timeout(Duration::from_secs(10), self.heard.recv()).await.unwrap().unwrap() {
            Input::Event(event) => event,
            Input::Call { .. } | Input::Query(_) => panic!("not an event"),
        }
    }

    async fn hear_gone(&mut self) {
        match self.hear().await {
            Event::WorkerGone { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

impl Worker {
    async fn say(&self, uplink: impl Into<SessionRequest>) {
        self.says.send(uplink.into()).await.unwrap();
    }

    async fn hear(&mut self) -> Option<Downlink> {
        let next = tokio::time::timeout(Duration::from_secs(10), self.hears.message()).await.unwrap().unwrap();
        next.map(|response| Downlink::try_from(response).unwrap())
    }

    /// The reason of a refusal, after which the stream ends.
    async fn hear_refused(mut self) -> String {
        let Some(Downlink::Refused { reason }) = self.hear().await else { panic!("not refused") };
        assert_eq!(self.hear().await, None);
        reason
    }
}

fn signed<T>(message: T, secret: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = MetadataValue::try_from(format!("Bearer {secret}")).unwrap();
    request.metadata_mut().insert(AUTHORIZATION, value);
    request
}

fn hello() -> Hello {
    crate::testing::hello("n1")
}

#[tokio::test]
async fn a_workers_messages_become_events_in_order() {
    let mut stage = Stage::new().await;
    let mut worker = stage.connect("join").await.unwrap();
    worker.say(Uplink::Hello(Box::new(hello()))).await;
    let Event::WorkerHello { session, hello: heard } = stage.hear().await else { panic!("no hello") };
    assert_eq!(*heard, hello());
    for sent_at_ms in 2..10 {
        worker.say(Uplink::Report(Report { sent_at_ms, ..Report::default() })).await;
    }
    for sent_at_ms in 2..10 {
        let report = Report { sent_at_ms, ..Report::default() };
        assert_eq!(stage.hear().await, Event::WorkerReport { session, report });
    }
    stage.fleet.sessions.push(session, Downlink::Say { message: ToWorker::Welcome { term: 7 }, traceparent: None });
    assert_eq!(worker.hear().await, Some(ToWorker::Welcome { term: 7 }.into()));
    assert_eq!(stage.fleet.sessions.count(), 1);
    drop(worker);
    assert_eq!(stage.hear().await, Event::WorkerGone { session });
    assert_eq!(stage.fleet.sessions.count(), 0);
}

#[tokio::test]
async fn the_wrong_join_secret_opens_nothing() {
    let mut stage = Stage::new().await;
    for secret in ["wrong", "", "join2"] {
        let refused = stage.connect(secret).await.err().unwrap();
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert!(refused.message().contains("fleet.token_file") && !refused.message().contains("join2"));
    }
    let mut client = stage.client().await;
    let unsigned = Request::new(tokio_stream::empty());
    assert_eq!(client.session(unsigned).await.unwrap_err().code(), Code::Unauthenticated);
    let unsigned = Request::new(tokio_stream::empty());
    assert_eq!(client.push_log(unsigned).await.unwrap_err().code(), Code::Unauthenticated);
    assert!(stage.heard.try_recv().is_err());
}

#[tokio::test]
async fn nonsense_is_refused_in_words_and_the_service_goes_on() {
    let mut stage = Stage::new().await;
    let worker = stage.connect("join").await.unwrap();
    worker.say(Uplink::Report(Report::default())).await;
    assert_eq!(worker.hear_refused().await, "the first message of a stream must be hello");
    stage.hear_gone().await;

    let worker = stage.connect("join").await.unwrap();
    worker.say(SessionRequest { message: None }).await;
    assert!(worker.hear_refused().await.contains("field message"));
    stage.hear_gone().await;

    let worker = stage.connect("join").await.unwrap();
    let mut bad = v1::Hello::from(hello());
    bad.node = "../etc".to_owned();
    worker.say(SessionRequest { message: Some(v1::session_request::Message::Hello(bad)) }).await;
    let reason = worker.hear_refused().await;
    assert!(reason.contains("hello.node") && reason.contains("expected 1 to 63"), "{reason}");
    stage.hear_gone().await;

    let worker = stage.connect("join").await.unwrap();
    worker.say(Uplink::Hello(Box::new(hello()))).await;
    worker.say(Uplink::Hello(Box::new(hello()))).await;
    assert_eq!(worker.hear_refused().await, "hello came twice on one stream");
    assert!(matches!(stage.hear().await, Event::WorkerHello { .. }));
    stage.hear_gone().await;

    let worker = stage.connect("join").await.unwrap();
    let mut huge = hello();
    huge.boot_id = "x".repeat(MAX_MESSAGE_BYTES + 1);
    worker.say(Uplink::Hello(Box::new(huge))).await;
    let reason = worker.hear_refused().await;
    assert!(reason.contains("message refused"), "{reason}");
    stage.hear_gone().await;

    let worker = stage.connect("join").await.unwrap();
    worker.say(Uplink::Hello(Box::new(hello()))).await;
    assert!(matches!(stage.hear().await, Event::WorkerHello { .. }));
}

#[tokio::test]
async fn a_closed_stream_ends_with_what_was_queued_and_the_reason() {
    let mut stage = Stage::new().await;
    let mut worker = stage.connect("join").await.unwrap();
    worker.say(Uplink::Hello(Box::new(hello()))).await;
    let Event::WorkerHello { session, .. } = stage.hear().await else { panic!("no hello") };
    let message = ToWorker::Heard { sent_at_ms: 1, term: 1 };
    stage.fleet.sessions.push(session, Downlink::Say { message, traceparent: None });
    stage.fleet.sessions.close(session, "another stream of this node");
    assert_eq!(worker.hear().await, Some(ToWorker::Heard { sent_at_ms: 1, term: 1 }.into()));
    assert_eq!(worker.hear_refused().await, "another stream of this node");
    stage.hear_gone().await;
}

#[tokio::test]
async fn a_worker_that_does_not_read_is_cut_off() {
    let stage = Stage::new().await;
    let _worker = stage.connect("join").await.unwrap();
    let session = 1;
    assert_eq!(stage.fleet.sessions.count(), 1);
    for sent_at_ms in 0..200_000 {
        let message = ToWorker::Heard { sent_at_ms, term: 1 };
        stage.fleet.sessions.push(session, Downlink::Say { message, traceparent: None });
    }
    assert_eq!(stage.fleet.sessions.count(), 0);
}

#[tokio::test]
async fn every_stream_ends_when_the_coordinator_stops() {
    let mut stage = Stage::new().await;
    let mut worker = stage.connect("join").await.unwrap();
    worker.say(Uplink::Hello(Box::new(hello()))).await;
    assert!(matches!(stage.hear().await, Event::WorkerHello { .. }));
    stage.fleet.stop.cancel();
    assert_eq!(worker.hear().await, Some(Downlink::Redirect { address: String::new(), term: 7 }));
    assert_eq!(worker.hear().await, None);
    stage.hear_gone().await;
}

fn follower(fleet: &str, term: Term) -> Standing {
    let (name, version) = ("b".to_owned(), "0".to_owned());
    let leader = Identity { name, http: String::new(), operator: String::new(), fleet: fleet.to_owned(), version };
    Standing { role: Role::Follower, term: Some(term), leader: Some(leader) }
}

#[tokio::test]
async fn a_leader_that_steps_down_sends_its_workers_away_and_nothing_else_any_more() {
    let mut stage = Stage::new().await;
    let mut worker = stage.connect("join").await.unwrap();
    worker.say(Uplink::Hello(Box::new(hello()))).await;
    let Event::WorkerHello { session, .. } = stage.hear().await else { panic!("no hello") };
    let direction = Direction { address: "http://b:1".to_owned(), term: 8 };
    // In one go, so that the stream has had no turn in between.
    stage.fleet.sessions.push(session, ToWorker::Heard { sent_at_ms: 1, term: 7 }.into());
    stage.fleet.sessions.rest(&direction);
    assert_eq!(worker.hear().await, Some(direction.into()));
    assert_eq!(worker.hear().await, None);
    stage.hear_gone().await;
    // Should a stream be opened before the election says so.
    let mut early = stage.connect("join").await.unwrap();
    assert_eq!(early.hear().await, Some(Direction::default().into()));
}

#[tokio::test]
async fn after_the_leaders_validity_nothing_is_sent_to_a_worker_and_its_stream_ends() {
    let mut stage = Stage::new().await;
    let validity = Validity::unbounded();
    stage.fleet.sessions.serve(validity.clone());
    let mut worker = stage.connect("join").await.unwrap();
    worker.say(Uplink::Hello(Box::new(hello()))).await;
    let Event::WorkerHello { session, .. } = stage.hear().await else { panic!("no hello") };
    validity.set(muster_domain::time::Moment(0));
    stage.fleet.sessions.push(session, ToWorker::Heard { sent_at_ms: 1, term: 7 }.into());
    // Should a late keepalive renew the leadership, the stream must not go on without what was dropped.
    assert_eq!(worker.hear().await, Some(Direction::default().into()));
    assert_eq!(worker.hear().await, None);
    stage.hear_gone().await;
}

#[tokio::test]
async fn a_follower_shows_the_way_and_waits_for_a_leader_while_there_is_none() {
    let stage = Stage::new().await;
    stage.standing.send_replace(follower("http://b:1", 8));
    let refused = stage.connect("wrong").await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated, "a stranger learns nothing");
    let mut worker = stage.connect("join").await.unwrap();
    assert_eq!(worker.hear().await, Some(Downlink::Redirect { address: "http://b:1".to_owned(), term: 8 }));
    assert_eq!(worker.hear().await, None);

    stage.standing.send_replace(Standing::default());
    let elects = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        stage.standing.send_replace(follower("http://c:1", 9));
    };
    let (worker, ()) = tokio::join!(stage.connect("join"), elects);
    assert_eq!(worker.unwrap().hear().await, Some(Downlink::Redirect { address: "http://c:1".to_owned(), term: 9 }));
}

#[tokio::test]
async fn a_worker_that_found_the_leader_gone_is_kept_until_another_one_leads() {
    let mut stage = Stage::new().await;
    stage.standing.send_replace(follower("http://b:1", 8));
    let (says, said) = mpsc::channel(100);
    let mut request = signed(ReceiverStream::new(said), "join");
    request.metadata_mut().insert(LEFT_TERM, MetadataValue::from(8));
    let mut client = stage.client().await;
    let elects = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        stage.standing.send_replace(Standing { role: Role::Leader, term: Some(9), leader: None });
    };
    let (answer, ()) = tokio::join!(client.session(request), elects);
    let worker = Worker { says, hears: answer.unwrap().into_inner() };
    worker.say(Uplink::Hello(Box::new(hello()))).await;
    assert!(matches!(stage.hear().await, Event::WorkerHello { .. }), "this one leads now and takes the stream");
}

#[tokio::test]
async fn a_log_is_pushed_to_its_follower_only() {
    let mut stage = Stage::new().await;
    let mut worker = stage.connect("join").await.unwrap();
    worker.say(Uplink::Hello(Box::new(hello()))).await;
    let Event::WorkerHello { session, .. } = stage.hear().await else { panic!("no hello") };
    // The relay knows a stream a moment after its hello was passed on.
    worker.say(Uplink::Report(Report::default())).await;
    stage.hear().await;

    let key = RankKey { job: JobId::new("7").unwrap(), rank: 1, attempt: 2 };
    let relay = stage.fleet.logs.clone();
    let asked = key.clone();
    let follower = tokio::spawn(async move { relay.open(session, asked).await });
    let Some(Downlink::OpenLog { log_id, key: told }) = worker.hear().await else { panic!("not asked") };
    assert_eq!(told, key);
    let mut client = stage.client().await;
    let stranger = tokio_stream::iter([LogPush::Open { log_id: log_id ^ 1 }.into()]);
    assert_eq!(client.push_log(signed(stranger, "join")).await.unwrap_err().code(), Code::NotFound);
    let pieces = [
        LogPush::Open { log_id },
        LogPush::Piece { source: muster_proto::LogSource::Stdout, data: Bytes::from_static(b"out\n") },
        LogPush::Piece { source: muster_proto::LogSource::Stderr, data: Bytes::from_static(b"err\n") },
        LogPush::End { error: None },
    ];
    let pieces = signed(tokio_stream::iter(pieces.map(PushLogRequest::from)), "join");
    let pushing = tokio::spawn(async move { client.push_log(pieces).await });
    let mut log = follower.await.unwrap().unwrap();
    let piece = log.next().await.unwrap().unwrap();
    assert_eq!((piece.source, &piece.bytes[..]), (LogSource::Stdout, &b"out\n"[..]));
    let piece = log.next().await.unwrap().unwrap();
    assert_eq!((piece.source, &piece.bytes[..]), (LogSource::Stderr, &b"err\n"[..]));
    assert!(log.next().await.is_none());
    assert!(pushing.await.unwrap().is_ok());

    let relay = stage.fleet.logs.clone();
    let follower = tokio::spawn(async move { relay.open(session, key).await });
    let Some(Downlink::OpenLog { log_id, .. }) = worker.hear().await else { panic!("not asked") };
    worker.say(Uplink::LogRefused { log_id, reason: "its log is gone".to_owned() }).await;
    assert_eq!(follower.await.unwrap().unwrap_err().why, "its log is gone");
}
