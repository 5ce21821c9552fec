//! The command line: what can be asked, and how to reach the coordinator.

use clap::{Arg, ArgAction, ArgMatches, Command};
use muster_runtime::config::{Complaint, ConfigError, Key, Kind, Outcome, Program, Validate, load_command};
use serde::Deserialize;
use serde_json::Value;
use std::ffi::OsString;
use std::path::PathBuf;

/// States of jobs, as in the coordinator's answers.
const STATES: [&str; 7] = ["queued", "preparing", "starting", "running", "stopping", "undoing", "ended"];

const KEYS: &[Key] = &[
    Key::new("url", Kind::Url, "where the coordinator's operator listener is").default("http://127.0.0.1:8471"),
    Key::new("token_file", Kind::Path, "file with the operator's token; not needed on the coordinator's own machine"),
    Key::new("ca_file", Kind::Path, "certificate authority of an https url, PEM; the system's own if not set"),
    Key::new("output", Kind::Choice(&["table", "json"]), "how answers look").default("table"),
];

/// `muster` and its keys.
pub const PROGRAM: Program = Program {
    name: "muster",
    about: "Look into a cluster: its nodes and its jobs",
    version: env!("CARGO_PKG_VERSION"),
    keys: &[KEYS],
};

/// How to reach the coordinator and how to show what it says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The operator listener.
    pub(crate) url: String,
    /// Holds the bearer.
    pub(crate) token_file: Option<PathBuf>,
    /// Who signs the coordinator's certificate.
    pub(crate) ca_file: Option<PathBuf>,
    /// How answers look.
    pub(crate) output: Output,
}

/// How answers look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs: what the coordinator says.
    Json,
}

impl Validate for Config {
    fn validate(&self) -> Vec<Complaint> {
        let in_vain = self.ca_file.is_some() && !self.url.starts_with("https:");
        in_vain.then(|| Complaint::new("url", "an https URL, since ca_file is set")).into_iter().collect()
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// How the cluster is.
    Cluster,
    /// Its nodes.
    Nodes,
    /// Its jobs.
    Jobs {
        /// Those that have ended as well.
        all: bool,
        /// Only those in this state.
        state: Option<String>,
    },
    /// One job.
    Job(String),
}

impl Ask {
    /// Reads what clap found. Without a subcommand it is the cluster.
    pub(crate) fn from_matches(matches: &ArgMatches) -> Self {
        match matches.subcommand() {
            Some(("nodes", _)) => Self::Nodes,
            Some(("jobs", jobs)) => {
                Self::Jobs { all: jobs.get_flag("all"), state: jobs.get_one::<String>("state").cloned() }
            }
            Some(("job", job)) => Self::Job(job.get_one::<String>("id").cloned().unwrap_or_default()),
            _ => Self::Cluster,
        }
    }

    /// The segments of the path to get.
    pub(crate) fn path(&self) -> Vec<&str> {
        match self {
            Self::Cluster => vec!["v1", "cluster"],
            Self::Nodes => vec!["v1", "nodes"],
            Self::Jobs { .. } => vec!["v1", "jobs"],
            Self::Job(id) => vec!["v1", "jobs", id],
        }
    }

    /// What it means, and what to do, when the answer is 404.
    pub(crate) fn missing(&self) -> String {
        match self {
            Self::Job(id) => format!("the job {id} is not known here; `muster jobs --all` lists all that are"),
            _ => "this is not the operator listener of a coordinator; check --url".into(),
        }
    }

    /// Leaves out what was not asked for.
    pub(crate) fn narrow(&self, mut answer: Value) -> Value {
        if let (Self::Jobs { all, state }, Some(jobs)) = (self, answer.as_array_mut()) {
            jobs.retain(|job| match (job["state"].as_str(), state) {
                (Some(is), Some(wanted)) => is == wanted,
                (is, _) => *all || is != Some("ended"),
            });
        }
        answer
    }
}

/// Loads the configuration and reads what is asked.
pub(crate) fn load(
    arguments: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Outcome<Config>, ConfigError> {
    let all = Arg::new("all").long("all").action(ArgAction::SetTrue).help("Jobs that have ended as well");
    let state =
        Arg::new("state").long("state").value_name("STATE").value_parser(STATES).help("Only jobs in this state");
    let id = Arg::new("id").value_name("ID").required(true).help("The job's id, as Core and `muster jobs` say it");
    let command = PROGRAM
        .command()
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("cluster").about("How the cluster is, and what needs a look"))
        .subcommand(Command::new("nodes").about("The nodes: state, room, ranks"))
        .subcommand(
            Command::new("jobs").about("The jobs that have not ended").arg(all.conflicts_with("state")).arg(state),
        )
        .subcommand(Command::new("job").about("The whole story of one job").arg(id))
        .after_help("Exit codes: 0 done, 1 failed, 2 wrong command line or configuration, 3 no such job");
    load_command(&PROGRAM, command, arguments, variables)
}
