//! A panic in a handler is our fault: the caller gets a 500 without its text, and the log has it.

use super::failure::Failure;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use std::any::Any;
use std::panic::AssertUnwindSafe;

/// Turns a panic into a 500.
pub(crate) async fn panics(request: Request, next: Next) -> Response {
    // What a handler leaves behind is dropped with its request, so nothing half done is seen again.
    AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|panic| {
        tracing::error!(panic = text(&*panic), "a request handler panicked");
        Failure::internal().into_response()
    })
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("of an unknown kind")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tests::stage::send;
    use axum::Router;
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::middleware::from_fn;
    use axum::routing::get;

    async fn boom() {
        panic!("secret detail {}", 7)
    }

    #[tokio::test]
    async fn a_panic_is_a_500_without_its_text() {
        let router: Router = Router::new().route("/", get(boom)).layer(from_fn(panics));
        let answer = send(&router, Request::new(Body::empty())).await;
        assert_eq!((answer.status, answer.why()), (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"));
    }
}
