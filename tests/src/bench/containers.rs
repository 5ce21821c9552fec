//! Containers through Muster against the same engine alone: create, start, wait, remove, eight at a time.

use super::{LIMIT, options, print, shell};
use crate::harness::{BUSYBOX_IMAGE, Engine, Site};
use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{CreateContainerOptions, RemoveContainerOptions, WaitContainerOptions};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::time::Instant;

const CONTAINERS: usize = 24;
const AT_ONCE: usize = 8;

pub(super) async fn run(socket: &str, rounds: usize) -> anyhow::Result<()> {
    let docker = Docker::connect_with_unix(socket, 60, bollard::API_DEFAULT_VERSION)?;
    let site = Site::start(options(Engine::Docker { socket: socket.to_owned() }, 1)).await?;
    let (mut bare, mut ours, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let begin = Instant::now();
        stream::iter(0..CONTAINERS)
            .map(|n| one(&docker, round, n))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        let alone = CONTAINERS as f64 / begin.elapsed().as_secs_f64();

        let begin = Instant::now();
        let ids = site.core.submit_bulk(&vec![shell("true"); CONTAINERS]).await?;
        for id in &ids {
            site.core.wait_for(id, |job| job.state.is_final(), LIMIT).await?;
        }
        site.wait_until_settled(LIMIT).await?;
        let through = CONTAINERS as f64 / begin.elapsed().as_secs_f64();
        bare.push(alone);
        ours.push(through);
        ratios.push(100.0 * through / alone);
    }
    print("containers/s, the bare engine (no network)", "/s", bare);
    print("containers/s through Muster (a network per job)", "/s", ours);
    print("containers through Muster, of the bare engine's", "%", ratios);
    site.stop().await
}

/// One container of the bare engine, from nothing to nothing.
async fn one(docker: &Docker, round: usize, number: usize) -> anyhow::Result<()> {
    let name = format!("muster-bench-{}-{round}-{number}", std::process::id());
    let body = ContainerCreateBody {
        image: Some(BUSYBOX_IMAGE.to_owned()),
        cmd: Some(vec!["true".to_owned()]),
        host_config: Some(HostConfig { network_mode: Some("none".to_owned()), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    };
    let create = CreateContainerOptions { name: Some(name.clone()), ..CreateContainerOptions::default() };
    docker.create_container(Some(create), body).await?;
    docker.start_container(&name, None).await?;
    docker.wait_container(&name, Some(WaitContainerOptions::default())).try_collect::<Vec<_>>().await?;
    docker
        .remove_container(&name, Some(RemoveContainerOptions { v: true, ..RemoveContainerOptions::default() }))
        .await?;
    Ok(())
}
