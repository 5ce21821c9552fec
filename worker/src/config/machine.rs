//! What the machine has.

use std::path::Path;

/// Cores, memory and GPUs that this process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Cores, within the process's own limits.
    pub cores: u32,
    /// Bytes of memory, within the process's own limits.
    pub memory_bytes: u64,
    /// NVIDIA GPUs with a device file.
    pub gpus: u32,
}

impl Machine {
    /// Looks at this machine.
    #[must_use]
    pub fn look() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
        // Nothing found is nothing to give; the configuration then asks for a figure.
        let memory_bytes = sysinfo::System::new().map_or(0, |mut system| {
            system.refresh_memory();
            let total = system.total_memory();
            system.cgroup_limits().map_or(total, |limits| limits.total_memory.min(total))
        });
        Self { cores, memory_bytes, gpus: gpus(Path::new("/dev")) }
    }
}

/// Counts `nvidia0`, `nvidia1`, …, and not `nvidiactl` or `nvidia-uvm`.
fn gpus(devices: &Path) -> u32 {
    let Ok(entries) = std::fs::read_dir(devices) else { return 0 };
    let is_gpu = |name: &str| {
        let number = name.strip_prefix("nvidia").unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    let count = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_gpu)).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The machine's own name; may be no usable node name.
pub(super) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_counted_by_their_device_files() {
        let devices = tempfile::tempdir().unwrap();
        for name in ["nvidia0", "nvidia1", "nvidia12", "nvidiactl", "nvidia-uvm", "nvidia", "null"] {
            std::fs::write(devices.path().join(name), "").unwrap();
        }
        assert_eq!(gpus(devices.path()), 3);
        assert_eq!(gpus(Path::new("/nonexistent")), 0);
    }

    #[test]
    fn this_machine_has_something() {
        let machine = Machine::look();
        assert!(machine.cores >= 1 && machine.memory_bytes > 0);
    }
}
