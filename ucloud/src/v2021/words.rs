//! How the domain's decisions are told to Core and its users (design section 3 "Outcomes", protocol 6.4, 7.1, 16).

use super::control::ResourceChargeCredits;
use super::duration::SimpleDuration;
use super::job::{JobState, JobUpdate};
use super::problem::excerpt;
use super::resource::ResourceUpdateAndId;
use muster_domain::accounting::Charge;
use muster_domain::cluster::Wording;
use muster_domain::id::{JobId, ProviderId};
use muster_domain::job::EndCause;
use muster_domain::outbox::Notice;

/// Characters of a status text.
const MOST_CHARACTERS: usize = 2000;
/// Characters of a reason inside a status text.
const MOST_REASON_CHARACTERS: usize = 1500;
/// Nodes named in a status text; more are counted.
const MOST_NODES: usize = 16;

/// The words of this dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// This provider; part of every charge's id.
    pub provider: ProviderId,
}

impl Words {
    /// The update by which Core hears a notice. Whenever it sets a state, `expectedDifferentState` is true, so that one
    /// that is sent twice changes nothing the second time (protocol 6.4, reliability F5).
    #[must_use]
    pub fn update(&self, job: &JobId, notice: &Notice) -> ResourceUpdateAndId<JobUpdate> {
        let (state, status) = told(notice);
        let new_time_allocation = match notice {
            Notice::TimeAllocation { total_ms } => Some(i64::try_from(*total_ms).unwrap_or(i64::MAX)),
            _ => None,
        };
        ResourceUpdateAndId { id: job.to_string(), update: JobUpdate { new_time_allocation, ..update(state, status) } }
    }

    /// The update for a job that Core asks about and nobody here knows (protocol 16.4, 16.5).
    #[must_use]
    pub fn unknown_job_update(&self, job: &JobId) -> ResourceUpdateAndId<JobUpdate> {
        let status = "The job is no longer available: the provider does not know it. Please start it again";
        ResourceUpdateAndId { id: job.to_string(), update: update(Some(JobState::Failure), status.to_owned()) }
    }

    /// A sealed charge as Core takes it: `units` = periods times the units of one rank, second factor = ranks, told
    /// twice because Core of October and of December read different names (protocol 7.1).
    #[must_use]
    pub fn charge(&self, charge: &Charge) -> ResourceChargeCredits {
        ResourceChargeCredits {
            id: charge.job.to_string(),
            charge_id: self.charge_id(charge),
            units: u64::from(charge.periods) * u64::from(charge.units_per_period),
            number_of_products: charge.ranks.into(),
            periods: charge.ranks.into(),
            performed_by: None,
            description: None,
        }
    }
}

impl Wording for Words {
    fn outcome(&self, cause: &EndCause) -> &'static str {
        state_of(cause).name()
    }

    fn reason(&self, cause: &EndCause) -> String {
        reason_of(cause)
    }

    fn update(&self, notice: &Notice) -> (Option<String>, String) {
        let (state, status) = told(notice);
        (state.map(|state| state.name().to_owned()), status)
    }

    /// `<job id>-<provider id>-<window>` (protocol 16.3).
    fn charge_id(&self, charge: &Charge) -> String {
        format!("{}-{}-{}", charge.job, self.provider, charge.window)
    }
}

fn update(state: Option<JobState>, status: String) -> JobUpdate {
    JobUpdate { state, status: Some(status), expected_different_state: state.map(|_| true), ..JobUpdate::default() }
}

fn told(notice: &Notice) -> (Option<JobState>, String) {
    let (state, status) = match notice {
        Notice::Waiting { reason } => (None, format!("The job is waiting in the queue: {}", clean(reason))),
        Notice::AttemptFailed { attempt, reason } => {
            (None, format!("Attempt {attempt} at starting the job failed, trying again: {}", clean(reason)))
        }
        Notice::Running { nodes } if nodes.is_empty() => (Some(JobState::Running), "The job is now running".to_owned()),
        Notice::Running { nodes } => (Some(JobState::Running), format!("The job is now running on {}", listed(nodes))),
        Notice::TimeAllocation { total_ms } => (None, format!("The time allocation is now {}", spoken(*total_ms))),
        Notice::Ended { cause } => (Some(state_of(cause)), reason_of(cause)),
    };
    (state, excerpt(&status, MOST_CHARACTERS))
}

/// `FAILURE` is the provider's fault alone: whatever the application does to itself is `SUCCESS` with words
/// (protocol 8.4, 16.7).
fn state_of(cause: &EndCause) -> JobState {
    match cause {
        EndCause::Exited { .. }
        | EndCause::OutOfMemory { .. }
        | EndCause::Killed { .. }
        | EndCause::Terminated
        | EndCause::NoCredit => JobState::Success,
        EndCause::TimeLimit => JobState::Expired,
        EndCause::NodeLost { .. }
        | EndCause::EngineRestarted { .. }
        | EndCause::Drained { .. }
        | EndCause::CannotStart { .. }
        | EndCause::Orphaned => JobState::Failure,
    }
}

fn reason_of(cause: &EndCause) -> String {
    match cause {
        EndCause::Exited { rank, code } => format!("The job has finished (rank {rank} exited with code {code})"),
        EndCause::OutOfMemory { rank } => format!("The job ran out of memory (rank {rank})"),
        EndCause::Killed { rank, signal } => {
            format!("The job has ended (rank {rank} was killed by signal {signal}{})", signal_name(*signal))
        }
        EndCause::TimeLimit => "The time allocation has run out".to_owned(),
        EndCause::Terminated => "The job was terminated".to_owned(),
        EndCause::NoCredit => "The job was terminated (No credits)".to_owned(),
        EndCause::NodeLost { node, rank } => {
            format!("The job has failed: node {} was lost (rank {rank}). Please start it again", clean(node))
        }
        EndCause::EngineRestarted { node, rank } => format!(
            "The job was ended by a restart of the container engine on node {} (rank {rank}). This was no fault of your \
             program. Please start the job again",
            clean(node)
        ),
        EndCause::Drained { node } => format!(
            "The machine was taken out of service by its operator (node {} was drained). Please start the job again",
            clean(node)
        ),
        EndCause::CannotStart { reason } => format!("The job could not be started: {}", clean(reason)),
        EndCause::Orphaned => "The job was stopped: UCloud does not know it".to_owned(),
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => ", SIGHUP",
        2 => ", SIGINT",
        3 => ", SIGQUIT",
        4 => ", SIGILL",
        6 => ", SIGABRT",
        7 => ", SIGBUS",
        8 => ", SIGFPE",
        9 => ", SIGKILL",
        11 => ", SIGSEGV",
        13 => ", SIGPIPE",
        15 => ", SIGTERM",
        _ => "",
    }
}

fn clean(text: &str) -> String {
    excerpt(text.trim(), MOST_REASON_CHARACTERS)
}

fn listed(nodes: &[String]) -> String {
    let named = nodes.iter().take(MOST_NODES).map(|node| excerpt(node, 63)).collect::<Vec<_>>().join(", ");
    match nodes.len().saturating_sub(MOST_NODES) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

fn spoken(total_ms: u64) -> String {
    let SimpleDuration { hours, minutes, seconds } = SimpleDuration::of_ms(total_ms);
    let parts = [(hours, "hour"), (minutes, "minute"), (seconds, "second")];
    let spoken: Vec<String> = parts
        .into_iter()
        .filter(|(amount, _)| *amount != 0)
        .map(|(amount, unit)| format!("{amount} {unit}{}", if amount == 1 { "" } else { "s" }))
        .collect();
    if spoken.is_empty() { "0 seconds".to_owned() } else { spoken.join(" ") }
}
