//! More time for jobs (`protocol.md` 4.4, 16.12).

use super::job_id;
use crate::http::body::MOST_BYTES;
use crate::http::failure::Failure;
use crate::http::{Shared, Silence};
use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use muster_domain::event::{Event, Extension};
use muster_ucloud::v2021::envelope::{BulkResponse, Unit};
use muster_ucloud::v2021::ingoing::ExtendItem;
use std::time::Duration;

/// How long the driver may take to say that it is there.
const SURE_WITHIN: Duration = Duration::from_secs(1);

/// `POST /ucloud/{p}/jobs/extend`: all of a bulk or none.
pub(in crate::http) async fn extend(
    State(shared): State<Shared>,
    request: Request,
) -> Result<Json<BulkResponse<Unit>>, Failure> {
    let wishes: Vec<ExtendItem> = shared.bodies.bulk(request, MOST_BYTES).await?;
    let items = wishes.iter().enumerate().map(|(index, wish)| extension(index, wish));
    let items = items.collect::<Result<Vec<_>, Failure>>()?;
    // Whether anybody decides here at the moment: if not, nothing was sent, and Core may ask again.
    let answering = shared.handle.query(|_, _| ());
    match tokio::time::timeout(shared.settings.answer_within.min(SURE_WITHIN), answering).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) | Err(_) => return Err(Silence.into()),
    }
    match shared.ask(|request| Event::Extend { request, items }).await {
        Ok(reply) => reply?,
        // The time may have been added already, and Core would repeat a 503 and add it twice.
        Err(Silence) => {
            let why = "it is not known whether the time was added: look at the job before asking again";
            return Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, why));
        }
    }
    Ok(Json(BulkResponse::units(wishes.len())))
}

fn extension(index: usize, wish: &ExtendItem) -> Result<Extension, Failure> {
    let job = job_id(index, "job.id", &wish.job.id)?;
    let add_ms = wish.requested_time.positive_ms("requestedTime").map_err(|problem| problem.at(index))?;
    Ok(Extension { job, add_ms })
}
