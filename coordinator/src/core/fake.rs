//! A Core for tests: it takes what a script lets it take, and remembers every call.

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

#[derive(Debug, Default)]
pub(super) struct Script {
    /// Jobs that Core does not know.
    pub(super) unknown: BTreeSet<String>,
    /// Jobs that Core knows and refuses all the same.
    pub(super) refused: BTreeSet<String>,
    /// Jobs that Core stumbles over: 502 for the whole call, as for a product that it cannot resolve.
    pub(super) stumbles: BTreeSet<String>,
    /// Jobs without an allocation.
    pub(super) no_allocation: BTreeSet<String>,
    /// Jobs whose wallet is below zero.
    pub(super) broke: BTreeSet<String>,
    /// Statuses for the next control calls, before anything else is looked at.
    pub(super) next: VecDeque<u16>,
    /// Tokens given so far; only the last one is good.
    pub(super) tokens: u32,
    /// Whether the refresh token is refused.
    pub(super) refuse_refresh: bool,
    /// Last part of the path, ids and `traceparent` of each control call.
    pub(super) calls: Vec<(String, Vec<String>, Option<String>)>,
    /// Items of calls that were taken.
    pub(super) taken: Vec<Value>,
}

#[derive(Clone, Debug)]
pub(super) struct FakeCore {
    pub(super) address: SocketAddr,
    script: Arc<Mutex<Script>>,
}

type Shared = State<Arc<Mutex<Script>>>;

impl FakeCore {
    pub(super) async fn start() -> Self {
        let script = Arc::new(Mutex::new(Script::default()));
        let router = Router::new()
            .route("/auth/providers/refresh", post(refresh))
            .route("/api/jobs/control/update", post(bulk))
            .route("/api/jobs/control/chargeCredits", post(bulk))
            .route("/api/jobs/control/retrieve", get(retrieve))
            .route("/api/jobs/control/browse", get(browse))
            .with_state(script.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, script }
    }

    pub(super) fn script<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.script.lock().unwrap())
    }

    /// Ids of each call to `name`, in order.
    pub(super) fn calls(&self, name: &str) -> Vec<Vec<String>> {
        let pick = |(call, ids, _): &(String, Vec<String>, Option<String>)| (call == name).then(|| ids.clone());
        self.script(|script| script.calls.iter().filter_map(pick).collect())
    }
}

fn wrong(status: u16, why: &str) -> Response {
    (StatusCode::from_u16(status).unwrap(), Json(json!({ "why": why, "errorCode": null }))).into_response()
}

async fn refresh(State(script): Shared, Json(body): Json<Value>) -> Response {
    let mut script = script.lock().unwrap();
    if script.refuse_refresh || body != json!({ "items": [{ "refreshToken": "good" }] }) {
        return wrong(403, "Forbidden");
    }
    script.tokens += 1;
    Json(json!({ "responses": [{ "accessToken": format!("token-{}", script.tokens) }] })).into_response()
}

fn admit(script: &mut Script, headers: &HeaderMap, call: &str, ids: Vec<String>) -> Option<Response> {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    script.calls.push((call.to_owned(), ids, header("traceparent")));
    if let Some(status) = script.next.pop_front() {
        return Some(wrong(status, "as scripted"));
    }
    let good = format!("Bearer token-{}", script.tokens);
    (header("authorization") != Some(good)).then(|| wrong(401, "Unauthorized"))
}

async fn bulk(State(script): Shared, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let mut script = script.lock().unwrap();
    let call = uri.path().rsplit('/').next().unwrap().to_owned();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let items = body["items"].as_array().unwrap().clone();
    let ids: Vec<String> = items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect();
    if let Some(refusal) = admit(&mut script, &headers, &call, ids.clone()) {
        return refusal;
    }
    let any = |set: &BTreeSet<String>| ids.iter().any(|id| set.contains(id));
    if any(&script.unknown) || any(&script.refused) {
        return wrong(400, "Unable to use all requested resources");
    }
    if any(&script.stumbles) {
        return wrong(502, "Bad Gateway");
    }
    if call == "chargeCredits" && any(&script.no_allocation) {
        return wrong(402, "Payment Required");
    }
    script.taken.extend(items);
    let broke: Vec<Value> = ids.iter().filter(|id| script.broke.contains(*id)).map(|id| json!({ "id": id })).collect();
    match call.as_str() {
        "update" => Json(json!({})).into_response(),
        _ => Json(json!({ "insufficientFunds": broke, "duplicateCharges": [] })).into_response(),
    }
}

async fn retrieve(State(script): Shared, headers: HeaderMap, Query(query): Query<HashMap<String, String>>) -> Response {
    let mut script = script.lock().unwrap();
    let id = query["id"].clone();
    if let Some(refusal) = admit(&mut script, &headers, "retrieve", vec![id.clone()]) {
        return refusal;
    }
    if script.unknown.contains(&id) { wrong(404, "Not found") } else { Json(json!({ "id": id })).into_response() }
}

async fn browse(State(script): Shared, headers: HeaderMap, uri: Uri) -> Response {
    let mut script = script.lock().unwrap();
    let query = uri.query().unwrap_or_default().to_owned();
    if let Some(refusal) = admit(&mut script, &headers, "browse", vec![query]) {
        return refusal;
    }
    Json(json!({ "itemsPerPage": 250, "items": [{ "id": "1" }], "next": "250-" })).into_response()
}
