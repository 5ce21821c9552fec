//! What a rank's container may do. The one place that builds it; no field of Docker's passes through from a job
//! (reliability C.2, 16-26).

use super::call::job_fault;
use super::folder::Folders;
use super::label::{self, Labels};
use super::settings::{DockerSettings, User};
use crate::engine::EngineError;
use bollard::models::{
    ContainerCreateBody, DeviceRequest, EndpointIpamConfig, EndpointSettings, HealthConfig, HostConfig,
    HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount, MountType, NetworkingConfig, ResourcesUlimits,
    RestartPolicy, RestartPolicyNameEnum,
};
use muster_domain::rank::Assignment;
use rustix::process::{Resource, getrlimit};
use std::collections::HashMap;

/// C.2, 16. Not NET_RAW (forged ARP), MKNOD, AUDIT_WRITE, SYS_CHROOT.
const CAPABILITIES: [&str; 10] =
    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "SETFCAP", "NET_BIND_SERVICE"];
/// Files over which the engine rotates a log.
const LOG_FILES: u64 = 3;
const MOST_OPEN_FILES: u64 = 65_536;
const MOST_LOCKED_BYTES: u64 = 64 << 20;
/// The kernel takes a job before the node's own services.
const OOM_SCORE_ADJUSTMENT: i64 = 500;

/// What the engine of this node can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Abilities {
    /// `local`, which is bounded by nature, or `json-file`, which gets the same bounds.
    pub(super) log_driver: &'static str,
    /// Whether the default seccomp profile can be asked for by name (API 1.42).
    pub(super) named_seccomp: bool,
    /// Cores of the node: Docker refuses a limit above them.
    pub(super) cores: u64,
}

/// How the container is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Attachment {
    /// To the job's network.
    Network {
        /// Its name.
        name: String,
        /// The rank's fixed address there.
        address: String,
    },
    /// To the node's own network.
    Host,
}

/// Everything but the assignment that a container is made from.
pub(super) struct Surroundings<'a> {
    pub(super) settings: &'a DockerSettings,
    pub(super) abilities: &'a Abilities,
    pub(super) folders: &'a Folders,
    pub(super) labels: Labels,
    pub(super) user: User,
    /// The image's own working directory, for jobs that do not want `/work`.
    pub(super) image_directory: &'a str,
    pub(super) attachment: Attachment,
    /// The GPUs chosen for it; empty lets Docker pick.
    pub(super) gpus: &'a [String],
}

/// Refuses what no engine could run. The message is for the job's user.
pub(super) fn check(assignment: &Assignment) -> Result<(), EngineError> {
    let container = &assignment.container;
    if container.argv.first().is_none_or(String::is_empty) {
        return Err(job_fault("the job has no command to run"));
    }
    if container.image.is_empty() {
        return Err(job_fault("the job names no image"));
    }
    if container.argv.iter().any(|argument| argument.contains('\0')) {
        return Err(job_fault("an argument of the command holds a NUL character"));
    }
    for (name, value) in &container.env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(job_fault(format!(
                "the environment variable {name:?} is not usable: expected a name without '=' and no NUL character"
            )));
        }
    }
    Ok(())
}

/// The container of an assignment that passed [`check`].
pub(super) fn body(assignment: &Assignment, around: &Surroundings<'_>) -> ContainerCreateBody {
    let spec = &assignment.container;
    let (first, rest) = spec.argv.split_at(spec.argv.len().min(1));
    let directory = if spec.in_work_directory { "/work" } else { usable_directory(around.image_directory) };
    let networking_config = match &around.attachment {
        Attachment::Network { name, address } => Some(NetworkingConfig {
            endpoints_config: Some(HashMap::from([(
                name.clone(),
                EndpointSettings {
                    ipam_config: Some(EndpointIpamConfig { ipv4_address: Some(address.clone()), ..Default::default() }),
                    ..Default::default()
                },
            )])),
        }),
        Attachment::Host => None,
    };
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        // An entry point of our own replaces the image's, and with it the image's command.
        entrypoint: Some(first.to_vec()),
        cmd: Some(rest.to_vec()),
        env: Some(spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        working_dir: Some(directory.to_owned()),
        user: Some(around.user.text()),
        hostname: Some(assignment.host.clone()),
        labels: Some(around.labels.clone()),
        // An image's own health check would be work that nobody asked for and nobody reads.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..Default::default() }),
        host_config: Some(host_config(assignment, around)),
        networking_config,
        ..Default::default()
    }
}

fn host_config(assignment: &Assignment, around: &Surroundings<'_>) -> HostConfig {
    let key = &assignment.key;
    let resources = &assignment.resources;
    let memory = i64::try_from(resources.memory_bytes).ok().filter(|bytes| *bytes > 0);
    let cores = u64::from(resources.cores).min(around.abilities.cores);
    let mut security = vec!["no-new-privileges".to_owned()];
    if around.abilities.named_seccomp {
        security.push("seccomp=builtin".to_owned());
    }
    HostConfig {
        memory,
        // Equal to memory: no swap on top of it.
        memory_swap: memory,
        nano_cpus: i64::try_from(cores * 1_000_000_000).ok().filter(|nanos| *nanos > 0),
        pids_limit: Some(i64::from(around.settings.pids_limit)),
        shm_size: memory.map(|bytes| bytes / 2),
        oom_score_adj: Some(OOM_SCORE_ADJUSTMENT),
        ulimits: Some(vec![
            limit("core", 0),
            limit("nofile", MOST_OPEN_FILES.min(own_limit(Resource::Nofile))),
            limit("memlock", MOST_LOCKED_BYTES.min(own_limit(Resource::Memlock))),
        ]),
        device_requests: gpu_request(resources.gpus, around.gpus),
        mounts: Some(vec![
            bind(&around.folders.work(&key.job), "/work", false),
            bind(&around.folders.peer_files(key), "/etc/ucloud", true),
            bind(&around.folders.hosts(key), "/etc/hosts", true),
        ]),
        network_mode: Some(match &around.attachment {
            Attachment::Network { name, .. } => name.clone(),
            Attachment::Host => "host".to_owned(),
        }),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(CAPABILITIES.map(str::to_owned).to_vec()),
        security_opt: Some(security),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        ipc_mode: Some("private".to_owned()),
        privileged: Some(false),
        publish_all_ports: Some(false),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), ..Default::default() }),
        log_config: Some(HostConfigLogConfig {
            typ: Some(around.abilities.log_driver.to_owned()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), (around.settings.log_limit_bytes / LOG_FILES).max(4096).to_string()),
                ("max-file".to_owned(), LOG_FILES.to_string()),
            ])),
        }),
        // No init process in between: SIGTERM reaches the job's own program, a missing command is known at the start,
        // and the exit code is the program's. A program without a handler for SIGTERM waits for SIGKILL, as it does
        // under the reference provider.
        init: Some(false),
        ..Default::default()
    }
}

fn bind(source: &std::path::Path, target: &str, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        ..Default::default()
    }
}

fn limit(name: &str, value: u64) -> ResourcesUlimits {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    ResourcesUlimits { name: Some(name.to_owned()), soft: Some(value), hard: Some(value) }
}

/// Our own hard limit: an engine beside us may not raise one above its own, and would refuse to start the container.
fn own_limit(resource: Resource) -> u64 {
    getrlimit(resource).maximum.unwrap_or(u64::MAX)
}

fn gpu_request(count: u32, chosen: &[String]) -> Option<Vec<DeviceRequest>> {
    if count == 0 {
        return None;
    }
    let capabilities = Some(vec![vec!["gpu".to_owned()]]);
    Some(vec![if chosen.is_empty() {
        DeviceRequest { count: Some(count.into()), capabilities, ..Default::default() }
    } else {
        DeviceRequest { device_ids: Some(chosen.to_vec()), capabilities, ..Default::default() }
    }])
}

/// A working directory that an image asks for, if it is absolute, normal and not inside `/proc` or `/sys`: an image must
/// not choose a directory through which it leaves its root (C.2, 22).
fn usable_directory(asked: &str) -> &str {
    let normal =
        asked.starts_with('/') && asked.split('/').all(|part| part != "." && part != "..") && !asked.contains('\0');
    let first = asked.split('/').find(|part| !part.is_empty());
    if normal && !matches!(first, Some("proc" | "sys")) { asked } else { "/" }
}

/// Which GPUs are free, given the labels of the containers that have not ended; `None` if there are too few.
pub(super) fn free_gpus(all: &[String], count: u32, live: &[Labels]) -> Option<Vec<String>> {
    let count = usize::try_from(count).ok()?;
    let taken = |gpu: &String| {
        live.iter().filter_map(|labels| labels.get(label::GPUS)).any(|gpus| gpus.split(',').any(|one| one == gpu))
    };
    let free: Vec<String> = all.iter().filter(|gpu| !taken(gpu)).take(count).cloned().collect();
    (free.len() == count).then_some(free)
}

#[cfg(test)]
#[path = "container_tests.rs"]
mod tests;
