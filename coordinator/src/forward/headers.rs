//! A request as it goes on to the leader, and headers that concern one connection only (RFC 9110 7.6.1).

use axum::body::Body;
use axum::extract::{OriginalUri, Request};
use axum::http::uri::PathAndQuery;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};
use hyper::upgrade::OnUpgrade;
use std::time::Duration;

/// Says which coordinator passed a request on; a request with it is not passed on again.
pub(super) const FORWARDED: HeaderName = HeaderName::from_static("muster-forwarded");

/// For how many milliseconds the next coordinator may hold a request for a leader, so that its answer is not too late.
const HOLD_MS: HeaderName = HeaderName::from_static("muster-hold-ms");
/// What an answer needs to get back.
const WAY_BACK: Duration = Duration::from_millis(250);

/// Headers of one connection, besides those that `connection` names.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::EXPECT,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What of a request does not go on, in case it is answered here after all.
pub(super) struct Arrived {
    uri: Uri,
    headers: HeaderMap,
    extensions: Extensions,
    upgrade: Option<OnUpgrade>,
}

impl Arrived {
    /// The request as it came.
    pub(super) fn restore(self, outgoing: Request) -> Request {
        let (mut parts, body) = outgoing.into_parts();
        (parts.uri, parts.headers, parts.extensions) = (self.uri, self.headers, self.extensions);
        if let Some(upgrade) = self.upgrade {
            parts.extensions.insert(upgrade);
        }
        Request::from_parts(parts, body)
    }

    /// The caller's side of a WebSocket.
    pub(super) fn take_upgrade(&mut self) -> Option<OnUpgrade> {
        self.upgrade.take()
    }
}

/// Whether a WebSocket is asked for.
pub(super) fn is_websocket(request: &Request) -> bool {
    let headers = request.headers();
    let upgrade = headers.get(header::UPGRADE);
    request.method() == Method::GET
        && headers.contains_key(header::SEC_WEBSOCKET_KEY)
        && upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// How long a request may be held here: less if the coordinator that passed it on has held it already.
pub(super) fn hold(headers: &HeaderMap, most: Duration) -> Duration {
    let told = headers.get(HOLD_MS).and_then(|value| value.to_str().ok()?.parse().ok());
    told.map_or(most, |told_ms| Duration::from_millis(told_ms).min(most))
}

/// Tells the next coordinator how long it may hold a request of which so much time is left.
pub(super) fn set_hold(headers: &mut HeaderMap, left: Duration) {
    let left_ms = u64::try_from(left.saturating_sub(WAY_BACK).as_millis()).unwrap_or(u64::MAX);
    headers.insert(HOLD_MS, HeaderValue::from(left_ms));
}

/// The request as it goes on, in the name of a coordinator.
pub(super) fn outgoing(request: Request, name: &HeaderValue, is_socket: bool) -> (Request, Arrived) {
    let (mut parts, body) = request.into_parts();
    let mut extensions = std::mem::take(&mut parts.extensions);
    let upgrade = if is_socket { extensions.remove::<OnUpgrade>() } else { None };
    // Behind a nested route the path has lost its beginning.
    let whole = extensions.get::<OriginalUri>().map_or_else(|| parts.uri.clone(), |OriginalUri(uri)| uri.clone());
    let path = whole.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let headers = parts.headers.clone();
    strip(&mut parts.headers);
    if is_socket {
        // No body goes with it, whatever was announced.
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    parts.headers.insert(FORWARDED, name.clone());
    if let Some(trace) = muster_runtime::telemetry::current_traceparent().and_then(|text| text.parse().ok()) {
        parts.headers.insert("traceparent", trace);
    }
    let arrived = Arrived { uri: std::mem::replace(&mut parts.uri, Uri::from(path)), headers, extensions, upgrade };
    parts.version = Version::HTTP_11;
    let body = if is_socket { Body::empty() } else { body };
    (Request::from_parts(parts, body), arrived)
}

/// Takes out what concerns one connection only.
pub(super) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_one_connection_stays_behind_and_comes_back_if_need_be() {
        let mut request = Request::builder()
            .uri("/jobs?x=1")
            .header(header::CONNECTION, "keep-alive, x-own")
            .header("x-own", "1")
            .header("keep-alive", "5")
            .header(header::EXPECT, "100-continue")
            .header(header::AUTHORIZATION, "Bearer t")
            .body(Body::empty())
            .unwrap();
        request.extensions_mut().insert(OriginalUri(Uri::from_static("http://host/ucloud/p/jobs?x=1")));
        let (sent, arrived) = outgoing(request, &HeaderValue::from_static("a"), false);
        assert_eq!(sent.uri(), "/ucloud/p/jobs?x=1");
        let mut names: Vec<&str> = sent.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "muster-forwarded"]);
        let back = arrived.restore(sent);
        assert_eq!((back.uri().to_string().as_str(), back.headers().len()), ("/jobs?x=1", 5));
        assert!(back.extensions().get::<OriginalUri>().is_some());
    }

    #[test]
    fn a_websocket_goes_on_without_the_length_of_a_body_that_does_not() {
        let handshake = |key: &str| {
            let request = Request::builder().uri("/").header(header::UPGRADE, "WebSocket").header(key, "x");
            request.header(header::CONTENT_LENGTH, "100").body(Body::empty()).unwrap()
        };
        assert!(is_websocket(&handshake("sec-websocket-key")) && !is_websocket(&handshake("x-key")));
        let (sent, _) = outgoing(handshake("sec-websocket-key"), &HeaderValue::from_static("a"), true);
        assert!(!sent.headers().contains_key(header::CONTENT_LENGTH));
        assert_eq!(sent.headers()[header::UPGRADE], "websocket");
    }
}
