//! One `follow` call: the announcement, the logs, the response (`protocol.md` 5.3).

use super::follow::{LogText, Outcome, Pace, Whereabouts, follow};
use crate::fleet::logs::{LogRelay, LogSource};
use crate::handle::Handle;
use muster_domain::id::JobId;
use muster_ucloud::v2021::follow::LogChunk;
use muster_ucloud::v2021::frame::ServerFrame;
use muster_ucloud::v2021::problem::Problem;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Pieces of text between the logs and the socket's queue.
const QUEUED_TEXTS: usize = 8;

/// A `follow` call that goes on.
pub(super) struct Conversation {
    /// The envelope's stream id, echoed in every frame.
    pub(super) stream_id: String,
    /// The follow session's id, the same in every payload.
    pub(super) session: String,
    /// The job's id as the client wrote it.
    pub(super) job: String,
    /// Ends it; its response follows.
    pub(super) cancel: CancellationToken,
    pub(super) handle: Handle,
    pub(super) logs: LogRelay,
    pub(super) answer_within: Duration,
    pub(super) out: mpsc::Sender<ServerFrame>,
}

/// A conversation that has ended.
pub(super) struct Ending {
    /// Its stream id, free again.
    pub(super) stream_id: String,
}

impl Conversation {
    /// Holds the conversation to its end.
    pub(super) async fn run(self) -> Ending {
        let last = match self.known_job().await {
            Ok(job) => self.tell(&job).await,
            Err(last) => Some(last),
        };
        if let Some(last) = last {
            // If the socket is gone, so is everybody who could mind.
            let _ = self.out.send(last).await;
        }
        Ending { stream_id: self.stream_id }
    }

    async fn known_job(&self) -> Result<JobId, ServerFrame> {
        let unknown = || ServerFrame::unknown_call(self.stream_id.as_str());
        let job = JobId::new(self.job.as_str()).map_err(|_| unknown())?;
        match tokio::time::timeout(self.answer_within, self.handle.locate(job.clone())).await {
            Ok(Ok(Some(_))) => Ok(job),
            Ok(Ok(None)) => Err(unknown()),
            Ok(Err(_)) | Err(_) => {
                let problem =
                    Problem { status: 503, ..Problem::invalid("the coordinator cannot answer at the moment") };
                Err(ServerFrame::error(self.stream_id.as_str(), &problem))
            }
        }
    }

    /// Tells the logs. Gives back the response, if anybody is left to hear it.
    async fn tell(&self, job: &JobId) -> Option<ServerFrame> {
        self.out.send(self.message(&LogChunk::empty(self.session.as_str()))).await.ok()?;
        let (told, mut texts) = mpsc::channel(QUEUED_TEXTS);
        let following = async {
            let outcome = follow(&self.handle, &self.logs, job, &told, Pace::default()).await;
            drop(told);
            outcome
        };
        let passing = async {
            while let Some(text) = texts.recv().await {
                self.out.send(self.message(&self.chunk(text))).await.ok()?;
            }
            Some(())
        };
        let both = async { tokio::join!(following, passing) };
        let outcome = tokio::select! {
            (outcome, passed) = both => {
                passed?;
                outcome
            }
            () = self.cancel.cancelled() => Outcome::Ended,
        };
        match outcome {
            // To a job that goes on Core subscribes again at once, and then finds the coordinator that leads now.
            Outcome::Ended | Outcome::Stopping => {
                Some(ServerFrame::response(self.stream_id.as_str(), &LogChunk::empty(self.session.as_str())))
            }
            Outcome::Unknown => Some(ServerFrame::unknown_call(self.stream_id.as_str())),
            Outcome::Abandoned => None,
        }
    }

    fn chunk(&self, text: LogText) -> LogChunk {
        let LogText { rank, source, text } = text;
        let (stdout, stderr) = match source {
            LogSource::Stdout => (Some(text), None),
            LogSource::Stderr => (None, Some(text)),
        };
        LogChunk { stream_id: self.session.clone(), rank: rank.into(), stdout, stderr }
    }

    fn message(&self, chunk: &LogChunk) -> ServerFrame {
        ServerFrame::message(self.stream_id.as_str(), chunk)
    }
}
