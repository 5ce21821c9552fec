//! Who may look: holders of the operators' token, or callers on this machine where there is none.

use super::OperatorApp;
use crate::auth::bearer;
use crate::http::Peer;
use crate::http::failure::Failure;
use crate::secret;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::uri::Authority;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use std::net::IpAddr;

/// Lets operators in: holders of the token, or, where none is configured, callers on this machine. What a proxy says about
/// its callers does not count, so behind a proxy on this machine a token is needed. So it is where jobs of the process engine
/// or with `network = "host"` run on this machine: their ranks are callers on it, too.
pub(super) async fn operators_only(
    State(app): State<OperatorApp>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    if !is_operator(&app, &request) {
        return Err(Failure::unauthorized());
    }
    if app.token.is_none() && !is_meant_for_this_machine(&request) {
        let why = "without operator.token_file this is asked for as 127.0.0.1, [::1] or localhost only";
        return Err(Failure::new(StatusCode::FORBIDDEN, why));
    }
    Ok(next.run(request).await)
}

/// Whether the host that is asked for is this machine under a name that nobody else can give it. A web page whose own name
/// was turned to this machine (DNS rebinding) may read our answers, but its browser still says that name. What says none is
/// no browser.
fn is_meant_for_this_machine(request: &Request) -> bool {
    let said = request.headers().get(header::HOST);
    let authority = match (request.uri().authority(), said) {
        (Some(authority), _) => Some(authority.clone()),
        (None, Some(said)) => match Authority::try_from(said.as_bytes()) {
            Ok(authority) => Some(authority),
            Err(_) => return false,
        },
        (None, None) => None,
    };
    authority.is_none_or(|authority| {
        let host = authority.host();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        literal.map_or_else(|_| host.eq_ignore_ascii_case("localhost"), |address| address.to_canonical().is_loopback())
    })
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
