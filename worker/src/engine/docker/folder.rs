//! The folders behind a rank's mounts, and the log beside the job's output. Blocking: call from a blocking thread.

use super::saved::SavedLog;
use super::settings::User;
use crate::engine::LogSource;
use muster_domain::id::{JobId, Rank, RankKey};
use muster_domain::peers::PeerFiles;
use muster_domain::time::Now;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

const LOCALHOST: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// Where everything is.
#[derive(Clone, Debug)]
pub(super) struct Folders {
    state_dir: PathBuf,
    work_root: PathBuf,
}

impl Folders {
    /// Makes both roots and their paths absolute, because the engine knows no working directory of ours.
    pub(super) fn new(state_dir: &Path, work_root: &Path) -> io::Result<Self> {
        let folders = Self { state_dir: std::path::absolute(state_dir)?, work_root: std::path::absolute(work_root)? };
        fs::create_dir_all(folders.state_dir.join("ranks"))?;
        fs::create_dir_all(folders.state_dir.join("logs"))?;
        fs::create_dir_all(&folders.work_root)?;
        Ok(folders)
    }

    fn rank(&self, key: &RankKey) -> PathBuf {
        self.state_dir.join("ranks").join(key.to_string())
    }

    /// What becomes `/etc/ucloud`.
    pub(super) fn peer_files(&self, key: &RankKey) -> PathBuf {
        self.rank(key).join("etc-ucloud")
    }

    /// What becomes `/etc/hosts`.
    pub(super) fn hosts(&self, key: &RankKey) -> PathBuf {
        self.rank(key).join("hosts")
    }

    /// Where the time stamp of the rank's first output is written down.
    pub(super) fn log_begin(&self, key: &RankKey) -> PathBuf {
        self.rank(key).join("log-begin")
    }

    /// What becomes `/work`.
    pub(super) fn work(&self, job: &JobId) -> PathBuf {
        self.work_root.join(job.as_str())
    }

    /// The log of a rank that was removed.
    pub(super) fn saved_log(&self, key: &RankKey) -> PathBuf {
        self.state_dir.join("logs").join(format!("{key}.log"))
    }

    /// Makes the rank's folders, still empty, and the job's, which is given to `user`.
    pub(super) fn prepare(&self, key: &RankKey, user: User) -> io::Result<()> {
        fs::create_dir_all(self.peer_files(key))?;
        fs::set_permissions(self.peer_files(key), fs::Permissions::from_mode(0o755))?;
        write_readable(&self.hosts(key), LOCALHOST)?;
        match fs::create_dir(self.work(&key.job)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let work = open_folder(&self.work(&key.job))?;
        let owner = rustix::fs::fstat(&work)?;
        if (owner.st_uid, owner.st_gid) != (user.uid, user.gid) {
            give(&work, user)?;
        }
        Ok(())
    }

    /// Writes the peer files and the host table of a rank that is about to start.
    pub(super) fn fill(&self, key: &RankKey, files: &PeerFiles) -> io::Result<()> {
        for (name, text) in &files.files {
            if name.is_empty() || name.contains('/') || name.starts_with('.') {
                let message = format!("peer file {name:?} is not usable: expected a plain file name");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            write_readable(&self.peer_files(key).join(name), text)?;
        }
        let mut hosts = LOCALHOST.to_owned();
        for (address, host) in &files.hosts {
            hosts.push_str(&format!("{address}\t{host}\n"));
        }
        write_readable(&self.hosts(key), &hosts)
    }

    /// Forgets the rank's own folder. Fine if it is gone.
    pub(super) fn forget(&self, key: &RankKey) -> io::Result<()> {
        match fs::remove_dir_all(self.rank(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Copies the rank's saved log to the job's folder, as two files that belong to `user`.
    ///
    /// The folder is the user's, who may have put anything into it: nothing here follows a link (reliability C.2, 30).
    pub(super) fn export_log(&self, key: &RankKey, user: User) -> io::Result<()> {
        let work = open_folder(&self.work(&key.job))?;
        for source in [LogSource::Stdout, LogSource::Stderr] {
            let name = exported_name(source, key.rank);
            let unfinished = format!(".{name}.unfinished");
            match rustix::fs::unlinkat(&work, &unfinished, AtFlags::empty()) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&work, &unfinished, flags, Mode::from_raw_mode(0o644))?;
            give(&file, user)?;
            let mut writer = BufWriter::new(fs::File::from(file));
            let mut log = SavedLog::open(&self.saved_log(key))?;
            while let Some(piece) = log.next_piece()? {
                if piece.source == source {
                    writer.write_all(&piece.bytes)?;
                }
            }
            writer.flush()?;
            rustix::fs::renameat(&work, &unfinished, &work, &name)?;
        }
        Ok(())
    }

    /// Removes saved logs older than the retention, by the wall clock. Returns how many.
    pub(super) fn sweep_logs(&self, retention: Duration, now: Now) -> io::Result<usize> {
        let now = UNIX_EPOCH + Duration::from_millis(now.wall_ms);
        let mut removed = 0;
        for entry in fs::read_dir(self.state_dir.join("logs"))? {
            let entry = entry?;
            let age = now.duration_since(entry.metadata()?.modified()?).unwrap_or_default();
            if age > retention {
                fs::remove_file(entry.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// The name of a rank's log beside the job's output (protocol 11.4).
fn exported_name(source: LogSource, rank: Rank) -> String {
    let stream = match source {
        LogSource::Stdout => "stdout",
        LogSource::Stderr => "stderr",
    };
    if rank == 0 { format!("{stream}.txt") } else { format!("{stream}-{rank}.txt") }
}

fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

fn give(file: impl AsFd, user: User) -> io::Result<()> {
    let uid = rustix::fs::Uid::from_raw(user.uid);
    let gid = rustix::fs::Gid::from_raw(user.gid);
    Ok(rustix::fs::fchown(file, Some(uid), Some(gid))?)
}

/// Writes a file that any user inside the container can read, whatever our umask.
fn write_readable(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::LogPiece;
    use std::collections::BTreeMap;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn us() -> User {
        User { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
    }

    fn key(rank: u32) -> RankKey {
        RankKey { job: JobId::new("54112").unwrap(), rank, attempt: 1 }
    }

    fn folders() -> (tempfile::TempDir, Folders) {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::new(&root.path().join("state"), &root.path().join("work")).unwrap();
        (root, folders)
    }

    fn save(folders: &Folders, key: &RankKey, pieces: &[(LogSource, &'static str)]) {
        let mut file = fs::File::create(folders.saved_log(key)).unwrap();
        for (source, text) in pieces {
            let piece = LogPiece { source: *source, bytes: bytes::Bytes::from_static(text.as_bytes()) };
            file.write_all(&super::super::saved::frame(&piece)).unwrap();
        }
    }

    #[test]
    fn peer_files_are_written_for_every_user_and_forgotten() {
        let (_root, folders) = folders();
        folders.prepare(&key(1), us()).unwrap();
        folders.prepare(&key(1), us()).unwrap();
        let files = PeerFiles {
            files: BTreeMap::from([("rank.txt".to_owned(), "1\n".to_owned())]),
            hosts: vec![("10.213.7.2".into(), "j-54112-rank-0".into())],
        };
        folders.fill(&key(1), &files).unwrap();
        let rank = folders.peer_files(&key(1)).join("rank.txt");
        assert_eq!(fs::read_to_string(&rank).unwrap(), "1\n");
        assert_eq!(fs::metadata(&rank).unwrap().mode() & 0o777, 0o644);
        assert!(fs::read_to_string(folders.hosts(&key(1))).unwrap().ends_with("10.213.7.2\tj-54112-rank-0\n"));
        folders.forget(&key(1)).unwrap();
        folders.forget(&key(1)).unwrap();
        assert!(!folders.hosts(&key(1)).exists());
        assert!(folders.work(&key(1).job).exists());
    }

    #[test]
    fn a_peer_file_cannot_leave_its_folder() {
        let (_root, folders) = folders();
        folders.prepare(&key(0), us()).unwrap();
        for name in ["../x", "", ".", "a/b"] {
            let files = PeerFiles { files: BTreeMap::from([(name.to_owned(), String::new())]), hosts: Vec::new() };
            assert!(folders.fill(&key(0), &files).is_err(), "{name}");
        }
    }

    #[test]
    fn an_exported_log_replaces_a_link_and_does_not_follow_it() {
        let (root, folders) = folders();
        folders.prepare(&key(0), us()).unwrap();
        let victim = root.path().join("victim");
        fs::write(&victim, "untouched").unwrap();
        let work = folders.work(&key(0).job);
        symlink(&victim, work.join("stdout.txt")).unwrap();
        symlink(&victim, work.join(".stdout.txt.unfinished")).unwrap();
        save(
            &folders,
            &key(0),
            &[(LogSource::Stdout, "one\n"), (LogSource::Stderr, "bad\n"), (LogSource::Stdout, "two\n")],
        );
        folders.export_log(&key(0), us()).unwrap();
        folders.export_log(&key(0), us()).unwrap();
        assert_eq!(fs::read_to_string(victim).unwrap(), "untouched");
        assert_eq!(fs::read_to_string(work.join("stdout.txt")).unwrap(), "one\ntwo\n");
        assert_eq!(fs::read_to_string(work.join("stderr.txt")).unwrap(), "bad\n");
        save(&folders, &key(3), &[]);
        folders.export_log(&key(3), us()).unwrap();
        assert!(work.join("stdout-3.txt").exists() && work.join("stderr-3.txt").exists());
    }

    #[test]
    fn a_job_folder_that_is_a_link_is_refused() {
        let (root, folders) = folders();
        symlink(root.path(), folders.work(&key(0).job)).unwrap();
        assert!(folders.prepare(&key(0), us()).is_err());
    }

    #[test]
    fn old_logs_are_swept() {
        let (_root, folders) = folders();
        save(&folders, &key(0), &[]);
        let now = muster_runtime::clock::now();
        assert_eq!(folders.sweep_logs(Duration::from_secs(60), now).unwrap(), 0);
        let later = Now { wall_ms: now.wall_ms + 120_000, ..now };
        assert_eq!(folders.sweep_logs(Duration::from_secs(60), later).unwrap(), 1);
        assert!(!folders.saved_log(&key(0)).exists());
    }
}
