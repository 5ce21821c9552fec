//! Two coordinators over one store in one process: what their callers see while leadership moves.

use super::tests::{config, tasks};
use super::*;
use crate::auth::fixture;
use crate::http::tests::stage::{items, job};
use crate::testing::arbiter::Arbiter;
use futures_util::{SinkExt, StreamExt};
use muster_domain::view::ClusterView;
use muster_proto::v1::fleet_service_client::FleetServiceClient;
use muster_proto::{AUTHORIZATION, Downlink, Uplink};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::time::Instant;
use tempfile::TempDir;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::tungstenite::Message;
use tonic::metadata::MetadataValue;

/// Late is what Core does not wait for, less what a busy machine may cost.
const IN_TIME: Duration = Duration::from_millis(4500);

pub(super) struct Coordinator {
    pub(super) running: Running,
    edges: Tasks,
    pub(super) inner: Tasks,
    _folder: TempDir,
}

async fn coordinator(name: &str, arbiter: &Arbiter) -> Coordinator {
    let folder = tempfile::tempdir().unwrap();
    let (edges, inner) = tasks();
    let mut config = config(folder.path());
    config.coordinator.name = Some(name.to_owned());
    let parts = Parts::new(&config).await.unwrap();
    let seat = arbiter.seat(parts.identity.clone());
    let seating = async { Ok(seat) }.boxed();
    let running = parts.run(&edges, &inner, seating, async { Ok(()) }.boxed()).unwrap();
    Coordinator { running, edges, inner, _folder: folder }
}

/// Two of them, of which `a` leads.
pub(super) async fn pair() -> (Arbiter, Coordinator, Coordinator) {
    let arbiter = Arbiter::new();
    let (a, b) = (coordinator("a", &arbiter).await, coordinator("b", &arbiter).await);
    arbiter.elect(Some("a"));
    a.running.leads().await.unwrap();
    b.knows("a").await;
    (arbiter, a, b)
}

fn acceptable(id: &str) -> Value {
    let mut job = job(id);
    job["specification"]["product"] = json!({"id": "u1-standard-1", "category": "u1-standard", "provider": "example"});
    job
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Value,
    took: Duration,
}

impl Coordinator {
    async fn knows(&self, leader: &str) {
        let mut standing = self.running.standing.clone();
        let known = |standing: &Standing| standing.leader.as_ref().is_some_and(|known| known.name == leader);
        standing.wait_for(known).await.unwrap();
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let begun = Instant::now();
        let answer = request.bearer_auth(fixture::token()).send().await.unwrap();
        let status = answer.status();
        let body = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null);
        Answer { status, body, took: begun.elapsed() }
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        let url = format!("http://{}/ucloud/example{path}", self.running.addresses.http);
        self.send(reqwest::Client::new().post(url).body(body.to_string())).await
    }

    pub(super) async fn create(&self, id: &str) -> Answer {
        self.post("/jobs", &items(&[acceptable(id)])).await
    }

    pub(super) async fn operator(&self, path: &str) -> Answer {
        self.send(reqwest::Client::new().get(format!("http://{}{path}", self.running.addresses.operator))).await
    }

    pub(super) async fn stop(&self) {
        drain(&self.edges, &self.inner).await.unwrap();
    }

    /// A worker's stream, with its first words said; what it hears.
    async fn dial(&self) -> tonic::Streaming<muster_proto::v1::SessionResponse> {
        let mut client = FleetServiceClient::connect(format!("http://{}", self.running.addresses.fleet)).await.unwrap();
        let (says, said) = tokio::sync::mpsc::channel(8);
        says.send(Uplink::Hello(Box::new(crate::testing::hello("n1"))).into()).await.unwrap();
        let mut request = tonic::Request::new(ReceiverStream::new(said));
        let secret = MetadataValue::try_from("Bearer a secret of the fleet").unwrap();
        request.metadata_mut().insert(AUTHORIZATION, secret);
        let hears = client.session(request).await.unwrap().into_inner();
        // The worker's side stays open for as long as the test.
        std::mem::forget(says);
        hears
    }
}

async fn stop(a: &Coordinator, b: &Coordinator) {
    a.stop().await;
    b.stop().await;
}

async fn hear(stream: &mut tonic::Streaming<muster_proto::v1::SessionResponse>) -> Option<Downlink> {
    let message = tokio::time::timeout(Duration::from_secs(10), stream.message()).await.unwrap().unwrap();
    message.map(|message| Downlink::try_from(message).unwrap())
}

#[tokio::test]
async fn a_follower_answers_like_the_leader() {
    let (arbiter, a, b) = pair().await;
    let answer = b.create("1").await;
    assert_eq!((answer.status, arbiter.has("1")), (StatusCode::OK, true), "{}", answer.body);
    let refused = b.post("/jobs/terminate", &json!({"items": []})).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "errors of the leader pass as they are");
    assert!(refused.body["why"].as_str().unwrap().contains("1 to 1000 items"));

    let seen: ClusterView = serde_json::from_value(b.operator("/v1/cluster").await.body).unwrap();
    assert_eq!((seen.role.as_deref(), seen.leader.unwrap().name.as_str()), (Some("follower"), "a"));
    let seen: ClusterView = serde_json::from_value(a.operator("/v1/cluster").await.body).unwrap();
    assert_eq!((seen.role.as_deref(), seen.term), (Some("leader"), 1));
    assert_eq!(b.operator("/v1/jobs/1").await.body["id"], "1");
    assert_eq!(b.operator("/health").await.body, json!({"status": "ok", "role": "follower", "leader": "a", "term": 1}));
    assert_eq!(b.operator("/ready").await.status, StatusCode::OK);

    let stranger = reqwest::Client::new().post(format!("http://{}/ucloud/example/jobs", b.running.addresses.http));
    assert_eq!(stranger.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    stop(&a, &b).await;
}

#[tokio::test]
async fn a_request_is_passed_on_once_at_most() {
    let (arbiter, a, b) = pair().await;
    let url = format!("http://{}/ucloud/example/jobs/terminate", b.running.addresses.http);
    let looped =
        reqwest::Client::new().post(url).header("muster-forwarded", "a").body(items(&[json!({"id": "1"})]).to_string());
    let answer = b.send(looped).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    // It waited for this one to lead, which the other may have known first.
    assert!(answer.took < IN_TIME, "{:?}", answer.took);
    drop(arbiter);
    stop(&a, &b).await;
}

#[tokio::test]
async fn what_was_passed_on_to_nobody_is_known_not_to_have_been_done() {
    let arbiter = Arbiter::new();
    let (a, b) = (coordinator("a", &arbiter).await, coordinator("b", &arbiter).await);
    // As another coordinator passes it on that still takes this one for the leader, and has held it for a while.
    let more_time = items(&[json!({"job": {"id": "1"}, "requestedTime": {"hours": 1, "minutes": 0, "seconds": 0}})]);
    let url = format!("http://{}/ucloud/example/jobs/extend", a.running.addresses.http);
    let request = reqwest::Client::new().post(url).header("muster-forwarded", "b").header("muster-hold-ms", "300");
    let answer = a.send(request.body(more_time.to_string())).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!((Duration::from_millis(300)..Duration::from_secs(2)).contains(&answer.took), "{:?}", answer.took);
    stop(&a, &b).await;
}

#[tokio::test]
async fn without_a_leader_calls_wait_and_then_hear_503_while_init_is_answered_at_once() {
    let arbiter = Arbiter::new();
    let a = coordinator("a", &arbiter).await;
    assert_eq!(a.operator("/ready").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(a.operator("/health").await.body["role"], "follower");
    let init = a.post("/integration/init", &json!({})).await;
    assert!(init.status == StatusCode::OK && init.took < Duration::from_secs(1), "{:?}", init.took);
    let hour = json!({"hours": 1, "minutes": 0, "seconds": 0});
    let more_time = items(&[json!({"job": {"id": "1"}, "requestedTime": hour})]);
    let (create, extend) = tokio::join!(a.create("1"), a.post("/jobs/extend", &more_time));
    for answer in [create, extend] {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.body);
        assert!(answer.body["why"].as_str().unwrap().contains("no coordinator leads"), "{}", answer.body);
        assert!((Duration::from_millis(3500)..IN_TIME).contains(&answer.took), "{:?}", answer.took);
    }
    // One that is elected in time answers what waits.
    let elects = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        arbiter.elect(Some("a"));
    };
    let (answer, ()) = tokio::join!(a.create("2"), elects);
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    a.stop().await;
}

#[tokio::test]
async fn while_leadership_moves_every_create_is_answered_in_time_and_none_that_was_taken_is_lost() {
    let (arbiter, a, b) = pair().await;
    let (a, b) = (Arc::new(a), Arc::new(b));
    let done = CancellationToken::new();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..6 {
        let (to, done) = (if caller % 2 == 0 { Arc::clone(&a) } else { Arc::clone(&b) }, done.clone());
        callers.spawn(async move {
            let mut taken = Vec::new();
            let mut busy = 0;
            for number in 0.. {
                if done.is_cancelled() {
                    break;
                }
                let id = format!("{caller}-{number}");
                let answer = to.create(&id).await;
                assert!(answer.took < IN_TIME, "{:?}", answer.took);
                match answer.status {
                    StatusCode::OK => taken.push(id),
                    StatusCode::SERVICE_UNAVAILABLE => busy += 1,
                    other => panic!("{other}: {}", answer.body),
                }
            }
            (taken, busy)
        });
    }
    for leader in [Some("b"), Some("a"), None, Some("b"), Some("a")] {
        tokio::time::sleep(Duration::from_millis(250)).await;
        arbiter.elect(leader);
    }
    tokio::time::sleep(Duration::from_millis(250)).await;
    done.cancel();
    let mut count = 0;
    while let Some(caller) = callers.join_next().await {
        let (taken, _) = caller.unwrap();
        count += taken.len();
        for id in taken {
            assert!(arbiter.has(&id), "{id} was taken and is lost");
        }
    }
    // How many is up to the machine; with none the rest would say nothing.
    assert!(count > 0);
    stop(&a, &b).await;
}

#[tokio::test]
async fn what_a_deposed_leader_was_about_to_say_stays_unsaid() {
    let (arbiter, a, b) = pair().await;
    let held = arbiter.gate.clone().acquire_owned().await.unwrap();
    let deposes = async {
        while !arbiter.has("1") {
            tokio::task::yield_now().await;
        }
        arbiter.elect(Some("b"));
        b.knows("b").await;
        drop(held);
    };
    let (answer, ()) = tokio::join!(a.create("1"), deposes);
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.body);
    // Core asks again, and hears from the new leader that the job is there.
    b.running.leads().await.unwrap();
    assert_eq!(a.create("1").await.status, StatusCode::OK);
    stop(&a, &b).await;
}

#[tokio::test]
async fn a_socket_reaches_the_leader_through_a_follower_and_ends_with_the_leadership() {
    let (arbiter, a, b) = pair().await;
    assert_eq!(a.create("1").await.status, StatusCode::OK);
    for (socket_at, next) in [(&b, "b"), (&a, "a")] {
        let url = format!("ws://{}/ucloud/jobs.provider.example/websocket", socket_at.running.addresses.http);
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        let payload = json!({"type": "init", "job": {"id": "1"}});
        let call = json!({"call": "jobs.provider.example.follow", "streamId": "7", "payload": payload, "bearer": fixture::token()});
        socket.send(Message::text(call.to_string())).await.unwrap();
        let Some(Ok(Message::Text(text))) = socket.next().await else { panic!("no announcement") };
        let announced: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&announced["type"], &announced["streamId"]), (&json!("message"), &json!("7")), "{announced}");
        arbiter.elect(Some(next));
        let ends = async { while let Some(Ok(_)) = socket.next().await {} };
        tokio::time::timeout(Duration::from_secs(5), ends).await.expect("the socket outlives the leadership");
        a.knows(next).await;
        b.knows(next).await;
    }
    stop(&a, &b).await;
}

#[tokio::test]
async fn workers_are_with_the_next_leader_at_once_and_a_planned_hand_over_is_quick() {
    let (_arbiter, a, b) = pair().await;
    let fleet_of = |of: &Coordinator| format!("http://{}", of.running.addresses.fleet);
    let mut stream = b.dial().await;
    assert_eq!(hear(&mut stream).await, Some(Downlink::Redirect { address: fleet_of(&a), term: 1 }));
    let mut stream = a.dial().await;
    assert!(matches!(hear(&mut stream).await, Some(Downlink::Say { .. })), "welcome");
    let begun = Instant::now();
    let stopping = async {
        a.stop().await;
        begun.elapsed()
    };
    let told = async {
        while let Some(heard @ Downlink::Say { .. }) = hear(&mut stream).await {
            drop(heard)
        }
    };
    let leads = async {
        let term = b.running.leads().await;
        (term, begun.elapsed())
    };
    let (stopped, (), (term, led)) = tokio::join!(stopping, told, leads);
    assert!(term > Some(1));
    assert!(stopped < LAME_DUCK + Duration::from_secs(2) && led < Duration::from_secs(1), "{stopped:?} {led:?}");
    assert_eq!(b.create("1").await.status, StatusCode::OK);
    b.stop().await;
}

#[tokio::test]
async fn a_leader_that_stops_is_not_taken_for_gone_before_it_has_resigned_and_does_not_campaign() {
    let (arbiter, a, b) = pair().await;
    let held = arbiter.gate.clone().acquire_owned().await.unwrap();
    let dial = || tokio::net::TcpStream::connect(a.running.addresses.http);
    let stopping = async {
        while !arbiter.has("1") {
            tokio::task::yield_now().await;
        }
        // As when an edge failed: the listener itself is closed then.
        a.edges.stop_token().cancel();
        a.inner.stop_token().cancel();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(dial().await.is_ok());
        drop(held);
    };
    let (answer, ()) = tokio::join!(a.create("1"), stopping);
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    b.running.leads().await.unwrap();
    arbiter.elect(Some("a"));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!a.running.standing.borrow().leads());
    a.stop().await;
    assert!(dial().await.is_err());
    b.stop().await;
}
