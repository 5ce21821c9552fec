//! Who may look: callers on this machine, and holders of the operator's token.

use super::OperatorApp;
use crate::auth::bearer;
use crate::http::Peer;
use crate::http::failure::Failure;
use crate::secret;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::Response;

/// Lets operators in. What a proxy says about its callers does not count, so a proxy on this machine lets everybody in
/// unless it asks for the token itself.
pub(super) async fn operators_only(
    State(app): State<OperatorApp>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    if is_operator(&app, &request) { Ok(next.run(request).await) } else { Err(Failure::unauthorized()) }
}

fn is_operator(app: &OperatorApp, request: &Request) -> bool {
    let peer = request.extensions().get::<ConnectInfo<Peer>>();
    if peer.is_some_and(|ConnectInfo(Peer(address))| address.ip().to_canonical().is_loopback()) {
        return true;
    }
    match (&app.token, bearer(request.headers())) {
        (Some(expected), Ok(shown)) => !shown.is_empty() && secret::same(expected, shown.as_bytes()),
        _ => false,
    }
}
