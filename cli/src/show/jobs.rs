//! `muster jobs`.

use crate::human;
use crate::table::Table;
use muster_domain::view::JobView;

/// One line for each job.
pub(super) fn show(jobs: &[JobView], all: bool, state: Option<&str>) -> String {
    if jobs.is_empty() {
        return match (all, state) {
            (_, Some(state)) => format!("no jobs are {state}\n"),
            (true, None) => "no jobs\n".into(),
            (false, None) => "no jobs that have not ended; --all shows those that have\n".into(),
        };
    }
    let mut table = Table::new(&[
        "ID",
        "STATE",
        "APPLICATION",
        "OWNER",
        "PRODUCT",
        ">RANKS",
        ">RAN",
        ">LIMIT",
        "CREATED",
        "REASON",
    ]);
    for job in jobs {
        table.row(vec![
            job.id.clone(),
            state_of(job),
            job.application.clone(),
            owner_of(job),
            job.product.clone(),
            job.replicas.to_string(),
            human::duration(job.ran_ms),
            job.time_limit_ms.map(human::duration).unwrap_or_default(),
            human::time(job.created_at_ms),
            job.reason.clone(),
        ]);
    }
    table.to_string()
}

/// The state; for an ended job how it ended, as Core is told.
pub(super) fn state_of(job: &JobView) -> String {
    match &job.outcome {
        Some(outcome) => format!("{} {outcome}", job.state),
        None => job.state.clone(),
    }
}

/// Who asked for it, and which project pays.
pub(super) fn owner_of(job: &JobView) -> String {
    match &job.project {
        Some(project) => format!("{} ({project})", job.owner),
        None => job.owner.clone(),
    }
}
