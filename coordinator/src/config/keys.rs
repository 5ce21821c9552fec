//! The table of keys: `--help`, `--print-config`, variables and checks are made from it.

use muster_domain::product::Product;
use muster_runtime::config::{Key, Kind, Program};

/// The coordinator and everything it can be told.
pub const PROGRAM: Program = Program {
    name: "muster-coordinator",
    about: "Takes UCloud's calls and runs the fleet",
    version: env!("CARGO_PKG_VERSION"),
    keys: &[KEYS, muster_runtime::telemetry::KEYS],
};

const KEYS: &[Key] = &[
    Key::new("provider.id", Kind::Text, "this provider's id at UCloud/Core").required(),
    Key::new("cluster.name", Kind::Text, "name of this installation; part of every container's labels").default("muster"),
    Key::new("coordinator.name", Kind::Text, "this coordinator's name, unlike any other's; the machine's name if not set"),
    Key::new(
        "advertise.http",
        Kind::Text,
        "host:port at which other coordinators reach http.listen; http.listen itself if not set",
    ),
    Key::new(
        "advertise.operator",
        Kind::Text,
        "host:port at which other coordinators reach operator.listen; operator.listen itself if not set",
    ),
    Key::new(
        "advertise.fleet",
        Kind::Text,
        "URL at which workers reach fleet.listen, such as http://10.0.0.1:8472; made of fleet.listen if not set",
    ),
    Key::new("http.listen", Kind::SocketAddress, "where UCloud/Core and its users' browsers call").default("127.0.0.1:8470"),
    Key::new("operator.listen", Kind::SocketAddress, "where operators call: health, and the API of `muster`")
        .default("127.0.0.1:8471"),
    Key::new(
        "operator.token_file",
        Kind::Path,
        "file with the token that operators present; without it callers on this machine are let in, and no others",
    ),
    Key::new("fleet.listen", Kind::SocketAddress, "where workers dial in").default("127.0.0.1:8472"),
    Key::new(
        "fleet.token_file",
        Kind::Path,
        "file with the join secret of workers; must be set, also on a loopback address",
    ),
    Key::new("core.url", Kind::Url, "where UCloud/Core is, such as https://cloud.sdu.dk").required(),
    Key::new("core.refresh_token_file", Kind::Path, "file with this provider's refresh token; read at each refresh").required(),
    Key::new(
        "core.public_key_files",
        Kind::List,
        "files with Core's public key for this provider (base64 of DER, PEM, or PEM certificate); a second one during a change",
    )
    .required(),
    Key::new("core.issuer", Kind::Text, "issuer that Core's tokens name").default("cloud.sdu.dk"),
    Key::new("core.ca_file", Kind::Path, "PEM file with the only authorities trusted for core.url; absent trusts the system's"),
    Key::new("core.token_life_ms", Kind::DurationMs, "longest life of a token of Core").default("15m"),
    Key::new("core.token_leeway_ms", Kind::DurationMs, "how far Core's clock and ours may be apart").default("15s"),
    Key::new("products", Kind::Tables, "machine types on offer, at least one: id, category, cores, memory_gib; gpus (0 if left out), period (minute, hour or day; minute), charge_per_core (true)")
        .shape::<Vec<Product>>(),
    Key::new("jobs.max_replicas", Kind::Integer { min: 1, max: 1000 }, "most ranks of one job").default("1000"),
    Key::new("jobs.attempts", Kind::Integer { min: 1, max: 100 }, "attempts at starting a job before it fails").default("3"),
    Key::new(
        "accounting.window_ms",
        Kind::DurationMs,
        "length of a charge window, at least 1m; a product with a longer period is charged by its period",
    )
    .default("5m"),
    Key::new(
        "accounting.rounding",
        Kind::Choice(&["down", "up"]),
        "whether the last period that has only begun is dropped (down) or charged as a whole (up)",
    )
    .default("down"),
    Key::new(
        "insufficient_funds.confirmations",
        Kind::Integer { min: 1, max: 100 },
        "how many answers \"insufficient funds\" end a job",
    )
    .default("1"),
    Key::new("timeouts.offline_after_ms", Kind::DurationMs, "silence after which a worker gets nothing new").default("6s"),
    Key::new("timeouts.lost_after_ms", Kind::DurationMs, "silence after which the jobs on a worker are failed, more than timeouts.offline_after_ms").default("30m"),
    Key::new("timeouts.prepare_timeout_ms", Kind::DurationMs, "how long all ranks of a job may take to be prepared").default("10m"),
    Key::new("timeouts.start_lease_ms", Kind::DurationMs, "how long a start command stays valid, at least timeouts.offline_after_ms").default("20s"),
    Key::new("timeouts.resend_ms", Kind::DurationMs, "after how long an unanswered command is sent again").default("5s"),
    Key::new("timeouts.retention_ms", Kind::DurationMs, "how long a job is kept from its end, or until Core has heard all of it if that takes longer; its id is not accepted anew meanwhile. An etcd that is full to 80 % cuts it to a day").default("30d"),
    Key::new(
        "store.kind",
        Kind::Choice(&["embedded", "etcd"]),
        "where the cluster's state is: in a file of this one coordinator (embedded), or in etcd, which several share",
    )
    .default("embedded"),
    Key::new("store.path", Kind::Path, "file that holds the cluster's state, for the embedded store")
        .default("/var/lib/muster/coordinator.redb"),
    Key::new("store.etcd.endpoints", Kind::List, "URLs of all members of etcd, such as https://etcd-1.example.org:2379")
        .default(""),
    Key::new("store.etcd.prefix", Kind::Text, "what every key begins with; the cluster's name follows").default("/muster"),
    Key::new("store.etcd.ca_file", Kind::Path, "PEM file with the only authorities trusted for etcd; needed for https"),
    Key::new("store.etcd.certificate_file", Kind::Path, "PEM file with the certificate shown to etcd"),
    Key::new("store.etcd.key_file", Kind::Path, "PEM file with its private key"),
    Key::new("store.etcd.user", Kind::Text, "user at etcd"),
    Key::new("store.etcd.password_file", Kind::Path, "file with the user's password"),
    Key::new(
        "store.etcd.incarnation",
        Kind::Integer { min: 0, max: 65_535 },
        "raise it by one after etcd was restored from a copy, at every coordinator: terms must go on growing",
    )
    .default("0"),
    Key::new(
        "store.etcd.space_budget_mib",
        Kind::Integer { min: 1, max: 65_536 },
        "size of etcd's file, in MiB, that counts as full; at most etcd's own --quota-backend-bytes",
    )
    .default("2048"),
    Key::new(
        "store.etcd.lease_ttl_ms",
        Kind::DurationMs,
        "how long a leader that is not heard of keeps its leadership, 3s to 60s",
    )
    .default("9s"),
    Key::new(
        "store.etcd.request_timeout_ms",
        Kind::DurationMs,
        "how long one member of etcd may take to answer, 100ms to a third of store.etcd.lease_ttl_ms",
    )
    .default("2s"),
];
