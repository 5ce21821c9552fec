//! Connecting users (`protocol.md` 2.4). This provider serves every user that Core names, so there is nothing to connect.

use super::Shared;
use super::failure::Failure;
use axum::Json;
use axum::extract::{Request, State};
use muster_ucloud::v2021::envelope::Unit;
use muster_ucloud::v2021::integration::IntegrationManifest;
use muster_ucloud::v2021::problem::Problem;

/// `GET /ucloud/{p}/integration/retrieveManifest`: users need not connect.
pub(super) async fn manifest() -> Json<IntegrationManifest> {
    Json(IntegrationManifest { enabled: false })
}

/// `POST /ucloud/{p}/integration/init`: every user can be served. Core calls it between the repeats after a 503.
pub(super) async fn init(State(shared): State<Shared>, request: Request) -> Result<Json<Unit>, Failure> {
    shared.bodies.ignore(request).await?;
    Ok(Json(Unit {}))
}

/// `POST /ucloud/{p}/integration/connect`: not offered, as the manifest says.
pub(super) async fn connect() -> Failure {
    Problem::unsupported("users need not connect to this provider").into()
}

/// `POST /ucloud/{p}/integration/welcome`: this provider is registered by its operator, not by this call.
pub(super) async fn welcome() -> Failure {
    Failure::not_found(
        "this provider is registered by its operator: put Core's key and the refresh token into its configuration",
    )
}
