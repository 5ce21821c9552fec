//! Commands and what they carry.

use super::{Malformed, check, required};
use crate::v1;
use muster_domain::id::{JobId, RankKey};
use muster_domain::job::spec::ContainerSpec;
use muster_domain::peers::PeerFiles;
use muster_domain::rank::{Assignment, Command};
use muster_domain::resources::Resources;

/// Most arguments, and most variables of one rank.
const MAX_ARGUMENTS: usize = 10_000;
/// Longest argument or value of a variable, in bytes; the kernel takes no more in one (`MAX_ARG_STRLEN`).
const MAX_ARGUMENT_BYTES: usize = 128 << 10;
/// Most ranks of one gang on the wire.
const MAX_HOSTS: usize = 10_000;
/// A file per rank and some more.
const MAX_FILES: usize = MAX_HOSTS + 100;
/// Longest peer file; `nodes.txt` names every host.
const MAX_FILE_BYTES: usize = 4 << 20;

impl From<RankKey> for v1::RankKey {
    fn from(key: RankKey) -> Self {
        Self { job: key.job.into(), rank: key.rank, attempt: key.attempt }
    }
}

impl TryFrom<v1::RankKey> for RankKey {
    type Error = Malformed;
    fn try_from(key: v1::RankKey) -> Result<Self, Malformed> {
        let job = JobId::new(key.job).map_err(|error| Malformed::new("job", error.to_string()))?;
        Ok(Self { job, rank: key.rank, attempt: key.attempt })
    }
}

impl From<Resources> for v1::Resources {
    fn from(amount: Resources) -> Self {
        Self { cores: amount.cores, memory_bytes: amount.memory_bytes, gpus: amount.gpus }
    }
}

impl TryFrom<v1::Resources> for Resources {
    type Error = Malformed;
    fn try_from(amount: v1::Resources) -> Result<Self, Malformed> {
        Ok(Self { cores: amount.cores, memory_bytes: amount.memory_bytes, gpus: amount.gpus })
    }
}

impl From<ContainerSpec> for v1::ContainerSpec {
    fn from(spec: ContainerSpec) -> Self {
        Self {
            image: spec.image,
            argv: spec.argv,
            env: spec.env,
            in_work_directory: spec.in_work_directory,
            as_root: spec.as_root,
        }
    }
}

impl TryFrom<v1::ContainerSpec> for ContainerSpec {
    type Error = Malformed;
    fn try_from(spec: v1::ContainerSpec) -> Result<Self, Malformed> {
        check::count("argv", spec.argv.len(), MAX_ARGUMENTS)?;
        let argv = spec.argv.into_iter().map(|argument| check::text("argv", argument, MAX_ARGUMENT_BYTES));
        let env = check::texts("env", spec.env, MAX_ARGUMENTS, 4096, MAX_ARGUMENT_BYTES)?;
        if let Some(name) = env.keys().find(|name| name.is_empty() || name.contains('=')) {
            return Err(Malformed::new("env", format!("variable {name:?}, expected a name without '='")));
        }
        Ok(Self {
            image: check::text("image", spec.image, 4096)?,
            argv: argv.collect::<Result<_, _>>()?,
            env,
            in_work_directory: spec.in_work_directory,
            as_root: spec.as_root,
        })
    }
}

impl From<Assignment> for v1::Assignment {
    fn from(assignment: Assignment) -> Self {
        Self {
            key: Some(assignment.key.into()),
            term: assignment.term,
            container: Some(assignment.container.into()),
            resources: Some(assignment.resources.into()),
            replicas: assignment.replicas,
            host: assignment.host,
            traceparent: assignment.traceparent.unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::Assignment> for Assignment {
    type Error = Malformed;
    fn try_from(assignment: v1::Assignment) -> Result<Self, Malformed> {
        let key: RankKey = required("key", assignment.key)?;
        if key.rank >= assignment.replicas {
            return Err(Malformed::new(
                "replicas",
                format!("{} ranks, expected more than the rank {} itself", assignment.replicas, key.rank),
            ));
        }
        Ok(Self {
            key,
            term: assignment.term,
            container: required("container", assignment.container)?,
            resources: required("resources", assignment.resources)?,
            replicas: assignment.replicas,
            host: check::host("host", assignment.host)?,
            traceparent: check::traceparent("traceparent", assignment.traceparent)?,
        })
    }
}

impl From<PeerFiles> for v1::PeerFiles {
    fn from(files: PeerFiles) -> Self {
        let hosts = files.hosts.into_iter().map(|(address, host)| v1::HostEntry { address, host }).collect();
        Self { files: files.files, hosts }
    }
}

impl TryFrom<v1::PeerFiles> for PeerFiles {
    type Error = Malformed;
    fn try_from(files: v1::PeerFiles) -> Result<Self, Malformed> {
        check::count("files", files.files.len(), MAX_FILES)?;
        check::count("hosts", files.hosts.len(), MAX_HOSTS)?;
        let hosts = files
            .hosts
            .into_iter()
            .map(|entry| Ok((check::word("hosts.address", entry.address)?, check::host("hosts.host", entry.host)?)));
        let texts = files.files.into_iter().map(|(name, content)| {
            Ok((check::file_name("files", name)?, check::text("files", content, MAX_FILE_BYTES)?))
        });
        Ok(Self { hosts: hosts.collect::<Result<_, Malformed>>()?, files: texts.collect::<Result<_, Malformed>>()? })
    }
}

impl From<Command> for v1::command::Order {
    fn from(command: Command) -> Self {
        match command {
            Command::Prepare(assignment) => Self::Prepare(v1::Prepare { assignment: Some((*assignment).into()) }),
            Command::Start { key, files, time_limit_ms, not_after_ms } => {
                Self::Start(v1::Start { key: Some(key.into()), files: Some(files.into()), time_limit_ms, not_after_ms })
            }
            Command::SetTimeLimit { key, time_limit_ms } => {
                Self::SetTimeLimit(v1::SetTimeLimit { key: Some(key.into()), time_limit_ms })
            }
            Command::Stop { key } => Self::Stop(v1::Stop { key: Some(key.into()) }),
            Command::Remove { key } => Self::Remove(v1::Remove { key: Some(key.into()) }),
        }
    }
}

impl TryFrom<v1::command::Order> for Command {
    type Error = Malformed;
    fn try_from(order: v1::command::Order) -> Result<Self, Malformed> {
        use v1::command::Order;
        let key = |name: &str, key| required("key", key).map_err(|error| error.under(name));
        Ok(match order {
            Order::Prepare(prepare) => Self::Prepare(Box::new(
                required("assignment", prepare.assignment).map_err(|error| error.under("prepare"))?,
            )),
            Order::Start(start) => Self::Start {
                key: key("start", start.key)?,
                files: required("files", start.files).map_err(|error| error.under("start"))?,
                time_limit_ms: start.time_limit_ms,
                not_after_ms: start.not_after_ms,
            },
            Order::SetTimeLimit(limit) => {
                Self::SetTimeLimit { key: key("set_time_limit", limit.key)?, time_limit_ms: limit.time_limit_ms }
            }
            Order::Stop(stop) => Self::Stop { key: key("stop", stop.key)? },
            Order::Remove(remove) => Self::Remove { key: key("remove", remove.key)? },
        })
    }
}
