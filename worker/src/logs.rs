//! Logs of ranks, pushed to the coordinator when somebody reads them.
//!
//! Each log has a connection of its own. On a shared one, a reader who stalls would use up the window that all streams of
//! a connection share, and hold back the heartbeats.

use crate::engine::{Engine, LogSource};
use crate::link::Coordinator;
use crate::metrics;
use futures_util::StreamExt;
use muster_domain::id::RankKey;
use muster_proto::v1::fleet_service_client::FleetServiceClient;
use muster_proto::v1::{PushLogRequest, PushLogResponse};
use muster_proto::{LogPush, MAX_LOG_PIECE_BYTES};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

/// Logs that may be read at once on this node.
pub(crate) const OPEN_LOGS: usize = 1024;
/// Pieces that wait for a slow reader.
const QUEUED_PIECES: usize = 4;

/// Pushes one log until it ends, the reader leaves or the connection breaks. Dropping it ends the call.
pub(crate) async fn push(coordinator: Arc<Coordinator>, engine: Arc<dyn Engine>, log_id: u64, key: RankKey) {
    let (pieces, queue) = mpsc::channel(QUEUED_PIECES);
    let call = call(&coordinator, ReceiverStream::new(queue));
    let feed = feed(engine, log_id, &key, pieces);
    tokio::pin!(call, feed);
    let mut fed = false;
    loop {
        tokio::select! {
            result = &mut call => {
                match result {
                    Ok(_) => tracing::debug!(log_id, rank = %key, "log pushed"),
                    Err(status) => tracing::debug!(log_id, rank = %key, code = ?status.code(), why = status.message(), "log ended early"),
                }
                return;
            }
            () = &mut feed, if !fed => fed = true,
        }
    }
}

async fn call(
    coordinator: &Coordinator,
    pieces: ReceiverStream<PushLogRequest>,
) -> Result<Response<PushLogResponse>, Status> {
    let channel = coordinator.connect().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let request = coordinator.request(pieces);
    FleetServiceClient::new(channel).push_log(request).await
}

/// Ends when the log does, or when nobody takes pieces any more.
async fn feed(engine: Arc<dyn Engine>, log_id: u64, key: &RankKey, pieces: mpsc::Sender<PushLogRequest>) {
    if pieces.send(LogPush::Open { log_id }.into()).await.is_err() {
        return;
    }
    let mut log = engine.logs(key);
    let error = loop {
        match log.next().await {
            None => break None,
            Some(Err(error)) => break Some(error.message),
            Some(Ok(mut piece)) => {
                let source = match piece.source {
                    LogSource::Stdout => muster_proto::LogSource::Stdout,
                    LogSource::Stderr => muster_proto::LogSource::Stderr,
                };
                while !piece.bytes.is_empty() {
                    let data = piece.bytes.split_to(piece.bytes.len().min(MAX_LOG_PIECE_BYTES));
                    let length = data.len();
                    if pieces.send(LogPush::Piece { source, data }.into()).await.is_err() {
                        return;
                    }
                    metrics::log_pushed(length);
                }
            }
        }
    };
    // A reader that left needs no end.
    let _ = pieces.send(LogPush::End { error }.into()).await;
}
