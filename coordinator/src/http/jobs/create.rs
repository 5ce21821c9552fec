//! Taking jobs in: all of a bulk or none (`protocol.md` 3.3, 4.2, 16.8, 16.13).

use crate::http::Shared;
use crate::http::body::MOST_CREATE_BYTES;
use crate::http::failure::Failure;
use axum::Json;
use axum::extract::{Request, State};
use muster_domain::event::Event;
use muster_domain::job::spec::JobSpec;
use muster_runtime::telemetry::current_traceparent;
use muster_ucloud::v2021::envelope::{BulkResponse, FindByStringId};
use muster_ucloud::v2021::job::Job;

/// `POST /ucloud/{p}/jobs`. Answered once the jobs are durable; a repeated call with the same jobs gets the same answer.
pub(in crate::http) async fn create(
    State(shared): State<Shared>,
    request: Request,
) -> Result<Json<BulkResponse<Option<FindByStringId>>>, Failure> {
    let items: Vec<Job> = shared.bodies.bulk(request, MOST_CREATE_BYTES).await?;
    let jobs = accept(&shared, &items)?;
    let count = jobs.len();
    shared.ask(|request| Event::Create { request, jobs }).await??;
    Ok(Json(BulkResponse::no_ids(count)))
}

/// `DELETE /ucloud/{p}/jobs`: never sent for jobs, and either answer is fine (`protocol.md` 4.3). Nothing that Core still
/// has can be deleted here.
pub(in crate::http) async fn delete() -> Failure {
    Failure::not_found("jobs are not deleted at this provider: terminate them")
}

fn accept(shared: &Shared, items: &[Job]) -> Result<Vec<JobSpec>, Failure> {
    let traceparent = current_traceparent();
    let accepted = items.iter().enumerate().map(|(index, item)| {
        let job = shared.settings.catalogue.accept(item, traceparent.clone());
        job.map_err(|problem| Failure::from(problem.at(index)))
    });
    accepted.collect()
}
