//! What the operator may tune about the rules of the cluster, and what the outside may ask it.

use crate::accounting::Charge;
use crate::id::{ClusterName, ProviderId, RankKey, SessionId};
use crate::job::EndCause;
use crate::outbox::Notice;

/// What the operator may tune about the rules of the cluster. Times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// This installation.
    pub cluster: ClusterName,
    /// This provider.
    pub provider: ProviderId,
    /// Version of the program, for views.
    pub version: String,
    /// Attempts at starting a gang before the job fails.
    pub attempts: u32,
    /// How long a worker may be silent before it counts as offline and gets nothing new.
    pub offline_after_ms: u64,
    /// How long a worker may be silent before the jobs on it are failed.
    pub lost_after_ms: u64,
    /// How long every rank may take to be prepared, and then to be started.
    pub prepare_timeout_ms: u64,
    /// How long a start command stays valid, counted from the last heartbeat that was answered (reliability B.2).
    pub start_lease_ms: u64,
    /// After how long an unanswered command is sent again.
    pub resend_ms: u64,
    /// How long an ended job is kept after all is settled.
    pub retention_ms: u64,
    /// Whether the last begun period is charged too (`protocol.md` 16.1; default no).
    pub round_up: bool,
    /// How many "insufficient funds" answers end a job (`protocol.md` 16.2; default 1).
    pub no_credit_confirmations: u32,
}

/// A dialect's words for what the domain knows. Views and updates use the same ones.
pub trait Wording {
    /// The state that Core is asked to set for this end: `SUCCESS`, `FAILURE` or `EXPIRED`.
    fn outcome(&self, cause: &EndCause) -> &'static str;
    /// The end in words for the job's user.
    fn reason(&self, cause: &EndCause) -> String;
    /// The state and status text by which a notice is told.
    fn update(&self, notice: &Notice) -> (Option<String>, String);
    /// The id under which a charge is sent.
    fn charge_id(&self, charge: &Charge) -> String;
}

/// Where the ranks of a job are, for whoever streams their logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobLocation {
    /// Whether the job has ended.
    pub ended: bool,
    /// Number of ranks.
    pub replicas: u32,
    /// The ranks of the present or last attempt, in order; empty before the first placement.
    pub ranks: Vec<RankLocation>,
}

/// Where one rank is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RankLocation {
    /// The container.
    pub key: RankKey,
    /// The node's name.
    pub node: String,
    /// The stream of its worker, if one is open.
    pub session: Option<SessionId>,
    /// Whether it has been started, so that it may have a log.
    pub started: bool,
}

/// `retrieveUtilization`, before a dialect words it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Utilization {
    /// Cores of all online nodes.
    pub cores: u64,
    /// Bytes of memory of all online nodes.
    pub memory_bytes: u64,
    /// Cores given to ranks.
    pub cores_used: u64,
    /// Bytes of memory given to ranks.
    pub memory_bytes_used: u64,
    /// Jobs whose every rank runs.
    pub running: u64,
    /// Jobs that wait or start.
    pub pending: u64,
}
