//! Which machine this is, as far as addresses go.

/// Names the running kernel and the network namespace: two processes with the same name see the same listeners, also on
/// loopback addresses. Empty if it cannot be told; then nothing is the same.
pub(super) fn name() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let network = std::fs::read_link("/proc/self/ns/net").unwrap_or_default();
    if boot.is_empty() || network.as_os_str().is_empty() {
        return String::new();
    }
    format!("{} {}", boot.trim(), network.display())
}

/// Whether two names are of one machine.
pub(super) fn same(one: &str, other: &str) -> bool {
    !one.is_empty() && one == other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_the_same_as_itself_and_an_unknown_one_as_none() {
        assert!(same(&name(), &name()), "{:?}", name());
        assert!(!same("", ""));
        assert!(!same("a", "b"));
    }
}
