//! A rank's log: from the engine while there is a container, from the saved file after it.

use super::Inner;
use super::call::{CallError, node_fault};
use super::label;
use super::observe::Phase;
use super::saved::{MOST_PIECE_BYTES, SavedLog, frame};
use crate::engine::{EngineError, LogPiece, LogSource};
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::query_parameters::LogsOptionsBuilder;
use bytes::{Buf, Bytes};
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt, TryStreamExt};
use muster_domain::id::RankKey;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Looks at a rank that waits for its start at least this often, should another process have started it.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Where the engine has dropped the beginning of a log. It does not say how much.
const DROPPED: &str = "[... the oldest bytes dropped ...]\n";

/// A stamp has 30 bytes, or 35 with a zone.
const MOST_STAMP_BYTES: usize = 40;

type Pieces = BoxStream<'static, Result<LogPiece, EngineError>>;

impl Inner {
    /// The log from its beginning, then live.
    pub(super) fn logs(self: &Arc<Self>, key: RankKey) -> Pieces {
        let inner = Arc::clone(self);
        stream::once(async move { inner.open_log(&key).await }).try_flatten().boxed()
    }

    async fn open_log(self: &Arc<Self>, key: &RankKey) -> Result<Pieces, EngineError> {
        loop {
            let starts = self.starts.notified();
            match self.find(key).await? {
                // An engine that is asked for the log of a container that never ran answers with its end.
                Some(container) if container.phase == Phase::Created => {
                    let _ = tokio::time::timeout(LOOK_AGAIN, starts).await;
                }
                Some(_) => return Ok(self.engine_log(key, true).boxed()),
                None => return saved_log(self.folders.saved_log(key)).await,
            }
        }
    }

    /// The engine's log. A beginning that is not the one remembered is marked.
    fn engine_log(
        &self,
        key: &RankKey,
        follow: bool,
    ) -> impl Stream<Item = Result<LogPiece, EngineError>> + Send + 'static {
        let begin = std::fs::read_to_string(self.folders.log_begin(key)).ok();
        self.stamped_log(key, follow).enumerate().flat_map(move |(number, output)| {
            let (stamp, mut pieces) = pieces(output);
            if number == 0 && begin.as_deref().is_some_and(|begin| !stamp.is_empty() && begin.as_bytes() != stamp) {
                pieces.insert(
                    0,
                    Ok(LogPiece { source: LogSource::Stdout, bytes: Bytes::from_static(DROPPED.as_bytes()) }),
                );
            }
            stream::iter(pieces)
        })
    }

    fn stamped_log(
        &self,
        key: &RankKey,
        follow: bool,
    ) -> impl Stream<Item = Result<LogOutput, Error>> + Send + 'static {
        let name = label::container_name(&self.settings.cluster, key);
        let options =
            LogsOptionsBuilder::new().follow(follow).stdout(true).stderr(true).timestamps(true).tail("all").build();
        self.docker.logs(&name, Some(options))
    }

    /// Writes down the time stamp of a rank's first output, by which a reader later knows whether the engine has
    /// dropped it. Never returns: runs beside the wait for the rank's end.
    pub(super) async fn remember_log_begin(&self, key: &RankKey) -> Infallible {
        let path = self.folders.log_begin(key);
        if !tokio::fs::try_exists(&path).await.unwrap_or(true) {
            let first = std::pin::pin!(self.stamped_log(key, true)).next().await;
            let stamp = first.map(|output| pieces(output).0).unwrap_or_default();
            if !stamp.is_empty()
                && let Err(error) = tokio::fs::write(&path, &stamp).await
            {
                tracing::debug!(%key, %error, "beginning of the log could not be remembered");
            }
        }
        std::future::pending().await
    }

    /// Saves the whole log of a container that has ended. Fine if it is saved already.
    pub(super) async fn save_log(&self, key: &RankKey) -> Result<(), EngineError> {
        let path = self.folders.saved_log(key);
        if tokio::fs::try_exists(&path).await.unwrap_or(false) {
            return Ok(());
        }
        let unfinished = path.with_extension("unfinished");
        let failed = |error: std::io::Error| {
            node_fault(format!("the rank's log could not be saved to {}: {error}; is the disk full?", path.display()))
        };
        let file = tokio::fs::File::create(&unfinished).await.map_err(failed)?;
        let mut file = tokio::io::BufWriter::with_capacity(2 * MOST_PIECE_BYTES, file);
        let mut log = std::pin::pin!(self.engine_log(key, false));
        let mut written = 0_u64;
        while let Some(piece) = log.next().await {
            let piece = match piece {
                Ok(piece) => piece,
                // The end is durable and the rank must go; an unreadable log must not keep it here for ever.
                Err(error) if error.fault == crate::engine::Fault::Node => {
                    tracing::warn!(%key, %error, "the rest of the rank's log cannot be read");
                    break;
                }
                Err(error) => return Err(error),
            };
            written += piece.bytes.len() as u64;
            // The engine's own bound holds long before; an engine that forgets it must not fill our disk.
            if written > self.settings.log_limit_bytes.saturating_mul(4) {
                let marker =
                    LogPiece { source: LogSource::Stderr, bytes: "\n[... the newest bytes dropped ...]\n".into() };
                file.write_all(&frame(&marker)).await.map_err(failed)?;
                break;
            }
            file.write_all(&frame(&piece)).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        file.get_ref().sync_all().await.map_err(failed)?;
        tokio::fs::rename(&unfinished, &path).await.map_err(failed)
    }
}

/// One output of the engine: its time stamp, and its text as pieces of at most the size that is promised.
fn pieces(output: Result<LogOutput, Error>) -> (Bytes, Vec<Result<LogPiece, EngineError>>) {
    let (source, mut bytes) = match output {
        Ok(LogOutput::StdErr { message }) => (LogSource::Stderr, message),
        Ok(LogOutput::StdOut { message } | LogOutput::Console { message }) => (LogSource::Stdout, message),
        Ok(LogOutput::StdIn { .. }) => return (Bytes::new(), Vec::new()),
        Err(error) => {
            let error = CallError::from(error).on("the rank's log could not be read");
            return (Bytes::new(), vec![Err(error)]);
        }
    };
    let stamp = match bytes.iter().take(MOST_STAMP_BYTES).position(|byte| *byte == b' ') {
        Some(end) => {
            let stamp = bytes.split_to(end);
            bytes.advance(1);
            stamp
        }
        None => Bytes::new(),
    };
    let mut pieces = Vec::with_capacity(1);
    while !bytes.is_empty() {
        let piece = bytes.split_to(bytes.len().min(MOST_PIECE_BYTES));
        pieces.push(Ok(LogPiece { source, bytes: piece }));
    }
    (stamp, pieces)
}

async fn saved_log(path: PathBuf) -> Result<Pieces, EngineError> {
    let opened = blocking(move || SavedLog::open(&path)).await?;
    let log = match opened {
        Ok(log) => log,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(node_fault("there is no log of this rank on this node, or it is kept no longer"));
        }
        Err(error) => return Err(unreadable(&error)),
    };
    let read = |mut log: SavedLog| async move {
        let (piece, log) = blocking(move || (log.next_piece(), log)).await?;
        let piece = piece.map_err(|error| unreadable(&error))?;
        Ok(piece.map(|piece| (piece, log)))
    };
    Ok(stream::try_unfold(log, read).boxed())
}

fn unreadable(error: &std::io::Error) -> EngineError {
    node_fault(format!("the rank's saved log could not be read: {error}"))
}

/// Runs something that may wait for a disk.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, EngineError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| node_fault(format!("a task of the worker failed: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_becomes_pieces_of_the_promised_size() {
        let mut long = b"2026-11-21T12:03:26.436517905Z ".to_vec();
        long.resize(long.len() + 2 * MOST_PIECE_BYTES + 1, 7);
        let (stamp, pieces_of_it) = pieces(Ok(LogOutput::StdErr { message: long.into() }));
        assert_eq!(stamp, "2026-11-21T12:03:26.436517905Z");
        let sizes: Vec<usize> = pieces_of_it.into_iter().map(|piece| piece.unwrap().bytes.len()).collect();
        assert_eq!(sizes, [MOST_PIECE_BYTES, MOST_PIECE_BYTES, 1]);
        assert!(pieces(Ok(LogOutput::StdOut { message: "2026Z ".into() })).1.is_empty());
    }
}
