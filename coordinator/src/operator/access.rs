//! Who may look: holders of the operators' token, or callers on this machine where there is none.

use super::OperatorApp;
use crate::auth::bearer;
use crate::http::Peer;
use crate::http::failure::Failure;
use crate::secret;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::Response;

/// Lets operators in: holders of the token, or, where none is configured, callers on this machine. What a proxy says about
/// its callers does not count, so behind a proxy on this machine a token is needed. So it is where jobs of the process engine
/// or with `network = "host"` run on this machine: their ranks are callers on it, too.
pub(super) async fn operators_only(
    State(app): State<OperatorApp>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    if is_operator(&app, &request) { Ok(next.run(request).await) } else { Err(Failure::unauthorized()) }
}

fn is_operator(app: &OperatorApp, request: &Request) -> bool {
    match (&app.token, bearer(request.headers())) {
        (Some(expected), Ok(shown)) => !shown.is_empty() && secret::same(expected, shown.as_bytes()),
        (Some(_), Err(_)) => false,
        // Who set no token trusts this machine.
        (None, _) => {
            let peer = request.extensions().get::<ConnectInfo<Peer>>();
            peer.is_some_and(|ConnectInfo(Peer(address))| address.ip().to_canonical().is_loopback())
        }
    }
}
