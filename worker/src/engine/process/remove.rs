//! Saving a rank's logs and taking its folder away.

use super::end::Standing;
use super::record::{Description, RankFolder, STDERR_LOG, STDOUT_LOG};
use super::{Inner, blocking, node_fault};
use crate::engine::EngineError;
use muster_domain::id::RankKey;
use rustix::fs::{AtFlags, Mode, OFlags};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How long the kernel may take to let go of a control group.
const GROUP_PATIENCE: Duration = Duration::from_secs(2);

/// When old logs were last swept.
#[derive(Debug, Default)]
pub(super) struct Sweep(Mutex<Option<Instant>>);

impl Sweep {
    fn is_due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= SWEEP_EVERY);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

impl Inner {
    pub(super) async fn remove(self: Arc<Self>, key: RankKey) -> Result<(), EngineError> {
        let _lock = self.lock(&key).await;
        self.kill_locked(&key).await?;
        let standing = self.standing_of(&key).await?;
        let (inner, rank) = (Arc::clone(&self), key.clone());
        let failed = |error| node_fault("the rank cannot be removed", error);
        blocking(move || inner.discard_rank(&rank, standing).map_err(failed)).await?;
        let give_up = tokio::time::Instant::now() + GROUP_PATIENCE;
        while let Err(error) = self.cgroup(&key).remove() {
            if tokio::time::Instant::now() >= give_up {
                return Err(failed(error));
            }
            // The kernel lets go of the last process a moment after it was reaped, and tells nobody.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.addresses.release(&key);
        if self.sweep.is_due() {
            blocking(move || {
                self.sweep_logs();
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    fn discard_rank(&self, key: &RankKey, standing: Standing) -> io::Result<()> {
        let folder = self.folder(key);
        match standing {
            Standing::Missing => Ok(()),
            Standing::Prepared(_) => self.discard(key, &folder),
            Standing::Ended(description, _) => {
                self.save_logs(&folder, &description)?;
                self.discard(key, &folder)
            }
            Standing::Running(..) => Err(io::Error::other("it still runs after it was killed")),
        }
    }

    /// Where a log is after its rank was removed.
    pub(super) fn kept_log(&self, key: &RankKey, name: &str) -> PathBuf {
        self.logs_dir.join(format!("{key}.{name}"))
    }

    fn save_logs(&self, folder: &RankFolder, description: &Description) -> io::Result<()> {
        let key = &description.assignment.key;
        for (name, stem) in [(STDOUT_LOG, "stdout"), (STDERR_LOG, "stderr")] {
            let source = folder.path.join(name);
            let log = match File::open(&source) {
                Ok(log) => log,
                // Never started, or saved by an earlier attempt at removing.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let saved = match key.rank {
                0 => format!("{stem}.txt"),
                rank => format!("{stem}-{rank}.txt"),
            };
            if let Err(error) = copy_into(&description.job_dir, &saved, log) {
                // The user's folder may be full or gone. That must not keep the rank's room for ever.
                tracing::warn!(rank = %key, file = saved, %error, "a rank's log could not be saved beside the job's output");
            }
            fs::rename(source, self.kept_log(key, name))?;
        }
        Ok(())
    }

    /// Takes the folder out of sight at once, then away.
    fn discard(&self, key: &RankKey, folder: &RankFolder) -> io::Result<()> {
        let gone = self.ranks_dir.join(format!(".gone-{key}"));
        match fs::remove_dir_all(&gone) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(&folder.path, &gone)?;
        fs::remove_dir_all(&gone)
    }

    /// Folders that an earlier agent was making or taking away when it died.
    pub(super) fn sweep_leftovers(&self) {
        for path in entries(&self.ranks_dir) {
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if hidden && let Err(error) = fs::remove_dir_all(&path) {
                tracing::warn!(folder = %path.display(), %error, "a leftover folder cannot be removed");
            }
        }
        self.sweep_logs();
    }

    /// Logs whose retention is over.
    fn sweep_logs(&self) {
        let now_ms = muster_runtime::clock::now().wall_ms;
        for path in entries(&self.logs_dir) {
            let modified = fs::metadata(&path).and_then(|found| found.modified());
            let since_epoch = modified.ok().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
            // A clock that was set back makes a log young, and it is kept longer.
            let age = since_epoch.and_then(|at| Duration::from_millis(now_ms).checked_sub(at));
            if age.is_some_and(|age| age > self.settings.log_retention)
                && let Err(error) = fs::remove_file(&path)
            {
                tracing::warn!(folder = %path.display(), %error, "old logs cannot be removed");
            }
        }
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Writes a new file into a folder that the job's user controls: nothing there is followed or written through.
fn copy_into(folder: &Path, name: &str, mut log: File) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = File::from(rustix::fs::open(folder, flags, Mode::empty())?);
    match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut copy = File::from(rustix::fs::openat(&folder, name, flags, Mode::from_raw_mode(0o644))?);
    // It belongs to whom the folder belongs to.
    let owner = folder.metadata()?;
    if owner.uid() != copy.metadata()?.uid() {
        std::os::unix::fs::fchown(&copy, Some(owner.uid()), Some(owner.gid()))?;
    }
    io::copy(&mut log, &mut copy).map(drop)
}
