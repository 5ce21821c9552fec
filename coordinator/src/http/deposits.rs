//! Deposits (`protocol.md` 7.5): announced by Core, of no interest here, because every job is charged as it runs.

use super::Shared;
use super::failure::Failure;
use axum::Json;
use axum::extract::{Request, State};
use muster_ucloud::v2021::envelope::Unit;

/// `POST /ucloud/{p}/depositNotifications/pullRequest`.
pub(super) async fn pull_request(State(shared): State<Shared>, request: Request) -> Result<Json<Unit>, Failure> {
    shared.bodies.ignore(request).await?;
    Ok(Json(Unit {}))
}
