//! The log of a removed rank: one file that keeps both streams in the order in which they were written.
//!
//! A frame is one byte for the stream (0 standard output, 1 standard error), four bytes of length, big endian, and
//! the bytes.

use crate::engine::{LogPiece, LogSource};
use bytes::{BufMut, Bytes, BytesMut};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// The most bytes that one piece of a log holds, as [`LogPiece`] promises.
pub(super) const MOST_PIECE_BYTES: usize = 32 * 1024;

/// A piece as it stands in the file.
pub(super) fn frame(piece: &LogPiece) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + piece.bytes.len());
    frame.put_u8(match piece.source {
        LogSource::Stdout => 0,
        LogSource::Stderr => 1,
    });
    frame.put_u32(u32::try_from(piece.bytes.len()).unwrap_or(u32::MAX));
    frame.put_slice(&piece.bytes);
    frame.freeze()
}

/// Reads a saved log from its beginning.
pub(super) struct SavedLog {
    file: BufReader<File>,
}

impl SavedLog {
    /// Opens the file.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: BufReader::new(File::open(path)?) })
    }

    /// The next piece; `None` at the end.
    pub(super) fn next_piece(&mut self) -> io::Result<Option<LogPiece>> {
        let mut source = [0_u8; 1];
        if self.file.read(&mut source)? == 0 {
            return Ok(None);
        }
        let mut length = [0_u8; 4];
        self.file.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        let source = match source[0] {
            0 => LogSource::Stdout,
            1 => LogSource::Stderr,
            _ => return Err(damaged()),
        };
        if length > MOST_PIECE_BYTES {
            return Err(damaged());
        }
        let mut bytes = vec![0_u8; length];
        self.file.read_exact(&mut bytes)?;
        Ok(Some(LogPiece { source, bytes: Bytes::from(bytes) }))
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the saved log is damaged")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(source: LogSource, text: &'static [u8]) -> LogPiece {
        LogPiece { source, bytes: Bytes::from_static(text) }
    }

    #[test]
    fn what_is_written_is_read_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let pieces =
            [piece(LogSource::Stdout, b"a\n"), piece(LogSource::Stderr, b"\xff\x00"), piece(LogSource::Stdout, b"")];
        std::fs::write(&path, pieces.iter().flat_map(frame).collect::<Vec<u8>>()).unwrap();
        let mut log = SavedLog::open(&path).unwrap();
        for expected in pieces {
            assert_eq!(log.next_piece().unwrap(), Some(expected));
        }
        assert_eq!(log.next_piece().unwrap(), None);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_no_large_buffer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        for bytes in [&[7, 0, 0, 0, 1, 9][..], &[0, 255, 255, 255, 255], &[0, 0, 0], &[0, 0, 0, 0, 9, 1]] {
            std::fs::write(&path, bytes).unwrap();
            assert!(SavedLog::open(&path).unwrap().next_piece().is_err(), "{bytes:?}");
        }
    }
}
