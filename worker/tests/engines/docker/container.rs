//! What a container is given, and whose it is.

use super::DockerFixture;
use crate::suite::{Fixture, assignment, await_output, new_job, read_log, run, script, start};
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use futures_util::StreamExt;
use muster_domain::agent::Observation;
use muster_domain::id::{ClusterName, NodeName};
use muster_domain::peers::PeerFiles;
use muster_domain::rank::RankEnd;
use muster_worker::engine::docker::{DockerEngine, DockerSettings};
use muster_worker::engine::{Engine, Fault};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

docker_checks! {
    a_container_says_whose_it_is
    limits_are_seen_from_inside
    a_rank_has_few_rights_and_cannot_gain_more
    root_inside_is_still_closed_in
    the_entry_point_of_the_image_is_ignored
    a_container_made_before_is_adopted
    a_foreign_container_of_our_name_is_left_alone
    a_rank_removed_by_hand_has_vanished
    ranks_of_other_nodes_and_clusters_are_not_seen
    old_logs_are_forgotten
}

async fn a_container_says_whose_it_is(fixture: &DockerFixture) {
    let engine = fixture.engine();
    let mut rank = script(fixture, "sleep 60");
    rank.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    let address = engine.prepare(&rank).await.unwrap();
    let container = fixture.inspect(&rank.key.job, 0).await;
    let labels = container.config.unwrap().labels.unwrap();
    for (name, value) in [
        ("muster.cluster", fixture.settings.cluster.as_str()),
        ("muster.node", "node-a"),
        ("muster.job", rank.key.job.as_str()),
        ("muster.rank", "0"),
        ("muster.attempt", "1"),
        ("muster.term", "7"),
        ("muster.address", address.as_str()),
        ("muster.traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ] {
        assert_eq!(labels.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(address.ends_with(".2"), "rank 0 has the first free address: {address}");
    engine.remove(&rank.key).await.unwrap();
    assert!(!fixture.has_network(&rank.key.job).await, "the network goes with its last rank");
}

async fn limits_are_seen_from_inside(fixture: &DockerFixture) {
    let look = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null | head -n 1; \
                cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null | head -n 1; \
                df -k /dev/shm | tail -n 1 | awk '{print $2}'; ulimit -c; cat /proc/self/oom_score_adj; \
                cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null | head -n 1 | cut -d ' ' -f 1";
    let mut rank = script(fixture, look);
    rank.resources.memory_bytes = 64 << 20;
    let (end, stdout, stderr) = run(fixture, &rank).await;
    assert_eq!(end, RankEnd::Exited { code: 0 }, "{stderr}");
    assert_eq!(stdout, "67108864\n64\n32768\n0\n500\n100000\n");
}

async fn a_rank_has_few_rights_and_cannot_gain_more(fixture: &DockerFixture) {
    let look = "grep -E '^(CapBnd|CapEff|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t '; id -u; \
                touch /etc/ucloud/x 2>/dev/null && echo WRITABLE; grep ' /etc/ucloud ' /proc/mounts | cut -d ' ' -f 4 | cut -d , -f 1";
    let rank = script(fixture, look);
    let (_, stdout, _) = run(fixture, &rank).await;
    // CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SETFCAP.
    assert_eq!(stdout, "CapEff:0000000000000000\nCapBnd:00000000800005fb\nNoNewPrivs:1\nSeccomp:2\n65534\nro\n");
    let owner = std::fs::metadata(fixture.job_dir(&rank.key.job)).unwrap();
    assert_eq!((owner.uid(), owner.gid()), (65534, 65534));
    let log = std::fs::metadata(fixture.job_dir(&rank.key.job).join("stdout.txt")).unwrap();
    assert_eq!(log.uid(), 65534, "the log belongs to the job's user");
}

async fn root_inside_is_still_closed_in(fixture: &DockerFixture) {
    let look = "id -u; echo mine > owned; grep NoNewPrivs /proc/self/status | tr -d '\\t'; \
                for name in rank.txt new; do echo x > /etc/ucloud/$name && echo WRITABLE; done; \
                mount -o remount,rw /etc/ucloud && echo REMOUNTED; mknod /tmp/disk b 254 0 && echo MADE; true";
    let mut rank = script(fixture, look);
    rank.container.as_root = true;
    let (_, stdout, _) = run(fixture, &rank).await;
    assert_eq!(stdout, "0\nNoNewPrivs:1\n");
}

async fn the_entry_point_of_the_image_is_ignored(fixture: &DockerFixture) {
    let argv = ["acme-batch", "--debug", "true", "Hello, World!"].map(str::to_owned).to_vec();
    let mut rank = assignment(fixture, &new_job(), 0, 1, argv);
    rank.container.image = "acme/batch:1.0.0".to_owned();
    let (end, stdout, stderr) = run(fixture, &rank).await;
    assert_eq!(end, RankEnd::Exited { code: 0 });
    assert!(
        stdout.starts_with("argument 1 of 3: --debug\nargument 2 of 3: true\nargument 3 of 3: Hello, World!\n"),
        "{stdout}"
    );
    assert!(!stdout.contains("entry point") && stdout.contains("rank 0 of 1"), "{stdout}");
    assert_eq!(stderr, "acme-batch: debug is on, the value is 'Hello, World!'\n");
    let mut elsewhere = script(fixture, "pwd");
    elsewhere.container.in_work_directory = false;
    assert_eq!(run(fixture, &elsewhere).await.1, "/root\n", "the image's own directory");
}

async fn a_container_made_before_is_adopted(fixture: &DockerFixture) {
    let rank = script(fixture, "echo ran");
    let address = fixture.engine().prepare(&rank).await.unwrap();
    let id = fixture.inspect(&rank.key.job, 0).await.id;
    // Ten calls at once, by three workers' worth of memory: one container.
    let (one, two) = (fixture.restarted().await, fixture.restarted().await);
    let calls = (0..10).map(|number| if number % 2 == 0 { one.prepare(&rank) } else { two.prepare(&rank) });
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.unwrap(), address);
    }
    assert_eq!(fixture.inspect(&rank.key.job, 0).await.id, id);
    start(&*one, &rank).await;
    assert_eq!(two.wait(&rank.key).await.unwrap().0, RankEnd::Exited { code: 0 });
    two.remove(&rank.key).await.unwrap();
}

async fn a_foreign_container_of_our_name_is_left_alone(fixture: &DockerFixture) {
    let rank = script(fixture, "true");
    let name = format!("muster-{}-{}-0-1", fixture.settings.cluster, rank.key.job);
    let client = fixture.client();
    let body =
        ContainerCreateBody { image: Some(fixture.image()), cmd: Some(vec!["true".into()]), ..Default::default() };
    let options = CreateContainerOptionsBuilder::new().name(&name).build();
    client.create_container(Some(options), body).await.unwrap();
    let engine = fixture.engine();
    for error in [
        engine.prepare(&rank).await.unwrap_err(),
        engine.start(&rank.key, &PeerFiles::default()).await.unwrap_err(),
        engine.kill(&rank.key).await.unwrap_err(),
        engine.remove(&rank.key).await.unwrap_err(),
    ] {
        assert_eq!(error.fault, Fault::Node);
        assert!(error.message.contains("is not this worker's"), "{error}");
    }
    client.inspect_container(&name, None).await.expect("it is left alone");
    client.remove_container(&name, None).await.unwrap();
}

async fn a_rank_removed_by_hand_has_vanished(fixture: &DockerFixture) {
    let engine = fixture.engine();
    let rank = script(fixture, "echo ready; sleep 60");
    start(&*engine, &rank).await;
    let by_hand = async {
        await_output(&*engine, &rank.key, "ready").await;
        let name = format!("muster-{}-{}-0-1", fixture.settings.cluster, rank.key.job);
        let force = RemoveContainerOptionsBuilder::new().force(true).build();
        fixture.client().remove_container(&name, Some(force)).await.unwrap();
    };
    let (end, ()) = tokio::join!(engine.wait(&rank.key), by_hand);
    // Whoever looks right at the death sees the kill, whoever looks later sees nothing.
    let end = end.unwrap().0;
    assert!(matches!(end, RankEnd::Vanished | RankEnd::Killed { signal: 9 }), "{end:?}");
    assert_eq!(engine.wait(&rank.key).await.unwrap().0, RankEnd::Vanished);
    engine.remove(&rank.key).await.unwrap();
    assert!(!fixture.has_network(&rank.key.job).await);
}

async fn ranks_of_other_nodes_and_clusters_are_not_seen(fixture: &DockerFixture) {
    let rank = script(fixture, "true");
    let address = fixture.engine().prepare(&rank).await.unwrap();
    let other = fixture.other_node("node-b").await;
    assert!(other.list().await.unwrap().is_empty());
    let mut settings = fixture.settings.clone();
    settings.cluster = ClusterName::new(format!("{}-other", settings.cluster)).unwrap();
    assert!(DockerEngine::connect(settings).await.unwrap().list().await.unwrap().is_empty());
    let found = fixture.engine().list().await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0].observation, found[0].term), (&Observation::Prepared { address }, 7));
    let mine = fixture.engine().describe().await.unwrap();
    assert_eq!(other.describe().await.unwrap().network_zone, mine.network_zone);
    assert!(mine.network_zone.starts_with("docker-"), "{mine:?}");
    assert!(mine.warnings.iter().any(|warning| warning.contains("live-restore")), "{mine:?}");
    fixture.engine().remove(&rank.key).await.unwrap();
}

async fn old_logs_are_forgotten(fixture: &DockerFixture) {
    let mut settings = fixture.settings.clone();
    settings.log_retention = Duration::ZERO;
    let rank = script(fixture, "echo gone soon");
    run(fixture, &rank).await;
    let engine = fixture.engine();
    assert_eq!(read_log(&*engine, &rank.key).await.0, "gone soon\n");
    DockerEngine::connect(settings).await.unwrap();
    let mut pieces = engine.logs(&rank.key);
    assert!(pieces.next().await.unwrap().is_err());
}

/// Needs no engine: a socket that nobody serves, and one whose server hangs.
#[tokio::test]
async fn an_engine_that_does_not_answer_proves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    let cluster = ClusterName::new("test").unwrap();
    let mut settings = DockerSettings::new(folder.path(), folder.path(), cluster, NodeName::new("node").unwrap());
    settings.socket = Some(socket.display().to_string());
    let error = DockerEngine::connect(settings.clone()).await.err().unwrap();
    assert_eq!(error.fault, Fault::Unavailable, "{error}");
    assert!(error.message.contains("docker.sock"), "{error}");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let asked = Instant::now();
    let error = DockerEngine::connect(settings).await.err().unwrap();
    assert_eq!(error.fault, Fault::Unavailable, "{error}");
    assert!((4..10).contains(&asked.elapsed().as_secs()), "the deadline is 5 s");
}
