//! What is asked of the coordinator, and what it means when it has no such thing.

use clap::ArgMatches;
use serde_json::{Value, json};

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
    /// The brakes.
    Brakes,
    /// An order about a node.
    Node {
        /// What is to be done with it.
        order: Order,
        /// Its name.
        name: String,
    },
    /// Verdicts that are held back may act: one kind, or all.
    Release(Option<String>),
}

/// What is to be done with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Place nothing new on it.
    Cordon,
    /// Empty it.
    Drain {
        /// When what still runs there is ended, from now.
        deadline_ms: Option<u64>,
    },
    /// Give it back.
    Uncordon,
    /// It is gone for good.
    Forget,
}

impl Order {
    fn name(self) -> &'static str {
        match self {
            Self::Cordon => "cordon",
            Self::Drain { .. } => "drain",
            Self::Uncordon => "uncordon",
            Self::Forget => "forget",
        }
    }
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
            Some(("node", node)) => match node.subcommand() {
                Some((word, order)) => Self::order(word, order),
                None => Self::Nodes,
            },
            Some(("brake", brake)) => match brake.subcommand() {
                Some((_, release)) => Self::Release(release.get_one::<String>("verdict").cloned()),
                None => Self::Brakes,
            },
            _ => Self::Cluster,
        }
    }

    fn order(word: &str, matches: &ArgMatches) -> Self {
        let order = match word {
            "cordon" => Order::Cordon,
            "drain" => Order::Drain { deadline_ms: matches.get_one::<u64>("deadline").copied() },
            "uncordon" => Order::Uncordon,
            _ => Order::Forget,
        };
        Self::Node { order, name: matches.get_one::<String>("name").cloned().unwrap_or_default() }
    }

    /// The segments of the path.
    pub(crate) fn path(&self) -> Vec<&str> {
        match self {
            Self::Cluster | Self::Brakes => vec!["v1", "cluster"],
            Self::Node { order, name } => vec!["v1", "nodes", name, order.name()],
            Self::Release(_) => vec!["v1", "brake", "release"],
            Self::Nodes => vec!["v1", "nodes"],
            Self::Jobs { .. } => vec!["v1", "jobs"],
            Self::Job(id) => vec!["v1", "jobs", id],
        }
    }

    /// The body of an order; `None` for a question.
    pub(crate) fn body(&self) -> Option<Value> {
        match self {
            Self::Node { order: Order::Drain { deadline_ms }, .. } => Some(json!({ "deadline_ms": deadline_ms })),
            Self::Node { .. } => Some(json!({})),
            Self::Release(verdict) => Some(json!({ "verdict": verdict })),
            _ => None,
        }
    }

    /// What it means, and what to do, when a coordinator answers 404; `None` if it never does.
    pub(crate) fn missing(&self) -> Option<String> {
        match self {
            Self::Job(id) => Some(format!("the job {id} is not known here; `muster jobs --all` lists all that are")),
            Self::Node { name, .. } => {
                Some(format!("the node {name} is not known here; `muster nodes` lists all that are"))
            }
            _ => None,
        }
    }

    /// Leaves out what was not asked for.
    pub(crate) fn narrow(&self, mut answer: Value) -> Value {
        if let (Self::Brakes, Some(brakes)) = (self, answer.get_mut("brakes")) {
            return brakes.take();
        }
        if let (Self::Jobs { all, state }, Some(jobs)) = (self, answer.as_array_mut()) {
            jobs.retain(|job| match (job["state"].as_str(), state) {
                (Some(is), Some(wanted)) => is == wanted,
                (is, _) => *all || is != Some("ended"),
            });
        }
        answer
    }
}
