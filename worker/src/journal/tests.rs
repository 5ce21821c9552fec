//! What outlives an agent, and what a full disk and a crash do to it.

use super::files::{DOCUMENT, LEAST_BYTES, SPARE};
use super::*;
use muster_domain::id::JobId;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

fn key(rank: u32) -> RankKey {
    RankKey { job: JobId::new("7").unwrap(), rank, attempt: 1 }
}

#[test]
fn it_is_kept_over_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b");
    let mut journal = Journal::open(&path).unwrap();
    assert_eq!(journal.last_term(), 0);
    journal.set_term(41);
    journal.set_time_limit(key(0), Some(1000));
    journal.set_time_limit(key(1), Some(2000));
    journal.commit().unwrap();
    journal.forget(&key(1));
    assert!(!journal.is_due(), "forgetting waits for company");
    journal.set_time_limit(key(0), Some(3000));
    journal.commit().unwrap();
    drop(journal);
    let journal = Journal::open(&path).unwrap();
    assert_eq!(journal.last_term(), 41);
    assert_eq!(journal.time_limit_ms(&key(0)), Some(3000));
    assert_eq!(journal.time_limit_ms(&key(1)), None);
}

#[test]
fn two_agents_never_share_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let first = Journal::open(directory.path()).unwrap();
    let error = Journal::open(directory.path()).unwrap_err();
    assert!(matches!(error, JournalError::InUse { .. }));
    assert!(error.to_string().contains("another muster-worker"), "{error}");
    drop(first);
    Journal::open(directory.path()).unwrap();
}

#[test]
fn a_crash_in_the_middle_of_a_write_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(directory.path()).unwrap();
    journal.set_term(3);
    journal.commit().unwrap();
    drop(journal);
    fs::write(directory.path().join(SPARE), b"{\"last_te").unwrap();
    assert_eq!(Journal::open(directory.path()).unwrap().last_term(), 3);
}

#[test]
fn a_journal_that_makes_no_sense_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(DOCUMENT), b"nonsense").unwrap();
    let error = Journal::open(directory.path()).unwrap_err();
    assert!(matches!(error, JournalError::Corrupt { .. }), "{error}");
}

fn lengths(directory: &Path) -> [usize; 2] {
    [DOCUMENT, SPARE].map(|name| fs::read(directory.join(name)).unwrap().len())
}

#[test]
fn room_is_set_aside_from_the_start_and_grows_before_it_is_needed() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(directory.path()).unwrap();
    assert_eq!(lengths(directory.path()), [LEAST_BYTES; 2]);
    let mut content = 0;
    for rank in (0..2_000).step_by(25) {
        let present = lengths(directory.path());
        for rank in rank..rank + 25 {
            journal.set_time_limit(key(rank), Some(86_400_000));
        }
        content = journal.content().unwrap().len();
        assert!(present.iter().all(|length| *length >= content), "{present:?} for {content}");
        journal.commit().unwrap();
    }
    assert!(content > LEAST_BYTES);
    drop(journal);
    assert_eq!(Journal::open(directory.path()).unwrap().time_limit_ms(&key(1_999)), Some(86_400_000));
}

#[test]
fn a_journal_of_an_earlier_release_is_read_and_given_room() {
    let directory = tempfile::tempdir().unwrap();
    let limits = r#"[{"job":"7","rank":0,"attempt":1,"time_limit_ms":1000}]"#;
    let text = format!(r#"{{"last_term":41,"limits":{limits}}}"#);
    fs::write(directory.path().join(DOCUMENT), &text).unwrap();
    let journal = Journal::open(directory.path()).unwrap();
    assert_eq!((journal.last_term(), journal.time_limit_ms(&key(0))), (41, Some(1_000)));
    assert_eq!(lengths(directory.path()), [LEAST_BYTES; 2]);
    // An earlier release reads it too.
    assert_eq!(fs::read_to_string(directory.path().join(DOCUMENT)).unwrap().trim_end(), text);
}

#[test]
fn whatever_a_crash_left_of_the_spare_is_overwritten() {
    for left in [None, Some(String::new()), Some("{\"last_te".to_owned()), Some("x".repeat(3 * LEAST_BYTES))] {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        journal.set_term(3);
        journal.commit().unwrap();
        drop(journal);
        let spare = directory.path().join(SPARE);
        match &left {
            None => fs::remove_file(spare).unwrap(),
            Some(text) => fs::write(spare, text).unwrap(),
        }
        for term in [4, 5, 6] {
            let mut journal = Journal::open(directory.path()).unwrap();
            assert_eq!(journal.last_term(), term - 1);
            journal.set_term(term);
            journal.commit().unwrap();
        }
    }
}

/// Set for the process that is to be killed.
const VICTIM: &str = "MUSTER_TEST_JOURNAL";

#[test]
fn an_agent_that_is_killed_at_any_moment_leaves_a_whole_journal_with_all_that_was_committed() {
    if let Some(directory) = std::env::var_os(VICTIM) {
        let mut journal = Journal::open(Path::new(&directory)).unwrap();
        for term in journal.last_term() + 1.. {
            journal.set_term(term);
            journal.set_time_limit(key(u32::try_from(term % 700).unwrap()), Some(term));
            journal.commit().unwrap();
            writeln!(io::stderr(), "committed {term}").unwrap();
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let name =
        "journal::tests::an_agent_that_is_killed_at_any_moment_leaves_a_whole_journal_with_all_that_was_committed";
    let mut committed = 0;
    for round in 1..=12 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(VICTIM, directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(victim.stderr.take().unwrap()).lines();
        let mut terms = lines.filter_map(|line| line.unwrap().strip_prefix("committed ")?.parse::<u64>().ok());
        // At another moment in each round.
        committed = terms.by_ref().take(round * 2).last().unwrap();
        victim.kill().unwrap();
        committed = terms.last().unwrap_or(committed);
        victim.wait().unwrap();
        let last_term = Journal::open(directory.path()).unwrap().last_term();
        assert!((committed..=committed + 1).contains(&last_term), "{committed} was committed, {last_term} was read");
    }
    assert!(committed >= 12 * 2);
}
