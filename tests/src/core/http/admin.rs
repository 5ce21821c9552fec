//! The admin interface under `/stand-in/`: for people with curl, and for the demo.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query as UrlQuery, State};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, App, json_body};
use crate::core::client::CallFailure;
use crate::core::fault::{ControlError, Faults};
use crate::core::product::ProductReference;
use crate::core::request::{JobRequest, ShortRequest};
use crate::core::shared::Shared;
use crate::core::verify;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/jobs", get(list_jobs).post(submit))
        .route("/jobs/{id}", get(show_job))
        .route("/jobs/{id}/log", get(show_log))
        .route("/jobs/{id}/terminate", post(terminate))
        .route("/jobs/{id}/extend", post(extend))
        .route("/jobs/{id}/session", post(open_session))
        .route("/products", get(list_products))
        .route("/utilization", get(utilization))
        .route("/verify", post(verify_now))
        .route("/wallets", get(list_wallets).put(set_wallet))
        .route("/charges", get(list_charges))
        .route("/calls", get(list_calls))
        .route("/creates", get(creates))
        .route("/faults", put(set_faults).get(show_faults))
        .fallback(async || ControlError::new(404, "no such admin route"))
}

impl From<CallFailure> for ControlError {
    fn from(failure: CallFailure) -> Self {
        let status = if failure.status >= 400 { failure.status } else { 502 };
        Self::new(status, failure.to_string())
    }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ControlError> {
    serde_json::from_slice(body).map_err(|error| ControlError::new(400, error.to_string()))
}

/// A short request, a full `Job` (recognised by its `specification`), or a list of either, which is sent as one bulk.
async fn submit(State(shared): App, body: Bytes) -> Answer {
    let body = json_body(&body)?;
    let is_list = body.is_array();
    let items = if let Value::Array(items) = body { items } else { vec![body] };
    let known: Vec<ProductReference> =
        shared.state().catalogue.list(false).map(|product| product.reference.clone()).collect();
    let read = |item: Value| {
        if item.get("specification").is_some() {
            return Ok(JobRequest::whole(item));
        }
        let short: ShortRequest =
            serde_json::from_value(item).map_err(|error| ControlError::new(400, error.to_string()))?;
        short.into_request(&known).map_err(|why| ControlError::new(400, why))
    };
    let requests = items.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let ids = shared.submit(&requests).await?;
    Ok(Json(if is_list { json!({"ids": ids}) } else { json!({"id": ids[0]}) }))
}

#[derive(Deserialize)]
struct Newest {
    #[serde(default = "hundred")]
    newest: usize,
}

fn hundred() -> usize {
    100
}

async fn list_jobs(State(shared): App, UrlQuery(Newest { newest }): UrlQuery<Newest>) -> Json<Value> {
    let state = shared.state();
    let line = |view: &crate::core::job::CoreJob| {
        json!({
            "id": view.id, "state": view.state, "replicas": view.replicas, "product": view.product.id,
            "payer": view.payer, "status": view.history.iter().rev().find_map(|entry| entry.status.as_ref()),
        })
    };
    let jobs: Vec<Value> = state.jobs.values().rev().take(newest).map(|record| line(&record.view)).collect();
    Json(json!({"total": state.jobs.len(), "jobs": jobs}))
}

async fn show_job(State(shared): App, Path(id): Path<String>) -> Answer {
    let state = shared.state();
    let record = state.record(&id).ok_or_else(|| ControlError::new(404, format!("job {id} does not exist")))?;
    let charges: Vec<_> = state.ledger.charges.iter().filter(|charge| charge.job == id).collect();
    Ok(Json(json!({"job": record.view, "charges": charges})))
}

#[derive(Deserialize)]
struct Rank {
    #[serde(default)]
    rank: u32,
}

async fn show_log(
    State(shared): App,
    Path(id): Path<String>,
    UrlQuery(Rank { rank }): UrlQuery<Rank>,
) -> Result<String, ControlError> {
    let state = shared.state();
    let record = state.record(&id).ok_or_else(|| ControlError::new(404, format!("job {id} does not exist")))?;
    let log = record.view.log(rank);
    Ok(log.stdout + &log.stderr)
}

async fn terminate(State(shared): App, Path(id): Path<String>) -> Answer {
    shared.terminate(&id, None).await?;
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct Extension {
    hours: u64,
    minutes: u64,
    seconds: u64,
}

async fn extend(State(shared): App, Path(id): Path<String>, body: Bytes) -> Answer {
    let Extension { hours, minutes, seconds } = parse(&body)?;
    shared.extend(&id, hours, minutes, seconds).await?;
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Session {
    #[serde(default)]
    rank: u32,
    session_type: String,
}

async fn open_session(State(shared): App, Path(id): Path<String>, body: Bytes) -> Answer {
    let Session { rank, session_type } = parse(&body)?;
    Ok(Json(shared.open_session(&id, rank, &session_type).await?))
}

async fn list_products(State(shared): App) -> Answer {
    Ok(Json(json!({"responses": *shared.support_now().await?})))
}

async fn utilization(State(shared): App) -> Answer {
    let path = shared.provider_path("jobs/retrieveUtilization");
    let answer = shared.system_call(reqwest::Method::GET, &path, None).await?;
    if answer.is_success() { Ok(Json(answer.body)) } else { Err(CallFailure::answer(&answer, 1).into()) }
}

async fn verify_now(State(shared): App) -> Answer {
    Ok(Json(json!({"verified": verify::everything(&shared).await?})))
}

async fn list_wallets(State(shared): App) -> Json<Value> {
    let state = shared.state();
    Json(json!({"wallets": state.ledger.wallets(), "others": shared.options.default_balance}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WalletSetting {
    owner: String,
    category: String,
    balance: Option<i64>,
}

async fn set_wallet(State(shared): App, body: Bytes) -> Answer {
    let WalletSetting { owner, category, balance } = parse(&body)?;
    shared.state().ledger.set(&owner, &category, balance);
    shared.changed();
    Ok(Json(json!({})))
}

async fn list_charges(State(shared): App) -> Json<Value> {
    let state = shared.state();
    Json(json!({"charges": state.ledger.charges, "repeated": state.ledger.repeated}))
}

async fn list_calls(State(shared): App, UrlQuery(Newest { newest }): UrlQuery<Newest>) -> Json<Value> {
    let state = shared.state();
    let calls: Vec<_> = state.calls.iter().rev().take(newest).collect();
    Json(json!({"calls": calls}))
}

async fn creates(State(shared): App) -> Json<Value> {
    let creates = shared.state().creates.clone();
    Json(json!({
        "byStatus": creates.by_status, "unanswered": creates.unanswered,
        "p50Us": creates.percentile_us(50.0), "p95Us": creates.percentile_us(95.0), "p99Us": creates.percentile_us(99.0),
    }))
}

async fn set_faults(State(shared): App, body: Bytes) -> Answer {
    let faults: Faults = parse(&body)?;
    if faults.refuse_connections {
        return Err(ControlError::new(400, "refuseConnections would lock this interface out: use cutConnections"));
    }
    shared.set_faults(faults);
    Ok(Json(json!({})))
}

async fn show_faults(State(shared): App) -> Json<Faults> {
    Json(shared.faults.borrow().clone())
}
