//! What operators order: nodes taken out of service and given back, brakes released.
//!
//! An order given twice is the same order, so a caller that got no answer asks again. Web pages cannot give any: where no
//! token is configured the caller's machine is trusted, and on that machine a browser may show anybody's page. A page cannot
//! set the header [`OPERATOR`] on a foreign site's call without asking first, which nobody here answers; and a page that
//! passes for one of ours still sends `Origin`.

use super::{OperatorApp, view};
use crate::http::Peer;
use crate::http::failure::Failure;
use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::post;
use muster_domain::brake::Verdict;
use muster_domain::event::Event;
use muster_domain::id::{NodeName, RequestId};
use muster_domain::view::{BrakeView, NodeView};
use muster_ucloud::v2021::problem;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The header by which a caller says that it is an operator's program.
const OPERATOR: HeaderName = HeaderName::from_static("muster-operator");
/// The largest body of an order, in bytes.
const MOST_BYTES: usize = 4 << 10;

/// The body of a drain; without one there is no deadline. Unknown fields are refused: a misspelt deadline must not become
/// none.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct DrainBody {
    deadline_ms: Option<u64>,
}

/// The body of a release; without one, or without a verdict, every brake is meant.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ReleaseBody {
    verdict: Option<Verdict>,
}

type Name = Result<Path<String>, PathRejection>;

/// The routes; whoever adds them also keeps everybody out who is no operator.
pub(super) fn routes() -> Router<OperatorApp> {
    Router::new()
        .route("/v1/nodes/{name}/cordon", post(cordon))
        .route("/v1/nodes/{name}/drain", post(drain))
        .route("/v1/nodes/{name}/uncordon", post(uncordon))
        .route("/v1/nodes/{name}/forget", post(forget))
        .route("/v1/brake/release", post(release_brake))
        .route_layer(from_fn(no_web_pages))
}

async fn no_web_pages(request: Request, next: Next) -> Result<Response, Failure> {
    let headers = request.headers();
    if headers.get(&OPERATOR).is_none_or(|value| value != "1") {
        let why = "an order carries the header \"muster-operator: 1\", as those of `muster` do";
        return Err(Failure::new(StatusCode::FORBIDDEN, why));
    }
    if headers.contains_key(header::ORIGIN) {
        return Err(Failure::new(StatusCode::FORBIDDEN, "web pages give no orders"));
    }
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|ConnectInfo(Peer(address))| address.to_string());
    tracing::info!(path = request.uri().path(), peer, "order of an operator");
    Ok(next.run(request).await)
}

async fn cordon(State(app): State<OperatorApp>, name: Name) -> Result<Json<NodeView>, Failure> {
    let node = node_name(name)?;
    give(&app, |request| Event::Cordon { request, node: node.clone() }).await?;
    seen(&app, &node).await
}

async fn drain(State(app): State<OperatorApp>, name: Name, body: Body) -> Result<Json<NodeView>, Failure> {
    let node = node_name(name)?;
    let DrainBody { deadline_ms } = read(&app, body).await?;
    give(&app, |request| Event::Drain { request, node: node.clone(), deadline_ms }).await?;
    seen(&app, &node).await
}

async fn uncordon(State(app): State<OperatorApp>, name: Name) -> Result<Json<NodeView>, Failure> {
    let node = node_name(name)?;
    give(&app, |request| Event::Uncordon { request, node: node.clone() }).await?;
    seen(&app, &node).await
}

async fn forget(State(app): State<OperatorApp>, name: Name) -> Result<Json<Value>, Failure> {
    let node = node_name(name)?;
    give(&app, |request| Event::ForgetNode { request, node: node.clone() }).await?;
    Ok(Json(json!({ "forgotten": node })))
}

async fn release_brake(State(app): State<OperatorApp>, body: Body) -> Result<Json<Vec<BrakeView>>, Failure> {
    let ReleaseBody { verdict } = read(&app, body).await?;
    give(&app, |request| Event::ReleaseBrake { request, verdict }).await?;
    view(&app, |cluster, now| cluster.cluster_view(now).brakes).await
}

fn node_name(name: Name) -> Result<NodeName, Failure> {
    let Path(name) = name.map_err(|rejection| Failure::new(rejection.status(), rejection.body_text()))?;
    NodeName::new(name).map_err(|error| Failure::invalid(error.to_string()))
}

/// Asks the driver, for a bounded time; the answer comes once the order is durable.
async fn give(app: &OperatorApp, make: impl FnOnce(RequestId) -> Event) -> Result<(), Failure> {
    match tokio::time::timeout(app.answer_within, app.handle.call(make)).await {
        Ok(Ok(reply)) => Ok(reply?),
        Ok(Err(error)) => Err(Failure::unavailable(format!("{error}: ask the coordinator that leads"))),
        Err(_) => {
            let why = app.forward.board().concern().now().unwrap_or_else(|| "give it again".to_owned());
            Err(Failure::unavailable(format!("the order was not made durable in time: {why}")))
        }
    }
}

/// The node as it is after the order.
async fn seen(app: &OperatorApp, node: &NodeName) -> Result<Json<NodeView>, Failure> {
    let name = node.to_string();
    let find = move |views: Vec<NodeView>| views.into_iter().find(|view| view.name == name);
    let Json(found) = view(app, move |cluster, now| find(cluster.node_views(now))).await?;
    found.map(Json).ok_or_else(|| Failure::not_found(format!("node {node} was forgotten meanwhile")))
}

/// The body, whatever its content type; an empty one says nothing special.
async fn read<T: DeserializeOwned + Default>(app: &OperatorApp, body: Body) -> Result<T, Failure> {
    let bytes = tokio::time::timeout(app.answer_within, axum::body::to_bytes(body, MOST_BYTES)).await;
    let bytes = bytes.map_err(|_| Failure::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"))?;
    let bytes = bytes.map_err(|_| Failure::invalid(format!("the body broke off, or is over {MOST_BYTES} bytes")))?;
    if bytes.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    Ok(problem::decode(&bytes)?)
}
