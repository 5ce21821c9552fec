use super::*;
use crate::http::Peer;
use crate::http::tests::stage::{Mood, Stage, driver, items, job, send};
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode, header};
use muster_ucloud::v2021::words::Words;
use serde_json::Value;

fn app(mood: Mood, token: Option<&str>) -> OperatorApp {
    let wording = Arc::new(Words { provider: muster_domain::id::ProviderId::new("example").unwrap() });
    let mut app = OperatorApp::new(driver(mood).0, wording, token.map(|token| Arc::new(Secret::new(token))));
    app.answer_within = Duration::from_millis(200);
    app
}

async fn get(app: &OperatorApp, path: &str, peer: Option<&str>, token: Option<&str>) -> (StatusCode, Value) {
    let mut request = Request::builder().uri(path);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    if let Some(peer) = peer {
        request = request.extension(ConnectInfo(Peer(peer.parse().unwrap())));
    }
    let answer = send(&router(app.clone()), request.body(Body::empty()).unwrap()).await;
    (answer.status, answer.body)
}

#[tokio::test]
async fn health_is_for_all_and_views_are_for_operators() {
    let app = app(Mood::Well, Some("secret"));
    let (far, near) = (Some("192.0.2.1:9"), Some("127.0.0.1:9"));
    for path in ["/health", "/ready"] {
        assert_eq!(get(&app, path, far, None).await.0, StatusCode::OK, "{path}");
    }
    for path in ["/v1/cluster", "/v1/nodes", "/v1/jobs"] {
        for (peer, token, status) in [
            (near, Some("secret"), StatusCode::OK),
            (near, None, StatusCode::UNAUTHORIZED),
            (far, Some("secret"), StatusCode::OK),
            (far, Some("secre"), StatusCode::UNAUTHORIZED),
            (far, Some(""), StatusCode::UNAUTHORIZED),
            (far, None, StatusCode::UNAUTHORIZED),
            (None, None, StatusCode::UNAUTHORIZED),
        ] {
            let (got, body) = get(&app, path, peer, token).await;
            assert_eq!(got, status, "{path} {peer:?} {token:?}");
            assert!(
                got == StatusCode::OK
                    || body == serde_json::json!({"why": "Unauthorized", "errorCode": "UNAUTHORIZED"})
            );
        }
    }
    let without = self::app(Mood::Well, None);
    for this_machine in ["127.0.0.1:9", "[::1]:9", "[::ffff:127.0.0.1]:9"] {
        assert_eq!(get(&without, "/v1/cluster", Some(this_machine), None).await.0, StatusCode::OK, "{this_machine}");
    }
    assert_eq!(get(&without, "/v1/cluster", far, Some("")).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(get(&without, "/nothing", far, None).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_web_page_whose_name_was_turned_to_this_machine_reads_nothing() {
    let (open, guarded) = (app(Mood::Well, None), app(Mood::Well, Some("secret")));
    for (host, status) in [
        ("127.0.0.1:8471", StatusCode::OK),
        ("LOCALHOST:8471", StatusCode::OK),
        ("[::1]:8471", StatusCode::OK),
        ("rebound.example.org:8471", StatusCode::FORBIDDEN),
        ("127.0.0.1.example.org", StatusCode::FORBIDDEN),
        ("192.0.2.1", StatusCode::FORBIDDEN),
        ("no host", StatusCode::FORBIDDEN),
    ] {
        for (app, status) in [(&open, status), (&guarded, StatusCode::OK)] {
            let request = Request::builder().uri("/v1/cluster").header(header::HOST, host);
            let request = request.header(header::AUTHORIZATION, "Bearer secret");
            let request = request.extension(ConnectInfo(Peer("127.0.0.1:9".parse().unwrap())));
            let answer = send(&router(app.clone()), request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status, status, "{host}");
        }
    }
}

#[tokio::test]
async fn views_show_the_cluster() {
    let stage = Stage::new(Mood::Well);
    stage.post("/ucloud/example/jobs", &items(&[job("812")])).await;
    let app = OperatorApp { handle: stage.app.handle.clone(), ..app(Mood::Well, None) };
    let near = Some("127.0.0.1:9");
    let (_, cluster) = get(&app, "/v1/cluster", near, None).await;
    assert_eq!((&cluster["term"], &cluster["jobs_waiting"]), (&Value::from(7), &Value::from(1)));
    let (_, jobs) = get(&app, "/v1/jobs", near, None).await;
    assert_eq!((&jobs[0]["id"], &jobs[0]["state"]), (&Value::from("812"), &Value::from("queued")));
    let (status, story) = get(&app, "/v1/jobs/812", near, None).await;
    assert_eq!((status, &story["image"]), (StatusCode::OK, &Value::from("acme/batch:1.0.0")));
    assert_eq!(get(&app, "/v1/jobs/9", near, None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(get(&app, "/v1/jobs/.x", near, None).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn not_being_able_to_answer_is_said_with_a_reason() {
    for mood in [Mood::Silent, Mood::Gone] {
        let app = app(mood, None);
        tokio::task::yield_now().await;
        assert_eq!(get(&app, "/health", None, None).await.0, StatusCode::OK);
        for path in ["/ready", "/v1/jobs"] {
            let (status, body) = get(&app, path, Some("127.0.0.1:9"), None).await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{mood:?} {path}");
            assert!(!body["why"].as_str().unwrap().is_empty());
        }
    }
    let (obstacle, watched) = watch::channel(Some("the store is full".to_owned()));
    let app = OperatorApp { obstacle: watched, ..app(Mood::Well, None) };
    assert_eq!(get(&app, "/ready", None, None).await.1["why"], "the store is full");
    obstacle.send_replace(None);
    assert_eq!(get(&app, "/ready", None, None).await.0, StatusCode::OK);
}

#[tokio::test]
async fn while_nobody_leads_the_reason_is_said_to_whoever_asks_the_operators_listener() {
    let mut app = app(Mood::Well, None);
    let board = crate::standing::Board::new(Standing::default());
    let concern = board.concern().clone();
    let (name, metrics) = (axum::http::HeaderValue::from_static("a"), crate::metrics::Metrics::new());
    app.forward = Forward::new(Door::Operator, board, name, 0, metrics, tokio_util::sync::CancellationToken::new());
    let why = async |path| get(&app, path, None, None).await.1["why"].clone();
    assert_eq!(why("/ready").await, "no coordinator leads: look at the others, and at the store's health");
    assert_eq!(why("/health").await, Value::Null);
    concern.of_election(Some("etcd does not answer".to_owned()));
    assert_eq!(why("/ready").await, "no coordinator leads: etcd does not answer");
    assert_eq!(why("/health").await, "etcd does not answer");
}

#[tokio::test]
async fn an_order_that_does_not_become_durable_says_what_is_wrong_with_the_store() {
    let app = app(Mood::Silent, None);
    let why = async || order(&app, "/v1/nodes/n1/cordon", "", &[("muster-operator", "1")]).await.1["why"].clone();
    assert_eq!(why().await, "the order was not made durable in time: give it again");
    app.forward.board().concern().of_store(Some("etcd is full".to_owned()));
    assert_eq!(why().await, "the order was not made durable in time: etcd is full");
}

async fn order(app: &OperatorApp, path: &str, body: &str, headers: &[(&str, &str)]) -> (StatusCode, Value) {
    let mut request = Request::builder().method("POST").uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.extension(ConnectInfo(Peer("127.0.0.1:9".parse().unwrap())));
    let answer = send(&router(app.clone()), request.body(Body::from(body.to_owned())).unwrap()).await;
    (answer.status, answer.body)
}

const MUSTER: (&str, &str) = ("muster-operator", "1");

/// An app with a node n1.
async fn with_a_node() -> OperatorApp {
    let app = app(Mood::Well, None);
    let hello = muster_domain::worker::Hello {
        node: muster_domain::id::NodeName::new("n1").unwrap(),
        boot_id: "b".to_owned(),
        capacity: muster_domain::resources::Resources { cores: 4, memory_bytes: 1 << 34, gpus: 0 },
        categories: vec![],
        labels: std::collections::BTreeMap::new(),
        network_zone: "z".to_owned(),
        engine: "fake".to_owned(),
        engine_version: "1".to_owned(),
        version: "0".to_owned(),
        last_term: 0,
        sent_at_ms: 0,
        ranks: vec![],
    };
    app.handle.tell(muster_domain::event::Event::WorkerHello { session: 1, hello: Box::new(hello) }).await.unwrap();
    app
}

#[tokio::test]
async fn a_node_is_taken_out_of_service_and_given_back() {
    let app = with_a_node().await;
    for (path, body, admission, ends) in [
        ("/v1/nodes/n1/cordon", "", "cordoned", Value::Null),
        ("/v1/nodes/n1/drain", "", "drained", Value::Null),
        ("/v1/nodes/n1/drain", r#" {"deadline_ms": 600000} "#, "drained", Value::from(600_000)),
        ("/v1/nodes/n1/drain", r#"{"deadline_ms": null}"#, "drained", Value::Null),
        ("/v1/nodes/n1/uncordon", "", "schedulable", Value::Null),
    ] {
        let (status, node) = order(&app, path, body, &[MUSTER]).await;
        assert_eq!((status, &node["admission"], &node["drain_ends_in_ms"]), (StatusCode::OK, &admission.into(), &ends));
        let (_, nodes) = get(&app, "/v1/nodes", Some("127.0.0.1:9"), None).await;
        assert_eq!((&nodes[0]["name"], &nodes[0]["admission"]), (&Value::from("n1"), &admission.into()), "{path}");
    }
    let (status, body) = order(&app, "/v1/nodes/n1/forget", "", &[MUSTER]).await;
    assert_eq!((status, &body["why"]), (StatusCode::CONFLICT, &"node n1 is connected; stop its worker first".into()));
    app.handle.tell(muster_domain::event::Event::WorkerGone { session: 1 }).await.unwrap();
    let (status, body) = order(&app, "/v1/nodes/n1/forget", "", &[MUSTER]).await;
    assert_eq!((status, &body["forgotten"]), (StatusCode::OK, &"n1".into()));
    let (status, body) = order(&app, "/v1/nodes/n1/cordon", "", &[MUSTER]).await;
    assert_eq!((status, &body["errorCode"]), (StatusCode::NOT_FOUND, &"NOT_FOUND".into()));
}

#[tokio::test]
async fn a_brake_is_released_by_name_or_with_all_others() {
    let app = with_a_node().await;
    let released = |brakes: Value| {
        let brakes = brakes.as_array().unwrap().clone();
        let released = brakes.iter().filter(|brake| !brake["released_for_ms"].is_null());
        released.map(|brake| brake["verdict"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (status, brakes) = order(&app, "/v1/brake/release", r#"{"verdict": "no_credit"}"#, &[MUSTER]).await;
    assert_eq!((status, released(brakes)), (StatusCode::OK, vec!["no_credit".to_owned()]));
    for body in ["", r#"{"verdict": null}"#] {
        let (_, brakes) = order(&app, "/v1/brake/release", body, &[MUSTER]).await;
        assert_eq!(released(brakes), ["lost", "orphan", "no_credit", "drain"]);
    }
    let (_, cluster) = get(&app, "/v1/cluster", Some("127.0.0.1:9"), None).await;
    assert_eq!(released(cluster["brakes"].clone()).len(), 4);
}

#[tokio::test]
async fn a_wrong_order_is_refused_with_words_and_changes_nothing() {
    let app = with_a_node().await;
    let long = format!("{{\"deadline_ms\": 1{}}}", " ".repeat(5_000));
    for (path, body, part) in [
        ("/v1/nodes/n1/drain", r#"{"deadline": 600000}"#, "unknown field `deadline`"),
        ("/v1/nodes/n1/drain", r#"{"deadline_ms": "10m"}"#, "deadline_ms"),
        ("/v1/nodes/n1/drain", r#"{"deadline_ms": -1}"#, "expected u64"),
        ("/v1/nodes/n1/drain", &long, "over 4096 bytes"),
        ("/v1/nodes/%2e%2e/cordon", "", "node name"),
        ("/v1/brake/release", r#"{"verdict": "all"}"#, "unknown variant `all`"),
    ] {
        let (status, answer) = order(&app, path, body, &[MUSTER]).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path} {body}");
        assert!(answer["why"].as_str().unwrap().contains(part), "{answer}");
    }
    let (_, nodes) = get(&app, "/v1/nodes", Some("127.0.0.1:9"), None).await;
    assert_eq!(nodes[0]["admission"], "schedulable");
    assert_eq!(get(&app, "/v1/nodes/n1/cordon", Some("127.0.0.1:9"), None).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn orders_are_for_operators_and_their_programs_only() {
    let app = with_a_node().await;
    let page = ("origin", "http://127.0.0.1:8471");
    for headers in [vec![], vec![("muster-operator", "0")], vec![MUSTER, page], vec![MUSTER, ("origin", "null")]] {
        for path in ["/v1/nodes/n1/cordon", "/v1/nodes/n1/forget", "/v1/brake/release"] {
            assert_eq!(order(&app, path, "", &headers).await.0, StatusCode::FORBIDDEN, "{path} {headers:?}");
        }
    }
    let guarded = self::app(Mood::Well, Some("secret"));
    let (status, _) = order(&guarded, "/v1/nodes/n1/cordon", "", &[MUSTER]).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "a token is wanted of everybody");
    let shown = ("authorization", "Bearer secret");
    assert_eq!(order(&guarded, "/v1/nodes/n1/cordon", "", &[MUSTER, shown]).await.0, StatusCode::NOT_FOUND);
    for mood in [Mood::Silent, Mood::Gone] {
        let app = self::app(mood, None);
        tokio::task::yield_now().await;
        let (status, body) = order(&app, "/v1/nodes/n1/cordon", "", &[MUSTER]).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{mood:?} {body}");
    }
}
