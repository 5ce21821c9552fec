//! The configuration as operators write it.

use super::*;
use muster_runtime::config::{Outcome, load};
use std::os::unix::fs::PermissionsExt;

fn loaded(flags: &[&str]) -> Result<Config, String> {
    let arguments = ["muster-worker"].iter().chain(flags).map(Into::into);
    match load::<Config>(&PROGRAM, arguments, []) {
        Ok(Outcome::Run(loaded)) => Ok(loaded.config),
        Ok(Outcome::Print(text)) => Err(text),
        Err(error) => Err(error.to_string()),
    }
}

/// What every worker needs. A check may run where the file cannot be read.
const NEEDED: [&str; 4] = ["--node-name", "n1", "--fleet-token-file", "/nonexistent/secret"];

fn loaded_with(flags: &[&str]) -> Result<Config, String> {
    loaded(&[&NEEDED[..], flags].concat())
}

fn secret_file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "secret\n").unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
    file
}

const MACHINE: Machine = Machine { cores: 8, memory_bytes: 32 * GIB, gpus: 2 };

#[test]
fn the_defaults_and_a_secret_are_enough_to_try_it_out() {
    let file = secret_file();
    let config = loaded(&["--node-name", "n1", "--fleet-token-file", file.path().to_str().unwrap()]).unwrap();
    assert_eq!(config.coordinators, ["http://127.0.0.1:8472"]);
    assert_eq!(config.heartbeat_ms, 2000);
    assert_eq!(config.engine, EngineChoice::Auto);
    assert!(config.labels.is_empty() && config.categories.is_empty());
    let settings = config.settings().unwrap();
    assert_eq!(settings.node.as_str(), "n1");
    assert_eq!(settings.grace, Duration::from_secs(10));
}

#[test]
fn a_file_reaches_every_section() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = r#"
        coordinators = ["http://127.0.0.1:1", "http://[::1]:2"]
        engine = "process"
        categories = ["standard-cpu"]
        grace_ms = "3s"
        labels = { rack = "3" }
        [node]
        name = "node-7"
        [cluster]
        name = "north"
        [fleet]
        token_file = "/nonexistent/secret"
        [resources]
        cores = 4
        memory_gib = 16
        reserve_cores = 1
        [docker]
        network = "host"
        address = "10.0.0.7"
        pull = "never"
        [process]
        network = "node"
        address = "10.0.0.7"
        log_limit_bytes = "1MiB"
    "#;
    std::fs::write(file.path(), text).unwrap();
    let config = loaded(&["--config", file.path().to_str().unwrap()]).unwrap();
    assert_eq!(config.labels["rack"], "3");
    assert_eq!(config.capacity(&MACHINE), Resources { cores: 3, memory_bytes: 16 * GIB, gpus: 2 });
    assert_eq!(config.process.addresses(), Ok(Addresses::Node { address: "10.0.0.7".to_owned() }));
    assert_eq!((config.docker.network, config.docker.pull), (DockerNetwork::Host, Pull::Never));
    assert_eq!(config.process.log_limit_bytes, 1 << 20);
}

#[test]
fn what_is_not_configured_is_found() {
    let config = loaded_with(&[]).unwrap();
    assert_eq!(config.capacity(&MACHINE), Resources { cores: 8, memory_bytes: 31 * GIB, gpus: 2 });
    let config = loaded_with(&["--resources-gpus", "0", "--resources-reserve-memory-gib", "4"]).unwrap();
    assert_eq!(config.capacity(&MACHINE), Resources { cores: 8, memory_bytes: 28 * GIB, gpus: 0 });
}

#[test]
fn everything_wrong_is_listed_at_once() {
    let flags = [
        ["--node-name", "a b"],
        ["--coordinators", "https://coordinator.example.org:8472"],
        ["--heartbeat-ms", "1m"],
        ["--docker-network", "host"],
        ["--process-loopback-range", "10.0.0.0/8"],
        ["--process-user", "nobody"],
        ["--resources-cores", "2"],
        ["--resources-reserve-cores", "2"],
    ];
    let error = loaded(&flags.concat()).unwrap_err();
    for key in [
        "node.name",
        "fleet.ca_file",
        "fleet.token_file",
        "heartbeat_ms",
        "docker.address",
        "process.loopback_range",
        "process.user",
        "resources.reserve_cores",
    ] {
        assert!(error.contains(&format!("\n  {key} ")), "{key} is missing in: {error}");
    }
}

#[test]
fn the_join_secret_is_needed_also_on_this_machine() {
    for url in ["http://127.0.0.1:8472", "http://10.0.0.1:8472"] {
        let error = loaded(&["--node-name", "n1", "--coordinators", url]).unwrap_err();
        assert!(error.contains("fleet.token_file") && error.contains("they let no worker in without it"), "{error}");
    }
    let remote = ["--node-name", "n1", "--coordinators", "http://10.0.0.1:8472"];
    let file = secret_file();
    let with_file = [&remote[..], &["--fleet-token-file", file.path().to_str().unwrap()]].concat();
    let config = loaded(&with_file).unwrap();
    assert_eq!(config.settings().unwrap().join_secret.unwrap().reveal(), "secret");
    assert_eq!(config.warnings().len(), 1, "the secret is not encrypted on its way");
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(loaded(&with_file).unwrap_err().contains("chmod 0400"));
    let missing = [&remote[..], &["--fleet-token-file", "/nonexistent/secret"]].concat();
    let error = loaded(&missing).unwrap().settings().unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("fleet.token_file") && error.contains("/nonexistent/secret"), "{error}");
}

#[test]
fn heartbeats_are_no_further_apart_than_the_coordinator_expects() {
    for fits in ["200ms", "2s"] {
        loaded_with(&["--heartbeat-ms", fits]).unwrap();
    }
    for wrong in ["199ms", "2001ms", "10s"] {
        let error = loaded_with(&["--heartbeat-ms", wrong]).unwrap_err();
        assert!(error.contains("200ms to 2s: the coordinator takes a longer silence for a gap"), "{error}");
    }
}

#[test]
fn addresses_of_coordinators_are_checked() {
    for url in ["http://127.0.0.1:8472/path", "http://user@127.0.0.1:8472", "ftp://127.0.0.1", "127.0.0.1:8472", ""] {
        assert!(loaded_with(&["--coordinators", url]).is_err(), "{url}");
    }
    assert!(is_loopback("http://localhost:1") && is_loopback("http://[::1]:1") && !is_loopback("http://10.0.0.1:1"));
}
