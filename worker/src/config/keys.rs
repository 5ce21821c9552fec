//! Every key, once.

use muster_runtime::config::{Key, Kind, Program};
use muster_runtime::telemetry;

/// The worker's own keys; those of telemetry come in addition.
pub const KEYS: &[Key] = &[
    Key::new("coordinators", Kind::List, "addresses of the coordinators' fleet listeners, tried in turn")
        .default("http://127.0.0.1:8472"),
    Key::new("state_dir", Kind::Path, "the worker's own folder; no two workers share it").default("/var/lib/muster/worker"),
    Key::new("work_root", Kind::Path, "folder of the jobs' folders, which become /work; on nodes that run one gang together, a shared file system")
        .default("/var/lib/muster/jobs"),
    Key::new(
        "engine",
        Kind::Choice(&["auto", "docker", "process", "fake"]),
        "what runs ranks; auto is docker where its socket exists or state_dir holds a folder docker from before, else process",
    )
    .default("auto"),
    Key::new("engine_patience_ms", Kind::DurationMs, "how long preparing or starting a rank is tried while the engine does not answer")
        .default("60s"),
    Key::new("categories", Kind::List, "product categories this node serves; empty serves all").default(""),
    Key::new("labels", Kind::Labels, "names with texts that operators see, such as rack=3"),
    Key::new("heartbeat_ms", Kind::DurationMs, "time between two complete reports, 200ms to 2s").default("2s"),
    Key::new("grace_ms", Kind::DurationMs, "time a rank has between SIGTERM and SIGKILL, at most 10m").default("10s"),
    Key::new("cluster.name", Kind::Text, "name of the installation, as the coordinator has it; part of every container's labels")
        .default("muster"),
    Key::new("node.name", Kind::Text, "this node's name, unlike any other's; the host name if not set"),
    Key::new("fleet.token_file", Kind::Path, "file with the fleet's join secret; must be set, no coordinator takes in a worker without it"),
    Key::new("fleet.ca_file", Kind::Path, "certificate authority of https coordinators, PEM"),
    Key::new("resources.cores", Kind::Integer { min: 1, max: 65_536 }, "cores; as found if not set"),
    Key::new("resources.memory_gib", Kind::Integer { min: 1, max: 1 << 20 }, "memory in GiB; as found if not set"),
    Key::new("resources.gpus", Kind::Integer { min: 0, max: 1024 }, "GPUs; as found (/dev/nvidia*) if not set"),
    Key::new("resources.reserve_cores", Kind::Integer { min: 0, max: 65_536 }, "cores that jobs do not get; 0 if not set"),
    Key::new(
        "resources.reserve_memory_gib",
        Kind::Integer { min: 0, max: 1 << 20 },
        "memory in GiB that jobs do not get; if not set, 1 where memory is as found and 0 where it is configured",
    ),
    Key::new("docker.socket", Kind::Path, "unix socket of the engine").default("/var/run/docker.sock"),
    Key::new(
        "docker.network",
        Kind::Choice(&["bridge", "overlay", "host"]),
        "how ranks reach each other: bridge on one node, overlay over the managers of one swarm, host for the bare interconnect",
    )
    .default("bridge"),
    Key::new("docker.subnet_pool", Kind::Text, "IPv4 block out of which each job gets a subnet; nothing else may use it")
        .default("10.213.0.0/16"),
    Key::new("docker.address", Kind::Text, "this node's address for other nodes; needed with network host"),
    Key::new("docker.pull", Kind::Choice(&["if_missing", "never"]), "when images are pulled").default("if_missing"),
    Key::new("docker.user", Kind::Text, "uid:gid of jobs that do not run as root; if not set, 65534:65534 where the worker is root, else the worker's own"),
    Key::new("docker.gpus", Kind::List, "UUIDs or indices of the GPUs that jobs may have; the first resources.gpus of the machine if empty").default(""),
    Key::new("docker.pids_limit", Kind::Integer { min: 16, max: 4_194_304 }, "most processes and threads of one rank")
        .default("4096"),
    Key::new("docker.log_limit_bytes", Kind::Bytes, "most that the engine keeps of a rank's log; beyond it the oldest goes")
        .default("30MiB"),
    Key::new("docker.log_retention_ms", Kind::DurationMs, "how long the log of a removed rank is kept").default("7d"),
    Key::new(
        "process.network",
        Kind::Choice(&["loopback", "node"]),
        "addresses of ranks: loopback gives each its own, for gangs within one node; node is this node's for all",
    )
    .default("loopback"),
    Key::new("process.loopback_range", Kind::Text, "addresses for ranks; workers that share a machine need different ones")
        .default("127.64.1.0/24"),
    Key::new("process.address", Kind::Text, "this node's address for other nodes; needed with network node"),
    Key::new("process.images_dir", Kind::Path, "folder of images: acme/batch:1.0.0 is acme/batch/1.0.0 in it; without it the host's programs run"),
    Key::new("process.user", Kind::Text, "uid:gid of jobs that do not run as root; if not set, 65534:65534 where a root worker has namespaces, else the worker's own"),
    Key::new("process.log_limit_bytes", Kind::Bytes, "most that is kept of each of a rank's two streams").default("64MiB"),
    Key::new("process.log_retention_ms", Kind::DurationMs, "how long the log of a removed rank is kept").default("7d"),
    Key::new("process.pids_limit", Kind::Integer { min: 16, max: 4_194_304 }, "most processes and threads of one rank")
        .default("4096"),
];

/// The binary `muster-worker`.
pub const PROGRAM: Program = Program {
    name: "muster-worker",
    about: "The worker agent of Muster: runs ranks on this node",
    version: env!("CARGO_PKG_VERSION"),
    keys: &[KEYS, telemetry::KEYS],
};
