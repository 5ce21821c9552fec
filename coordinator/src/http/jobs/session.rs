//! Opening terminals, web interfaces and desktops (`protocol.md` 4.9). None is offered yet, as `retrieveProducts` says.

use super::{all_known, job_id};
use crate::http::body::MOST_BYTES;
use crate::http::failure::Failure;
use crate::http::{Shared, Silence};
use axum::Json;
use axum::extract::{Request, State};
use muster_domain::id::JobId;
use muster_ucloud::v2021::envelope::BulkResponse;
use muster_ucloud::v2021::problem::Problem;
use muster_ucloud::v2021::session::{InteractiveSessionType, OpenInteractiveSession, OpenSession};

/// `POST /ucloud/{p}/jobs/interactiveSession`: 404 for a job or rank that does not exist, else not supported.
pub(in crate::http) async fn interactive_session(
    State(shared): State<Shared>,
    request: Request,
) -> Result<Json<BulkResponse<Option<OpenSession>>>, Failure> {
    let items: Vec<OpenInteractiveSession> = shared.bodies.bulk(request, MOST_BYTES).await?;
    let jobs = items.iter().enumerate().map(|(index, item)| job_id(index, "job.id", &item.job.id));
    let jobs: Vec<JobId> = jobs.collect::<Result<_, _>>()?;
    all_known(&shared, "job.id", jobs.clone()).await?;
    let replicas = replicas_of(&shared, jobs).await?;
    for (index, (item, replicas)) in items.iter().zip(replicas).enumerate() {
        if !(0..i64::from(replicas)).contains(&item.rank) {
            let why =
                format!("items[{index}].rank: {} does not exist; the job has {replicas} ranks, from 0", item.rank);
            return Err(Failure::not_found(why));
        }
    }
    let what = match items.first().map(|item| item.session_type) {
        Some(InteractiveSessionType::Web) => "web interfaces",
        Some(InteractiveSessionType::Vnc) => "desktops",
        Some(InteractiveSessionType::Shell) | None => "terminals",
    };
    Err(Problem::unsupported(format!("sessionType: this provider does not open {what} yet")).at(0).into())
}

async fn replicas_of(shared: &Shared, jobs: Vec<JobId>) -> Result<Vec<u32>, Failure> {
    let asking = shared.handle.query(move |cluster, _| {
        jobs.iter().map(|job| cluster.location(job).map_or(0, |location| location.replicas)).collect()
    });
    match tokio::time::timeout(shared.settings.answer_within, asking).await {
        Ok(Ok(replicas)) => Ok(replicas),
        Ok(Err(_)) | Err(_) => Err(Silence.into()),
    }
}
