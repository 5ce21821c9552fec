//! Log subscriptions (protocol 5.1 to 5.3): one socket per user name, many calls on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::browse::support_of;
use super::job::{Following, RankLog, Render};
use super::shared::Shared;

const LOG_KEPT_BYTES: usize = 4 * 1024 * 1024;
const RANKS_KEPT: i64 = 4096;
/// Core subscribes again after this when the stream ends while the job runs.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// A user reloads the page after this when the socket is lost.
const RELOAD_AFTER: Duration = Duration::from_secs(1);
/// How long the end of the log is awaited after the job's end.
const END_WITHIN: Duration = Duration::from_secs(10);

/// What comes back on one call. The channel closes when the socket is lost.
enum Frame {
    Message(Value),
    Response { status: u16, payload: Value },
}

struct Subscription {
    job: Value,
    frames: mpsc::Sender<Frame>,
}

/// Open sockets by user name.
#[derive(Default)]
pub(super) struct Sockets(Mutex<BTreeMap<String, mpsc::Sender<Subscription>>>);

impl Sockets {
    async fn subscribe(&self, shared: &Arc<Shared>, username: &str, subscription: Subscription) {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(username).cloned();
        let refused = match open {
            Some(socket) => socket.send(subscription).await.err().map(|error| error.0),
            None => Some(subscription),
        };
        let Some(subscription) = refused else { return };
        let (sender, calls) = mpsc::channel(256);
        // Cannot fail: the channel is empty and its other end is here.
        let _ = sender.try_send(subscription);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(username.to_owned(), sender);
        let (shared, username) = (shared.clone(), username.to_owned());
        tokio::spawn(async move {
            if let Err(error) = serve_socket(&shared, &username, calls).await {
                tracing::debug!(%error, username, "log socket lost");
            }
        });
    }
}

/// One socket: sends calls, hands frames to those who wait. Ends when the socket does, and with it all its calls.
async fn serve_socket(shared: &Shared, username: &str, mut calls: mpsc::Receiver<Subscription>) -> anyhow::Result<()> {
    let provider = &shared.options.provider_id;
    let base = shared.provider_url();
    // Core dials ws, never wss.
    let host = base.split_once("://").map_or(base.as_str(), |(_, host)| host);
    let mut request = format!("ws://{host}/ucloud/jobs.provider.{provider}/websocket").into_client_request()?;
    request.headers_mut().insert("UCloud-Username", shared.username_header(username).parse()?);
    let connect = tokio_tungstenite::connect_async(request);
    let (mut socket, _) = tokio::time::timeout(shared.options.call_timeout, connect).await??;
    let mut waiting: BTreeMap<String, mpsc::Sender<Frame>> = BTreeMap::new();
    let mut next_stream = 0_u64;
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return Ok(()),
            call = calls.recv() => {
                let Some(call) = call else { return Ok(()) };
                let stream_id = next_stream.to_string();
                next_stream += 1;
                let frame = json!({
                    "call": format!("jobs.provider.{provider}.follow"), "streamId": stream_id,
                    "payload": {"type": "init", "job": call.job}, "bearer": shared.core_token()?, "causedBy": null, "project": null,
                });
                socket.send(Message::text(frame.to_string())).await?;
                waiting.insert(stream_id, call.frames);
            }
            message = socket.next() => {
                let Some(message) = message else { return Ok(()) };
                let Message::Text(text) = message? else { continue };
                let Some((stream_id, frame)) = parse(text.as_str()) else { continue };
                let is_last = matches!(frame, Frame::Response { .. });
                if let Some(frames) = waiting.get(&stream_id) && (frames.send(frame).await.is_err() || is_last) {
                    waiting.remove(&stream_id);
                }
            }
        }
    }
}

/// A frame without `streamId` or without an object as `payload` is dropped silently (protocol 5.1).
fn parse(text: &str) -> Option<(String, Frame)> {
    let mut frame: Value = serde_json::from_str(text).ok()?;
    let stream_id = frame.get("streamId")?.as_str()?.to_owned();
    let payload = frame.get_mut("payload").map(Value::take).filter(Value::is_object)?;
    let is_response = frame.get("type").and_then(Value::as_str) == Some("response");
    let status =
        frame.get("status").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok()).unwrap_or(500);
    Some((stream_id, if is_response { Frame::Response { status, payload } } else { Frame::Message(payload) }))
}

/// Starts following a job that has just become `RUNNING`, as a user who watches it would.
pub(super) fn start(shared: &Arc<Shared>, id: &str) {
    if !shared.options.follow_logs {
        return;
    }
    set_following(shared, id, Following::Open);
    let (shared, id) = (shared.clone(), id.to_owned());
    tokio::spawn(async move {
        let verdict = tokio::select! {
            () = shared.stop.cancelled() => Following::Abandoned,
            verdict = follow(&shared, &id) => verdict,
        };
        set_following(&shared, &id, verdict);
    });
}

async fn follow(shared: &Arc<Shared>, id: &str) -> Following {
    let product = shared.state().record(id).map(|record| record.view.product.clone());
    let Some(product) = product else { return Following::Never };
    // Core subscribes only where the provider declares logs.
    if shared.require_feature(&product, "logs").await.is_err() {
        return Following::Never;
    }
    loop {
        let support = shared.support().await.unwrap_or_default();
        let Some((subscription, mut frames, username, revision)) = prepare(shared, id, &support) else {
            return Following::Abandoned;
        };
        shared.sockets.subscribe(shared, &username, subscription).await;
        let outcome = tokio::select! {
            outcome = collect(shared, id, &mut frames) => outcome,
            () = long_after_end(shared, id, revision) => return Following::Abandoned,
        };
        let is_final = shared.state().record(id).is_none_or(|record| record.view.state.is_final());
        match outcome {
            Some(status) if !(100..400).contains(&status) => return Following::Refused(status),
            Some(_) if is_final => return Following::Ended,
            Some(_) => tokio::time::sleep(AGAIN_AFTER).await,
            None if is_final => return Following::Abandoned,
            None => tokio::time::sleep(RELOAD_AFTER).await,
        }
    }
}

type Prepared = (Subscription, mpsc::Receiver<Frame>, String, watch::Receiver<u64>);

fn prepare(shared: &Shared, id: &str, support: &[Value]) -> Option<Prepared> {
    let mut state = shared.state();
    let product = state.catalogue.current(&state.record(id)?.view.product).map(|product| product.json.clone());
    let record = state.record_mut(id)?;
    let support = support_of(support, &record.view.product);
    record.view.subscriptions += 1;
    let job = record.render(&Render { updates: true, product: product.as_ref(), support, ..Render::default() });
    let (sender, frames) = mpsc::channel(256);
    Some((Subscription { job, frames: sender }, frames, record.created_by.clone(), record.revision.subscribe()))
}

/// Keeps what comes until the response; answers its status, or `None` if the socket was lost.
async fn collect(shared: &Shared, id: &str, frames: &mut mpsc::Receiver<Frame>) -> Option<u16> {
    let mut is_first = true;
    while let Some(frame) = frames.recv().await {
        let (payload, status) = match frame {
            Frame::Message(payload) => (payload, None),
            Frame::Response { status, payload } => (payload, Some(status)),
        };
        let is_success = status.is_none_or(|status| (100..400).contains(&status));
        if is_success {
            keep(shared, id, &payload, std::mem::take(&mut is_first));
        }
        if status.is_some() {
            return status;
        }
    }
    None
}

/// Appends one piece. The log starts anew with the first piece of a subscription.
fn keep(shared: &Shared, id: &str, payload: &Value, is_first: bool) {
    let mut state = shared.state();
    let Some(record) = state.record_mut(id) else { return };
    if is_first {
        record.view.logs.clear();
    }
    let rank = payload.get("rank").and_then(Value::as_i64).filter(|rank| (0..RANKS_KEPT).contains(rank));
    if let Some(rank) = rank.and_then(|rank| u32::try_from(rank).ok()) {
        let log = Arc::make_mut(record.view.logs.entry(rank).or_default());
        let RankLog { stdout, stderr, cut } = log;
        for (name, text) in [("stdout", stdout), ("stderr", stderr)] {
            let piece = payload.get(name).and_then(Value::as_str).unwrap_or_default();
            if text.len() + piece.len() > LOG_KEPT_BYTES {
                *cut = true;
            } else {
                text.push_str(piece);
            }
        }
    }
    record.changed();
    drop(state);
    shared.changed();
}

async fn long_after_end(shared: &Shared, id: &str, mut revision: watch::Receiver<u64>) {
    while shared.state().record(id).is_some_and(|record| !record.view.state.is_final()) {
        if revision.changed().await.is_err() {
            break;
        }
    }
    tokio::time::sleep(END_WITHIN).await;
}

fn set_following(shared: &Shared, id: &str, following: Following) {
    let mut state = shared.state();
    if let Some(record) = state.record_mut(id) {
        record.view.following = following;
        record.changed();
    }
    drop(state);
    shared.changed();
}
