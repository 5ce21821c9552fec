//! Jobs (protocol 6.4, 8.1 to 8.4).

use super::application::{Application, NameAndVersion};
use super::duration::SimpleDuration;
use super::lenient;
use super::product::{ComputeProduct, ProductReference};
use super::resource::{ResolvedSupport, ResourceOwner, ResourcePermissions};
use super::support::ComputeSupport;
use super::value::AppParameterValue;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// A job. Only the id must be there, because most calls need no more; [`crate::v2021::accept`] asks for the rest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Core's id, unique over all providers.
    #[serde(deserialize_with = "lenient::required")]
    pub id: String,
    /// Who asked for it.
    #[serde(default, deserialize_with = "lenient::object")]
    pub owner: ResourceOwner,
    /// What its provider has told, where asked for.
    #[serde(default, deserialize_with = "lenient::list")]
    pub updates: Vec<JobUpdate>,
    /// What was asked.
    #[serde(default, deserialize_with = "lenient::object")]
    pub specification: JobSpecification,
    /// How Core sees it.
    #[serde(default, deserialize_with = "lenient::object")]
    pub status: JobStatus,
    /// When it was made, in milliseconds since the epoch.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub created_at: i64,
    /// Where its output is.
    #[serde(default)]
    pub output: Option<JobOutput>,
    /// Who may do what with it.
    #[serde(default)]
    pub permissions: Option<ResourcePermissions>,
}

/// Where a job's output is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobOutput {
    /// A UCloud path.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub output_folder: Option<String>,
}

/// What a user asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobSpecification {
    /// What to run.
    #[serde(default, deserialize_with = "lenient::object")]
    pub application: NameAndVersion,
    /// On what.
    #[serde(default, deserialize_with = "lenient::object")]
    pub product: ProductReference,
    /// The user's own name for it.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub name: Option<String>,
    /// How many ranks. Core of 2021 always says 1 (protocol 8.2).
    #[serde(default = "lenient::number::<1>", deserialize_with = "lenient::number_or::<_, 1>")]
    pub replicas: i64,
    /// Core's business.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub allow_duplicate_job: bool,
    /// Values of the application's parameters.
    #[serde(default, deserialize_with = "lenient::map")]
    pub parameters: Option<BTreeMap<String, AppParameterValue>>,
    /// What else it needs.
    #[serde(default)]
    pub resources: Option<Vec<AppParameterValue>>,
    /// How long it may run; without it until it ends.
    #[serde(default)]
    pub time_allocation: Option<SimpleDuration>,
}

impl Default for JobSpecification {
    fn default() -> Self {
        Self {
            application: NameAndVersion::default(),
            product: ProductReference::default(),
            name: None,
            replicas: 1,
            allow_duplicate_job: false,
            parameters: None,
            resources: None,
            time_allocation: None,
        }
    }
}

/// How Core sees a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// Its state; none if it is missing or one that is not known here.
    #[serde(default, deserialize_with = "lenient::known")]
    pub state: Option<JobState>,
    /// What the web client sent, opaque here.
    #[serde(default)]
    pub job_parameters_json: Option<Value>,
    /// When it first ran, in milliseconds since the epoch.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub started_at: Option<i64>,
    /// When its time is up, in milliseconds since the epoch.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub expires_at: Option<i64>,
    /// The application. Always there in `create`.
    #[serde(default)]
    pub resolved_application: Option<Application>,
    /// The product and its support. Only in `create` and `follow` (protocol 3.3).
    #[serde(default)]
    pub resolved_support: Option<ResolvedSupport<ComputeProduct, ComputeSupport>>,
    /// The product. Only in `create` and `follow`.
    #[serde(default)]
    pub resolved_product: Option<ComputeProduct>,
}

/// The state of a job (protocol 8.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum JobState {
    /// Not every rank has started.
    InQueue,
    /// Every rank has started.
    Running,
    /// On its way to the end.
    Canceling,
    /// Ended without a fault of the provider, whatever the exit code.
    Success,
    /// Ended by a fault of the provider.
    Failure,
    /// Its time ran out.
    Expired,
}

impl JobState {
    /// Whether nothing comes after it.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Expired)
    }

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InQueue => "IN_QUEUE",
            Self::Running => "RUNNING",
            Self::Canceling => "CANCELING",
            Self::Success => "SUCCESS",
            Self::Failure => "FAILURE",
            Self::Expired => "EXPIRED",
        }
    }
}

/// News about a job (protocol 6.4).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobUpdate {
    /// The state it shall have.
    #[serde(default, deserialize_with = "lenient::known")]
    pub state: Option<JobState>,
    /// Where its output is.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub output_folder: Option<String>,
    /// In words for the user.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub status: Option<String>,
    /// Apply only if this is its state.
    #[serde(default, deserialize_with = "lenient::known")]
    pub expected_state: Option<JobState>,
    /// Apply only if `state` is not its state yet.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub expected_different_state: Option<bool>,
    /// The new total time allocation, in milliseconds.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub new_time_allocation: Option<i64>,
    /// Milliseconds since the epoch. Core ignores what it is sent and stamps by its own clock.
    #[serde(default, deserialize_with = "lenient::scalar")]
    pub timestamp: i64,
}
