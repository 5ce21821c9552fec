//! What the provider calls: token, jobs control, and the small calls beside it (protocol 2.2, 6, 7).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query as UrlQuery, State};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::{Answer, App, json_body};
use crate::core::browse::{self, Query, support_of};
use crate::core::client::CallFailure;
use crate::core::fault::ControlError;
use crate::core::follow;
use crate::core::ledger;
use crate::core::product::ProductReference;
use crate::core::shared::Shared;
use crate::core::state::now_ms;
use crate::core::update::{self, bulk, optional};

/// Routes that need the provider's bearer.
pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/jobs/control/retrieve", get(retrieve))
        .route("/api/jobs/control/browse", get(browse_page))
        .route("/api/jobs/control/update", post(update_jobs))
        .route("/api/jobs/control/chargeCredits", post(charge_credits))
        .route("/api/jobs/control/register", post(register))
        .route("/api/providers/integration/control/approveConnection", post(approve_connection))
        .route("/api/accounting/depositNotifications/retrieve", get(async || Json(json!({"responses": []}))))
        .route("/api/accounting/depositNotifications/markAsRead", post(async || Json(json!({}))))
}

/// Routes without a bearer.
pub(super) fn public_routes() -> Router<Arc<Shared>> {
    Router::new().route("/auth/providers/refresh", post(refresh))
}

async fn refresh(State(shared): App, body: Bytes) -> Answer {
    let body = json_body(&body)?;
    let mut responses = Vec::new();
    for item in bulk(&body)? {
        let token = item.get("refreshToken").and_then(Value::as_str);
        let token = token.ok_or_else(|| ControlError::new(400, "refreshToken: expected a string"))?;
        if token != shared.keys().refresh_token() {
            return Err(ControlError::new(403, "Forbidden"));
        }
        let token = shared.provider_token().map_err(|_| ControlError::new(500, "Internal Server Error"))?;
        responses.push(json!({"accessToken": token}));
    }
    Ok(Json(json!({"responses": responses})))
}

type Pairs = UrlQuery<BTreeMap<String, String>>;

async fn retrieve(State(shared): App, UrlQuery(pairs): Pairs) -> Answer {
    let query = Query::new(pairs);
    let support = support_if(&shared, query.wants_support()).await?;
    browse::retrieve(&shared.state(), &query, &support).map(Json)
}

async fn browse_page(State(shared): App, UrlQuery(pairs): Pairs) -> Answer {
    let query = Query::new(pairs);
    let support = support_if(&shared, query.wants_support()).await?;
    browse::browse(&shared.state(), &query, &support).map(Json)
}

/// The provider's own list of products, which Core asks it for in the middle of the provider's call: 502 if it cannot.
async fn support_if(shared: &Shared, wanted: bool) -> Result<Arc<Vec<Value>>, ControlError> {
    if !wanted {
        return Ok(Arc::default());
    }
    shared.support().await.map_err(|failure: CallFailure| ControlError::new(502, failure.why))
}

async fn update_jobs(State(shared): App, body: Bytes) -> Answer {
    let body = json_body(&body)?;
    let updates = update::decode(&body, now_ms())?;
    let started = update::judge(&mut shared.state(), updates)?;
    shared.changed();
    for id in started {
        follow::start(&shared, &id);
    }
    Ok(Json(json!({})))
}

async fn charge_credits(State(shared): App, body: Bytes) -> Answer {
    let body = json_body(&body)?;
    let items = ledger::decode(&body)?;
    let products: Vec<ProductReference> = {
        let state = shared.state();
        if !items.iter().all(|item| state.knows(&item.id)) {
            return Err(ControlError::unknown_resources());
        }
        items.iter().filter_map(|item| Some(state.record(&item.id)?.view.product.clone())).collect()
    };
    let support = support_if(&shared, true).await?;
    if let Some(missing) = products.iter().find(|product| support_of(&support, product).is_none()) {
        return Err(ControlError::new(502, format!("the provider does not list product {}", missing.id)));
    }
    let answer = ledger::judge(&mut shared.state(), items, now_ms())?;
    shared.changed();
    Ok(Json(answer))
}

/// Jobs that began outside UCloud, upserted by `providerGeneratedId` (protocol 6.5).
async fn register(State(shared): App, body: Bytes) -> Answer {
    let body = json_body(&body)?;
    let mut checked = Vec::new();
    for item in bulk(&body)? {
        let spec = item.get("spec").filter(|spec| spec.is_object());
        let spec = spec.ok_or_else(|| ControlError::new(400, "spec: expected an object"))?;
        let product = spec.get("product").and_then(ProductReference::parse);
        let product =
            product.ok_or_else(|| ControlError::new(400, "spec.product: expected {id, category, provider}"))?;
        if spec.get("parameters").is_none_or(|it| !it.is_object())
            || spec.get("resources").is_none_or(|it| !it.is_array())
        {
            return Err(ControlError::new(400, "spec: parameters and resources must not be null"));
        }
        let text = |name: &str| Ok::<_, ControlError>(optional(item, name, Value::as_str)?.map(str::to_owned));
        let generated = text("providerGeneratedId")?;
        if generated.as_deref().is_some_and(|id| id.contains(',')) {
            return Err(ControlError::new(400, "providerGeneratedId: must not contain a comma"));
        }
        let owner = json!({"createdBy": text("createdBy")?.unwrap_or_else(|| "_ucloud".to_owned()), "project": text("project")?});
        checked.push((spec.clone(), product, generated, owner));
    }
    let provider = &checked[0].1.provider;
    if checked.iter().any(|(_, product, _, _)| product.provider != *provider) {
        return Err(ControlError::new(400, "spec.product.provider: must be the same in all items"));
    }
    if *provider != shared.options.provider_id {
        return Err(ControlError::new(403, "Forbidden"));
    }
    let mut state = shared.state();
    let mut responses = Vec::new();
    for (spec, product, generated, owner) in checked {
        let mut records = state.jobs.values();
        let present = records.find(|record| generated.is_some() && record.view.provider_generated_id == generated);
        if let Some(present) = present.map(|record| record.view.id.clone()) {
            responses.push(json!({"id": present}));
            continue;
        }
        let id = state.assign_id();
        let job = json!({
            "id": id.to_string(), "owner": owner, "updates": [], "specification": spec, "createdAt": now_ms(),
            "status": {"jobParametersJson": null, "resolvedApplication": null}, "output": null, "permissions": null,
        });
        let id = state.insert(id, &job, product, now_ms());
        if let Some(record) = state.record_mut(&id) {
            record.view.confirmed = true;
            record.view.provider_generated_id = generated;
        }
        responses.push(json!({"id": *id}));
    }
    drop(state);
    shared.changed();
    Ok(Json(json!({"responses": responses})))
}

async fn approve_connection(State(shared): App, body: Bytes) -> Answer {
    let body = json_body(&body)?;
    let username = body.get("username").and_then(Value::as_str);
    let username = username.ok_or_else(|| ControlError::new(400, "username: expected a string"))?;
    shared.state().connected.insert(username.to_owned());
    Ok(Json(json!({})))
}
