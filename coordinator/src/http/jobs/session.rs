//! Opening terminals, web interfaces and desktops (`protocol.md` 4.9). None is offered yet, as `retrieveProducts` says.

use super::{all_known, job_id};
use crate::http::Shared;
use crate::http::body::MOST_BYTES;
use crate::http::failure::Failure;
use axum::Json;
use axum::extract::{Request, State};
use muster_ucloud::v2021::envelope::BulkResponse;
use muster_ucloud::v2021::problem::Problem;
use muster_ucloud::v2021::session::{InteractiveSessionType, OpenInteractiveSession, OpenSession};

/// `POST /ucloud/{p}/jobs/interactiveSession`: 404 for a job that is not known, else not supported.
pub(in crate::http) async fn interactive_session(
    State(shared): State<Shared>,
    request: Request,
) -> Result<Json<BulkResponse<Option<OpenSession>>>, Failure> {
    let items: Vec<OpenInteractiveSession> = shared.bodies.bulk(request, MOST_BYTES).await?;
    let jobs = items.iter().enumerate().map(|(index, item)| job_id(index, "job.id", &item.job.id));
    all_known(&shared, "job.id", jobs.collect::<Result<_, _>>()?).await?;
    let what = match items.first().map(|item| item.session_type) {
        Some(InteractiveSessionType::Web) => "web interfaces",
        Some(InteractiveSessionType::Vnc) => "desktops",
        Some(InteractiveSessionType::Shell) | None => "terminals",
    };
    Err(Problem::unsupported(format!("sessionType: this provider does not open {what} yet")).at(0).into())
}
