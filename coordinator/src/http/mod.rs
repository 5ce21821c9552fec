//! UCloud's calls over HTTP: one file per noun. Decides nothing about jobs; asks the driver and words its answers.

mod body;
mod catch;
mod deposits;
pub(crate) mod failure;
mod guard;
mod integration;
mod jobs;
mod listener;
pub(crate) mod observe;

#[cfg(test)]
pub(crate) mod tests;

pub use listener::{Bound, Capped, Connection, Limits, Peer, parting, serve};

use crate::auth::Authenticator;
use crate::fleet::logs::LogRelay;
use crate::forward::{Forward, forward, forward_socket};
use crate::handle::Handle;
use crate::sessions::{Sockets, websocket};
use axum::Router;
use axum::http::Method;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use body::Bodies;
use failure::Failure;
use muster_domain::effect::Reply;
use muster_domain::event::Event;
use muster_domain::id::{ProviderId, RequestId};
use muster_ucloud::v2021::accept::Catalogue;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How the calls are answered.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// This provider, as Core names it in paths.
    pub provider: ProviderId,
    /// What is offered, and the rules by which a job is taken.
    pub catalogue: Catalogue,
    /// How long the driver may take to answer; below the 5 s after which Core gives up (`protocol.md` 16.8).
    pub answer_within: Duration,
    /// Most WebSockets at a time.
    pub most_sockets: usize,
}

impl HttpSettings {
    /// The default of `answer_within`.
    pub const ANSWER_WITHIN: Duration = Duration::from_millis(3800);
    /// The default of `most_sockets`. Anybody may open one, and Core's calls must still find a connection.
    pub const MOST_SOCKETS: usize = Limits::CONNECTIONS / 4 * 3;
}

/// What the router works with.
#[derive(Clone, Debug)]
pub struct App {
    /// The driver.
    pub handle: Handle,
    /// What happens to calls while another coordinator leads.
    pub forward: Forward,
    /// Logs of ranks.
    pub logs: LogRelay,
    /// Who may call.
    pub auth: Arc<Authenticator>,
    /// How calls are answered.
    pub settings: Arc<HttpSettings>,
    /// Cancelled when the process stops: WebSockets, which a server's own drain does not wait for, then say goodbye.
    pub stop: CancellationToken,
}

/// What handlers share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    app: App,
    bodies: Bodies,
    pub(crate) sockets: Sockets,
}

impl Deref for Shared {
    type Target = App;
    fn deref(&self) -> &App {
        &self.app
    }
}

/// Why the driver's answer did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Silence;

impl Shared {
    /// Asks the driver, for a bounded time.
    async fn ask(&self, make: impl FnOnce(RequestId) -> Event) -> Result<Reply, Silence> {
        match tokio::time::timeout(self.settings.answer_within, self.handle.call(make)).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) | Err(_) => Err(Silence),
        }
    }
}

impl From<Silence> for Failure {
    fn from(Silence: Silence) -> Self {
        Self::unavailable("the coordinator cannot answer at the moment: try again")
    }
}

/// The routes of `protocol.md` section 0, and WebSockets.
pub fn router(app: App) -> Router {
    let sockets = Sockets::new(app.settings.most_sockets);
    let to_leader = from_fn_with_state(app.forward.clone(), forward);
    let socket_to_leader = from_fn_with_state(app.forward.clone(), forward_socket);
    let shared = Shared { app, bodies: Bodies::default(), sockets };
    // Whoever has no token is turned away before anybody is bothered for them.
    let led = Router::new()
        .route("/jobs", post(jobs::create).delete(jobs::delete))
        .route("/jobs/extend", post(jobs::extend))
        .route("/jobs/terminate", post(jobs::terminate))
        .route("/jobs/suspend", post(jobs::suspend))
        .route("/jobs/verify", post(jobs::verify))
        .route("/jobs/interactiveSession", post(jobs::interactive_session))
        .route("/jobs/retrieveUtilization", get(jobs::retrieve_utilization))
        .route_layer(to_leader);
    // What any coordinator can answer, and at once: Core calls `init` between the repeats of other calls (reliability F2).
    let guarded = led
        .route("/jobs/updateAcl", post(jobs::update_acl))
        .route("/jobs/init", post(jobs::init))
        .route("/jobs/retrieveProducts", get(jobs::retrieve_products))
        .route("/integration/retrieveManifest", get(integration::manifest))
        .route("/integration/init", post(integration::init))
        .route("/integration/connect", post(integration::connect))
        .route("/depositNotifications/pullRequest", post(deposits::pull_request))
        .route_layer(from_fn_with_state(shared.clone(), guard::core_only));
    Router::new()
        .nest("/ucloud/{provider}", guarded)
        // The one call without a bearer that Core may make (`protocol.md` 2.1).
        .route("/ucloud/{provider}/integration/welcome", post(integration::welcome))
        // Any name: `follow` comes under `jobs.provider.{p}`, shells under `{p}` (`protocol.md` 5.1).
        .route("/ucloud/{any}/websocket", get(websocket).route_layer(socket_to_leader))
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(catch::panics))
        .layer(from_fn_with_state(observe::Meters::default(), observe::observe))
        .with_state(shared)
}

async fn unknown_route() -> Failure {
    Failure::not_found("this provider has no such call")
}

async fn wrong_method(method: Method) -> Failure {
    let why = format!("this call is not made with {}", observe::method_name(&method));
    Failure::new(axum::http::StatusCode::METHOD_NOT_ALLOWED, why)
}
