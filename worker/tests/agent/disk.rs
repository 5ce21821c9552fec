//! What happens when the disk takes no more.

use crate::coordinator::{Coordinator, Session, key, soon};
use crate::flaky::Flaky;
use crate::{Captured, Running, settings};
use muster_domain::rank::{Command, RankEnd, RankState};
use rustix::mount::{MountFlags, mount};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::Duration;

/// The newest term in the journal.
fn saved_term(state_dir: &Path) -> u64 {
    let text = fs::read(state_dir.join("agent.json")).unwrap();
    serde_json::from_slice::<serde_json::Value>(&text).unwrap()["last_term"].as_u64().unwrap()
}

/// The next leader takes over: the one before dies.
async fn take_over(coordinator: Coordinator, session: Session, term: u64) -> (Coordinator, Session) {
    drop(session);
    let address = coordinator.die().await;
    let mut coordinator = Coordinator::at(address, None).await;
    let session = coordinator.welcome(term).await;
    (coordinator, session)
}

/// Takes all the room that is left.
fn fill(directory: &Path) {
    let mut file = File::options().create(true).append(true).open(directory.join("filler")).unwrap();
    let error = loop {
        if let Err(error) = file.write(&[0; 512]) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(rustix::fs::statvfs(directory).unwrap().f_bavail, 0);
}

/// Set for the process that has a file system of its own.
const INSIDE: &str = "MUSTER_TEST_FULL_DISK";

#[test]
fn a_full_disk_and_new_leaders_do_not_silence_a_node() {
    if let Some(directory) = std::env::var_os(INSIDE) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(with_a_full_disk(Path::new(&directory)));
    }
    let own = |program: &std::ffi::OsStr| {
        let mut command = std::process::Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount"]).arg(program);
        command
    };
    if !own("true".as_ref()).status().is_ok_and(|status| status.success()) {
        return not_run("no user namespace can be made here");
    }
    let directory = tempfile::tempdir().unwrap();
    let name = "disk::a_full_disk_and_new_leaders_do_not_silence_a_node";
    let mut inside = own(std::env::current_exe().unwrap().as_os_str());
    let output = inside.args(["--exact", name, "--nocapture"]).env(INSIDE, directory.path()).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// At the beginning of a line: the test command gathers these for its closing list.
fn not_run(why: &str) {
    assert!(std::env::var("REQUIRE_ALL").as_deref() != Ok("1"), "the full disk must be tried, but {why}");
    println!("\nNOT RUN: agent: full disk: {why}\n");
}

async fn with_a_full_disk(directory: &Path) {
    mount("tmpfs", directory, "tmpfs", MountFlags::empty(), c"size=1m").unwrap();
    let state_dir = directory.join("state");
    let mut coordinator = Coordinator::start().await;
    let engine = Flaky::default();
    let worker = Running::start(settings(&state_dir, vec![coordinator.url()]), &engine);
    let mut session = coordinator.welcome(5).await;
    let key = key("1");
    session.run(5, &key, &["hang"], Some(600_000)).await;

    for term in 6..=9 {
        // Also what the takeover before may have given free.
        fill(directory);
        (coordinator, session) = take_over(coordinator, session, term).await;
        for _ in 0..3 {
            session.heartbeat().await;
        }
        assert_eq!(saved_term(&state_dir), term);
    }
    fill(directory);
    // The agent's own restart finds all of it, and needs no room either.
    worker.stop().await;
    let worker = Running::start(settings(&state_dir, vec![coordinator.url()]), &engine);
    session = coordinator.welcome(10).await;
    assert_eq!((session.hello.last_term, session.hello.ranks[0].time_limit_ms), (9, Some(600_000)));
    session.heartbeat().await;
    assert_eq!(saved_term(&state_dir), 10);
    // A limit is still taken and enforced.
    session.command(10, Command::SetTimeLimit { key: key.clone(), time_limit_ms: Some(1) }).await;
    loop {
        if let RankState::Ended { end, .. } = session.news(&key).await.1 {
            assert_eq!(end, RankEnd::TimeLimit);
            break;
        }
    }
    worker.stop().await;
}

#[tokio::test]
async fn until_the_journal_is_written_nothing_is_said_and_the_agent_can_be_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;
    let log = Captured::default();
    let _guard = log.listen();
    let complained = async || {
        while !log.text().contains("journal cannot be written, trying again") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let engine = Flaky::default();
    let worker = Running::start(settings(directory.path(), vec![coordinator.url()]), &engine);
    let mut session = coordinator.welcome(5).await;
    session.heartbeat().await;
    // In the way of the next write.
    let spare = directory.path().join("agent.json.new");
    fs::remove_file(&spare).unwrap();
    fs::create_dir(&spare).unwrap();
    (coordinator, session) = take_over(coordinator, session, 6).await;
    soon("a complaint", complained()).await;
    assert!(session.is_silent() && saved_term(directory.path()) == 5);
    fs::remove_dir(&spare).unwrap();
    session.heartbeat().await;
    assert_eq!(saved_term(directory.path()), 6);

    fs::remove_file(&spare).unwrap();
    fs::create_dir(&spare).unwrap();
    log.clear();
    (coordinator, session) = take_over(coordinator, session, 7).await;
    soon("a complaint", complained()).await;
    worker.stop().await;
    assert!(session.is_silent() && saved_term(directory.path()) == 6);
    drop(coordinator);
}
