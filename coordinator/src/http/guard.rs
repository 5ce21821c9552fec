//! Who is let in: Core, for this provider.

use super::Shared;
use super::failure::Failure;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use serde::Deserialize;

/// The part of a path that names the provider.
#[derive(Deserialize)]
pub(super) struct Named {
    provider: String,
}

/// Checks the token first and the provider's id second, so that a stranger learns nothing (reliability C.2 1-7).
pub(super) async fn core_only(
    State(shared): State<Shared>,
    named: Result<Path<Named>, PathRejection>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    shared.auth.check_headers(request.headers()).map_err(|_| Failure::unauthorized())?;
    // A path that is not UTF-8 names nobody.
    let Ok(Path(named)) = named else { return Err(super::unknown_route().await) };
    if named.provider != shared.settings.provider.as_str() {
        let shown: String = named.provider.chars().take(80).collect();
        return Err(Failure::not_found(format!("this is not the provider {shown:?}")));
    }
    Ok(next.run(request).await)
}
