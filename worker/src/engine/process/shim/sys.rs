//! The few system calls that have no safe wrapper.

use rustix::process::{Pid, Signal};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Which of the two processes this is after a fork.
pub(super) enum Forked {
    Parent(Pid),
    Child,
}

/// `fork`, the child in new namespaces (`CLONE_NEW*`).
///
/// The caller must be the only thread of its process: a child of a program with threads would find locks held for ever.
pub(super) fn fork_into(namespaces: libc::c_int) -> io::Result<Forked> {
    debug_assert_eq!(std::fs::read_dir("/proc/self/task").map(Iterator::count).unwrap_or(1), 1);
    let flags = libc::c_long::from(namespaces | libc::SIGCHLD);
    let pid = if namespaces == 0 {
        // SAFETY: no argument; with a single thread no lock can be held by another one.
        libc::c_long::from(unsafe { libc::fork() })
    } else {
        // SAFETY: without CLONE_VM and with a null stack this is fork; with a single thread no lock can be held by
        // another one, and all pointers are null and unused by these flags.
        unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, 0usize, 0usize, 0usize) }
    };
    match i32::try_from(pid) {
        Ok(0) => Ok(Forked::Child),
        // The kernel says -1 and nothing below it.
        Ok(pid @ 1..) => Pid::from_raw(pid).map(Forked::Parent).ok_or_else(io::Error::last_os_error),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets mount attributes (`MOUNT_ATTR_*`) on a tree of mounts and all below it.
pub(super) fn set_mount_attributes(tree: BorrowedFd<'_>, attributes: u64) -> io::Result<()> {
    #[repr(C)]
    struct MountAttributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    let wanted = MountAttributes { set: attributes, clear: 0, propagation: 0, user_namespace: 0 };
    // SAFETY: the descriptor is open, the path is a valid empty C string, and the kernel only reads the structure, whose
    // size is given and whose layout is the kernel's `struct mount_attr`.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            ptr::from_ref(&wanted),
            size_of::<MountAttributes>(),
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets every descriptor but the first three close when a program is executed.
pub(super) fn close_descriptors_on_exec() -> io::Result<()> {
    // SAFETY: integers only; the descriptors stay open until the program is replaced.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets a signal do nothing.
pub(super) fn ignore(signal: Signal) {
    // SAFETY: SIG_IGN installs no code.
    unsafe { libc::signal(signal.as_raw(), libc::SIG_IGN) };
}

/// Gives every signal its default effect and blocks none, as a new program expects.
pub(super) fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL installs no code; numbers that cannot be changed are refused without effect.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let none = SignalSet::of(&[]);
    // SAFETY: the set is initialised, and the old mask is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &none.0, ptr::null_mut()) };
}

/// Some signals.
pub(super) struct SignalSet(libc::sigset_t);

impl SignalSet {
    pub(super) fn of(signals: &[Signal]) -> Self {
        // SAFETY: a zeroed set is a valid value of this plain structure, and sigemptyset initialises it.
        let mut set = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to the set above.
        unsafe { libc::sigemptyset(&raw mut set) };
        for signal in signals {
            // SAFETY: as above; the number is a valid signal's.
            unsafe { libc::sigaddset(&raw mut set, signal.as_raw()) };
        }
        Self(set)
    }

    /// Keeps them pending until [`SignalSet::wait`] takes them.
    pub(super) fn block(&self) {
        // SAFETY: the set is initialised, and the old mask is not asked for.
        unsafe { libc::sigprocmask(libc::SIG_BLOCK, &self.0, ptr::null_mut()) };
    }

    /// Takes the next one that is pending, or waits for it.
    pub(super) fn wait(&self) -> Option<Signal> {
        // SAFETY: the set is initialised, and no details are asked for.
        Signal::from_named_raw(unsafe { libc::sigwaitinfo(&self.0, ptr::null_mut()) })
    }
}
