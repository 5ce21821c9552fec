//! Single calls of the control API (`protocol.md` 6 and 7), each with a deadline, a token, and no redirects.

use super::token::{RefreshToken, Tokens};
use bytes::{Bytes, BytesMut};
use muster_domain::id::JobId;
use muster_runtime::telemetry;
use muster_ucloud::v2021::calls;
use muster_ucloud::v2021::control::{JobIncludeFlags, Paging, ResourceChargeCredits, ResourceChargeCreditsResponse};
use muster_ucloud::v2021::envelope::{BulkRequest, PageV2};
use muster_ucloud::v2021::job::{JobState, JobUpdate};
use muster_ucloud::v2021::problem::CommonErrorMessage;
use muster_ucloud::v2021::resource::ResourceUpdateAndId;
use reqwest::{Method, StatusCode, Url};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The largest answer that is read, in bytes. A page of 250 jobs is about 2 MiB.
const MOST_ANSWER_BYTES: usize = 8 << 20;

/// How to reach Core.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Where Core is, without path: `https://cloud.sdu.dk`.
    pub url: String,
    /// The provider's refresh token.
    pub refresh_token: RefreshToken,
    /// PEM certificates of the only authorities to trust; `None` trusts the system's.
    pub ca_file: Option<PathBuf>,
    /// Bounds of a call.
    pub timing: Timing,
}

/// Bounds of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From the first byte sent to the last byte read.
    pub deadline: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(10) }
    }
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BadSettings {
    /// Not a URL.
    #[error("core.url {url:?} is not usable: expected http:// or https:// and a host ({why})")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// No certificates.
    #[error("core.ca_file {path}: {why}")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The HTTP client cannot be built.
    #[error("HTTP client for Core: {0}")]
    Client(#[from] reqwest::Error),
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Core, the way to it or our token is at fault: the same call may succeed later.
    #[error("{0}")]
    Unavailable(String),
    /// Core refused what was said; the same call will be refused again.
    #[error("Core answered {status}: {why}")]
    Refused {
        /// The status.
        status: u16,
        /// Core's words.
        why: String,
    },
}

impl CallError {
    pub(super) fn unreachable(what: &str, error: reqwest::Error) -> Self {
        // reqwest prints only the outermost cause; the innermost says what is wrong.
        let mut innermost: &dyn std::error::Error = &error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        let how = if error.is_timeout() { "no answer in time" } else { "not reachable" };
        Self::Unavailable(format!("{what}: {how}: {innermost}"))
    }
}

/// One update (`protocol.md` 6.4).
pub type UpdateItem = ResourceUpdateAndId<JobUpdate>;
/// A page of jobs, as Core words them.
pub type Page = PageV2<serde_json::Value>;

/// The control client. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CoreClient {
    http: reqwest::Client,
    base: String,
    tokens: Arc<Tokens>,
    timing: Timing,
}

impl CoreClient {
    /// A client for these settings. Reads `ca_file`; connects to nothing yet.
    pub fn new(settings: ClientSettings) -> Result<Self, BadSettings> {
        let bad_url = |why: String| BadSettings::Url { url: settings.url.clone(), why };
        let base = settings.url.trim_end_matches('/').to_owned();
        let refresh = Url::parse(&format!("{base}{}", calls::REFRESH)).map_err(|error| bad_url(error.to_string()))?;
        if !matches!(refresh.scheme(), "http" | "https") || refresh.host_str().is_none() {
            return Err(bad_url("no host".to_owned()));
        }
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5).min(settings.timing.deadline))
            .user_agent(concat!("muster/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &settings.ca_file {
            let bad = |why: String| BadSettings::Authorities { path: path.clone(), why };
            let pem = std::fs::read(path).map_err(|error| bad(format!("cannot be read: {error}")))?;
            let authorities = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| bad(error.to_string()))?;
            if authorities.is_empty() {
                return Err(bad("holds no PEM certificate".to_owned()));
            }
            builder = builder.tls_certs_only(authorities);
        }
        let http = builder.build()?;
        let tokens = Tokens::new(http.clone(), refresh, settings.refresh_token, settings.timing);
        Ok(Self { http, base, tokens: Arc::new(tokens), timing: settings.timing })
    }

    /// Appends updates. One bad id fails the whole call, and then nothing is applied.
    pub async fn update(&self, items: Vec<UpdateItem>) -> Result<(), CallError> {
        self.post(calls::CONTROL_UPDATE, &BulkRequest::of(items)).await.map(drop)
    }

    /// Charges. Returns the jobs whose wallet is empty; their charges were booked all the same.
    pub async fn charge(&self, items: Vec<ResourceChargeCredits>) -> Result<BTreeSet<String>, CallError> {
        let bytes = self.post(calls::CONTROL_CHARGE, &BulkRequest::of(items)).await?;
        // The charge was booked whatever the body says; one that cannot be read is taken as "nothing to report".
        let charged: ResourceChargeCreditsResponse = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(charged.insufficient_funds.into_iter().map(|found| found.id).collect())
    }

    /// Whether Core knows the job, as ours.
    pub async fn knows(&self, job: &JobId) -> Result<bool, CallError> {
        match self.retrieve(job).await {
            Ok(_) => Ok(true),
            Err(CallError::Refused { status: 404, .. }) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// A job as Core has it.
    pub async fn retrieve(&self, job: &JobId) -> Result<serde_json::Value, CallError> {
        let query = JobIncludeFlags::default().retrieve_query(job.as_str());
        let bytes = self.get(calls::CONTROL_RETRIEVE, &query).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| CallError::Unavailable(format!("retrieve: the answer is not JSON: {error}")))
    }

    /// A page of Core's confirmed jobs in this state, oldest first; `next` as the page before said.
    pub async fn browse(&self, state: JobState, next: Option<String>) -> Result<Page, CallError> {
        let flags = JobIncludeFlags { filter_state: Some(state), ..JobIncludeFlags::default() };
        let paging = Paging {
            items_per_page: Some(250),
            next,
            items_to_skip: None,
            sort_by: Some("createdAt".to_owned()),
            sort_direction: Some("ascending".to_owned()),
        };
        let bytes = self.get(calls::CONTROL_BROWSE, &flags.browse_query(&paging)).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| CallError::Unavailable(format!("browse: the answer is not a page: {error}")))
    }

    async fn post<T: Serialize>(&self, path: &str, body: &T) -> Result<Bytes, CallError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| CallError::Refused { status: 0, why: format!("{path}: not JSON: {error}") })?;
        self.call(Method::POST, path, "", Bytes::from(body)).await
    }

    async fn get(&self, path: &str, query: &str) -> Result<Bytes, CallError> {
        self.call(Method::GET, path, query, Bytes::new()).await
    }

    /// One call; after a 401 or 403 once more with a fresh token.
    async fn call(&self, method: Method, path: &str, query: &str, body: Bytes) -> Result<Bytes, CallError> {
        let what = path.rsplit('/').next().unwrap_or_default();
        let url =
            if query.is_empty() { format!("{}{path}", self.base) } else { format!("{}{path}?{query}", self.base) };
        let mut fresh = false;
        loop {
            let token = self.tokens.get().await?;
            let mut request = self
                .http
                .request(method.clone(), &url)
                .timeout(self.timing.deadline)
                .bearer_auth(token.bearer.reveal());
            if let Some(traceparent) = telemetry::current_traceparent() {
                request = request.header("traceparent", traceparent);
            }
            if method == Method::POST {
                request = request.header("content-type", "application/json").body(body.clone());
            }
            let answer = request.send().await.map_err(|error| CallError::unreachable(what, error))?;
            let (status, bytes) = read_answer(answer).await?;
            match status {
                status if status.is_success() => return Ok(bytes),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if !fresh => {
                    self.tokens.refused(&token).await;
                    fresh = true;
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    let why = why(&bytes);
                    return Err(CallError::Unavailable(format!(
                        "{what}: {status} with a fresh token: {why}; are core.refresh_token_file and provider.id of one provider?"
                    )));
                }
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                    return Err(CallError::Unavailable(format!("{what}: {status}: {}", why(&bytes))));
                }
                status if status.is_client_error() => {
                    return Err(CallError::Refused { status: status.as_u16(), why: why(&bytes) });
                }
                // 5xx, and redirects, which are never followed: a token must not go where an answer points.
                status => return Err(CallError::Unavailable(format!("{what}: {status}: {}", why(&bytes)))),
            }
        }
    }
}

/// Status and body, which may not be larger than we are ready to hold.
pub(super) async fn read_answer(mut answer: reqwest::Response) -> Result<(StatusCode, Bytes), CallError> {
    let status = answer.status();
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| CallError::unreachable("answer", error))? {
        if body.len() + chunk.len() > MOST_ANSWER_BYTES {
            return Err(CallError::Unavailable(format!("an answer of Core is larger than {MOST_ANSWER_BYTES} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((status, body.freeze()))
}

/// Core's words in an error's body, which may be missing or not JSON.
pub(super) fn why(body: &[u8]) -> String {
    let why = CommonErrorMessage::from_body(body).why;
    if why.is_empty() { "no reason given".to_owned() } else { why }
}
