//! What the agent keeps over its own restarts: the newest term it obeyed and the time limits of its ranks.
//!
//! One small file, [replaced](files) as a whole, without new room on the disk. Changes that belong together cost one such
//! replacement. Everything else is found again by asking the engine.

mod files;
#[cfg(test)]
mod tests;

use files::Files;
use muster_domain::id::{RankKey, Term};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

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
    files: Files,
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
        let files = Files::new(directory);
        let path = files.document();
        let document: Document = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| JournalError::Corrupt { path: path.to_path_buf(), source })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Document::default(),
            Err(source) => return Err(failed("read", path)(source)),
        };
        let limits = document.limits.into_iter().map(|limit| (limit.key, limit.time_limit_ms)).collect();
        let mut journal = Self { files, last_term: document.last_term, limits, due: false, _lock: lock };
        let ready = journal.content().and_then(|content| journal.files.make_ready(&content));
        if let Err(error) = ready {
            // Ranks may run here, and a later write may find room.
            no_room(&error);
        }
        Ok(journal)
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
        let path = self.files.document().to_path_buf();
        let failed = |source| JournalError::Io { action: "write", path, source };
        let written = self.content().and_then(|content| self.files.replace(&content).map(|()| content.len()));
        let length = written.map_err(failed)?;
        self.due = false;
        if let Err(error) = self.files.set_aside(length) {
            no_room(&error);
        }
        Ok(())
    }

    fn content(&self) -> io::Result<Vec<u8>> {
        let limits = self.limits.iter().map(|(key, limit)| Limit { key: key.clone(), time_limit_ms: *limit }).collect();
        Ok(serde_json::to_vec(&Document { last_term: self.last_term, limits })?)
    }
}

fn no_room(error: &io::Error) {
    tracing::warn!(
        %error,
        "no room can be set aside for the journal: should the disk be full at the next change of leader, this node falls \
         silent; make room in state_dir"
    );
}
