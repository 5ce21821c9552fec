use super::*;
use bollard::models::EventActor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

/// A rank that was killed, of which the run of dockerd that answers knows nothing, without live-restore.
const CUT: Testimony = Testimony {
    code: 137,
    out_of_memory: false,
    live_restore: false,
    lost: false,
    signalled: false,
    remembered: Some(false),
};

#[test]
fn an_end_that_no_run_remembers_was_the_restart_if_it_looks_like_a_kill() {
    for code in [137, 143, 255] {
        assert!(by_restart(&Testimony { code, ..CUT }), "{code}");
    }
    // It may have ended by itself while the engine was away.
    for code in [0, 1, 128, 134, 139, 254] {
        assert!(!by_restart(&Testimony { code, ..CUT }), "{code}");
        assert!(!by_restart(&Testimony { code, lost: true, ..CUT }), "{code}");
    }
}

#[test]
fn a_rank_that_answered_the_engines_signal_in_its_own_way_was_ended_by_the_restart() {
    for code in [0, 1, 137, 255] {
        // By the run that was going down, which nobody remembers.
        assert!(by_restart(&Testimony { code, signalled: true, ..CUT }), "{code}");
        // By the run that came up, before it served anybody.
        let came_up = Testimony { code, signalled: true, lost: true, remembered: Some(true), ..CUT };
        assert!(by_restart(&came_up), "{code}");
    }
}

#[test]
fn what_the_engine_remembers_is_no_restart() {
    let seen = Testimony { remembered: Some(true), ..CUT };
    assert!(!by_restart(&seen), "killed from outside, or by its own");
    assert!(!by_restart(&Testimony { signalled: true, ..seen }), "stopped through the engine by an operator or by us");
    assert!(!by_restart(&Testimony { lost: true, ..seen }), "nobody signalled it");
}

#[test]
fn a_full_log_needs_a_broken_connection_too() {
    let full = Testimony { remembered: None, signalled: true, ..CUT };
    assert!(!by_restart(&full));
    assert!(by_restart(&Testimony { lost: true, ..full }));
    assert!(!by_restart(&Testimony { lost: true, signalled: false, code: 1, ..full }));
}

#[test]
fn memory_and_live_restore_come_first() {
    let certain = Testimony { signalled: true, lost: true, ..CUT };
    assert!(!by_restart(&Testimony { out_of_memory: true, ..certain }));
    // The kernel killed a child that the rank could do without.
    assert!(by_restart(&Testimony { out_of_memory: true, code: 0, ..certain }));
    assert!(!by_restart(&Testimony { live_restore: true, ..certain }));
}

fn event(action: &str, container: &str, at_ms: i64) -> EventMessage {
    EventMessage {
        action: Some(action.to_owned()),
        actor: Some(EventActor { id: Some(container.to_owned()), ..EventActor::default() }),
        time_nano: Some(at_ms * 1_000_000),
        ..EventMessage::default()
    }
}

#[test]
fn a_log_speaks_of_one_container_among_many() {
    let mut memory = Memory::default();
    for event in [event("kill", "other", 5), event("die", "other", 6), EventMessage::default()] {
        memory.take(&event, "mine");
    }
    assert_eq!(memory, Memory { events: 3, ..Memory::default() });
    assert_eq!(memory.remembered(), Some(false));
    memory.take(&event("kill", "mine", 7), "mine");
    memory.take(&event("kill", "mine", 9), "mine");
    assert_eq!((memory.signalled_at_ms, memory.remembered()), (Some(9), Some(false)));
    memory.take(&event("die", "mine", 10), "mine");
    assert_eq!(memory.remembered(), Some(true));
}

#[test]
fn a_log_that_may_have_dropped_the_end_does_not_deny_it() {
    let full = Memory { events: LOG_LENGTH, ..Memory::default() };
    assert_eq!(full.remembered(), None);
    assert_eq!(Memory { died: true, ..full }.remembered(), Some(true));
}

#[test]
fn times_are_written_as_the_engine_reads_them() {
    assert_eq!(engine_time(1_795_284_597_007), "1795284597.007000000");
}

/// What is made of an answer to the question for events.
async fn memory_from(answer: &str) -> Result<Memory, CallError> {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let engine = Docker::connect_with_unix(socket.to_str().unwrap(), 5, API_DEFAULT_VERSION).unwrap();
    let serve = async {
        let mut peer = listener.accept().await.unwrap().0;
        let _ = peer.read(&mut [0; 4096]).await.unwrap();
        peer.write_all(answer.as_bytes()).await.unwrap();
    };
    tokio::join!(call(LOOK, memory_of(&engine, "mine", 1_000)), serve).0
}

const OTHER_DIED: &str = r#"{"Type":"container","Action":"die","Actor":{"ID":"other"}}"#;
const MINE_DIED: &str = r#"{"Type":"container","Action":"die","Actor":{"ID":"mine"}}"#;

#[tokio::test]
async fn an_event_that_cannot_be_read_does_not_deny_what_may_follow_it() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
    let whole = memory_from(&format!("{head}{OTHER_DIED}\n{OTHER_DIED}\n")).await.unwrap();
    assert_eq!(whole.remembered(), Some(false));
    let unknown = r#"{"Type":7}"#;
    let cut = memory_from(&format!("{head}{OTHER_DIED}\n{unknown}\n{MINE_DIED}\n")).await.unwrap();
    assert_eq!(cut.remembered(), None, "{cut:?}");
    let told = memory_from(&format!("{head}{MINE_DIED}\n{unknown}\n")).await.unwrap();
    assert_eq!(told.remembered(), Some(true));
}

#[tokio::test]
async fn a_log_that_may_not_be_read_is_not_silence() {
    let answer = "HTTP/1.1 403 Forbidden\r\nContent-Length: 16\r\nConnection: close\r\n\r\n{\"message\":\"no\"}";
    assert!(matches!(memory_from(answer).await, Err(CallError::Refused { status: 403, .. })));
}
