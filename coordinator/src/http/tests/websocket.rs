//! `follow` over a real socket.

use super::stage::{Mood, Stage, items, job, send};
use crate::auth::fixture;
use crate::election::Standing;
use crate::fleet::logs::{LogRequest, LogSource};
use crate::forward::{Door, Forward};
use crate::http::{App, Limits, router, serve};
use crate::metrics::Metrics;
use crate::standing::Board;
use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, StatusCode};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use muster_domain::event::Event;
use muster_domain::id::{JobId, NodeName};
use muster_domain::rank::{RankReport, RankState};
use muster_domain::resources::{GIB, Resources};
use muster_domain::worker::{Hello, Report};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn connect(stage: &Stage, path: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}{path}", listener.local_addr().unwrap());
        tokio::spawn(serve(listener, stage.router.clone(), Limits::default(), stage.app.stop.clone()));
        Self(connect_async(url).await.unwrap().0)
    }

    async fn say(&mut self, text: impl Into<String>) {
        self.0.send(Message::text(text.into())).await.unwrap();
    }

    async fn call(&mut self, stream: &str, payload: Value) {
        let token = fixture::token();
        let call =
            json!({"call": "jobs.provider.example.follow", "streamId": stream, "payload": payload, "bearer": token});
        self.say(call.to_string()).await;
    }

    async fn hear(&mut self) -> Value {
        loop {
            let message = tokio::time::timeout(Duration::from_secs(10), self.0.next()).await.expect("silence");
            match message.expect("the end").unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Close(frame) => return json!({"close": frame.map(|frame| u16::from(frame.code))}),
                _ => {}
            }
        }
    }
}

const PATH: &str = "/ucloud/jobs.provider.example/websocket";

#[tokio::test]
async fn calls_are_told_apart_by_name_and_checked_one_by_one() {
    let stage = Stage::new(Mood::Well);
    let mut client = Client::connect(&stage, "/ucloud/anything/websocket").await;
    client.say("not json").await;
    client.say(r#"{"call":"x"}"#).await;
    client.say(r#"{"call":"jobs.compute.example.shell.open","streamId":"s","payload":{}}"#).await;
    let not_found = |stream: &str| json!({"type": "response", "streamId": stream, "payload": {}, "status": 404});
    assert_eq!(client.hear().await, not_found("s"));

    let follow = |bearer: Value| json!({"call": "jobs.provider.example.follow", "streamId": "1", "payload": {"type": "init", "job": {"id": "812"}}, "bearer": bearer});
    for bearer in [Value::Null, json!("x.y.z")] {
        client.say(follow(bearer).to_string()).await;
        let answer = client.hear().await;
        assert_eq!(answer["status"], 401);
        assert_eq!(answer["payload"]["why"], "Unauthorized");
    }
    client.call("2", json!({"type": "init", "job": {"id": "812"}})).await;
    assert_eq!(client.hear().await, not_found("2"));
    client.call("3", json!({"type": "init", "job": {"id": "../x"}})).await;
    assert_eq!(client.hear().await, not_found("3"));
    client.call("4", json!({"type": "init"})).await;
    let answer = client.hear().await;
    assert_eq!((&answer["status"], &answer["streamId"]), (&json!(400), &json!("4")));
    client.call("5", json!({"type": "cancel", "streamId": "none"})).await;
    let answer = client.hear().await;
    assert_eq!(answer["payload"], json!({"streamId": "", "rank": -1, "stdout": null, "stderr": null}));
    assert_eq!(answer["status"], 200);
}

#[tokio::test]
async fn a_waiting_job_is_followed_until_cancelled_or_stopped() {
    let stage = Stage::new(Mood::Well);
    stage.post("/ucloud/example/jobs", &items(&[job("812")])).await;
    let mut client = Client::connect(&stage, PATH).await;
    client.call("7", json!({"type": "init", "job": job("812")})).await;
    let announced = client.hear().await;
    let session = announced["payload"]["streamId"].as_str().unwrap().to_owned();
    assert_eq!(session.len(), 36);
    let empty = json!({"streamId": session, "rank": -1, "stdout": null, "stderr": null});
    assert_eq!(announced, json!({"type": "message", "streamId": "7", "payload": empty}));
    client.call("7", json!({"type": "init", "job": job("812")})).await;
    assert_eq!(client.hear().await["status"], 400);

    client.call("8", json!({"type": "cancel", "streamId": session})).await;
    let mut answers = [client.hear().await, client.hear().await];
    answers.sort_by_key(|answer| answer["streamId"].to_string());
    assert_eq!(answers[0], json!({"type": "response", "streamId": "7", "payload": empty, "status": 200}));
    assert_eq!(answers[1]["streamId"], "8");

    client.call("7", json!({"type": "init", "job": job("812")})).await;
    assert_eq!(client.hear().await["type"], "message");
    stage.app.stop.cancel();
    assert_eq!(client.hear().await["type"], "response");
    assert_eq!(client.hear().await, json!({"close": 1012}));
}

#[tokio::test]
async fn the_log_of_a_running_job_arrives() {
    let stage = Stage::new(Mood::Well);
    stage.post("/ucloud/example/jobs", &items(&[job("812")])).await;
    let (requests, mut asked) = mpsc::channel(8);
    stage.app.logs.attach(3, requests);
    run(&stage).await;
    let mut client = Client::connect(&stage, PATH).await;
    client.call("1", json!({"type": "init", "job": job("812")})).await;
    assert_eq!(client.hear().await["payload"]["rank"], -1);
    let Some(LogRequest { log_id, key }) = asked.recv().await else { panic!("no log was asked for") };
    assert_eq!((key.rank, key.attempt), (0, 1));
    let sink = stage.app.logs.begin(log_id).unwrap();
    assert!(sink.push(LogSource::Stdout, Bytes::from_static(b"step 1 done\n")).await);
    let heard = client.hear().await;
    assert_eq!(heard["payload"]["stdout"], "step 1 done\n");
    assert_eq!((&heard["payload"]["rank"], &heard["payload"]["stderr"]), (&json!(0), &Value::Null));
    // A client that leaves ends the worker's call.
    drop(client);
    tokio::time::timeout(Duration::from_secs(10), sink.abandoned()).await.unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped() {
    let stage = Stage::new(Mood::Well);
    stage.post("/ucloud/example/jobs", &items(&[job("812")])).await;
    let (requests, mut asked) = mpsc::channel(8);
    stage.app.logs.attach(3, requests);
    run(&stage).await;
    let mut client = Client::connect(&stage, PATH).await;
    client.call("1", json!({"type": "init", "job": job("812")})).await;
    let LogRequest { log_id, .. } = asked.recv().await.unwrap();
    let sink = stage.app.logs.begin(log_id).unwrap();
    let flood = async { while sink.push(LogSource::Stdout, Bytes::from(vec![b'x'; 32 * 1024])).await {} };
    tokio::time::timeout(Duration::from_secs(60), flood).await.expect("nothing holds the flood back");
    drop(client);
}

#[tokio::test]
async fn what_asks_for_no_socket_is_answered_at_once_although_nobody_leads() {
    let stage = Stage::new(Mood::Well);
    let (board, name) = (Board::new(Standing::default()), HeaderValue::from_static("b"));
    let forward = Forward::new(Door::Ucloud, board, name, 4, Metrics::new(), stage.app.stop.clone());
    let router = router(App { forward, ..stage.app.clone() });
    let begun = std::time::Instant::now();
    for (method, status) in [(Method::GET, StatusCode::BAD_REQUEST), (Method::POST, StatusCode::METHOD_NOT_ALLOWED)] {
        let answer = send(&router, Request::builder().method(method).uri(PATH).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, status);
    }
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn sockets_are_few() {
    let stage = Stage::new(Mood::Well);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}{PATH}", listener.local_addr().unwrap());
    tokio::spawn(serve(listener, stage.router.clone(), Limits::default(), stage.app.stop.clone()));
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(connect_async(&url).await.unwrap().0);
    }
    assert!(connect_async(&url).await.unwrap_err().to_string().contains("503"));
    open.pop();
    let again = async {
        while connect_async(&url).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again).await.unwrap();
}

/// A worker on stream 3 that runs rank 0 of job 812.
async fn run(stage: &Stage) {
    let hello = Hello {
        node: NodeName::new("n1").unwrap(),
        boot_id: "b".to_owned(),
        capacity: Resources { cores: 4, memory_bytes: 8 * GIB, gpus: 0 },
        categories: Vec::new(),
        labels: std::collections::BTreeMap::new(),
        network_zone: "z".to_owned(),
        engine: "fake".to_owned(),
        engine_version: "0".to_owned(),
        version: "0".to_owned(),
        last_term: 0,
        sent_at_ms: 1,
        ranks: Vec::new(),
    };
    let handle = &stage.app.handle;
    handle.tell(Event::WorkerHello { session: 3, hello: Box::new(hello) }).await.unwrap();
    let states = [
        RankState::Preparing,
        RankState::Prepared { address: "127.1.0.1".to_owned() },
        RankState::Running { age_ms: 5 },
    ];
    for (count, state) in states.into_iter().enumerate() {
        let job = JobId::new("812").unwrap();
        let asked = job.clone();
        let place = handle.query(move |cluster, _| cluster.location(&asked)).await.unwrap().unwrap();
        let key = place.ranks.first().expect("the job is placed").key.clone();
        let number = count as u64 + 1;
        let report = Report {
            sent_at_ms: number + 1,
            applied_sequence: number,
            complete: true,
            ranks: vec![RankReport { key, state, time_limit_ms: None }],
            engine_ok: true,
        };
        handle.tell(Event::WorkerReport { session: 3, report }).await.unwrap();
    }
}
