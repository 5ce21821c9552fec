//! Where the journal is kept: a file that is always whole, and a spare one of which the next is made.
//!
//! New content overwrites the spare and is synced; then the two exchange their names, and the directory is synced. Both are
//! padded with blanks, which JSON does not mind, far beyond what they hold: so their blocks, and their places in the
//! directory, are there already when the disk is full. Where the file system cannot exchange names, the spare takes the
//! document's, and a new spare is made at once. A file system that never overwrites in place (btrfs, ZFS) needs room all the
//! same.

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub(super) const DOCUMENT: &str = "agent.json";
pub(super) const SPARE: &str = "agent.json.new";
/// The least length of each file: enough for the time limits of some hundred ranks twice over.
pub(super) const LEAST_BYTES: usize = 64 * 1024;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    document: PathBuf,
    spare: PathBuf,
    /// Whether the disk knows the present names. While it does not, a crash may bring back the file that is the spare now, so
    /// that must not be touched.
    settled: bool,
}

impl Files {
    /// The files of this directory. What an earlier agent renamed there may not be on the disk yet.
    pub(super) fn new(directory: &Path) -> Self {
        let (document, spare) = (directory.join(DOCUMENT), directory.join(SPARE));
        Self { directory: directory.to_path_buf(), document, spare, settled: false }
    }

    /// The file that is always whole, if it was ever written.
    pub(super) fn document(&self) -> &Path {
        &self.document
    }

    /// Sets room aside in both files; `content` is what the document holds, or should if it is not there yet.
    pub(super) fn make_ready(&mut self, content: &[u8]) -> io::Result<()> {
        self.settle()?;
        self.set_aside(content.len())?;
        if fs::metadata(&self.document).map_or(0, |metadata| length(&metadata)) < room_for(content.len()) {
            self.replace(content)?;
            self.set_aside(content.len())?;
        }
        Ok(())
    }

    /// Puts `content` in the document's place, durably. Needs no new room as long as it fits into the spare. After an error
    /// the document is the old one or the new one, and this may be repeated.
    pub(super) fn replace(&mut self, content: &[u8]) -> io::Result<()> {
        self.settle()?;
        let mut file = open(&self.spare)?;
        let mut bytes = content.to_vec();
        bytes.resize(content.len().max(length(&file.metadata()?)), b' ');
        file.write_all(&bytes)?;
        file.sync_all()?;
        self.settled = false;
        match renameat_with(CWD, &self.spare, CWD, &self.document, RenameFlags::EXCHANGE) {
            Ok(()) => {}
            // There is no document yet, or the file system cannot do it. After any other error it may have been done.
            Err(Errno::NOENT | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                fs::rename(&self.spare, &self.document)?
            }
            Err(error) => return Err(error.into()),
        }
        self.settle()
    }

    /// Sets room aside in the spare for a content of this length, before it is needed.
    pub(super) fn set_aside(&self, content_bytes: usize) -> io::Result<()> {
        let room = room_for(content_bytes);
        let present = fs::metadata(&self.spare).map_or(0, |metadata| length(&metadata));
        if present >= room {
            return Ok(());
        }
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.spare)?;
        file.write_all(&vec![b' '; room - present])?;
        file.sync_all()
    }

    fn settle(&mut self) -> io::Result<()> {
        if !self.settled {
            File::open(&self.directory)?.sync_all()?;
            self.settled = true;
        }
        Ok(())
    }
}

/// For writing over what is there.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

fn length(metadata: &fs::Metadata) -> usize {
    usize::try_from(metadata.len()).unwrap_or(usize::MAX)
}

/// Twice what is needed now, so that it grows while there is room.
fn room_for(content_bytes: usize) -> usize {
    content_bytes.saturating_mul(2).next_power_of_two().max(LEAST_BYTES)
}
