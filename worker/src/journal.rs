//! What the agent keeps over its own restarts: the newest term it obeyed and the time limits of its ranks.
//!
//! One small file, replaced as a whole: written beside, synced, renamed, and the directory synced. Changes that belong
//! together cost one such replacement. Everything else is found again by asking the engine.

use muster_domain::id::{RankKey, Term};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const DOCUMENT: &str = "agent.json";
const DOCUMENT_NEW: &str = "agent.json.new";
const LOCK: &str = "agent.lock";

/// Why the state directory cannot be used. Messages are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another agent holds the lock.
    #[error(
        "state_dir {} is in use by another muster-worker; stop that one first, or give this one a state_dir of its own",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The directory or a file in it cannot be read or written.
    #[error("cannot {action} {}: state_dir must be writable for the worker and have space", path.display())]
    Io {
        /// `create`, `lock`, `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what this program wrote.
    #[error(
        "cannot understand {}: move it away to go on without it; running ranks then lose their time limits until the \
         coordinator renews them",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    last_term: Term,
    /// In the order of keys, so that the same content is the same bytes.
    limits: Vec<Limit>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Limit {
    #[serde(flatten)]
    key: RankKey,
    time_limit_ms: u64,
}

/// The agent's durable memory. Dropping it releases the state directory.
#[derive(Debug)]
pub(crate) struct Journal {
    directory: PathBuf,
    last_term: Term,
    limits: BTreeMap<RankKey, u64>,
    /// Something changed that a later effect depends on.
    due: bool,
    /// Held as long as the journal lives; the kernel releases it with the process, however that ends.
    _lock: File,
}

impl Journal {
    /// Takes the directory for this agent, makes it if need be, and reads what an earlier agent left.
    ///
    /// # Errors
    /// The directory is in use, cannot be written, or holds a journal that makes no sense.
    pub(crate) fn open(directory: &Path) -> Result<Self, JournalError> {
        let failed = |action, path: &Path| {
            let path = path.to_path_buf();
            move |source| JournalError::Io { action, path, source }
        };
        // Ranks of other users pass through to folders of their own, and may list nothing.
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o711).create(directory).map_err(failed("create", directory))?;
        let lock_path = directory.join(LOCK);
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).mode(0o600).open(&lock_path);
        let lock = lock.map_err(failed("lock", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(JournalError::InUse { path: directory.to_path_buf() });
            }
            Err(fs::TryLockError::Error(source)) => return Err(failed("lock", &lock_path)(source)),
        }
        let path = directory.join(DOCUMENT);
        let document: Document = match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| JournalError::Corrupt { path: path.clone(), source })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Document::default(),
            Err(source) => return Err(failed("read", &path)(source)),
        };
        let limits = document.limits.into_iter().map(|limit| (limit.key, limit.time_limit_ms)).collect();
        Ok(Self { directory: directory.to_path_buf(), last_term: document.last_term, limits, due: false, _lock: lock })
    }

    /// The newest term that was saved; 0 if there is none.
    #[must_use]
    pub(crate) fn last_term(&self) -> Term {
        self.last_term
    }

    /// The time limit of a rank, if one was saved.
    #[must_use]
    pub(crate) fn time_limit_ms(&self, key: &RankKey) -> Option<u64> {
        self.limits.get(key).copied()
    }

    /// Remembers a term; durable after the next [`Self::commit`].
    pub(crate) fn set_term(&mut self, term: Term) {
        self.due |= self.last_term != term;
        self.last_term = term;
    }

    /// Remembers a rank's time limit; durable after the next [`Self::commit`].
    pub(crate) fn set_time_limit(&mut self, key: RankKey, time_limit_ms: Option<u64>) {
        let before = match time_limit_ms {
            Some(limit_ms) => self.limits.insert(key, limit_ms),
            None => self.limits.remove(&key),
        };
        self.due |= before != time_limit_ms;
    }

    /// Forgets a rank that is gone. Nothing depends on it: it is written along with whatever comes next.
    pub(crate) fn forget(&mut self, key: &RankKey) {
        self.limits.remove(key);
    }

    /// Forgets the limits of all ranks that are not among these.
    pub(crate) fn keep_only(&mut self, keep: impl Fn(&RankKey) -> bool) {
        self.limits.retain(|key, _| keep(key));
    }

    /// Whether a [`Self::commit`] would write.
    #[must_use]
    pub(crate) fn is_due(&self) -> bool {
        self.due
    }

    /// Makes every change durable. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// The disk refuses; what was durable before still is, and the commit may be repeated.
    pub(crate) fn commit(&mut self) -> Result<(), JournalError> {
        if !self.due {
            return Ok(());
        }
        let path = self.directory.join(DOCUMENT);
        self.replace(&path).map_err(|source| JournalError::Io { action: "write", path, source })?;
        self.due = false;
        Ok(())
    }

    fn replace(&self, path: &Path) -> io::Result<()> {
        let limits = self.limits.iter().map(|(key, limit)| Limit { key: key.clone(), time_limit_ms: *limit }).collect();
        let bytes = serde_json::to_vec(&Document { last_term: self.last_term, limits })?;
        let new = self.directory.join(DOCUMENT_NEW);
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(&self.directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_domain::id::JobId;

    fn key(rank: u32) -> RankKey {
        RankKey { job: JobId::new("7").unwrap(), rank, attempt: 1 }
    }

    #[test]
    fn it_is_kept_over_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b");
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!(journal.last_term(), 0);
        journal.set_term(41);
        journal.set_time_limit(key(0), Some(1000));
        journal.set_time_limit(key(1), Some(2000));
        journal.commit().unwrap();
        journal.forget(&key(1));
        assert!(!journal.is_due(), "forgetting waits for company");
        journal.set_time_limit(key(0), Some(3000));
        journal.commit().unwrap();
        drop(journal);
        let journal = Journal::open(&path).unwrap();
        assert_eq!(journal.last_term(), 41);
        assert_eq!(journal.time_limit_ms(&key(0)), Some(3000));
        assert_eq!(journal.time_limit_ms(&key(1)), None);
    }

    #[test]
    fn two_agents_never_share_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let first = Journal::open(directory.path()).unwrap();
        let error = Journal::open(directory.path()).unwrap_err();
        assert!(matches!(error, JournalError::InUse { .. }));
        assert!(error.to_string().contains("another muster-worker"), "{error}");
        drop(first);
        Journal::open(directory.path()).unwrap();
    }

    #[test]
    fn a_crash_in_the_middle_of_a_write_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        journal.set_term(3);
        journal.commit().unwrap();
        drop(journal);
        fs::write(directory.path().join(DOCUMENT_NEW), b"{\"last_te").unwrap();
        assert_eq!(Journal::open(directory.path()).unwrap().last_term(), 3);
    }

    #[test]
    fn a_journal_that_makes_no_sense_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(DOCUMENT), b"nonsense").unwrap();
        let error = Journal::open(directory.path()).unwrap_err();
        assert!(matches!(error, JournalError::Corrupt { .. }), "{error}");
    }
}
