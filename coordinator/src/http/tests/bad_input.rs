//! What is wrong is refused with words that a person understands, and reaches nobody behind the edge.

use super::stage::{Answer, Mood, Stage, items, job, request};
use crate::auth::fixture::{CURRENT, NEXT, claims, sign};
use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use serde_json::{Value, json};

const JOBS: &str = "/ucloud/example/jobs";

fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut job = job("2");
    change(&mut job);
    job
}

/// Creates a good job together with this one.
async fn refused(stage: &Stage, job_at_fault: Value) -> Answer {
    let answer = stage.post(JOBS, &items(&[job("1"), job_at_fault])).await;
    assert_eq!(stage.events(), [], "nothing of the bulk is done");
    answer
}

#[tokio::test]
async fn a_job_that_cannot_be_run_is_named_with_its_field() {
    let stage = Stage::new(Mood::Well);
    let tool = "/status/resolvedApplication/invocation/tool/tool/description";
    let at = |path: String, value: Value| with(|job| *job.pointer_mut(&path).unwrap() = value);
    let specified = |field: &str, value: Value| at(format!("/specification/{field}"), value);
    for (name, job, part) in [
        ("unknown product", specified("product/id", json!("none")), "specification.product.id"),
        ("unknown category", specified("product/category", json!("none")), "specification.product"),
        ("another provider", specified("product/provider", json!("other")), "specification.product.provider"),
        ("no replicas", specified("replicas", json!(0)), "specification.replicas: expected 1 to 64"),
        ("replicas below nothing", specified("replicas", json!(-3)), "specification.replicas"),
        ("too many replicas", specified("replicas", json!(65)), "specification.replicas"),
        ("no time", specified("timeAllocation", json!({"hours": 0})), "specification.timeAllocation"),
        ("unsupported backend", at(format!("{tool}/backend"), json!("SINGULARITY")), "backend"),
        ("unknown backend", at(format!("{tool}/backend"), json!("PODMAN")), "backend"),
        ("no image", at(format!("{tool}/image"), Value::Null), "image"),
        ("no application", at("/status/resolvedApplication".into(), Value::Null), "status.resolvedApplication"),
        (
            "unknown kind of value",
            specified("parameters", json!({"value": {"type": "hologram", "value": 1}})),
            "specification.parameters.value",
        ),
        (
            "unknown kind of parameter",
            at(
                "/status/resolvedApplication/invocation/parameters".into(),
                json!([{"type": "hologram", "name": "value"}]),
            ),
            "value",
        ),
        (
            "unknown kind of resource",
            specified("resources", json!([{"type": "hologram"}])),
            "specification.resources[0]",
        ),
        ("an id that is none", at("/id".into(), json!("../etc")), "id"),
        ("an id that is missing", at("/id".into(), Value::Null), "id"),
        ("replicas that are a text", specified("replicas", json!("many")), "replicas"),
    ] {
        let answer = refused(&stage, job).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{name}: {answer:?}");
        let why = answer.why();
        assert!(why.contains("items[1]") && why.contains(part), "{name}: {why}");
    }
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_located_or_too_large() {
    let stage = Stage::new(Mood::Well);
    let extend = format!("{JOBS}/extend");
    for (path, body, part) in [
        (JOBS, "{\"items\":[\n{]}".to_owned(), "line 2 column 2"),
        (JOBS, "not json".to_owned(), "line 1"),
        (JOBS, String::new(), ""),
        (JOBS, r#"{"items":{}}"#.to_owned(), "items"),
        (JOBS, r#"{"items":[]}"#.to_owned(), "1 to 1000"),
        (JOBS, items(&vec![json!({"id": "1"}); 1001]).to_string(), "1 to 1000"),
        (&extend, items(&[json!({"job": {"id": "1"}})]).to_string(), "requestedTime"),
        (&extend, items(&[json!({"job": {"id": "1"}, "requestedTime": {}})]).to_string(), "requestedTime"),
        (&extend, items(&[json!({"job": {"id": ""}, "requestedTime": {"hours": 1}})]).to_string(), "items[0].job.id"),
    ] {
        let answer = stage.raw(path, body.clone()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path} {body:.60}");
        assert!(answer.why().contains(part), "{body:.60}: {}", answer.why());
    }
    let large = |bytes: usize| " ".repeat(bytes + 1);
    for path in ["extend", "terminate", "verify", "suspend", "updateAcl", "interactiveSession", "init"] {
        let answer = stage.raw(&format!("{JOBS}/{path}"), large(4 << 20)).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{path}");
        assert!(answer.why().contains("4 MiB"));
    }
    let answer = stage.raw(JOBS, large(32 << 20)).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(answer.why().contains("32 MiB"));
    assert_eq!(stage.events(), []);
    // Just below the limit it is read.
    let mut body = items(&[job("1")]).to_string();
    body.push_str(&large((32 << 20) - body.len() - 1));
    assert_eq!(stage.raw(JOBS, body).await.status, StatusCode::OK);
}

#[tokio::test]
async fn whoever_is_not_core_gets_one_constant_answer() {
    let stage = Stage::new(Mood::Well);
    let now = muster_runtime::clock::now().wall_ms / 1000;
    let header = r#"{"alg":"RS256"}"#;
    let changed = |name: &str, value: Value| {
        let mut claims = claims(now);
        claims[name] = value;
        Some(format!("Bearer {}", sign(header, &claims.to_string(), CURRENT)))
    };
    let strangers = [
        None,
        Some("Bearer".to_owned()),
        Some("Basic dXNlcjpwYXNz".to_owned()),
        Some("Bearer x.y.z".to_owned()),
        Some(format!("Bearer {}", "x".repeat(9000))),
        Some(format!("Bearer {}", sign(header, &claims(now).to_string(), NEXT))),
        Some(format!("Bearer {}", sign(r#"{"alg":"none"}"#, &claims(now).to_string(), CURRENT))),
        changed("iss", json!("other")),
        changed("sub", json!("user")),
        changed("role", json!("USER")),
        changed("exp", json!(now - 16)),
        changed("iat", json!(now + 60)),
        changed("exp", json!(now + 100_000)),
    ];
    for authorization in strangers {
        for (method, path) in [
            (Method::POST, "/ucloud/example/jobs"),
            (Method::GET, "/ucloud/example/jobs/retrieveProducts"),
            (Method::GET, "/ucloud/other/jobs/retrieveProducts"),
        ] {
            let mut request = request(method, path, Body::from(items(&[job("1")]).to_string()));
            request.headers_mut().remove(header::AUTHORIZATION);
            if let Some(value) = &authorization {
                request.headers_mut().insert(header::AUTHORIZATION, value.parse().unwrap());
            }
            let answer = stage.send(request).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{authorization:?}");
            assert_eq!(answer.body, json!({"why": "Unauthorized", "errorCode": "UNAUTHORIZED"}));
        }
    }
    assert_eq!(stage.events(), []);
}
