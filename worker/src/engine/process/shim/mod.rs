//! The supervisor of one rank: a small process between agent and rank that neither needs the other's life.
//!
//! The worker's own binary, run as `rank-shim <folder>`. It leaves the agent's session and family, makes the rank's
//! namespaces and limits, starts the command, writes down that it runs, keeps its output, waits, writes down how it
//! ended, and ends itself. The agent may be killed and replaced meanwhile; it reads the records.

mod child;
mod init;
pub(super) mod probe;
mod pump;
mod sandbox;
mod sys;

use super::cgroup::Cgroup;
use super::peers;
use super::pid::ProcessId;
use super::record::{Description, Ended, Isolation, RankFolder, Running, StartFailure, StartReport};
use init::RankPipes;
use muster_domain::peers::PeerFiles;
use muster_domain::rank::RankEnd;
use pump::{BoundedLog, Pump};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::FlockOperation;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal, WaitOptions};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use sys::Forked;

/// The hidden first argument of the worker that makes it a shim.
pub const ARGUMENT: &str = "rank-shim";

/// Host names of some 100,000 ranks.
const PEER_FILES_BYTES: u64 = 64 << 20;

/// Asks for the isolation instead of running a rank.
pub(super) const PROBE: &str = "--probe";

/// The shim's whole life. `args` is what follows [`ARGUMENT`]: a rank's folder.
///
/// Must be called before the process has a second thread: it forks. The standard input gives the peer files; the
/// standard output takes one line that says whether the rank was started.
#[must_use]
pub fn main(args: &[OsString]) -> ExitCode {
    let outcome = match args {
        [flag, folder] if flag == PROBE => probe::probe(Path::new(folder)).and_then(|probed| say(&probed)),
        [folder] => supervise(RankFolder { path: PathBuf::from(folder) }),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "expected the folder of a rank")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The engine reads it if there was no answer. If it is gone, nobody is left to tell.
            let _ = writeln!(io::stderr(), "rank shim: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One line of JSON to whoever started this process.
fn say(answer: &impl serde::Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&line)?;
    stdout.flush()
}

fn supervise(folder: RankFolder) -> io::Result<()> {
    // A child of a child belongs to the machine's first process, not to the agent, and dies with neither.
    match sys::fork_into(0)? {
        Forked::Parent(_) => return Ok(()),
        Forked::Child => {}
    }
    rustix::process::setsid()?;
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        sys::ignore(signal);
    }
    let Some(_lock) = lock(&folder)? else { return say(&StartReport::AlreadyStarted) };
    if folder.running()?.is_some() || folder.ended()?.is_some() {
        return say(&StartReport::AlreadyStarted);
    }
    let files = read_peer_files()?;
    let started = folder
        .description()
        .and_then(|found| found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "rank.json is not there")))
        .map_err(|error| StartFailure::by_node("read the rank's description", error))
        .and_then(|description| start(&folder, description, &files));
    match started {
        Ok((mut rank, report)) => {
            // The agent may be gone; its successor reads the record.
            let _ = say(&report);
            let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
            rustix::stdio::dup2_stdin(&null)?;
            rustix::stdio::dup2_stdout(&null)?;
            rustix::stdio::dup2_stderr(&null)?;
            rank.attend()?;
            let ended = rank.conclude();
            record(&folder, &ended);
            // What the kernel is not done with is swept with the rank.
            let _ = rank.cgroup.remove();
            Ok(())
        }
        Err(failure) => say(&StartReport::Failed(failure)),
    }
}

/// Writes down how the rank ended, again and again while the disk is full: nobody else knows it. A folder that was removed
/// needs no record.
fn record(folder: &RankFolder, ended: &Ended) {
    while folder.write_ended(ended).is_err() && folder.path.exists() {
        let pause = rustix::thread::Timespec { tv_sec: 1, tv_nsec: 0 };
        let _ = rustix::thread::nanosleep(&pause);
    }
}

/// Held by the shim as long as it lives, so that a rank has one at most. `None`: there is another one.
fn lock(folder: &RankFolder) -> io::Result<Option<File>> {
    let file = File::open(&folder.path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    // The agent may have removed the rank meanwhile: then this is a folder without a name.
    if std::fs::metadata(&folder.path)?.ino() == file.metadata()?.ino() {
        Ok(Some(file))
    } else {
        Err(io::Error::new(io::ErrorKind::NotFound, "the rank was removed"))
    }
}

/// The peer files, from the engine that started this process. Half of them, from an engine that died, are none.
fn read_peer_files() -> io::Result<PeerFiles> {
    let mut text = Vec::new();
    io::stdin().lock().take(PEER_FILES_BYTES).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// A rank that runs.
struct Rank {
    started_at_ms: u64,
    first: Pid,
    cgroup: Cgroup,
    streams: [Pump; 2],
    /// Where the first process writes how the command ended.
    status: File,
}

fn start(
    folder: &RankFolder,
    description: Description,
    files: &PeerFiles,
) -> Result<(Rank, StartReport), StartFailure> {
    let failed = |step: &'static str| move |error: io::Error| StartFailure::by_node(step, error);
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| StartFailure::by_node("become the reaper", error))?;
    let limit = description.log_limit_bytes;
    let logs = [folder.stdout_log(), folder.stderr_log()].map(|path| BoundedLog::create(&path, limit));
    let [stdout_log, stderr_log] = logs.map(|log| log.map_err(failed("make the log")));
    let cgroup = description.cgroups.group(&description.cluster, &description.assignment.key);
    let warnings = cgroup.create(&description.assignment.resources, description.pids_limit);
    let cgroup_files = child::open_cgroup(&cgroup).map_err(failed("open the control group"))?;

    let pipe =
        || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|error| StartFailure::by_node("make a pipe", error));
    let ((stdout, stdout_end), (stderr, stderr_end)) = (pipe()?, pipe()?);
    let ((failure, failure_end), (status, status_end)) = (pipe()?, pipe()?);
    for end in [&stdout, &stderr] {
        rustix::io::ioctl_fionbio(end, true).map_err(|error| StartFailure::by_node("set up a pipe", error))?;
    }
    if description.isolation == Isolation::Plain {
        peers::write_into(&folder.path, files).map_err(failed("write the peer files"))?;
    }
    let outside = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let forked =
        sys::fork_into(sandbox::namespaces(description.isolation)).map_err(failed("make the rank's namespaces"));
    let first = match forked {
        Ok(Forked::Parent(first)) => first,
        Ok(Forked::Child) => {
            drop((stdout, stderr, failure, status));
            let pipes = RankPipes {
                stdout: stdout_end,
                stderr: stderr_end,
                failure: failure_end.into(),
                status: status_end.into(),
            };
            init::run(&description, folder, files, outside, cgroup_files, pipes)
        }
        Err(error) => {
            // What is left is swept with the rank.
            let _ = cgroup.remove();
            return Err(error);
        }
    };
    drop((stdout_end, stderr_end, failure_end, status_end, cgroup_files));
    let streams = [Pump::new(stdout, stdout_log?), Pump::new(stderr, stderr_log?)];
    let mut rank = Rank { started_at_ms: 0, first, cgroup, streams, status: status.into() };
    match rank.await_program(failure.into()).and_then(|()| rank.record(folder)) {
        Ok(()) => {
            let report = StartReport::Started { started_at_ms: rank.started_at_ms, warnings };
            Ok((rank, report))
        }
        Err(failure) => {
            rank.undo();
            Err(failure)
        }
    }
}

impl Rank {
    /// Returns when the rank's own program runs.
    fn await_program(&mut self, mut failure: File) -> Result<(), StartFailure> {
        let mut words = Vec::new();
        failure.read_to_end(&mut words).map_err(|error| StartFailure::by_node("hear of the rank", error))?;
        if !words.is_empty() {
            return Err(serde_json::from_slice(&words)
                .unwrap_or_else(|error| StartFailure::by_node("understand the rank", io::Error::from(error))));
        }
        // Closed without a word: the program runs, or has run and its status is waiting; or the first process was killed.
        let mut polled = [PollFd::new(&self.status, PollFlags::IN)];
        rustix::event::poll(&mut polled, Some(&Timespec::default()))
            .map_err(|error| StartFailure::by_node("look after the rank", error))?;
        let gone = polled[0].revents().contains(PollFlags::HUP);
        if gone && rustix::io::ioctl_fionread(&self.status).unwrap_or(0) == 0 {
            let message = "the rank was killed while it was being started".to_owned();
            return Err(StartFailure { by_job: false, message });
        }
        self.started_at_ms = muster_runtime::clock::boottime().0;
        Ok(())
    }

    fn record(&self, folder: &RankFolder) -> Result<(), StartFailure> {
        let write = || {
            let shim = ProcessId::of(rustix::process::getpid())?;
            let first = ProcessId::of(self.first)?;
            folder.write_running(&Running { shim, first, started_at_ms: self.started_at_ms })
        };
        write().map_err(|error| StartFailure::by_node("write down that the rank runs", error))
    }

    /// Leaves nothing of a rank that could not be started.
    fn undo(&self) {
        // It may have ended by itself.
        let _ = rustix::process::kill_process(self.first, Signal::KILL);
        init::kill_descendants();
        // What is left is swept with the rank.
        let _ = self.cgroup.remove();
    }

    /// Keeps the output until the first process has told how the command ended, or is gone.
    fn attend(&mut self) -> io::Result<()> {
        loop {
            let ready = {
                let streams = self.streams.iter().map(|stream| stream.pipe.as_ref().map(AsFd::as_fd));
                let watched: Vec<_> = streams.chain([Some(self.status.as_fd())]).enumerate().collect();
                let mut polled: Vec<_> = watched
                    .iter()
                    .filter_map(|(_, fd)| fd.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)))
                    .collect();
                match rustix::event::poll(&mut polled, None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
                let open = watched.iter().filter(|(_, fd)| fd.is_some()).map(|(number, _)| *number);
                let mut ready = [false; 3];
                for (number, polled) in open.zip(&polled) {
                    ready[number] = !polled.revents().is_empty();
                }
                ready
            };
            for (stream, ready) in self.streams.iter_mut().zip(ready) {
                if ready {
                    stream.pump();
                }
            }
            if ready[2] {
                return Ok(());
            }
        }
    }

    /// Ends what is left of the rank, and says how the command ended.
    fn conclude(&mut self) -> Ended {
        let mut raw = [0; 4];
        let told = self.status.read_exact(&mut raw).is_ok();
        let age_ms = muster_runtime::clock::boottime().0.saturating_sub(self.started_at_ms);
        // With a process namespace, the first process is reaped only after every other one is dead. Without one, the
        // others become children of this process.
        while let Err(rustix::io::Errno::INTR) = rustix::process::waitpid(Some(self.first), WaitOptions::empty()) {}
        init::kill_descendants();
        for stream in &mut self.streams {
            stream.drain();
        }
        // The first process dies untold only if somebody kills it, and the rank with it.
        let status = told.then(|| ExitStatus::from_raw(i32::from_ne_bytes(raw)));
        Ended { end: end_of(status, &self.cgroup), age_ms }
    }
}

fn end_of(status: Option<ExitStatus>, cgroup: &Cgroup) -> RankEnd {
    let kill = Signal::KILL.as_raw();
    let end = match status {
        Some(status) => match (status.code(), status.signal()) {
            (Some(code), _) => RankEnd::Exited { code },
            (None, signal) => RankEnd::Killed { signal: signal.unwrap_or(kill) },
        },
        None => RankEnd::Killed { signal: kill },
    };
    // A shell whose child was killed for memory says so with its own exit code.
    let by_kernel = end == RankEnd::Killed { signal: kill } || end == RankEnd::Exited { code: 128 + kill };
    if by_kernel && cgroup.ran_out_of_memory() { RankEnd::OutOfMemory } else { end }
}
