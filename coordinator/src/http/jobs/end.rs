//! Ending jobs (`protocol.md` 4.5, 4.6).

use super::{all_known, job_ids};
use crate::http::Shared;
use crate::http::body::MOST_BYTES;
use crate::http::failure::Failure;
use axum::Json;
use axum::extract::{Request, State};
use muster_domain::event::Event;
use muster_ucloud::v2021::envelope::{BulkResponse, FindByStringId, Unit};
use muster_ucloud::v2021::problem::Problem;

/// `POST /ucloud/{p}/jobs/terminate`. Unknown and final jobs are fine (`protocol.md` 16.5).
pub(in crate::http) async fn terminate(
    State(shared): State<Shared>,
    request: Request,
) -> Result<Json<BulkResponse<Unit>>, Failure> {
    let items: Vec<FindByStringId> = shared.bodies.bulk(request, MOST_BYTES).await?;
    let jobs = job_ids(&items)?;
    shared.ask(|request| Event::Terminate { request, jobs }).await??;
    Ok(Json(BulkResponse::units(items.len())))
}

/// `POST /ucloud/{p}/jobs/suspend`: not offered, as `retrieveProducts` says.
pub(in crate::http) async fn suspend(State(shared): State<Shared>, request: Request) -> Result<Json<Unit>, Failure> {
    let items: Vec<FindByStringId> = shared.bodies.bulk(request, MOST_BYTES).await?;
    all_known(&shared, "id", job_ids(&items)?).await?;
    Err(Problem::unsupported("this provider does not suspend jobs: terminate them").into())
}
