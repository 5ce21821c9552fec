//! Frames of the WebSocket RPC (protocol 5.1): one JSON object each.

use super::problem::{CommonErrorMessage, Problem, decode_value};
use super::secret::Secret;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a server sends now and then so that nothing between takes the socket for dead. Clients ignore it.
pub const KEEP_ALIVE: &str = r#"{"ping":"pong"}"#;

/// A call, from client to server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestFrame {
    /// The full name of the call.
    pub call: String,
    /// Chosen by the client, unique on the socket, echoed.
    pub stream_id: String,
    /// The request.
    pub payload: Map<String, Value>,
    /// The access token; belongs to this frame alone.
    #[serde(default)]
    pub bearer: Option<Secret>,
    /// For tracing.
    #[serde(default)]
    pub caused_by: Option<String>,
    /// The workspace.
    #[serde(default)]
    pub project: Option<String>,
}

impl RequestFrame {
    /// Reads a frame. What is not a request is to be ignored.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The payload as what the call takes; the problem has status 400.
    pub fn payload<T: DeserializeOwned>(&mut self) -> Result<T, Problem> {
        decode_value("payload", Value::Object(std::mem::take(&mut self.payload)))
    }
}

/// What a server sends: messages, then at most one response, then nothing.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum ServerFrame {
    /// More may come.
    Message {
        /// The request's.
        stream_id: String,
        /// What the call tells.
        payload: Map<String, Value>,
    },
    /// The end of the call.
    Response {
        /// The request's.
        stream_id: String,
        /// The result, or a [`CommonErrorMessage`].
        payload: Map<String, Value>,
        /// As in HTTP; 100 to 399 is success.
        status: u16,
    },
}

impl ServerFrame {
    /// A message.
    #[must_use]
    pub fn message(stream_id: impl Into<String>, payload: &impl Serialize) -> Self {
        Self::Message { stream_id: stream_id.into(), payload: object(payload) }
    }

    /// A successful response.
    #[must_use]
    pub fn response(stream_id: impl Into<String>, payload: &impl Serialize) -> Self {
        Self::Response { stream_id: stream_id.into(), payload: object(payload), status: 200 }
    }

    /// A response to a call that went wrong.
    #[must_use]
    pub fn error(stream_id: impl Into<String>, problem: &Problem) -> Self {
        let payload = object(&CommonErrorMessage::from(problem));
        Self::Response { stream_id: stream_id.into(), payload, status: problem.status }
    }

    /// The response to a call that does not exist: 404 with an empty payload.
    #[must_use]
    pub fn unknown_call(stream_id: impl Into<String>) -> Self {
        Self::Response { stream_id: stream_id.into(), payload: Map::new(), status: 404 }
    }

    /// The frame's text.
    #[must_use]
    pub fn encode(&self) -> String {
        // A frame holds texts and JSON, which always encode.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads a frame as Core's client does: without `type` it is a message, a response without `status` is a 500, and
    /// a frame without `streamId` or an object as payload is dropped.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let loose: LooseFrame = serde_json::from_str(text).ok()?;
        let LooseFrame { stream_id, payload, status, .. } = loose;
        match loose.kind.as_deref() {
            None | Some("message") => Some(Self::Message { stream_id, payload }),
            Some("response") => Some(Self::Response { stream_id, payload, status: status.unwrap_or(500) }),
            Some(_) => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LooseFrame {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    stream_id: String,
    payload: Map<String, Value>,
    #[serde(default)]
    status: Option<u16>,
}

/// A payload must be an object, or Core drops the frame.
fn object(payload: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(payload) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}
