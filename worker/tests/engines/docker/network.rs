//! One network for each job.

use super::{DockerFixture, docker};
use crate::suite::{Fixture, assignment, await_output, new_job, not_run, read_log, run, script, shell, start_gang};
use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest};
use muster_domain::id::NodeName;
use muster_domain::peers::{PeerFiles, RankAddress, peer_files};
use muster_domain::rank::RankEnd;
use muster_worker::engine::docker::{DockerEngine, NetworkMode};
use muster_worker::engine::{Engine, Fault};
use std::time::Duration;

docker_checks! {
    two_workers_on_one_engine_share_a_jobs_network
    jobs_do_not_reach_each_other
    a_taken_block_is_passed_by
    a_pool_without_room_is_the_nodes_fault
    the_nodes_own_network_can_be_used
    many_ranks_of_one_job_are_prepared_at_once
}

async fn two_workers_on_one_engine_share_a_jobs_network(fixture: &DockerFixture) {
    let (first, second) = (fixture.engine.clone(), fixture.other_node("node-b").await);
    for _ in 0..3 {
        let job = new_job();
        let me = |rank| {
            format!(
                "busybox httpd -f -p 8080 -h /etc/ucloud & until busybox wget -q -O - http://$(cat /etc/ucloud/node-{}.txt):8080/rank.txt; do sleep 0.05; done; touch seen-{rank}; until test -e seen-0 -a -e seen-1; do sleep 0.05; done",
                1 - rank
            )
        };
        let gang = [0, 1].map(|rank| assignment(fixture, &job, rank, 2, shell(&me(rank))));
        let (zero, one) = tokio::join!(first.prepare(&gang[0]), second.prepare(&gang[1]));
        let addresses = [zero.unwrap(), one.unwrap()];
        assert_eq!(addresses[0].rsplit_once('.').unwrap().0, addresses[1].rsplit_once('.').unwrap().0);
        let ranks: Vec<_> = gang
            .iter()
            .zip(&addresses)
            .map(|(rank, address)| RankAddress { host: rank.host.clone(), address: address.clone() })
            .collect();
        for (engine, rank) in [(&first, &gang[0]), (&second, &gang[1])] {
            let files = peer_files(&job, rank.key.rank, 1, &ranks);
            engine.start(&rank.key, &files).await.unwrap();
        }
        assert_eq!(first.wait(&gang[0].key).await.unwrap().0, RankEnd::Exited { code: 0 });
        assert_eq!(second.wait(&gang[1].key).await.unwrap().0, RankEnd::Exited { code: 0 });
        assert_eq!(read_log(&first, &gang[0].key).await.0, "1\n");
        first.remove(&gang[0].key).await.unwrap();
        assert!(fixture.has_network(&job).await, "a rank of the other worker is left");
        second.remove(&gang[1].key).await.unwrap();
        assert!(!fixture.has_network(&job).await, "it goes with the last rank");
    }
}

async fn jobs_do_not_reach_each_other(fixture: &DockerFixture) {
    let engine = fixture.engine();
    let open = script(fixture, "busybox httpd -p 8080 -h /etc; echo ready; sleep 60");
    let address = engine.prepare(&open).await.unwrap();
    engine.start(&open.key, &PeerFiles::default()).await.unwrap();
    await_output(&*engine, &open.key, "ready").await;
    let curious =
        script(fixture, &format!("busybox wget -T 2 -q -O - http://{address}:8080/hosts && echo REACHED; true"));
    let (end, stdout, _) = run(fixture, &curious).await;
    assert_eq!((end, stdout.as_str()), (RankEnd::Exited { code: 0 }, ""));
    engine.remove(&open.key).await.unwrap();
}

async fn a_taken_block_is_passed_by(fixture: &DockerFixture) {
    let mut settings = fixture.settings.clone();
    settings.network = NetworkMode::Bridge { subnet_pool: "10.214.0.0/22".to_owned() };
    let engine = DockerEngine::connect(settings).await.unwrap();
    let client = fixture.client();
    let taken = NetworkCreateRequest {
        name: format!("somebody-{}", fixture.settings.cluster),
        ipam: Some(Ipam {
            config: Some(vec![IpamConfig { subnet: Some("10.214.0.0/23".into()), ..Default::default() }]),
            ..Default::default()
        }),
        labels: Some([("muster.cluster".to_owned(), fixture.settings.cluster.to_string())].into()),
        ..Default::default()
    };
    client.create_network(taken).await.unwrap();
    let ranks = [script(fixture, "true"), script(fixture, "true"), script(fixture, "true")];
    let mut addresses = vec![engine.prepare(&ranks[0]).await.unwrap(), engine.prepare(&ranks[1]).await.unwrap()];
    addresses.sort();
    assert_eq!(addresses, ["10.214.2.2", "10.214.3.2"]);
    let error = engine.prepare(&ranks[2]).await.unwrap_err();
    assert_eq!(error.fault, Fault::Node);
    assert!(error.message.contains("no free block"), "{error}");
    for rank in &ranks {
        engine.remove(&rank.key).await.unwrap();
    }
}

async fn a_pool_without_room_is_the_nodes_fault(fixture: &DockerFixture) {
    let mut settings = fixture.settings.clone();
    settings.network = NetworkMode::Bridge { subnet_pool: "10.214.4.0/24".to_owned() };
    let engine = DockerEngine::connect(settings.clone()).await.unwrap();
    let rank = assignment(fixture, &new_job(), 0, 300, shell("true"));
    let error = engine.prepare(&rank).await.unwrap_err();
    assert_eq!(error.fault, Fault::Node);
    assert!(error.message.contains("too narrow for 300 ranks"), "{error}");
    settings.network = NetworkMode::Bridge { subnet_pool: "10.214.4.7/24".to_owned() };
    let error = DockerEngine::connect(settings).await.err().unwrap();
    assert!(error.message.contains("expected an IPv4 block"), "{error}");
}

async fn the_nodes_own_network_can_be_used(fixture: &DockerFixture) {
    let mut settings = fixture.settings.clone();
    settings.network = NetworkMode::Host { address: "127.0.0.1".to_owned() };
    let engine = DockerEngine::connect(settings).await.unwrap();
    assert_eq!(engine.describe().await.unwrap().network_zone, "routed");
    let rank = script(fixture, "hostname; ls /sys/class/net | grep -c lo; grep rank-0 /etc/hosts");
    assert_eq!(engine.prepare(&rank).await.unwrap(), "127.0.0.1");
    start_gang(&engine, std::slice::from_ref(&rank)).await.unwrap();
    assert_eq!(engine.wait(&rank.key).await.unwrap().0, RankEnd::Exited { code: 0 });
    let wanted = format!("{0}\n1\n127.0.0.1\t{0}\n", rank.host);
    assert_eq!(read_log(&engine, &rank.key).await.0, wanted);
    engine.remove(&rank.key).await.unwrap();
    assert!(!fixture.has_network(&rank.key.job).await);
}

async fn many_ranks_of_one_job_are_prepared_at_once(fixture: &DockerFixture) {
    let (job, engine) = (new_job(), fixture.engine());
    let other = fixture.other_node("node-b").await;
    let gang: Vec<_> = (0..8).map(|rank| assignment(fixture, &job, rank, 8, shell("true"))).collect();
    let prepared =
        gang.iter().map(|rank| if rank.key.rank % 2 == 0 { engine.prepare(rank) } else { other.prepare(rank) });
    let addresses: Vec<String> = futures_util::future::try_join_all(prepared).await.unwrap();
    let network = addresses[0].rsplit_once('.').unwrap().0;
    for (rank, address) in addresses.iter().enumerate() {
        assert_eq!(*address, format!("{network}.{}", rank + 2));
    }
    let removed =
        gang.iter().map(|rank| if rank.key.rank % 2 == 0 { engine.remove(&rank.key) } else { other.remove(&rank.key) });
    futures_util::future::try_join_all(removed).await.unwrap();
    assert!(!fixture.has_network(&job).await);
}

/// Needs an engine that manages a swarm, which a test must not make of somebody's engine; the test command makes it of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overlay_joins_the_ranks_of_a_job() {
    let check = "an_overlay_joins_the_ranks_of_a_job";
    let fixture = match docker().await {
        Ok(fixture) => fixture,
        Err(why) => return not_run("docker", check, &why),
    };
    let swarm = fixture.client().info().await.unwrap().swarm;
    if swarm.and_then(|swarm| swarm.control_available) != Some(true) {
        return not_run("docker", check, "the engine manages no swarm");
    }
    let mut settings = fixture.settings.clone();
    settings.network = NetworkMode::Overlay { subnet_pool: "10.216.0.0/16".to_owned() };
    let engine = DockerEngine::connect(settings.clone()).await.unwrap();
    settings.node = NodeName::new("node-b").unwrap();
    let other = DockerEngine::connect(settings).await.unwrap();
    assert!(engine.describe().await.unwrap().network_zone.starts_with("swarm-"));
    let job = new_job();
    let gang = [
        assignment(
            &fixture,
            &job,
            0,
            2,
            shell("busybox httpd -p 8080 -h /etc/ucloud; until test -e seen; do sleep 0.05; done"),
        ),
        assignment(
            &fixture,
            &job,
            1,
            2,
            shell(
                "until busybox wget -q -O - http://$(cat /etc/ucloud/node-0.txt):8080/rank.txt; do sleep 0.05; done; touch seen",
            ),
        ),
    ];
    let (zero, one) = tokio::join!(engine.prepare(&gang[0]), other.prepare(&gang[1]));
    let ranks = [zero.unwrap(), one.unwrap()];
    let ranks: Vec<_> =
        gang.iter().zip(ranks).map(|(rank, address)| RankAddress { host: rank.host.clone(), address }).collect();
    for (engine, rank) in [(&engine, &gang[0]), (&other, &gang[1])] {
        engine.start(&rank.key, &peer_files(&job, rank.key.rank, 1, &ranks)).await.unwrap();
    }
    assert_eq!(other.wait(&gang[1].key).await.unwrap().0, RankEnd::Exited { code: 0 });
    assert_eq!(read_log(&other, &gang[1].key).await.0, "0\n");
    engine.wait(&gang[0].key).await.unwrap();
    engine.remove(&gang[0].key).await.unwrap();
    other.remove(&gang[1].key).await.unwrap();
    // A swarm says that it has removed a network a moment before each engine has.
    while fixture.has_network(&job).await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
