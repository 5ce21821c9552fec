//! Text that must not leak: tokens, passwords, keys.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A secret longer than this is some other file.
const LARGEST_BYTES: u64 = 64 << 10;

/// Text that neither `Debug` nor a log shows. It has no `Display` and no `Serialize`; [`Secret::reveal`] marks each use.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Why a file gives no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Others may read it.
    #[error("{0} may be read by everyone on this machine (mode {mode:04o}); run: chmod 0400 {0}", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds no text, or far too much.
    #[error("{} holds no secret: expected one line of text, at most 64 KiB", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
    },
}

impl SecretError {
    /// Whether it may go well later although nobody mends anything: the machine was short of something, or a file system slow.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        use std::io::ErrorKind::{InvalidData, IsADirectory, NotADirectory, NotFound, PermissionDenied};
        let Self::Unreadable { error, .. } = self else { return false };
        !matches!(error.kind(), InvalidData | IsADirectory | NotADirectory | NotFound | PermissionDenied)
    }
}

impl Secret {
    /// Takes `text` as secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Reads a file, without white space at its ends.
    ///
    /// # Errors
    /// The file cannot be read, is readable by everyone, or holds no text.
    pub fn from_file(path: &Path) -> Result<Self, SecretError> {
        let unreadable = |error| SecretError::Unreadable { path: path.to_owned(), error };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        // Of the open file, so that the one looked at is the one read.
        let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
        if mode & 0o007 != 0 {
            return Err(SecretError::Exposed { path: path.to_owned(), mode });
        }
        let mut bytes = Vec::new();
        file.take(LARGEST_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        let fits = bytes.len() as u64 <= LARGEST_BYTES;
        match String::from_utf8(bytes).ok().map(|text| text.trim().to_owned()) {
            Some(text) if fits && !text.is_empty() => Ok(Self(text)),
            _ => Err(SecretError::Unusable { path: path.to_owned() }),
        }
    }

    /// The text itself: for the wire, never for a message.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(content: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn a_private_file_is_read_and_trimmed() {
        let secret = Secret::from_file(file(b" hunter2\n", 0o440).path()).unwrap();
        assert_eq!(secret.reveal(), "hunter2");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }

    #[test]
    fn a_missing_file_is_to_be_mended_and_a_machine_that_is_short_of_something_is_not() {
        assert!(!Secret::from_file(std::path::Path::new("/no/such/file")).unwrap_err().may_pass());
        let unreadable =
            |error: rustix::io::Errno| SecretError::Unreadable { path: PathBuf::new(), error: error.into() };
        assert!(unreadable(rustix::io::Errno::MFILE).may_pass());
        assert!(!unreadable(rustix::io::Errno::ACCESS).may_pass());
        assert!(!SecretError::Exposed { path: PathBuf::new(), mode: 0o644 }.may_pass());
    }

    #[test]
    fn an_exposed_file_is_refused_with_what_to_do() {
        let file = file(b"hunter2", 0o644);
        let error = Secret::from_file(file.path()).unwrap_err().to_string();
        assert!(error.contains("(mode 0644); run: chmod 0400 "), "{error}");
    }

    #[test]
    fn an_empty_missing_or_huge_file_is_refused() {
        assert!(matches!(Secret::from_file(file(b"\n", 0o400).path()), Err(SecretError::Unusable { .. })));
        assert!(matches!(Secret::from_file(Path::new("/nonexistent/x")), Err(SecretError::Unreadable { .. })));
        let huge = vec![b'x'; 70_000];
        assert!(matches!(Secret::from_file(file(&huge, 0o400).path()), Err(SecretError::Unusable { .. })));
    }
}
