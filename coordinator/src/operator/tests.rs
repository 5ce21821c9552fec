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
