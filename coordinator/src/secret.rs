//! Comparing what is presented with what is secret.

use muster_runtime::secret::Secret;

/// Whether `offered` is this secret. Takes the same time wherever the two differ.
#[must_use]
pub fn same(secret: &Secret, offered: &[u8]) -> bool {
    let own = secret.reveal().as_bytes();
    if own.len() != offered.len() {
        return false;
    }
    let differing = own.iter().zip(offered).fold(0_u8, |bits, (a, b)| std::hint::black_box(bits | (a ^ b)));
    differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_secret_is_the_secret() {
        let secret = Secret::new("abc");
        assert!(same(&secret, b"abc"));
        for other in [&b"abd"[..], b"bbc", b"ab", b"abcd", b""] {
            assert!(!same(&secret, other));
        }
    }
}
