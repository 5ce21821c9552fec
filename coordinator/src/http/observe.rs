//! What is seen of every request: a span with the caller's trace as parent, and a duration by route and status.

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use muster_runtime::telemetry::continue_from;
use opentelemetry::metrics::Histogram;
use opentelemetry::{KeyValue, global};
use std::time::Instant;
use tracing::{Instrument, field};

/// The meters of a router.
#[derive(Clone, Debug)]
pub(crate) struct Meters {
    duration: Histogram<f64>,
}

impl Default for Meters {
    fn default() -> Self {
        let duration = global::meter("muster-coordinator")
            .f64_histogram("http.server.request.duration")
            .with_unit("s")
            .with_description("Time from a request's head to its answer, by route and status")
            .build();
        Self { duration }
    }
}

/// Wraps a request. Labels hold the route's pattern, never what a caller typed.
pub(crate) async fn observe(State(meters): State<Meters>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = method_name(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!(
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        http.response.status_code = field::Empty,
    );
    continue_from(&span, request.headers().get("traceparent").and_then(|value| value.to_str().ok()));
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    span.record("http.response.status_code", status);
    meters.duration.record(
        started.elapsed().as_secs_f64(),
        &[
            KeyValue::new("http.request.method", method),
            KeyValue::new("http.route", route),
            KeyValue::new("http.response.status_code", i64::from(status)),
        ],
    );
    response
}

/// The method, out of a fixed set.
pub(crate) fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "_OTHER",
    }
}
