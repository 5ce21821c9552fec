//! Jobs (`protocol.md` 4): what Core asks about them, call by call.

mod create;
mod end;
mod extend;
mod offer;
mod session;
mod upkeep;

pub(super) use create::{create, delete};
pub(super) use end::{suspend, terminate};
pub(super) use extend::extend;
pub(super) use offer::{retrieve_products, retrieve_utilization};
pub(super) use session::interactive_session;
pub(super) use upkeep::{init, update_acl, verify};

use super::failure::Failure;
use super::{Shared, Silence};
use muster_domain::id::JobId;
use muster_ucloud::v2021::envelope::FindByStringId;
use muster_ucloud::v2021::problem::Problem;

/// The job's id, or what is wrong with it. `field` is where it stands in the item.
fn job_id(index: usize, field: &str, id: &str) -> Result<JobId, Failure> {
    JobId::new(id).map_err(|error| Problem::invalid(format!("{field}: {error}")).at(index).into())
}

/// The ids of a bulk about jobs. No more of them is read, so that nothing else in a job can keep it from ending.
fn job_ids(items: &[FindByStringId]) -> Result<Vec<JobId>, Failure> {
    items.iter().enumerate().map(|(index, job)| job_id(index, "id", &job.id)).collect()
}

/// Fails with 404 for the first job that is not known (`protocol.md` 16.5).
async fn all_known(shared: &Shared, field: &'static str, jobs: Vec<JobId>) -> Result<(), Failure> {
    let asking = shared.handle.query(move |cluster, _| {
        let unknown = |(_, job): &(usize, &JobId)| cluster.location(job).is_none();
        jobs.iter().enumerate().find(unknown).map(|(index, job)| (index, job.clone()))
    });
    match tokio::time::timeout(shared.settings.answer_within, asking).await {
        Ok(Ok(None)) => Ok(()),
        Ok(Ok(Some((index, job)))) => {
            Err(Failure::not_found(format!("items[{index}].{field}: the job {job} is not known here")))
        }
        Ok(Err(_)) | Err(_) => Err(Silence.into()),
    }
}
