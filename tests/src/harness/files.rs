//! The configuration files of a site's processes.

use super::cluster::Place;
use super::{Engine, SiteOptions, StoreOptions, images_folder};
use crate::core::{ProductReference, compute_product};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The machine types of every site: id, cores, GiB.
pub(super) fn products() -> [(&'static str, u32, u32); 3] {
    [("example-compute-1", 1, 2), ("example-compute-2", 2, 4), ("example-compute-tiny", 1, 1)]
}

/// One of them as Core has it, at one million credits per core and minute.
pub(super) fn product(id: &str, cores: u32, gib: u32) -> serde_json::Value {
    compute_product(&ProductReference::new(id, "example-compute", "example"), cores, gib, 1_000_000)
}

pub(super) fn write_coordinator(
    folder: &Path,
    options: &SiteOptions,
    site: u32,
    core_url: &str,
    keys: &Path,
    (name, place): (&str, &Place),
) -> anyhow::Result<()> {
    let mut text = format!(
        "provider.id = \"example\"\ncluster.name = \"{}\"\nhttp.listen = \"127.0.0.1:{}\"\n\
         operator.listen = \"127.0.0.1:{}\"\nfleet.listen = \"127.0.0.1:{}\"\n\
         fleet.token_file = {:?}\naccounting.window_ms = {}\n{}\n\
         [core]\nurl = \"{core_url}\"\nrefresh_token_file = {:?}\npublic_key_files = [{:?}]\n",
        cluster_name(site),
        place.http,
        place.operator,
        place.fleet,
        write_join_secret(folder)?,
        options.window_ms,
        store(folder, options, name, place),
        keys.join("refresh-token.txt"),
        keys.join("provider-public-key.txt"),
    );
    for (id, cores, gib) in products() {
        write!(
            text,
            "\n[[products]]\nid = \"{id}\"\ncategory = \"example-compute\"\ncores = {cores}\nmemory_gib = {gib}\n"
        )?;
    }
    std::fs::write(folder.join(format!("{name}.toml")), text)?;
    Ok(())
}

/// The lines about the store, and about this coordinator's place among others.
fn store(folder: &Path, options: &SiteOptions, name: &str, place: &Place) -> String {
    if options.store == StoreOptions::Embedded {
        return format!("store.path = {:?}\n", folder.join(format!("{name}.redb")));
    }
    let mut text = format!(
        "coordinator.name = {name:?}\nstore.kind = \"etcd\"\nstore.etcd.endpoints = {:?}\n",
        place.store_endpoints
    );
    if place.links.is_some() {
        // Workers are sent to the leader by this address; they must not get past the proxy.
        writeln!(text, "advertise.fleet = {:?}", place.fleet_url()).ok();
    }
    text
}

const JOIN_SECRET: &str = "join-secret";

/// Workers need it also on one machine: ranks of the process engine can reach the coordinator's ports there.
fn write_join_secret(folder: &Path) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = folder.join(JOIN_SECRET);
    if path.exists() {
        return Ok(path);
    }
    let mut file = std::fs::File::options().create(true).write(true).truncate(true).mode(0o400).open(&path)?;
    write!(file, "{:032x}", rand::random::<u128>())?;
    Ok(path)
}

pub(super) fn write_workers(folder: &Path, options: &SiteOptions, site: u32, fleet: &[String]) -> anyhow::Result<()> {
    let images = images_folder(folder)?;
    for (number, worker) in options.workers.iter().enumerate() {
        let engine = match options.engine_of(worker) {
            Engine::Docker { socket } => format!("[docker]\nsocket = {socket:?}\npull = \"never\"\n"),
            Engine::Process => {
                // Each node of this machine has a network of its own inside 127.0.0.0/8, and each site others.
                let (high, low) = (64 + site / 60 % 190, site % 60 * 4 + u32::try_from(number % 4)?);
                format!("[process]\nimages_dir = {images:?}\nloopback_range = \"127.{high}.{low}.0/24\"\n")
            }
            Engine::Fake => String::new(),
        };
        let text = format!(
            "engine = \"{}\"\nstate_dir = {:?}\nwork_root = {:?}\ncoordinators = {fleet:?}\n\n[fleet]\ntoken_file = {:?}\n\n\
             [node]\nname = \"{}\"\n\n[cluster]\nname = \"{}\"\n\n[resources]\ncores = {}\nmemory_gib = {}\n\n{engine}",
            options.engine_of(worker).name(),
            folder.join(&worker.name),
            folder.join("work"),
            folder.join(JOIN_SECRET),
            worker.name,
            cluster_name(site),
            worker.cores,
            worker.memory_gib,
        );
        std::fs::write(folder.join(format!("{}.toml", worker.name)), text)?;
    }
    Ok(())
}

/// Different for every site of every process that runs at the same time.
pub(super) fn site_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    std::process::id().wrapping_mul(7).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 11_400
}

pub(super) fn cluster_name(site: u32) -> String {
    format!("site-{site}")
}
