//! Which boot of the machine this is. Processes and containers do not outlive one.

use std::{fs, io};

/// The kernel's random id of this boot.
pub(crate) fn id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
