//! Core as a client of the provider (protocol 1.4, 1.5, 2.1; reliability F1 to F3).

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use reqwest::Method;
use serde::Serialize;
use serde_json::{Value, json};

use super::shared::Shared;
use super::state::{Call, Direction, now_ms};

/// Answers above this are refused, so that a broken provider cannot fill our memory.
const ANSWER_LIMIT_BYTES: usize = 64 * 1024 * 1024;

/// What the provider answered to one call.
#[derive(Debug, Clone)]
pub struct ProviderAnswer {
    /// HTTP status.
    pub status: u16,
    /// Body as JSON; `Null` if it is empty or not JSON.
    pub body: Value,
    /// Body as text.
    pub text: String,
    /// From the start of the call to the last byte of the answer.
    pub latency: Duration,
}

impl ProviderAnswer {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The `why` of an error answer, else the beginning of its text.
    pub fn why(&self) -> String {
        let why = self.body.get("why").and_then(Value::as_str);
        why.map_or_else(|| self.text.chars().take(300).collect(), str::to_owned)
    }
}

/// Who is at fault in a [`CallFailure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// Core refused by itself; the provider was not asked to do it.
    Core,
    /// The provider answered with an error, or with something that does not fit the call.
    Provider,
    /// The connection failed.
    Connection,
    /// The provider did not answer in time.
    TimeOut,
}

/// What the user sees when a call fails.
#[derive(Debug, Clone, Serialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{origin:?} failed the call with {status} after {attempts} attempts: {why}")]
pub struct CallFailure {
    /// HTTP status that the user sees.
    pub status: u16,
    /// Reason in words.
    pub why: String,
    /// Code of the reason, if the provider or Core gave one.
    pub error_code: Option<String>,
    /// Who is at fault.
    pub origin: Origin,
    /// Calls made to the provider, `init` calls not counted.
    pub attempts: u32,
}

impl CallFailure {
    pub(super) fn core(status: u16, why: impl Into<String>) -> Self {
        Self { status, why: why.into(), error_code: None, origin: Origin::Core, attempts: 0 }
    }

    pub(super) fn answer(answer: &ProviderAnswer, attempts: u32) -> Self {
        let code = answer.body.get("errorCode").and_then(Value::as_str).map(str::to_owned);
        Self { status: answer.status, why: answer.why(), error_code: code, origin: Origin::Provider, attempts }
    }

    /// The provider answered 2xx with a body that is not of the declared type.
    pub(super) fn misfit(why: impl Into<String>, attempts: u32) -> Self {
        Self { status: 502, why: why.into(), error_code: None, origin: Origin::Provider, attempts }
    }
}

impl Shared {
    /// One call with any token and any body.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        token: Option<&str>,
        username: Option<&str>,
    ) -> Result<ProviderAnswer, CallFailure> {
        let (at, began) = (now_ms(), Instant::now());
        let url = format!("{}{path}", self.provider_url());
        let answer = self.unnoted_call(method.clone(), &url, body, token, username).await;
        let latency = began.elapsed();
        self.state().note_call(Call {
            at,
            direction: Direction::ToProvider,
            method: method.to_string(),
            path: path.to_owned(),
            status: answer.as_ref().ok().map(|answer| answer.status),
            latency_us: u64::try_from(latency.as_micros()).unwrap_or(u64::MAX),
            why: match &answer {
                Ok(answer) if answer.is_success() => None,
                Ok(answer) => Some(answer.why()),
                Err(failure) => Some(failure.why.clone()),
            },
        });
        answer
    }

    /// One call to any URL, which the log of calls does not show.
    pub(super) async fn unnoted_call(
        &self,
        method: Method,
        url: &str,
        body: Option<&Value>,
        token: Option<&str>,
        username: Option<&str>,
    ) -> Result<ProviderAnswer, CallFailure> {
        let (began, limit) = (Instant::now(), self.options.call_timeout);
        let outcome = tokio::time::timeout(limit, self.exchange(method, url, body, token, username)).await;
        let failure = |origin, why| CallFailure { status: 502, why, error_code: None, origin, attempts: 1 };
        match outcome {
            Ok(Ok((status, text))) => Ok(ProviderAnswer {
                status,
                body: serde_json::from_str(&text).unwrap_or_default(),
                text,
                latency: began.elapsed(),
            }),
            Ok(Err(why)) => Err(failure(Origin::Connection, why)),
            Err(_) => Err(failure(Origin::TimeOut, format!("no answer within {} ms", limit.as_millis()))),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        url: &str,
        body: Option<&Value>,
        token: Option<&str>,
        username: Option<&str>,
    ) -> Result<(u16, String), String> {
        let mut request = self.http.request(method, url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(username) = username {
            request = request.header("UCloud-Username", self.username_header(username));
        }
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json; charset=UTF-8").body(body.to_string());
        }
        let response = request.send().await.map_err(|error| chain(&error))?;
        let status = response.status().as_u16();
        let mut bytes = Vec::new();
        let mut stream = response.bytes_stream();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk.map_err(|error| chain(&error))?);
            if bytes.len() > ANSWER_LIMIT_BYTES {
                return Err(format!("answer is larger than {ANSWER_LIMIT_BYTES} bytes"));
            }
        }
        Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// A call of Core itself: no user name, no repetition.
    pub(super) async fn system_call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<ProviderAnswer, CallFailure> {
        let token = self.core_token().map_err(|error| CallFailure::core(500, error.to_string()))?;
        self.call(method, path, body, Some(&token), None).await
    }

    /// A call on behalf of a user. On 449 and 503 the user is initialised and the
    /// call repeated; a success is 2xx. All calls made this way are bulk calls, so that the last word of a provider never ready is 500.
    pub(super) async fn user_call(
        &self,
        method: Method,
        path: &str,
        body: &Value,
        username: &str,
    ) -> Result<(ProviderAnswer, u32), CallFailure> {
        let init = json!({"username": username});
        let most = self.options.call_attempts.max(1);
        for attempt in 1..=most {
            let token = self.core_token().map_err(|error| CallFailure::core(500, error.to_string()))?;
            let answer = self.call(method.clone(), path, Some(body), Some(&token), Some(username)).await;
            let answer = answer.map_err(|failure| CallFailure { attempts: attempt, ..failure })?;
            if answer.is_success() {
                return Ok((answer, attempt));
            }
            if !matches!(answer.status, 449 | 503) {
                return Err(CallFailure::answer(&answer, attempt));
            }
            if attempt == most {
                break;
            }
            let init = self.system_call(Method::POST, &self.provider_path("integration/init"), Some(&init)).await;
            let init = init.map_err(|failure| CallFailure { attempts: attempt, ..failure })?;
            if !init.is_success() {
                return Err(CallFailure::answer(&init, attempt));
            }
            tokio::time::sleep(Duration::from_millis(200 + 500 * u64::from(attempt - 1))).await;
        }
        let why = format!("the provider was not ready in {most} attempts");
        Err(CallFailure { status: 500, why, error_code: None, origin: Origin::Provider, attempts: most })
    }

    pub(super) fn username_header(&self, username: &str) -> String {
        if self.options.username_base64 { STANDARD.encode(username) } else { username.to_owned() }
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
