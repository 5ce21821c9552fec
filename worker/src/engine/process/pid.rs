//! Processes by number, guarded against numbers that were given again.

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::io;

/// One process of this boot, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessId {
    pid: i32,
    /// When it was started, in clock ticks since boot; tells it from a later process of the same number.
    start_ticks: u64,
}

/// What `/proc/<pid>/stat` says.
struct Stat {
    parent: i32,
    session: i32,
    start_ticks: u64,
    /// It has ended and waits for a parent that may never ask, as where nobody reaps orphans.
    is_zombie: bool,
}

impl ProcessId {
    /// The process that has this number now.
    pub(super) fn of(pid: Pid) -> io::Result<Self> {
        let pid = pid.as_raw_nonzero().get();
        Ok(Self { pid, start_ticks: stat(pid)?.start_ticks })
    }

    /// A descriptor that becomes readable when the process ends; `None` if it has ended and is gone.
    pub(super) fn open(self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        let descriptor = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => descriptor,
            Err(Errno::SRCH | Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Read after the descriptor was opened: if it is ours now, the descriptor is ours for ever.
        match stat(self.pid) {
            Ok(stat) if stat.start_ticks == self.start_ticks && !stat.is_zombie => Ok(Some(descriptor)),
            Ok(_) => Ok(None),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a signal. Fine if the process has ended.
    pub(super) fn signal(self, signal: Signal) -> io::Result<()> {
        match self.open()? {
            Some(descriptor) => match pidfd_send_signal(&descriptor, signal) {
                Ok(()) | Err(Errno::SRCH) => Ok(()),
                Err(error) => Err(error.into()),
            },
            None => Ok(()),
        }
    }

    /// Kills every process of the session that this process leads, also after its own end.
    pub(super) fn kill_session(self) {
        for pid in all_pids() {
            let in_session = stat(pid).is_ok_and(|stat| {
                stat.session == self.pid && stat.start_ticks >= self.start_ticks && pid != std::process::id() as i32
            });
            if let (true, Some(pid)) = (in_session, Pid::from_raw(pid)) {
                // It may have ended in between, and then there is nothing to do.
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// Kills every process that has `marker` (`NAME=value`) in the environment it was started with.
///
/// For ranks without a process namespace whose supervisor is gone: what left their session still carries it.
pub(super) fn kill_marked(marker: &str) {
    let is_marked = |pid: &i32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == marker.as_bytes())
    };
    // One may start another while we look, and a dying one is seen until it is dead.
    for _ in 0..64 {
        let marked: Vec<i32> = all_pids().filter(is_marked).collect();
        if marked.is_empty() {
            return;
        }
        for pid in marked.into_iter().filter_map(Pid::from_raw) {
            // It may have ended in between, and then there is nothing to do.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

/// The processes whose parent is `parent`.
pub(super) fn children_of(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero().get();
    all_pids().filter(|pid| stat(*pid).is_ok_and(|stat| stat.parent == parent)).filter_map(Pid::from_raw).collect()
}

fn all_pids() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

fn stat(pid: i32) -> io::Result<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_stat(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unexpected text in /proc/<pid>/stat"))
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name may hold blanks and brackets; the last bracket ends it, and field 3 follows.
    let (_, rest) = text.rsplit_once(')')?;
    let field = |number: usize| rest.split_ascii_whitespace().nth(number - 3);
    Some(Stat {
        is_zombie: matches!(field(3)?, "Z" | "X"),
        parent: field(4)?.parse().ok()?,
        session: field(6)?.parse().ok()?,
        start_ticks: field(22)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let text = "7 (a) R (b) S 1 7 5 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0\n";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.parent, stat.session, stat.start_ticks), (1, 5, 4242));
        assert!(parse_stat("7 (x) S 1").is_none());
    }

    #[test]
    fn a_number_given_again_is_another_process() {
        let this = ProcessId::of(rustix::process::getpid()).unwrap();
        assert!(this.open().unwrap().is_some());
        let other = ProcessId { start_ticks: this.start_ticks + 1, ..this };
        assert!(other.open().unwrap().is_none());
        other.signal(Signal::KILL).unwrap();
    }
}
