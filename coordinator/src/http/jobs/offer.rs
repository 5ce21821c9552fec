//! What there is, and how much of it is in use (`protocol.md` 4.1, 4.8).

use crate::http::{Shared, Silence, failure::Failure};
use axum::Json;
use axum::extract::State;
use muster_ucloud::v2021::envelope::BulkResponse;
use muster_ucloud::v2021::support::ComputeSupport;
use muster_ucloud::v2021::utilization::JobsUtilization;

/// `GET /ucloud/{p}/jobs/retrieveProducts`. Needs no leader, so that Core can look while one is being chosen.
pub(in crate::http) async fn retrieve_products(State(shared): State<Shared>) -> Json<BulkResponse<ComputeSupport>> {
    Json(shared.settings.catalogue.support())
}

/// `GET /ucloud/{p}/jobs/retrieveUtilization`.
pub(in crate::http) async fn retrieve_utilization(
    State(shared): State<Shared>,
) -> Result<Json<JobsUtilization>, Failure> {
    let asking = shared.handle.query(|cluster, _| cluster.utilization());
    match tokio::time::timeout(shared.settings.answer_within, asking).await {
        Ok(Ok(utilization)) => Ok(Json(JobsUtilization::from(&utilization))),
        Ok(Err(_)) | Err(_) => Err(Silence.into()),
    }
}
