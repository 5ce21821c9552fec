//! Calls by which Core keeps the two sides in step (`protocol.md` 3.4, 3.5, 4.7).

use super::job_ids;
use crate::http::body::MOST_BYTES;
use crate::http::failure::Failure;
use crate::http::{Shared, Silence};
use axum::Json;
use axum::extract::{Request, State};
use muster_domain::event::Event;
use muster_ucloud::v2021::envelope::{BulkResponse, FindByStringId, Unit};

/// `POST /ucloud/{p}/jobs/verify`: answered at once, checked in the background.
pub(in crate::http) async fn verify(State(shared): State<Shared>, request: Request) -> Result<Json<Unit>, Failure> {
    let items: Vec<FindByStringId> = shared.bodies.bulk(request, MOST_BYTES).await?;
    let telling = shared.handle.tell(Event::Verify { jobs: job_ids(&items)? });
    match tokio::time::timeout(shared.settings.answer_within, telling).await {
        Ok(Ok(())) => Ok(Json(Unit {})),
        Ok(Err(_)) | Err(_) => Err(Silence.into()),
    }
}

/// `POST /ucloud/{p}/jobs/updateAcl`: must succeed. Access is decided by Core alone, so there is nothing to update.
pub(in crate::http) async fn update_acl(
    State(shared): State<Shared>,
    request: Request,
) -> Result<Json<BulkResponse<Unit>>, Failure> {
    let items: Vec<Unit> = shared.bodies.bulk(request, MOST_BYTES).await?;
    Ok(Json(BulkResponse::units(items.len())))
}

/// `POST /ucloud/{p}/jobs/init`: nothing to make ready for a user.
pub(in crate::http) async fn init(State(shared): State<Shared>, request: Request) -> Result<Json<Unit>, Failure> {
    shared.bodies.ignore(request).await?;
    Ok(Json(Unit {}))
}
