//! What bad input gets: a 4xx that a person understands, nothing stored, nothing started.

use muster_domain::view::JobView;
use muster_tests::core::BadToken;
use muster_tests::harness::{Engine, Site, SiteOptions};
use serde_json::{Value, json};

async fn site() -> Site {
    Site::start(SiteOptions::new(Engine::Fake, 1)).await.unwrap()
}

async fn nothing_was_stored(site: &Site) {
    let jobs: Vec<JobView> = site.operator("/v1/jobs").await.unwrap();
    assert!(jobs.is_empty(), "{jobs:?}");
}

/// What the provider answered.
#[derive(Debug)]
struct Answer {
    status: u16,
    why: String,
    code: Option<String>,
}

async fn post_as(site: &Site, path: &str, body: &str, token: Option<&str>) -> Answer {
    let mut request = reqwest::Client::new().post(format!("{}{path}", site.provider_url())).body(body.to_owned());
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default();
    let why = body["why"].as_str().unwrap_or_default().to_owned();
    Answer { status, why, code: body["errorCode"].as_str().map(str::to_owned) }
}

async fn post(site: &Site, path: &str, body: &str) -> Answer {
    post_as(site, path, body, Some(&site.core.core_token().unwrap())).await
}

/// The seeds' job under another id, changed at one place.
fn job(id: &str, path: &str, value: Value) -> Value {
    let steps: Value =
        serde_json::from_str(include_str!("../../../ucloud/tests/vectors/jobs-dec-create-simple.json")).unwrap();
    let mut job = steps[0]["request"]["items"][0].clone();
    job["id"] = json!(id);
    if !path.is_empty() {
        *job.pointer_mut(path).unwrap() = value;
    }
    job
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_job_is_refused_in_words_and_undoes_its_bulk() {
    let site = site().await;
    let tool = "/status/resolvedApplication/invocation/tool/tool/description";
    let bad = [
        ("product", job("2", "/specification/product/id", json!("no-such-machine"))),
        ("provider", job("2", "/specification/product/provider", json!("somebody-else"))),
        ("replicas", job("2", "/specification/replicas", json!(0))),
        ("replicas", job("2", "/specification/replicas", json!(1001))),
        ("backend", job("2", &format!("{tool}/backend"), json!("VIRTUAL_MACHINE"))),
        ("image", job("2", &format!("{tool}/image"), Value::Null)),
        ("resolvedApplication", job("2", "/status/resolvedApplication", Value::Null)),
        ("parameters", job("2", "/specification/parameters/value", json!({"type": "no-such-kind", "value": 1}))),
        ("timeAllocation", job("2", "/specification/timeAllocation/hours", json!(0))),
        ("id", job("../2", "", Value::Null)),
    ];
    for (field, bad) in bad {
        let body = json!({"items": [job("1", "", Value::Null), bad]}).to_string();
        let answer = post(&site, "/ucloud/example/jobs", &body).await;
        assert!((400..500).contains(&answer.status), "{field}: {answer:?}");
        assert!(answer.why.contains("items[1]") && answer.why.contains(field), "{field}: {}", answer.why);
        assert!(answer.code.is_some(), "{field}: {answer:?}");
        nothing_was_stored(&site).await;
    }
    site.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_body_is_refused_in_words() {
    let site = site().await;
    let many = json!({"items": vec![json!({"id": "1"}); 1001]}).to_string();
    let huge = format!("{{\"items\": [\"{}\"]}}", "x".repeat(5 * 1024 * 1024));
    let cases = [
        ("/ucloud/example/jobs", "{\"items\": [", 400, "JSON"),
        ("/ucloud/example/jobs", "{\"items\": []}", 400, "items"),
        ("/ucloud/example/jobs", many.as_str(), 400, "1000"),
        ("/ucloud/example/jobs/terminate", huge.as_str(), 413, "MiB"),
        (
            "/ucloud/example/jobs/extend",
            "{\"items\":[{\"job\":{\"id\":\"404\"},\"requestedTime\":{\"hours\":1,\"minutes\":0,\"seconds\":0}}]}",
            404,
            "404",
        ),
        ("/ucloud/other/jobs", "{\"items\": []}", 404, "other"),
        ("/ucloud/example/jobs/no-such-call", "{}", 404, ""),
    ];
    for (path, body, status, words) in cases {
        let answer = post(&site, path, body).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert!(answer.why.contains(words), "{path}: {}", answer.why);
    }
    nothing_was_stored(&site).await;
    site.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_wrong_token_is_turned_away_with_the_same_words() {
    let site = site().await;
    let body = json!({"items": [{"id": "1"}]}).to_string();
    let mut words = Vec::new();
    for kind in BadToken::ALL {
        let token = site.core.bad_token(*kind).unwrap();
        let answer = post_as(&site, "/ucloud/example/jobs", &body, Some(&token)).await;
        assert_eq!(answer.status, 401, "{kind:?}: {answer:?}");
        words.push(answer.why);
    }
    let answer = post_as(&site, "/ucloud/example/jobs", &body, None).await;
    assert_eq!(answer.status, 401, "no token: {answer:?}");
    assert!(words.iter().all(|why| *why == answer.why), "a stranger learns nothing from the words: {words:?}");
    nothing_was_stored(&site).await;
    site.stop().await.unwrap();
}

/// A duplicate create is normal traffic; another job under the same id is a conflict.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creates_are_idempotent_by_id() {
    let site = site().await;
    let first = job("77", "", Value::Null);
    let other = job("77", "/specification/replicas", json!(2));
    let body = |job: &Value| json!({"items": [job]}).to_string();
    for _ in 0..3 {
        assert_eq!(post(&site, "/ucloud/example/jobs", &body(&first)).await.status, 200);
    }
    let answer = post(&site, "/ucloud/example/jobs", &body(&other)).await;
    assert_eq!(answer.status, 409, "{answer:?}");
    assert!(answer.why.contains("77"), "{}", answer.why);
    let jobs: Vec<JobView> = site.operator("/v1/jobs").await.unwrap();
    assert_eq!(jobs.len(), 1);
    let session = json!({"items": [{"job": first, "rank": 1, "sessionType": "SHELL"}]}).to_string();
    let answer = post(&site, "/ucloud/example/jobs/interactiveSession", &session).await;
    assert_eq!((answer.status, answer.code.as_deref()), (404, Some("NOT_FOUND")), "{answer:?}");
    assert!(answer.why.contains("items[0].rank"), "{}", answer.why);
}
