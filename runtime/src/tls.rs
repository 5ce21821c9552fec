//! The one provider of cryptography.

/// Makes aws-lc-rs the provider of every TLS connection of this process. Call it first in `main`; more calls do nothing.
/// Without it rustls panics at the first connection, since it would have to guess.
pub fn install_provider() {
    // `Err` means that one is installed already, and there is only one in the dependency tree.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    #[test]
    fn twice_is_fine() {
        super::install_provider();
        super::install_provider();
        assert!(rustls::crypto::CryptoProvider::get_default().is_some());
    }
}
