//! What a rank sees of the machine: a root of its own, made of the host's programs and little else.
//!
//! Everything of the host is bound read-only, without set-user-id programs and devices. Home folders, `/var`, `/run`,
//! `/root` and most of `/etc` are left out: they hold the secrets of others. Sources are cloned as detached mounts, so
//! nothing can be swapped between looking and mounting, and nothing is made on the host.

use super::super::peers;
use super::super::record::Isolation;
use super::sys;
use muster_domain::peers::PeerFiles;
use muster_domain::resources::Resources;
use rustix::fs::{CWD, Mode};
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use std::ffi::CString;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Covered by the rank's own anyway, and present on every machine, so that nothing must be made on the host.
const NEW_ROOT: &str = "/tmp";
/// Where the rank finds its image.
pub(super) const IMAGE: &str = "/image";
pub(super) const WORK: &str = "/work";

/// Holds the peer files, one per rank of the gang, and nothing that a rank can write.
const ROOT_FILES: &str = "size=256m,nr_inodes=128k,mode=755";
const PROGRAMS: [&str; 12] =
    ["bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "opt", "nix", "gnu", "snap", "sys"];
/// What programs need of `/etc`. Passwords, keys and the configuration of services are not among it.
const ETC: [&str; 40] = [
    "alternatives",
    "bash.bashrc",
    "bashrc",
    "ca-certificates",
    "ca-certificates.conf",
    "debian_version",
    "environment",
    "fonts",
    "gai.conf",
    "group",
    "host.conf",
    "infiniband-diags",
    "inputrc",
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "libibverbs.d",
    "localtime",
    "login.defs",
    "lsb-release",
    "magic",
    "mime.types",
    "nsswitch.conf",
    "OpenCL",
    "openmpi",
    "os-release",
    "passwd",
    "pki",
    "profile",
    "profile.d",
    "protocols",
    "resolv.conf",
    "rdma",
    "services",
    "ssl",
    "terminfo",
    "vulkan",
];
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Parts of `/proc` that change or reveal the machine.
const PROC_READ_ONLY: [&str; 5] = ["sys", "sysrq-trigger", "irq", "bus", "fs"];
const PROC_HIDDEN: [&str; 4] = ["kcore", "keys", "timer_list", "sched_debug"];

const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY | NO_PRIVILEGE;
const NO_PRIVILEGE: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

/// What goes into the sandbox.
#[derive(Debug)]
pub(super) struct Sandbox<'a> {
    pub(super) isolation: Isolation,
    pub(super) host: &'a str,
    pub(super) job_dir: &'a Path,
    pub(super) peer_files: &'a PeerFiles,
    pub(super) image_dir: Option<&'a Path>,
    pub(super) hidden: &'a [PathBuf],
    pub(super) resources: &'a Resources,
}

/// The flags of `clone` for an isolation.
pub(super) fn namespaces(isolation: Isolation) -> libc::c_int {
    let own = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
    match isolation {
        Isolation::Namespaces => own,
        Isolation::UserNamespaces => own | libc::CLONE_NEWUSER,
        Isolation::Plain => 0,
    }
}

/// Becomes root of an own user namespace, or stays who one is, under the same number outside.
pub(super) fn map_user(outside: (u32, u32), inside: (u32, u32)) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{} {} 1", inside.0, outside.0))?;
    fs::write("/proc/self/gid_map", format!("{} {} 1", inside.1, outside.1))
}

impl Sandbox<'_> {
    /// Replaces the root of this process. It must be the first one of new namespaces. The error names the step.
    pub(super) fn enter(&self) -> Result<(), (String, io::Error)> {
        let at = |step: &str| {
            let step = step.to_owned();
            move |error: io::Error| (step, error)
        };
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).map_err(|e| at("make its mounts private")(e.into()))?;
        let sources = self.clone_sources()?;
        let root = Path::new(NEW_ROOT);
        memory_files(root, ROOT_FILES).map_err(at("mount a new root"))?;
        self.programs(root).map_err(at("bind the host's programs"))?;
        self.etc(root).map_err(at("make /etc"))?;
        sources.job.attach_folder(&root.join("work")).map_err(at("bind the job's folder"))?;
        if let Some(image) = sources.image {
            image.attach_folder(&root.join("image")).map_err(at("bind the image"))?;
        }
        self.scratch(root).map_err(at("mount /tmp"))?;
        self.devices(root).map_err(at("make /dev"))?;
        proc(root).map_err(at("mount /proc"))?;
        for path in self.hidden {
            hide(root, path).map_err(at("hide the agent's folders"))?;
        }
        rustix::system::sethostname(self.host.as_bytes()).map_err(|e| at("set the host name")(e.into()))?;
        pivot(root).map_err(at("change its root"))
    }

    /// Taken first: the new root is mounted over a folder that may hold them.
    fn clone_sources(&self) -> Result<Sources, (String, io::Error)> {
        let open = |path: &Path, attributes| {
            Tree::clone(path, attributes).map_err(|error| (format!("bind {}", path.display()), error))
        };
        Ok(Sources {
            job: open(self.job_dir, NO_PRIVILEGE)?,
            image: self.image_dir.map(|path| open(path, READ_ONLY)).transpose()?,
        })
    }

    fn programs(&self, root: &Path) -> io::Result<()> {
        for name in PROGRAMS {
            let source = Path::new("/").join(name);
            let target = root.join(name);
            match fs::symlink_metadata(&source) {
                Ok(found) if found.is_symlink() => symlink(fs::read_link(&source)?, target)?,
                Ok(found) if found.is_dir() => Tree::clone(&source, READ_ONLY)?.attach_folder(&target)?,
                _ => {}
            }
        }
        for name in ["home", "root", "mnt", "media", "srv"] {
            fs::create_dir(root.join(name))?;
        }
        Ok(())
    }

    fn etc(&self, root: &Path) -> io::Result<()> {
        let etc = root.join("etc");
        fs::create_dir(&etc)?;
        for name in ETC {
            let source = Path::new("/etc").join(name);
            let target = etc.join(name);
            // A link may point out of what is bound; what it names is bound in its place.
            match fs::metadata(&source) {
                Ok(found) if found.is_dir() => Tree::clone(&source, READ_ONLY)?.attach_folder(&target)?,
                Ok(found) if found.is_file() => Tree::clone(&source, READ_ONLY)?.attach_file(&target)?,
                _ => {}
            }
        }
        symlink("/proc/self/mounts", etc.join("mtab"))?;
        fs::write(etc.join("hostname"), format!("{}\n", self.host))?;
        peers::write_into(&etc, self.peer_files)
    }

    /// One file system in memory for all that the rank may write outside `/work`.
    fn scratch(&self, root: &Path) -> io::Result<()> {
        for name in ["tmp", "run", "var", "dev", "dev/shm"] {
            fs::create_dir(root.join(name))?;
        }
        let tmp = root.join("tmp");
        memory_files(&tmp, &format!("size={},mode=755", self.scratch_bytes()))?;
        let trees = ["run", "dev/shm", "tmp"].map(|name| -> io::Result<_> {
            let part = tmp.join(name.replace('/', "-"));
            fs::create_dir(&part)?;
            fs::set_permissions(&part, Permissions::from_mode(0o1777))?;
            Ok((name, Tree::clone(&part, NO_PRIVILEGE)?))
        });
        // The last one covers the file system itself.
        for tree in trees {
            let (name, tree) = tree?;
            tree.attach(&root.join(name))?;
        }
        symlink("/tmp", root.join("var/tmp"))?;
        symlink("/run", root.join("var/run"))
    }

    /// Files in memory count as the rank's memory; more than half of it is a mistake.
    fn scratch_bytes(&self) -> u64 {
        match self.resources.memory_bytes {
            0 => 64 << 20,
            bytes => (bytes / 2).max(1 << 20),
        }
    }

    fn devices(&self, root: &Path) -> io::Result<()> {
        let dev = root.join("dev");
        let mut names: Vec<String> = DEVICES.iter().map(|name| (*name).to_owned()).collect();
        if self.resources.gpus > 0 {
            let all = fs::read_dir("/dev")?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
            names.extend(all.filter(|name| name.starts_with("nvidia")));
        }
        for name in names {
            let source = Path::new("/dev").join(&name);
            // GPUs may come with a folder of capabilities.
            let tree = Tree::clone(&source, libc::MOUNT_ATTR_NOSUID)?;
            if source.is_dir() { tree.attach_folder(&dev.join(name))? } else { tree.attach_file(&dev.join(name))? }
        }
        for (name, target) in
            [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2"), ("ptmx", "pts/ptmx")]
        {
            symlink(target, dev.join(name))?;
        }
        fs::create_dir(dev.join("pts"))?;
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
        Ok(rustix::mount::mount("devpts", dev.join("pts"), "devpts", flags, c"newinstance,ptmxmode=0666,mode=620")?)
    }
}

struct Sources {
    job: Tree,
    image: Option<Tree>,
}

/// A copy of some mounts that is attached nowhere yet.
struct Tree(OwnedFd);

impl Tree {
    fn clone(path: &Path, attributes: u64) -> io::Result<Self> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let tree = Self(rustix::mount::open_tree(CWD, path, flags)?);
        sys::set_mount_attributes(tree.0.as_fd(), attributes)?;
        Ok(tree)
    }

    fn attach_folder(self, target: &Path) -> io::Result<()> {
        fs::create_dir(target)?;
        self.attach(target)
    }

    fn attach_file(self, target: &Path) -> io::Result<()> {
        fs::write(target, "")?;
        self.attach(target)
    }

    fn attach(self, target: &Path) -> io::Result<()> {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        Ok(rustix::mount::move_mount(self.0.as_fd(), "", CWD, target, flags)?)
    }
}

fn memory_files(target: &Path, options: &str) -> io::Result<()> {
    let options = CString::new(options)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    Ok(rustix::mount::mount("tmpfs", target, "tmpfs", flags, options.as_c_str())?)
}

fn proc(root: &Path) -> io::Result<()> {
    let proc = root.join("proc");
    fs::create_dir(&proc)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("proc", &proc, "proc", flags, None)?;
    for name in PROC_READ_ONLY {
        let path = proc.join(name);
        if path.exists() {
            Tree::clone(&path, READ_ONLY | libc::MOUNT_ATTR_NOEXEC)?.attach(&path)?;
        }
    }
    for name in PROC_HIDDEN {
        let path = proc.join(name);
        if path.exists() {
            Tree::clone(Path::new("/dev/null"), libc::MOUNT_ATTR_NOSUID)?.attach(&path)?;
        }
    }
    Ok(())
}

/// Covers a folder of the host that is visible in the new root.
fn hide(root: &Path, path: &Path) -> io::Result<()> {
    let Ok(relative) = path.strip_prefix("/") else { return Ok(()) };
    let visible =
        relative.components().next().is_some_and(|first| PROGRAMS.iter().any(|name| first.as_os_str() == *name));
    let target = root.join(relative);
    if visible && target.is_dir() { memory_files(&target, "size=4k,mode=000") } else { Ok(()) }
}

/// Makes `root` the root, lets go of the old one, and closes the new one against changes.
fn pivot(root: &Path) -> io::Result<()> {
    std::env::set_current_dir(root)?;
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    Ok(rustix::mount::mount_remount("/", flags, c"")?)
}
