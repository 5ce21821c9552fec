//! `muster` against a server that answers as a coordinator does.

use super::*;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;

async fn coordinator() -> String {
    let jobs = || async { Json(json!([{"id": "a", "state": "running"}, {"id": "b", "state": "ended"}])) };
    let cluster = |headers: HeaderMap| async move {
        match headers.get("authorization").and_then(|value| value.to_str().ok()) {
            Some("Bearer hunter2") => Ok(Json(json!({"cluster": "uni"}))),
            _ => Err(StatusCode::UNAUTHORIZED),
        }
    };
    let job = |Path(id): Path<String>| async move {
        match &*id {
            "a/b" => Ok(Json(json!({"id": id}))),
            "away" => Err((StatusCode::SERVICE_UNAVAILABLE, Json(json!({"why": "no leader: try again"})))),
            _ => Err((StatusCode::NOT_FOUND, Json(json!({"why": "unknown"})))),
        }
    };
    // Tells back what it was told.
    let order = |Path((name, order)): Path<(String, String)>, headers: HeaderMap, body: String| async move {
        match (&*name, headers.get("muster-operator").is_some_and(|value| value == "1")) {
            (_, false) => Err((StatusCode::FORBIDDEN, Json(json!({"why": "no web pages"})))),
            ("n1", _) => Ok(Json(json!({"order": order, "body": body}))),
            ("busy", _) => Err((StatusCode::CONFLICT, Json(json!({"why": "node busy is connected"})))),
            _ => Err((StatusCode::NOT_FOUND, Json(json!({"why": "unknown"})))),
        }
    };
    let release = |body: String| async move { Json(json!([{"body": body}])) };
    let router = Router::new()
        .route("/v1/nodes/{name}/{order}", post(order))
        .route("/v1/brake/release", post(release))
        .route("/v1/jobs", get(jobs))
        .route("/v1/cluster", get(cluster))
        .route("/v1/jobs/{id}", get(job))
        .route("/v1/nodes", get(|| async { "a page" }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn muster(url: &str, arguments: &[&str]) -> Result<String, Problem> {
    muster_runtime::tls::install_provider();
    let arguments = ["muster", "--output", "json"].iter().chain(arguments).map(OsString::from);
    match command::load(arguments, [("MUSTER_URL".into(), url.into())]) {
        Ok(Outcome::Run(loaded)) => answer(&loaded).await,
        other => panic!("{other:?}"),
    }
}

fn text(answer: Result<String, Problem>) -> String {
    match answer {
        Ok(text) => panic!("{text}"),
        Err(Problem::Failed(text)) => format!("1 {text}"),
        Err(Problem::NotFound(text)) => format!("3 {text}"),
    }
}

#[tokio::test]
async fn answers_are_shown_and_refusals_say_what_to_do() {
    let url = coordinator().await;
    let jobs: serde_json::Value = serde_json::from_str(&muster(&url, &["jobs"]).await.unwrap()).unwrap();
    assert_eq!(jobs, json!([{"id": "a", "state": "running"}]));
    assert!(muster(&url, &["job", "a/b"]).await.unwrap().contains("\"a/b\""));
    assert!(muster(&format!("{url}/"), &["job", "a/b"]).await.is_ok());

    let missing = text(muster(&url, &["job", "c"]).await);
    assert_eq!(missing, "3 the job c is not known here; `muster jobs --all` lists all that are");
    let away = text(muster(&url, &["job", "away"]).await);
    assert_eq!(away, "1 the coordinator cannot answer now: no leader; try again, or ask another with --url");
    let foreign = text(muster(&url, &["nodes"]).await);
    assert!(foreign.contains("does not answer as a coordinator does; check --url"), "{foreign}");
    let elsewhere = text(muster(&format!("{url}/x"), &["jobs"]).await);
    let not_here = format!("1 {url}/x is not the operator listener of a coordinator; check --url");
    assert_eq!(elsewhere, not_here);
    assert_eq!(text(muster(&format!("{url}/x"), &["job", "c"]).await), not_here, "no coordinator has said so");
    let anonymous = text(muster(&url, &["cluster"]).await);
    assert!(anonymous.ends_with("name its file with --token-file or MUSTER_TOKEN_FILE"), "{anonymous}");
}

#[tokio::test]
async fn orders_are_given_and_their_refusals_say_why() {
    let url = coordinator().await;
    for (arguments, order, body) in [
        (["node", "cordon", "n1"].as_slice(), "cordon", "{}"),
        (&["node", "uncordon", "n1"], "uncordon", "{}"),
        (&["node", "forget", "n1"], "forget", "{}"),
        (&["node", "drain", "n1"], "drain", r#"{"deadline_ms":null}"#),
        (&["node", "drain", "n1", "--deadline", "10m"], "drain", r#"{"deadline_ms":600000}"#),
        (&["node", "drain", "n1", "--deadline=90s"], "drain", r#"{"deadline_ms":90000}"#),
        (&["node", "drain", "--deadline", "1h", "n1"], "drain", r#"{"deadline_ms":3600000}"#),
    ] {
        let said: serde_json::Value = serde_json::from_str(&muster(&url, arguments).await.unwrap()).unwrap();
        assert_eq!(said, json!({"order": order, "body": body}), "{arguments:?}");
    }
    for (arguments, body) in [
        (["brake", "release"].as_slice(), r#"{"verdict":null}"#),
        (&["brake", "release", "no_credit"], r#"{"verdict":"no_credit"}"#),
    ] {
        let said: serde_json::Value = serde_json::from_str(&muster(&url, arguments).await.unwrap()).unwrap();
        assert_eq!(said, json!([{"body": body}]));
    }
    let missing = text(muster(&url, &["node", "drain", "n9"]).await);
    assert_eq!(missing, "3 the node n9 is not known here; `muster nodes` lists all that are");
    let refused = text(muster(&url, &["node", "forget", "busy"]).await);
    assert_eq!(refused, "1 the coordinator refuses: node busy is connected");
}

#[test]
fn a_wrong_order_is_found_on_the_command_line() {
    for (arguments, part) in [
        (["node"].as_slice(), "Usage: muster node"),
        (&["node", "drain"], "NAME"),
        (&["node", "drain", "n1", "--deadline", "10"], "expected a duration such as 90s, 10m or 1h"),
        (&["node", "drain", "n1", "--deadline", "soon"], "expected a duration such as 90s, 10m or 1h"),
        (&["node", "drain", "n1", "--deadline", "-5m"], "expected a duration such as 90s, 10m or 1h"),
        (&["job", ""], "a value is required"),
        (&["node", "forget", ""], "a value is required"),
        (&["node", "cordon", "n1", "--deadline", "10m"], "--deadline"),
        (&["node", "stop", "n1"], "stop"),
        (&["brake", "release", "all"], "lost, orphan, no_credit, drain"),
    ] {
        let arguments = ["muster"].iter().chain(arguments).map(OsString::from);
        match command::load(arguments, []) {
            Err(error) => assert!(error.to_string().contains(part), "{error}"),
            Ok(_) => panic!("{part}"),
        }
    }
}

#[tokio::test]
async fn the_token_is_shown_to_the_coordinator_only() {
    let url = coordinator().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    for (content, mode, expected) in [
        ("hunter2\n", 0o600, "uni"),
        ("hunter3\n", 0o600, "the coordinator refuses the token"),
        ("hunter2\n", 0o644, "run: chmod 0400"),
    ] {
        std::fs::write(path, content).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        let answer = muster(&url, &["cluster", "--token-file", path]).await;
        let shown = answer.unwrap_or_else(|problem| problem.to_string());
        assert!(shown.contains(expected) && !shown.contains("hunter"), "{shown}");
    }
}

#[tokio::test]
async fn a_coordinator_out_of_reach_is_named_with_what_to_do() {
    // Bound and dropped, so that nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let problem = text(muster(&format!("http://{free}"), &["jobs"]).await);
    assert!(problem.starts_with(&format!("1 cannot reach the coordinator at http://{free}/: ")), "{problem}");
    assert!(problem.contains("Connection refused"), "{problem}");
    assert!(problem.ends_with("name its operator listener with --url or MUSTER_URL"), "{problem}");
}

#[test]
fn the_configuration_can_be_looked_at_without_asking_anything() {
    let print = |flag: &str| match command::load(["muster", flag].map(OsString::from), []) {
        Ok(Outcome::Print(text)) => text,
        other => panic!("{other:?}"),
    };
    assert!(print("--print-config").contains("url = \"http://127.0.0.1:8471\"  # default"));
    assert!(print("--check-config").starts_with("the configuration is valid; "));
    assert!(print("--version").starts_with("muster "));
    assert!(print("--help").contains("Exit codes: "));
}

#[test]
fn all_and_state_exclude_each_other_and_states_are_known() {
    for arguments in
        [["muster", "jobs", "--all", "--state=ended"].as_slice(), &["muster", "jobs", "--state=gone"], &["muster"]]
    {
        let arguments = arguments.iter().map(OsString::from);
        assert!(command::load(arguments, []).is_err());
    }
}
