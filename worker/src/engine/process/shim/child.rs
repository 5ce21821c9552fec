//! The last steps before a rank's own program: limits, privileges, environment, exec.

use super::super::cgroup::Cgroup;
use super::super::record::{Description, Isolation, PEER_FILES_VARIABLE, RankFolder, StartFailure};
use super::{sandbox, sys};
use rustix::fs::{Gid, Uid};
use rustix::process::{Resource, Rlimit, Signal};
use rustix::thread::CapabilitySet;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What a rank that is root keeps (reliability C.2, item 16).
const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::NET_BIND_SERVICE);

/// Turns this process into the rank's program. Returns only if that failed.
pub(super) fn become_program(
    description: &Description,
    folder: &RankFolder,
    cgroup_files: Vec<OwnedFd>,
    stdout: OwnedFd,
    stderr: OwnedFd,
) -> StartFailure {
    let steps = || -> Result<(), StartFailure> {
        let failed = |step: &'static str| move |error: rustix::io::Errno| StartFailure::by_node(step, error);
        for file in cgroup_files {
            rustix::io::write(&file, b"0").map_err(failed("enter the rank's control group"))?;
        }
        // A group of its own, in the session that the first process leads.
        rustix::process::setpgid(None, None).map_err(failed("make a process group"))?;
        set_limits();
        let null = std::fs::File::open("/dev/null").map_err(|error| StartFailure::by_node("open /dev/null", error))?;
        rustix::stdio::dup2_stdin(&null).map_err(failed("redirect the input"))?;
        rustix::stdio::dup2_stdout(&stdout).map_err(failed("redirect the output"))?;
        rustix::stdio::dup2_stderr(&stderr).map_err(failed("redirect the errors"))?;
        sys::close_descriptors_on_exec().map_err(|error| StartFailure::by_node("close its files", error))?;
        drop_privileges(description).map_err(failed("drop privileges"))?;
        // Last: a change of user takes it back.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(failed("tie the rank to its supervisor"))?;
        let work = work_dir(description);
        std::env::set_current_dir(work).map_err(|error| StartFailure::by_node("enter the job's folder", error))?;
        sys::reset_signals();
        Ok(())
    };
    match steps() {
        Ok(()) => execute(description, folder),
        Err(failure) => failure,
    }
}

/// Descriptors by which a process can enter the groups after it has lost sight of them.
pub(super) fn open_cgroup(cgroup: &Cgroup) -> io::Result<Vec<OwnedFd>> {
    let open = |path: PathBuf| std::fs::OpenOptions::new().write(true).open(path).map(OwnedFd::from);
    cgroup.entrances().map(open).collect()
}

fn set_limits() {
    let limits = [(Resource::Nofile, 65_536), (Resource::Core, 0), (Resource::Memlock, 64 << 20)];
    for (resource, wanted) in limits {
        let hard = rustix::process::getrlimit(resource).maximum;
        // Without the privilege to raise it, what we have is the most there is.
        let value = Some(hard.map_or(wanted, |hard| hard.min(wanted)));
        let _ = rustix::process::setrlimit(resource, Rlimit { current: value, maximum: value });
    }
    // When the machine runs out of memory, a rank goes before the agent. Refused in some containers; then it stays as it is.
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
}

fn drop_privileges(description: &Description) -> rustix::io::Result<()> {
    // Also inside a user namespace, whose root could mount and so undo what is hidden from it.
    for capability in CapabilitySet::all().difference(CAPABILITIES).iter().chain(unnamed_capabilities()) {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // A kernel that does not know it cannot give it; who may not take it away cannot have it after the exec.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => {}
            Err(error) => return Err(error),
        }
    }
    let root_here = rustix::process::geteuid().is_root() && description.isolation != Isolation::UserNamespaces;
    if let (Some((user, group)), true) = (description.user, root_here) {
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        rustix::thread::set_thread_groups(&[group])?;
        rustix::thread::set_thread_res_gid(group, group, group)?;
        rustix::thread::set_thread_res_uid(user, user, user)?;
    }
    rustix::thread::set_no_new_privs(true)
}

/// Those that a newer kernel may have and the library has no name for.
fn unnamed_capabilities() -> impl Iterator<Item = CapabilitySet> {
    (41..64).map(|bit| CapabilitySet::from_bits_retain(1 << bit))
}

fn work_dir(description: &Description) -> &Path {
    if description.isolation == Isolation::Plain { &description.job_dir } else { Path::new(sandbox::WORK) }
}

/// Exactly what the job has, and the four it cannot know.
pub(super) fn environment(description: &Description, folder: &RankFolder) -> BTreeMap<String, String> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut environment = BTreeMap::new();
    let image_bin = description.image_dir.as_ref().map(|image| match description.isolation {
        Isolation::Plain => text(&image.join("bin")),
        _ => format!("{}/bin", sandbox::IMAGE),
    });
    let path = image_bin.map_or_else(|| DEFAULT_PATH.to_owned(), |bin| format!("{bin}:{DEFAULT_PATH}"));
    environment.insert("PATH".to_owned(), path);
    environment.insert("HOME".to_owned(), text(work_dir(description)));
    environment.insert("HOSTNAME".to_owned(), description.assignment.host.clone());
    environment.extend(description.assignment.container.env.clone());
    if description.isolation == Isolation::Plain {
        // The rank has no /etc/ucloud and no host table of its own; this says where they are instead.
        environment.insert(PEER_FILES_VARIABLE.to_owned(), text(&folder.peer_files()));
        environment.insert("UCLOUD_HOSTS".to_owned(), text(&folder.hosts_file()));
    }
    environment
}

fn execute(description: &Description, folder: &RankFolder) -> StartFailure {
    let container = &description.assignment.container;
    let by_job = |message: String| StartFailure { by_job: true, message };
    let Some((program, arguments)) = container.argv.split_first() else {
        return by_job("the job has no command".to_owned());
    };
    let error = Command::new(program).args(arguments).env_clear().envs(environment(description, folder)).exec();
    let image = &container.image;
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => by_job(format!("the command `{program}` was not found in image {image}")),
        Some(libc::EACCES | libc::ENOEXEC | libc::EISDIR | libc::ELOOP | libc::ENAMETOOLONG | libc::EPERM) => {
            by_job(format!("the command `{program}` in image {image} cannot be executed: {error}"))
        }
        Some(libc::E2BIG) => by_job("the command line and the environment are too long for this machine".to_owned()),
        None => by_job(format!("the command line or the environment cannot be used: {error}")),
        Some(_) => StartFailure::by_node("execute the command", error),
    }
}
