//! Asks the coordinator.

use crate::Problem;
use crate::ask::Ask;
use crate::command::Config;
use muster_runtime::secret::Secret;
use reqwest::{StatusCode, Url, redirect};
use serde_json::Value;
use std::error::Error;
use std::time::Duration;

const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// How long the coordinator may say nothing; it takes no more than 10 s itself.
const SILENT_FOR: Duration = Duration::from_secs(12);
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// About a hundred thousand jobs.
const LARGEST_ANSWER_BYTES: usize = 128 << 20;

/// The coordinator's operator listener.
pub(crate) struct Client {
    http: reqwest::Client,
    url: Url,
    token: Option<Secret>,
}

impl Client {
    pub(crate) fn new(config: &Config) -> Result<Self, Problem> {
        let failed = |key: &str, error: &dyn std::fmt::Display| Problem::Failed(format!("{key}: {error}"));
        let url = Url::parse(&config.url).map_err(|error| failed("url", &error))?;
        let token = config.token_file.as_deref().map(Secret::from_file).transpose();
        let token = token.map_err(|error| failed("token_file", &error))?;
        // No redirects and no proxy: the token goes to the address that was named and nowhere else.
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .read_timeout(SILENT_FOR)
            .timeout(ANSWER_WITHIN)
            .redirect(redirect::Policy::none())
            .no_proxy();
        if let Some(path) = &config.ca_file {
            let pem = std::fs::read(path).map_err(|error| failed("ca_file", &error))?;
            let authority = reqwest::Certificate::from_pem(&pem).map_err(|error| failed("ca_file", &error))?;
            http = http.tls_certs_only([authority]);
        }
        let http = http.build().map_err(|error| Problem::Failed(format!("cannot set up HTTP: {}", chain(&error))))?;
        Ok(Self { http, url, token })
    }

    /// Gets a page, or posts an order.
    pub(crate) async fn ask(&self, ask: &Ask) -> Result<Value, Problem> {
        let mut url = self.url.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => segments.pop_if_empty().extend(ask.path()),
            Err(()) => return Err(Problem::Failed(format!("url: {} has no path", self.url))),
        };
        let mut request = match ask.body() {
            None => self.http.get(url),
            // Says that this is no web page: the coordinator takes orders from operators' programs only.
            Some(body) => self.http.post(url).header("muster-operator", "1").body(body.to_string()),
        };
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.reveal());
        }
        let mut response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + chunk.len() > LARGEST_ANSWER_BYTES {
                return Err(Problem::Failed(format!("{} answers with too much; check --url", self.url)));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            let foreign =
                |_| Problem::Failed(format!("{} does not answer as a coordinator does; check --url", self.url));
            return serde_json::from_slice(&body).map_err(foreign);
        }
        Err(self.refused(status, &body, ask))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Problem {
        let url = &self.url;
        Problem::Failed(if error.is_timeout() && !error.is_connect() {
            format!("{url} does not answer; look at the coordinator's log, or at its /ready page")
        } else {
            // The outermost text only repeats the address.
            let why = error.source().map_or_else(|| error.to_string(), chain);
            format!(
                "cannot reach the coordinator at {url}: {why}\n  is it running? name its operator listener with --url or MUSTER_URL"
            )
        })
    }

    fn refused(&self, status: StatusCode, body: &[u8], ask: &Ask) -> Problem {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let said = ["why", "detail", "message"].iter().find_map(|name| body[name].as_str());
        let said = said.map(|said| format!(": {}", crate::table::plain(said))).unwrap_or_default();
        match status {
            // Another server, or another listener, knows no such page.
            StatusCode::NOT_FOUND => match ask.missing().filter(|_| !said.is_empty()) {
                Some(missing) => Problem::NotFound(missing),
                None => {
                    Problem::Failed(format!("{} is not the operator listener of a coordinator; check --url", self.url))
                }
            },
            StatusCode::CONFLICT => Problem::Failed(format!("the coordinator refuses{said}")),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Problem::Failed(match self.token {
                Some(_) => "the coordinator refuses the token; does the file hold its operator's token?".into(),
                None => {
                    "the coordinator wants the operator's token; name its file with --token-file or MUSTER_TOKEN_FILE"
                        .into()
                }
            }),
            StatusCode::SERVICE_UNAVAILABLE => {
                // What follows says it for all.
                let again = [": try again", ": give it again"].iter().find_map(|words| said.strip_suffix(words));
                let said = again.unwrap_or(&said);
                Problem::Failed(format!(
                    "the coordinator cannot answer now{said}; try again, or ask another with --url"
                ))
            }
            _ => Problem::Failed(format!("{} answers {status}{said}", self.url)),
        }
    }
}

/// An error with all its causes; the first alone says little.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
