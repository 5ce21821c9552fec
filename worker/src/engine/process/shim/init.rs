//! First process of a rank: makes the sandbox, starts the command, hands SIGTERM on, and ends all others with itself.
//!
//! The command is not the first process itself: the kernel would let such a one ignore SIGTERM, and nobody would reap
//! what its children leave behind.

use super::super::pid;
use super::super::record::{Description, Isolation, RankFolder, StartFailure};
use super::child;
use super::sandbox::{self, Sandbox};
use super::sys::{self, Forked, SignalSet};
use muster_domain::peers::PeerFiles;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::exit;

/// Ends of the pipes to the shim that belong to the rank.
#[derive(Debug)]
pub(super) struct RankPipes {
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    /// Takes a [`StartFailure`]; closed by a successful exec.
    pub(super) failure: File,
    /// Takes the command's wait status, once.
    pub(super) status: File,
}

/// Runs the rank to its end.
pub(super) fn run(
    description: &Description,
    folder: &RankFolder,
    files: &PeerFiles,
    outside: (u32, u32),
    cgroup_files: Vec<OwnedFd>,
    pipes: RankPipes,
) -> ! {
    let RankPipes { stdout, stderr, mut failure, mut status } = pipes;
    if let Err(reason) = set_up(description, files, outside) {
        refuse(&mut failure, &reason);
    }
    let signals = SignalSet::of(&[Signal::CHILD, Signal::TERM]);
    signals.block();
    let command = match sys::fork_into(0) {
        Ok(Forked::Child) => {
            drop(status);
            let reason = child::become_program(description, folder, cgroup_files, stdout, stderr);
            refuse(&mut failure, &reason)
        }
        Ok(Forked::Parent(command)) => command,
        Err(error) => refuse(&mut failure, &StartFailure::by_node("make a process", error)),
    };
    drop((stdout, stderr, failure, cgroup_files));
    let end = tend(command, &signals);
    if description.isolation == Isolation::Plain {
        kill_descendants();
    }
    // If the shim is gone there is nobody to tell; what it did not record counts as vanished.
    let _ = status.write_all(&end.as_raw().to_ne_bytes());
    exit(0)
}

fn refuse(failure: &mut File, reason: &StartFailure) -> ! {
    // If the shim is gone there is nobody to tell, and nothing of the rank runs.
    let _ = failure.write_all(&serde_json::to_vec(reason).unwrap_or_default());
    exit(1)
}

fn set_up(description: &Description, files: &PeerFiles, outside: (u32, u32)) -> Result<(), StartFailure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| StartFailure::by_node("tie the rank to its supervisor", error))?;
    rustix::process::setsid().map_err(|error| StartFailure::by_node("make a session", error))?;
    let assignment = &description.assignment;
    if description.isolation == Isolation::UserNamespaces {
        let inside = if assignment.container.as_root { (0, 0) } else { outside };
        sandbox::map_user(outside, inside).map_err(|error| StartFailure::by_node("map the user", error))?;
    }
    if description.isolation == Isolation::Plain {
        return rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|error| StartFailure::by_node("become the reaper", error));
    }
    let sandbox = Sandbox {
        isolation: description.isolation,
        host: &assignment.host,
        job_dir: &description.job_dir,
        peer_files: files,
        image_dir: description.image_dir.as_deref(),
        hidden: &description.hidden,
        resources: &assignment.resources,
    };
    sandbox.enter().map_err(|(step, error)| StartFailure::by_node(&step, error))
}

/// Reaps until the command has ended; returns how.
fn tend(command: Pid, signals: &SignalSet) -> WaitStatus {
    loop {
        match signals.wait() {
            // It may be a zombie already, and then its end is the next thing we see.
            Some(Signal::TERM) => drop(rustix::process::kill_process(command, Signal::TERM)),
            _ => {
                while let Ok(Some((pid, end))) = rustix::process::wait(WaitOptions::NOHANG) {
                    if pid == command {
                        return end;
                    }
                }
            }
        }
    }
}

/// Without a process namespace: kills children, and theirs, which become ours when their parents end.
pub(super) fn kill_descendants() {
    loop {
        // Looking through all processes is not for the many ranks that leave nothing behind.
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => continue,
            Ok(None) => {}
            Err(_) => return,
        }
        for child in pid::children_of(rustix::process::getpid()) {
            // It may be a zombie already; it is reaped below.
            let _ = rustix::process::kill_process(child, Signal::KILL);
        }
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
