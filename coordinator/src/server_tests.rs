use super::*;
use crate::config::PROGRAM;
use crate::testing::spec;
use muster_domain::event::Event;
use muster_runtime::config::{Outcome, load};
use std::ffi::OsString;
use std::path::Path;
use tokio::net::TcpListener;

/// A configuration whose files lie in `directory` and whose ports the kernel picks.
pub(super) fn config(directory: &Path) -> Config {
    use std::os::unix::fs::PermissionsExt;
    let at = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    std::fs::write(at("refresh"), "refresh").unwrap();
    std::fs::set_permissions(at("refresh"), std::fs::Permissions::from_mode(0o400)).unwrap();
    std::fs::write(at("join"), "a secret of the fleet").unwrap();
    std::fs::set_permissions(at("join"), std::fs::Permissions::from_mode(0o400)).unwrap();
    std::fs::write(at("key"), crate::auth::fixture::CURRENT_PUBLIC).unwrap();
    let text = format!(
        "[provider]\nid = \"example\"\n[core]\nurl = \"http://127.0.0.1:9\"\nrefresh_token_file = \"{}\"\n\
         public_key_files = [\"{}\"]\n[store]\npath = \"{}\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
         [operator]\nlisten = \"127.0.0.1:0\"\n[fleet]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"{}\"\n\
         [[products]]\nid = \"u1-standard-1\"\ncategory = \"u1-standard\"\ncores = 1\nmemory_gib = 4\n",
        at("refresh"),
        at("key"),
        at("store.redb"),
        at("join"),
    );
    std::fs::write(at("config.toml"), text).unwrap();
    let arguments = ["muster-coordinator", "--config", &at("config.toml")].map(OsString::from);
    match load::<Config>(&PROGRAM, arguments, Vec::<(OsString, OsString)>::new()).unwrap() {
        Outcome::Run(loaded) => loaded.config,
        Outcome::Print(text) => panic!("{text}"),
    }
}

pub(super) fn tasks() -> (Tasks, Tasks) {
    muster_runtime::tls::install_provider();
    (Tasks::new(CancellationToken::new()), Tasks::new(CancellationToken::new()))
}

async fn create(running: &Running, job: &str) -> bool {
    let reply = running.handle.call(|request| Event::Create { request, jobs: vec![spec(job)] }).await;
    reply.is_ok_and(|reply| reply.is_ok())
}

#[tokio::test]
async fn what_was_accepted_is_there_after_a_stop_and_under_a_new_term() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let (edges, inner) = tasks();
    let running = start(&config, &edges, &inner).await.unwrap();
    assert_eq!(running.leads().await, Some(1));
    assert!(create(&running, "1").await);
    let second = tasks();
    let error = start(&config, &second.0, &second.1).await.unwrap_err();
    assert!(error.to_string().contains("in use by another coordinator"), "{error}");
    drain(&edges, &inner).await.unwrap();
    assert!(!create(&running, "2").await);

    let (edges, inner) = tasks();
    let running = start(&config, &edges, &inner).await.unwrap();
    assert_eq!(running.leads().await, Some(2));
    let jobs = running.handle.query(|cluster, _| cluster.location(&spec("1").id).is_some()).await;
    assert_eq!(jobs, Ok(true));
    let ready = reqwest::get(format!("http://{}/ready", running.addresses.operator)).await.unwrap();
    assert!(ready.status().is_success());
    drain(&edges, &inner).await.unwrap();
}

#[tokio::test]
async fn a_mistake_is_found_before_anything_runs() {
    let directory = tempfile::tempdir().unwrap();
    let good = config(directory.path());
    let (edges, inner) = tasks();
    let refused = async |config: &Config| start(config, &edges, &inner).await.unwrap_err();
    let said = async |config: &Config| {
        let error = refused(config).await;
        assert!(error.needs_an_operator(), "{error}");
        error.to_string()
    };
    let mut bad = good.clone();
    bad.core.refresh_token_file = directory.path().join("absent");
    assert!(said(&bad).await.starts_with("core.refresh_token_file: cannot read"));
    let mut bad = good.clone();
    bad.core.public_key_files = vec![directory.path().join("refresh")];
    assert!(said(&bad).await.starts_with("core.public_key_files: "));
    let mut bad = good.clone();
    bad.operator.token_file = Some(directory.path().join("key"));
    assert!(said(&bad).await.starts_with("operator.token_file: "));
    let mut bad = good.clone();
    bad.core.ca_file = Some(directory.path().join("refresh"));
    assert!(said(&bad).await.starts_with("core.ca_file "));
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut bad = good;
    bad.fleet.listen = taken.local_addr().unwrap();
    let error = refused(&bad).await;
    assert!(error.to_string().starts_with("fleet.listen: cannot listen on"), "{error}");
    assert!(!error.needs_an_operator(), "whoever has the address may be about to end");
    assert!(!directory.path().join("store.redb").exists());
}
