//! From a rank's pipe into its log, never slower than the rank.

use rustix::fd::OwnedFd;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Most of the end of an overflowing log that is kept: errors are told last.
const TAIL_BYTES: u64 = 64 << 10;
const CHUNK_BYTES: usize = 64 << 10;

/// One stream's log, bounded: its beginning, a marker, its end.
#[derive(Debug)]
pub(super) struct BoundedLog<W> {
    file: W,
    limit_bytes: u64,
    /// Bytes of the beginning that may still be written.
    room_bytes: u64,
    tail: VecDeque<u8>,
    tail_bytes: usize,
    dropped_bytes: u64,
    overflowing: bool,
}

impl BoundedLog<File> {
    pub(super) fn create(path: &Path, limit_bytes: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        Ok(Self::new(file, limit_bytes))
    }
}

impl<W: Write> BoundedLog<W> {
    fn new(file: W, limit_bytes: u64) -> Self {
        let tail_bytes = TAIL_BYTES.min(limit_bytes / 4);
        Self {
            file,
            limit_bytes,
            room_bytes: limit_bytes - tail_bytes,
            tail: VecDeque::new(),
            tail_bytes: usize::try_from(tail_bytes).unwrap_or(0),
            dropped_bytes: 0,
            overflowing: false,
        }
    }

    /// Takes what the rank wrote. What a full disk refuses counts as dropped: the rank goes on.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        let room = usize::try_from(self.room_bytes).unwrap_or(usize::MAX).min(bytes.len());
        let (head, rest) = bytes.split_at(room);
        if self.file.write_all(head).is_err() {
            self.dropped_bytes += head.len() as u64;
        }
        self.room_bytes -= head.len() as u64;
        if rest.is_empty() {
            return;
        }
        if !self.overflowing {
            self.overflowing = true;
            self.say(&format!("log limit of {} bytes reached, only the end will follow", self.limit_bytes));
        }
        self.tail.extend(rest);
        let surplus = self.tail.len().saturating_sub(self.tail_bytes);
        self.tail.drain(..surplus);
        self.dropped_bytes += surplus as u64;
    }

    /// The rank has ended: says how much is missing, then writes the end.
    pub(super) fn finish(&mut self) {
        if self.dropped_bytes > 0 {
            self.say(&format!("{} bytes dropped", self.dropped_bytes));
        }
        let (first, second) = self.tail.as_slices();
        // With a full disk the end of the log is lost as its middle was; the rank's own end must still be told.
        let _ = self.file.write_all(first).and_then(|()| self.file.write_all(second));
        self.tail.clear();
    }

    fn say(&mut self, what: &str) {
        // A full disk takes no marker either.
        let _ = self.file.write_all(format!("\n[... {what} ...]\n").as_bytes());
    }
}

/// One of the rank's streams and where it goes.
#[derive(Debug)]
pub(super) struct Pump {
    /// `None` once every writer is gone.
    pub(super) pipe: Option<File>,
    pub(super) log: BoundedLog<File>,
    buffer: Box<[u8]>,
}

impl Pump {
    /// `pipe` must not block.
    pub(super) fn new(pipe: OwnedFd, log: BoundedLog<File>) -> Self {
        Self { pipe: Some(pipe.into()), log, buffer: vec![0; CHUNK_BYTES].into_boxed_slice() }
    }

    /// Takes one chunk. Returns whether there may be more at once.
    pub(super) fn pump(&mut self) -> bool {
        let Some(pipe) = &mut self.pipe else { return false };
        match pipe.read(&mut self.buffer) {
            Ok(0) => self.pipe = None,
            Ok(count) => {
                self.log.take(&self.buffer[..count]);
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(_) => self.pipe = None,
        }
        false
    }

    /// Takes what is left after the last process of the rank has ended.
    pub(super) fn drain(&mut self) {
        while self.pump() {}
        self.log.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_within_its_limit_is_kept_as_it_is() {
        let mut log = BoundedLog::new(Vec::new(), 100);
        log.take(b"hello ");
        log.take(&[b'x'; 69]);
        log.finish();
        assert_eq!(log.file.len(), 75);
        assert!(!String::from_utf8(log.file).unwrap().contains("..."));
    }

    #[test]
    fn an_overflowing_log_keeps_beginning_and_end_and_says_what_is_missing() {
        let mut log = BoundedLog::new(Vec::new(), 100);
        log.take(&[b'a'; 70]);
        log.take(&[b'b'; 1000]);
        log.take(b"the end");
        log.finish();
        let text = String::from_utf8(log.file).unwrap();
        assert!(text.starts_with(&"a".repeat(70)), "{text}");
        assert!(text.contains("\n[... log limit of 100 bytes reached, only the end will follow ...]\n"), "{text}");
        assert!(text.contains("\n[... 977 bytes dropped ...]\n"), "{text}");
        assert!(text.ends_with("bbbthe end"), "{text}");
    }

    #[test]
    fn a_full_disk_drops_and_does_not_stop() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut log = BoundedLog::new(Full, 100);
        log.take(b"lost");
        log.finish();
        assert_eq!(log.dropped_bytes, 4);
    }
}
