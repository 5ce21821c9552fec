//! One socket: frames in, frames out, and the conversations between.
//!
//! Everything of a socket lives in one task, so that dropping it ends every conversation. What goes out passes one
//! short queue; a client that does not read for 5 s is dropped.

use super::conversation::{Conversation, Ending};
use crate::http::Shared;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::stream::{FuturesUnordered, SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use muster_ucloud::v2021::calls;
use muster_ucloud::v2021::follow::{FollowRequest, LogChunk};
use muster_ucloud::v2021::frame::{KEEP_ALIVE, RequestFrame, ServerFrame};
use muster_ucloud::v2021::problem::Problem;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// Frames that wait to be sent.
const QUEUED_FRAMES: usize = 32;
/// How long a client may take to read a frame.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// How often something is said, so that nothing between takes the socket for dead (`protocol.md` 5.1).
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(60);
/// Conversations of one socket.
const MOST_CONVERSATIONS: usize = 256;
/// The longest stream id, in bytes. A client chooses it, and every frame repeats it.
const MOST_STREAM_ID_BYTES: usize = 200;
/// How long a socket may stay open before it has shown a good token.
const PROVEN_WITHIN: Duration = Duration::from_secs(30);
/// How long the last words may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// Serves a socket until either side has enough.
pub(super) async fn serve(socket: WebSocket, shared: &Shared) {
    let (sink, frames) = socket.split();
    let (out, queue) = mpsc::channel(QUEUED_FRAMES);
    let mut reading = std::pin::pin!(read(frames, out, shared));
    let mut writing = std::pin::pin!(write(sink, queue));
    tokio::select! {
        code = &mut reading => {
            // The queue has no sender any more: what is in it goes out, then the sink comes back.
            let goodbye = async {
                if let Some(mut sink) = writing.await {
                    let close = CloseFrame { code, reason: "".into() };
                    // The socket ends either way.
                    let _ = sink.send(Message::Close(Some(close))).await;
                }
            };
            let _ = tokio::time::timeout(GOODBYE, goodbye).await;
        }
        _ = &mut writing => {}
    }
}

/// Sends what is queued. Gives the sink back when nobody can queue any more, keeps it if the client is gone.
async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut queue: mpsc::Receiver<ServerFrame>,
) -> Option<SplitSink<WebSocket, Message>> {
    let mut clock = tokio::time::interval_at(Instant::now() + KEEP_ALIVE_EVERY, KEEP_ALIVE_EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let text = tokio::select! {
            frame = queue.recv() => match frame {
                Some(frame) => frame.encode(),
                None => return Some(sink),
            },
            _ = clock.tick() => KEEP_ALIVE.to_owned(),
        };
        match tokio::time::timeout(READ_WITHIN, sink.send(Message::Text(text.into()))).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "a socket broke off");
                return None;
            }
            Err(_) => {
                tracing::debug!("a socket was closed because its client does not read");
                return None;
            }
        }
    }
}

/// Takes frames and holds conversations. Returns why the socket ends.
async fn read(mut frames: SplitStream<WebSocket>, out: mpsc::Sender<ServerFrame>, shared: &Shared) -> u16 {
    let mut desk = Desk { shared, out, open: HashMap::new(), proven: false };
    let mut conversations = FuturesUnordered::new();
    let prove_by = tokio::time::sleep(PROVEN_WITHIN);
    tokio::pin!(prove_by);
    loop {
        tokio::select! {
            frame = frames.next() => match frame {
                Some(Ok(Message::Text(text))) => match desk.take(text.as_str()).await {
                    Ok(Some(conversation)) => conversations.push(conversation.run()),
                    Ok(None) => {}
                    Err(Gone) => return close_code::AWAY,
                },
                // Calls are texts (`protocol.md` 5.1); pings are answered below this level.
                Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_))) | None => return close_code::NORMAL,
                Some(Err(error)) => {
                    tracing::debug!(%error, "a socket broke off");
                    return close_code::PROTOCOL;
                }
            },
            Some(Ending { stream_id }) = conversations.next() => {
                desk.open.remove(&stream_id);
            }
            () = &mut prove_by, if !desk.proven => return close_code::POLICY,
            () = leads_no_more(shared) => {
                desk.open.values().for_each(|open| open.cancel.cancel());
                let ends = async { while conversations.next().await.is_some() {} };
                let _ = tokio::time::timeout(GOODBYE, ends).await;
                return close_code::RESTART;
            }
        }
    }
}

/// Resolves when this coordinator can no longer tell about jobs: the client connects again and finds one that can.
async fn leads_no_more(shared: &Shared) {
    tokio::select! {
        () = shared.stop.cancelled() => {}
        () = shared.forward.board().rested() => {}
    }
}

/// The queue is closed.
struct Gone;

/// A conversation that goes on.
struct Open {
    /// The follow session's id, by which it can be cancelled.
    session: String,
    cancel: CancellationToken,
}

/// Decides what a frame asks for.
struct Desk<'a> {
    shared: &'a Shared,
    out: mpsc::Sender<ServerFrame>,
    /// By the envelope's stream id.
    open: HashMap<String, Open>,
    /// Whether a good token was shown.
    proven: bool,
}

impl Desk<'_> {
    /// Takes a frame: answers it, or gives back the conversation that it begins. What is no request is ignored.
    async fn take(&mut self, text: &str) -> Result<Option<Conversation>, Gone> {
        let Some(mut frame) = RequestFrame::parse(text) else { return Ok(None) };
        if frame.stream_id.len() > MOST_STREAM_ID_BYTES {
            return Ok(None);
        }
        if frame.call != calls::follow(&self.shared.settings.provider) {
            return self.answer(ServerFrame::unknown_call(frame.stream_id)).await;
        }
        let token = frame.bearer.as_ref().map(|token| token.expose());
        if self.shared.auth.check_token(token).is_err() {
            let problem = Problem { status: 401, ..Problem::invalid("Unauthorized") };
            return self.answer(ServerFrame::error(frame.stream_id, &problem)).await;
        }
        self.proven = true;
        match frame.payload::<FollowRequest>() {
            Ok(FollowRequest::Init { job }) => match self.begin(&frame.stream_id, &job.id) {
                Ok(conversation) => Ok(Some(conversation)),
                Err(problem) => self.answer(ServerFrame::error(frame.stream_id, &problem)).await,
            },
            Ok(FollowRequest::Cancel { stream_id: session }) => {
                if let Some(open) = self.open.values().find(|open| open.session == session) {
                    open.cancel.cancel();
                }
                self.answer(ServerFrame::response(frame.stream_id, &LogChunk::empty(""))).await
            }
            Err(problem) => self.answer(ServerFrame::error(frame.stream_id, &problem)).await,
        }
    }

    fn begin(&mut self, stream_id: &str, job: &str) -> Result<Conversation, Problem> {
        if self.open.contains_key(stream_id) {
            return Err(Problem::invalid("streamId: expected one that is not in use on this socket"));
        }
        if self.open.len() >= MOST_CONVERSATIONS {
            let why = format!("expected at most {MOST_CONVERSATIONS} calls at a time on one socket");
            return Err(Problem { status: 429, ..Problem::invalid(why) });
        }
        let open = Open { session: uuid::Uuid::new_v4().to_string(), cancel: CancellationToken::new() };
        let conversation = Conversation {
            stream_id: stream_id.to_owned(),
            session: open.session.clone(),
            job: job.to_owned(),
            cancel: open.cancel.clone(),
            handle: self.shared.handle.clone(),
            logs: self.shared.logs.clone(),
            answer_within: self.shared.settings.answer_within,
            out: self.out.clone(),
        };
        self.open.insert(stream_id.to_owned(), open);
        Ok(conversation)
    }

    async fn answer(&self, frame: ServerFrame) -> Result<Option<Conversation>, Gone> {
        self.out.send(frame).await.map(|()| None).map_err(|_| Gone)
    }
}
