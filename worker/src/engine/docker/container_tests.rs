//! What a container of ours looks like to the engine.

use super::*;
use crate::engine::Fault;
use muster_domain::id::{JobId, RankKey};
use muster_domain::job::spec::ContainerSpec;
use muster_domain::resources::Resources;
use std::collections::BTreeMap;

fn assignment() -> Assignment {
    Assignment {
        key: RankKey { job: JobId::new("54112").unwrap(), rank: 1, attempt: 2 },
        term: 7,
        container: ContainerSpec {
            image: "acme/batch:1.0.0".into(),
            argv: vec!["acme-batch".into(), "--debug".into(), "true".into(), "Hello, World!".into()],
            env: BTreeMap::from([("A".into(), "b=c".into())]),
            in_work_directory: true,
            as_root: false,
        },
        resources: Resources { cores: 64, memory_bytes: 1 << 30, gpus: 0 },
        replicas: 2,
        host: "j-54112-rank-1".into(),
        traceparent: None,
    }
}

fn made(assignment: &Assignment, image_directory: &str, gpus: &[String]) -> ContainerCreateBody {
    let root = tempfile::tempdir().unwrap();
    let folders = Folders::new(&root.path().join("state"), &root.path().join("work")).unwrap();
    let settings =
        DockerSettings::new("s", "w", "c".to_owned().try_into().unwrap(), "n".to_owned().try_into().unwrap());
    let around = Surroundings {
        settings: &settings,
        abilities: &Abilities { log_driver: "local", named_seccomp: true, cores: 2 },
        folders: &folders,
        labels: Labels::new(),
        user: User { uid: 65534, gid: 65534 },
        image_directory,
        attachment: Attachment::Network { name: "muster-c-54112".into(), address: "10.213.7.3".into() },
        gpus,
    };
    body(assignment, &around)
}

#[test]
fn the_command_replaces_entry_point_and_command_of_the_image() {
    let body = made(&assignment(), "/", &[]);
    assert_eq!(body.entrypoint, Some(vec!["acme-batch".to_owned()]));
    assert_eq!(body.cmd, Some(vec!["--debug".to_owned(), "true".into(), "Hello, World!".into()]));
    assert_eq!(body.env, Some(vec!["A=b=c".to_owned()]));
    assert_eq!(body.working_dir.as_deref(), Some("/work"));
    assert_eq!(body.user.as_deref(), Some("65534:65534"));
    assert_eq!(body.hostname.as_deref(), Some("j-54112-rank-1"));
}

#[test]
fn the_container_is_closed_in() {
    let host = made(&assignment(), "/", &[]).host_config.unwrap();
    assert_eq!((host.memory, host.memory_swap, host.shm_size), (Some(1 << 30), Some(1 << 30), Some(1 << 29)));
    assert_eq!(host.nano_cpus, Some(2_000_000_000), "never above the node's cores, which Docker refuses");
    assert_eq!(host.pids_limit, Some(4096));
    assert_eq!(host.log_config.unwrap().config.unwrap()["max-size"], "10485760");
    assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
    assert!(!host.cap_add.unwrap().iter().any(|name| ["NET_RAW", "MKNOD", "SYS_ADMIN"].contains(&name.as_str())));
    assert_eq!(host.privileged, Some(false));
    assert_eq!(host.security_opt.unwrap(), ["no-new-privileges", "seccomp=builtin"]);
    assert_eq!(
        (host.port_bindings, host.devices, host.binds, host.pid_mode, host.device_requests),
        (None, None, None, None, None)
    );
    let mounts = host.mounts.unwrap();
    let seen: Vec<(&str, bool)> =
        mounts.iter().map(|mount| (mount.target.as_deref().unwrap(), mount.read_only.unwrap())).collect();
    assert_eq!(seen, [("/work", false), ("/etc/ucloud", true), ("/etc/hosts", true)]);
    assert!(mounts.iter().all(|mount| mount.source.as_deref().unwrap().starts_with('/')));
}

#[test]
fn a_working_directory_of_the_image_is_checked() {
    let mut elsewhere = assignment();
    elsewhere.container.in_work_directory = false;
    for (asked, given) in [
        ("/root", "/root"),
        ("", "/"),
        ("relative", "/"),
        ("/proc/self/fd/8", "/"),
        ("//proc", "/"),
        ("/sys", "/"),
        ("/a/../proc/1", "/"),
    ] {
        assert_eq!(made(&elsewhere, asked, &[]).working_dir.as_deref(), Some(given), "{asked}");
    }
}

#[test]
fn what_cannot_run_is_the_jobs_fault() {
    let check_with = |change: fn(&mut Assignment)| {
        let mut assignment = assignment();
        change(&mut assignment);
        check(&assignment).unwrap_err()
    };
    assert_eq!(check(&assignment()), Ok(()));
    for error in [
        check_with(|a| a.container.argv.clear()),
        check_with(|a| a.container.argv[0].clear()),
        check_with(|a| a.container.argv[2] = "a\0b".into()),
        check_with(|a| a.container.image.clear()),
        check_with(|a| drop(a.container.env.insert("A=B".into(), String::new()))),
    ] {
        assert_eq!(error.fault, Fault::Job, "{error}");
    }
}

#[test]
fn two_jobs_never_share_a_gpu() {
    let all: Vec<String> = ["GPU-a", "GPU-b", "GPU-c"].map(String::from).to_vec();
    let live = [Labels::from([(label::GPUS.to_owned(), "GPU-b".to_owned())]), Labels::new()];
    assert_eq!(free_gpus(&all, 2, &live), Some(vec!["GPU-a".into(), "GPU-c".into()]));
    assert_eq!(free_gpus(&all, 3, &live), None);
    let mut wants = assignment();
    wants.resources.gpus = 2;
    let request = made(&wants, "/", &all[..2]).host_config.unwrap().device_requests.unwrap().remove(0);
    assert_eq!((request.count, request.device_ids), (None, Some(vec!["GPU-a".into(), "GPU-b".into()])));
    let request = made(&wants, "/", &[]).host_config.unwrap().device_requests.unwrap().remove(0);
    assert_eq!((request.count, request.device_ids), (Some(2), None));
}
