//! Core as a server: routes, bearer check, faults, and the log of calls.

mod admin;
mod control;
mod listener;
mod products;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::header::{AUTHORIZATION, ORIGIN};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::fault::{ControlError, Reason};
use super::shared::Shared;
use super::state::{Call, Direction, now_ms};
use super::tokens::check_provider_token;
pub(super) use listener::CutListener;
use listener::Peer;

const BODY_LIMIT_BYTES: usize = 32 * 1024 * 1024;

type App = State<Arc<Shared>>;
type Answer = Result<axum::Json<Value>, ControlError>;

/// Serves until the stand-in stops.
pub(super) async fn serve(shared: Arc<Shared>, listener: CutListener) {
    let stop = shared.stop.clone();
    let service = router(shared).into_make_service_with_connect_info::<Peer>();
    if let Err(error) = axum::serve(listener, service).with_graceful_shutdown(stop.cancelled_owned()).await {
        tracing::error!(%error, "server of the stand-in ended");
    }
}

fn router(shared: Arc<Shared>) -> Router {
    let provider_side = control::routes()
        .merge(products::routes())
        .layer(from_fn_with_state(shared.clone(), require_bearer))
        .merge(control::public_routes())
        .fallback(async || ControlError::new(404, "Not found"))
        .layer(from_fn_with_state(shared.clone(), misbehave));
    Router::new()
        .nest("/stand-in", admin::routes().layer(axum::middleware::from_fn(loopback_only)))
        .merge(provider_side)
        .layer(DefaultBodyLimit::max(BODY_LIMIT_BYTES))
        .with_state(shared)
}

/// Applies the faults that are on and notes the call.
async fn misbehave(State(shared): App, ConnectInfo(peer): ConnectInfo<Peer>, request: Request, next: Next) -> Response {
    let (at, began) = (now_ms(), Instant::now());
    let method = request.method().to_string();
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let faults = shared.faults.borrow().clone();
    let note = |status: Option<u16>, why: Option<String>| {
        let latency_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let direction = Direction::FromProvider;
        shared.state().note_call(Call {
            at,
            direction,
            method: method.clone(),
            path: path.clone(),
            status,
            latency_us,
            why,
        });
    };
    if faults.refuse_connections || faults.cut_connections {
        peer.cut();
        note(None, Some("fault: connection cut".to_owned()));
        return Response::new(Body::empty());
    }
    if faults.slow_ms > 0 {
        tokio::time::sleep(Duration::from_millis(faults.slow_ms)).await;
    }
    if u32::from(faults.fail_percent) > rand::random_range(0..100) {
        let status = if faults.fail_status == 0 { 500 } else { faults.fail_status };
        note(Some(status), Some("fault: failed before processing".to_owned()));
        return ControlError::new(status, "Internal Server Error").into_response();
    }
    let is_charge = path.starts_with("/api/jobs/control/chargeCredits");
    let is_update = path.starts_with("/api/jobs/control/update");
    let response = next.run(request).await;
    let mut drops = false;
    if is_charge || is_update {
        shared.faults.send_if_modified(|faults| {
            let left =
                if is_charge { &mut faults.drop_next_charge_answers } else { &mut faults.drop_next_update_answers };
            drops = *left > 0;
            *left = left.saturating_sub(1);
            drops
        });
    }
    if drops {
        peer.cut();
        note(None, Some("fault: processed, answer dropped".to_owned()));
        return Response::new(Body::empty());
    }
    note(Some(response.status().as_u16()), response.extensions().get::<Reason>().map(|reason| reason.0.clone()));
    response
}

/// 401 unless the bearer is a good, unexpired token of the provider (protocol 2.2).
async fn require_bearer(State(shared): App, request: Request, next: Next) -> Response {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(token) = header.and_then(|value| value.strip_prefix("Bearer ")) else {
        return ControlError::new(401, "Unauthorized").into_response();
    };
    let verdict = check_provider_token(&shared.keys(), &shared.options.provider_id, token, now_ms() / 1000);
    let is_revoked = shared.state().is_revoked(token);
    if let Err(fault) = verdict {
        tracing::debug!(?fault, "token of the provider refused");
    }
    if verdict.is_err() || is_revoked {
        return ControlError::new(401, "Unauthorized").into_response();
    }
    next.run(request).await
}

/// The admin interface has no password, so it is for this machine only, and not for web pages that a browser on it shows.
async fn loopback_only(ConnectInfo(peer): ConnectInfo<Peer>, request: Request, next: Next) -> Response {
    if !peer.address.ip().is_loopback() || request.headers().contains_key(ORIGIN) {
        let why = "the admin interface answers to programs on this machine only";
        return ControlError::new(403, why).into_response();
    }
    next.run(request).await
}

/// A JSON body. Core does not look at the content type (protocol 1.2).
fn json_body(bytes: &axum::body::Bytes) -> Result<Value, ControlError> {
    serde_json::from_slice(bytes).map_err(|error| ControlError::new(400, format!("body: not JSON: {error}")))
}
