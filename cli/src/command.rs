//! The command line: what can be asked, and how to reach the coordinator.

use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, ArgAction, Command};
use muster_domain::brake::Verdict;
use muster_runtime::config::{
    Complaint, ConfigError, Key, Kind, Outcome, Program, Validate, duration_ms, load_command,
};
use serde::Deserialize;
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
    about: "Look into a cluster, its nodes and its jobs, and take nodes out of service",
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

/// Loads the configuration and reads what is asked.
pub(crate) fn load(
    arguments: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Outcome<Config>, ConfigError> {
    let all = Arg::new("all").long("all").action(ArgAction::SetTrue).help("Jobs that have ended as well");
    let state =
        Arg::new("state").long("state").value_name("STATE").value_parser(STATES).help("Only jobs in this state");
    let id = Arg::new("id")
        .value_name("ID")
        .required(true)
        .value_parser(NonEmptyStringValueParser::new())
        .help("The job's id, as Core and `muster jobs` say it");
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
        .subcommand(node())
        .subcommand(brake())
        .after_help("Exit codes: 0 done, 1 failed, 2 wrong command line or configuration, 3 no such job or node");
    load_command(&PROGRAM, command, arguments, variables)
}

fn node() -> Command {
    let name = || {
        Arg::new("name")
            .value_name("NAME")
            .required(true)
            .value_parser(NonEmptyStringValueParser::new())
            .help("The node's name, as `muster nodes` says it")
    };
    let deadline = Arg::new("deadline")
        .long("deadline")
        .value_name("DURATION")
        .value_parser(deadline_ms)
        // A negative one is a wrong duration and no unknown flag.
        .allow_hyphen_values(true)
        .help("End what still runs there after this time, such as 10m; without it ranks end by themselves");
    Command::new("node")
        .about("Take a node out of service, or give it back")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("cordon")
                .about("Place nothing new on it; what is on it goes on. Takes a drain back")
                .arg(name()),
        )
        .subcommand(
            Command::new("drain")
                .about(
                    "Empty it: what does not run yet is placed elsewhere, what runs ends by itself or at the deadline",
                )
                .arg(name())
                .arg(deadline),
        )
        .subcommand(Command::new("uncordon").about("Let it take ranks again").arg(name()))
        .subcommand(Command::new("forget").about("Take it off the list: the machine is gone for good").arg(name()))
}

fn brake() -> Command {
    let verdict = Arg::new("verdict")
        .value_name("VERDICT")
        .value_parser(Verdict::ALL.map(Verdict::name))
        .help("Only these; without it all");
    let release = Command::new("release")
        .about("Let verdicts that are held back act, for the next five minutes; find out first what is wrong")
        .arg(verdict);
    Command::new("brake").about("The brakes on automatic ends of jobs, and what they hold back").subcommand(release)
}

/// A time to wait. A bare number would be milliseconds, which nobody means here.
fn deadline_ms(text: &str) -> Result<u64, String> {
    let has_unit = text.trim_end().ends_with(|letter: char| letter.is_ascii_alphabetic());
    duration_ms(text).filter(|_| has_unit).ok_or_else(|| "expected a duration such as 90s, 10m or 1h".to_owned())
}
