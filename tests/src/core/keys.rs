//! The RSA key pair and the refresh token that Core keeps for one provider (protocol 2).

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const PUBLIC_KEY_FILE: &str = "provider-public-key.txt";
const PRIVATE_KEY_FILE: &str = "core-private-key.pk8";
const REFRESH_TOKEN_FILE: &str = "refresh-token.txt";

/// Key pair and refresh token of one provider. Core keeps the private half and signs the tokens of both directions with it.
pub struct ProviderKeys {
    pair: KeyPair,
    refresh_token: String,
}

impl ProviderKeys {
    /// Makes a new 2048-bit key pair and a new refresh token.
    pub fn generate() -> anyhow::Result<Self> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| anyhow!("RSA key pair could not be generated"))?;
        Ok(Self { pair, refresh_token: uuid::Uuid::new_v4().to_string() })
    }

    /// Reads keys and token from `directory`, or makes new ones and writes them there when one of the three files is missing.
    pub fn load_or_create(directory: &Path) -> anyhow::Result<Self> {
        let files = Files::new(directory);
        if files.all_exist() {
            return files.read();
        }
        let keys = Self::generate()?;
        keys.write(directory)?;
        Ok(keys)
    }

    /// Writes the public key (base64 of the DER SubjectPublicKeyInfo), the refresh token (mode 0400) and the private key (0400).
    pub fn write(&self, directory: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("create state directory {}", directory.display()))?;
        let files = Files::new(directory);
        let private: Pkcs8V1Der<'_> = self.pair.as_der().map_err(|_| anyhow!("private key could not be encoded"))?;
        replace(&files.private, private.as_ref(), 0o400)?;
        replace(&files.refresh, self.refresh_token.as_bytes(), 0o400)?;
        replace(&files.public, self.public_key_base64()?.as_bytes(), 0o644)
    }

    /// The public key as the provider is configured with it: base64 of the DER SubjectPublicKeyInfo, one line.
    pub fn public_key_base64(&self) -> anyhow::Result<String> {
        Ok(STANDARD.encode(self.public_key_der()?))
    }

    /// The public key as DER SubjectPublicKeyInfo.
    pub fn public_key_der(&self) -> anyhow::Result<Vec<u8>> {
        let der: PublicKeyX509Der<'_> =
            self.pair.public_key().as_der().map_err(|_| anyhow!("public key could not be encoded"))?;
        Ok(der.as_ref().to_vec())
    }

    /// The opaque refresh token; never expires and is not rotated by refreshing (protocol 2.2).
    pub fn refresh_token(&self) -> &str {
        &self.refresh_token
    }

    pub(super) fn sign_sha256(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.sign(message, &RSA_PKCS1_SHA256)
    }

    pub(super) fn sign_sha384(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.sign(message, &RSA_PKCS1_SHA384)
    }

    fn sign(
        &self,
        message: &[u8],
        encoding: &'static dyn aws_lc_rs::signature::RsaEncoding,
    ) -> anyhow::Result<Vec<u8>> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(encoding, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| anyhow!("token could not be signed"))?;
        Ok(signature)
    }

    pub(super) fn verifies_sha256(&self, message: &[u8], signature: &[u8]) -> bool {
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.pair.public_key().as_ref());
        public.verify(message, signature).is_ok()
    }
}

struct Files {
    public: PathBuf,
    private: PathBuf,
    refresh: PathBuf,
}

impl Files {
    fn new(directory: &Path) -> Self {
        Self {
            public: directory.join(PUBLIC_KEY_FILE),
            private: directory.join(PRIVATE_KEY_FILE),
            refresh: directory.join(REFRESH_TOKEN_FILE),
        }
    }

    fn all_exist(&self) -> bool {
        [&self.public, &self.private, &self.refresh].into_iter().all(|file| file.is_file())
    }

    fn read(&self) -> anyhow::Result<ProviderKeys> {
        let private = std::fs::read(&self.private).with_context(|| format!("read {}", self.private.display()))?;
        let pair = KeyPair::from_pkcs8(&private).map_err(|error| {
            anyhow!("{} holds no RSA key in PKCS#8 ({error}): remove it to make new keys", self.private.display())
        })?;
        let refresh =
            std::fs::read_to_string(&self.refresh).with_context(|| format!("read {}", self.refresh.display()))?;
        Ok(ProviderKeys { pair, refresh_token: refresh.trim().to_owned() })
    }
}

/// Replaces a file in one step, so that a reader sees the old or the new content and the mode is right from the first byte.
fn replace(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let attempt = || -> std::io::Result<()> {
        if temporary.exists() {
            std::fs::remove_file(&temporary)?;
        }
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    attempt().with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_of_a_directory_are_reused() {
        let directory = tempfile::tempdir().unwrap();
        let first = ProviderKeys::load_or_create(directory.path()).unwrap();
        let second = ProviderKeys::load_or_create(directory.path()).unwrap();
        assert_eq!(first.public_key_der().unwrap(), second.public_key_der().unwrap());
        assert_eq!(first.refresh_token(), second.refresh_token());
        let signature = first.sign_sha256(b"message").unwrap();
        assert!(second.verifies_sha256(b"message", &signature));
        assert!(!second.verifies_sha256(b"massage", &signature));
        let mode = std::fs::metadata(directory.path().join(REFRESH_TOKEN_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o400);
        let public = std::fs::read_to_string(directory.path().join(PUBLIC_KEY_FILE)).unwrap();
        assert_eq!(public, first.public_key_base64().unwrap());
    }
}
