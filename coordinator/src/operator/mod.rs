//! The operator's own listener: is the process well, what does the cluster do, and what should it do with its nodes.
//!
//! `/health` and `/ready` are about this process; everything else is answered by the leader, to which a follower passes it
//! on with the caller's own token. Without a token the leader sees a caller on the follower's machine, and lets it in only
//! if that is its own machine, too.

mod access;
mod orders;

#[cfg(test)]
mod tests;

use crate::election::{Identity, Standing};
use crate::forward::{Door, Forward, forward, is_forwarded};
use crate::handle::Handle;
use crate::http::failure::Failure;
use crate::http::observe::{Meters, observe};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use muster_domain::cluster::{Cluster, Wording};
use muster_domain::id::JobId;
use muster_domain::leadership::Role;
use muster_domain::time::Now;
use muster_domain::view::{ClusterView, JobStory, JobView, LeaderView, NodeView};
use muster_runtime::secret::Secret;
use serde_json::json;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// Views that may be made at once; more wait. A view of everything is large.
const VIEWS_AT_ONCE: usize = 8;
/// How long the driver may take before this coordinator counts as not ready.
const READY_WITHIN: Duration = Duration::from_secs(1);

/// A dialect's words that any thread may use.
pub type SharedWording = Arc<dyn Wording + Send + Sync>;

/// What the router works with.
#[derive(Clone)]
pub struct OperatorApp {
    /// The driver.
    pub handle: Handle,
    /// What happens to requests while another coordinator leads.
    pub forward: Forward,
    /// The words of states and reasons, the same as Core hears.
    pub wording: SharedWording,
    /// Lets callers in that are not on this machine. Without it nobody else is.
    pub token: Option<Arc<Secret>>,
    /// How long a view may take.
    pub answer_within: Duration,
    /// Why this coordinator cannot answer, in words for its operator; `None` while it can.
    pub obstacle: watch::Receiver<Option<String>>,
    /// Cancelled when this coordinator was asked to stop: it is not ready from then on, although it still answers.
    pub stopping: CancellationToken,
    room: Arc<Semaphore>,
}

impl OperatorApp {
    /// With the default bounds, no other coordinators, and no obstacle but a driver that does not answer.
    #[must_use]
    pub fn new(handle: Handle, wording: SharedWording, token: Option<Arc<Secret>>) -> Self {
        Self {
            handle,
            forward: Forward::alone(Door::Operator),
            wording,
            token,
            answer_within: Duration::from_secs(10),
            // The last value stays readable without its sender.
            obstacle: watch::channel(None).1,
            stopping: CancellationToken::new(),
            room: Arc::new(Semaphore::new(VIEWS_AT_ONCE)),
        }
    }
}

impl fmt::Debug for OperatorApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorApp").field("answer_within", &self.answer_within).finish_non_exhaustive()
    }
}

/// `/health` and `/ready` for whoever asks; everything else for callers on this machine or with the operator's token.
/// Serve it with [`crate::http::serve`], which tells who is at the other end.
pub fn router(app: OperatorApp) -> Router {
    let views = Router::new()
        .route("/v1/cluster", get(cluster))
        .route("/v1/nodes", get(nodes))
        .route("/v1/jobs", get(jobs))
        .route("/v1/jobs/{id}", get(job))
        .merge(orders::routes())
        .route_layer(from_fn_with_state(app.forward.clone(), forward))
        .route_layer(from_fn_with_state(app.clone(), access::operators_only));
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .merge(views)
        .fallback(async || Failure::not_found("there is no such page: try /v1/cluster, /v1/nodes or /v1/jobs"))
        .layer(from_fn_with_state(Meters::default(), observe))
        .with_state(app)
}

/// The process is alive. Depends on nothing else, or an outage of the store would restart every coordinator
/// (reliability C.2 item 45).
async fn health(State(app): State<OperatorApp>) -> Json<serde_json::Value> {
    let Standing { role, term, leader } = app.forward.board().now();
    let why = app.forward.board().concern().now().filter(|_| leader.is_none());
    let leader = leader.map(|leader| leader.name);
    let mut health = json!({ "status": "ok", "role": role.name(), "leader": leader, "term": term });
    if let Some(why) = why {
        health["why"] = why.into();
    }
    Json(health)
}

/// This coordinator can answer Core: by itself, through the leader, or soon.
async fn ready(State(app): State<OperatorApp>) -> Response {
    let obstacle = app.obstacle.borrow().clone();
    let board = app.forward.board();
    let obstacle = match obstacle {
        _ if app.stopping.is_cancelled() => Some("this coordinator is stopping: ask another one".to_owned()),
        Some(obstacle) => Some(obstacle),
        None if !board.can_serve() => {
            let why = board.concern().now();
            let why = why.unwrap_or_else(|| "look at the others, and at the store's health".to_owned());
            Some(format!("no coordinator leads: {why}"))
        }
        None if !board.now().leads() => None,
        None => match tokio::time::timeout(READY_WITHIN, app.handle.query(|cluster, _| cluster.term())).await {
            Ok(Ok(_)) => None,
            Ok(Err(_)) => Some("this coordinator is not the leader, or is stopping".to_owned()),
            Err(_) => Some("the driver does not answer: look at the store's health".to_owned()),
        },
    };
    match obstacle {
        None => Json(json!({ "status": "ready" })).into_response(),
        Some(why) => Failure::unavailable(why).into_response(),
    }
}

async fn cluster(State(app): State<OperatorApp>, headers: HeaderMap) -> Result<Json<ClusterView>, Failure> {
    let Json(mut seen) = view(&app, |cluster, now| cluster.cluster_view(now)).await?;
    let role = if is_forwarded(&headers) { Role::Follower } else { Role::Leader };
    seen.role = Some(role.name().to_owned());
    seen.leader = app.forward.board().now().leader.map(|leader| {
        let Identity { name, http, operator, fleet, version } = leader;
        LeaderView { name, operator, http, fleet, version }
    });
    Ok(Json(seen))
}

async fn nodes(State(app): State<OperatorApp>) -> Result<Json<Vec<NodeView>>, Failure> {
    view(&app, |cluster, now| cluster.node_views(now)).await
}

async fn jobs(State(app): State<OperatorApp>) -> Result<Json<Vec<JobView>>, Failure> {
    let wording = Arc::clone(&app.wording);
    view(&app, move |cluster, now| cluster.job_views(now, &*wording)).await
}

async fn job(
    State(app): State<OperatorApp>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<JobStory>, Failure> {
    let Path(id) = id.map_err(|rejection| Failure::new(rejection.status(), rejection.body_text()))?;
    let id = JobId::new(id).map_err(|error| Failure::invalid(error.to_string()))?;
    let wording = Arc::clone(&app.wording);
    let unknown = Failure::not_found(format!("the job {id} is not known here"));
    let Json(story) = view(&app, move |cluster, now| cluster.job_story(now, &*wording, &id)).await?;
    story.map(Json).ok_or(unknown)
}

/// Asks the driver for a view, a few at a time.
async fn view<T: Send + 'static>(
    app: &OperatorApp,
    ask: impl FnOnce(&Cluster, Now) -> T + Send + 'static,
) -> Result<Json<T>, Failure> {
    let asking = async {
        // The semaphore is never closed.
        let _turn = app.room.acquire().await.ok();
        app.handle.query(ask).await
    };
    match tokio::time::timeout(app.answer_within, asking).await {
        Ok(Ok(view)) => Ok(Json(view)),
        Ok(Err(error)) => Err(Failure::unavailable(format!("{error}: ask the coordinator that leads"))),
        Err(_) => Err(Failure::unavailable("the driver did not answer in time: try again")),
    }
}
