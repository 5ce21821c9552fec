//! The provider's own access token (`protocol.md` 2.2): fetched with the refresh token, renewed at 60 % of its life.

use super::client::{CallError, Timing, read_answer, why};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use muster_runtime::secret::Secret;
use muster_ucloud::v2021::auth;
use muster_ucloud::v2021::envelope::{BulkRequest, BulkResponse};
use reqwest::Url;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// The life of a token that does not say (`protocol.md` 2.2: 15 minutes), taken shorter.
const ASSUMED_LIFE: Duration = Duration::from_secs(600);

/// How long a token is used past its renewal while no other can be had; a tenth of what Core gives.
const SPARE: Duration = Duration::from_secs(60);

/// Where the refresh token comes from.
#[derive(Clone, Debug)]
pub enum RefreshToken {
    /// A file, read anew at each refresh, so that a renewal of the provider's tokens needs no restart.
    File(PathBuf),
    /// A fixed one.
    Fixed(Secret),
}

/// An access token. A newer one has a greater number.
#[derive(Clone, Debug)]
pub struct AccessToken {
    /// What goes into the `Authorization` header.
    pub bearer: Secret,
    number: u64,
    renew_at: Instant,
}

/// Fetches and keeps the token. One fetch at a time; the others wait for it.
#[derive(Debug)]
pub struct Tokens {
    http: reqwest::Client,
    url: Url,
    refresh: RefreshToken,
    timing: Timing,
    kept: Mutex<(u64, Option<AccessToken>)>,
}

#[derive(Deserialize)]
struct Times {
    iat: u64,
    exp: u64,
}

impl Tokens {
    /// Fetches from `url`.
    pub(super) fn new(http: reqwest::Client, url: Url, refresh: RefreshToken, timing: Timing) -> Self {
        Self { http, url, refresh, timing, kept: Mutex::new((0, None)) }
    }

    /// A token that is good for a while.
    pub async fn get(&self) -> Result<AccessToken, CallError> {
        let mut kept = self.kept.lock().await;
        if let Some(token) = kept.1.as_ref().filter(|token| token.renew_at > Instant::now()) {
            return Ok(token.clone());
        }
        let fresh = match self.fetch(kept.0 + 1).await {
            Ok(fresh) => fresh,
            // Core may be back before the rest of its life is over. If it is spent after all, a 401 will tell.
            Err(error) => match &kept.1 {
                Some(token) if token.renew_at + SPARE > Instant::now() => return Ok(token.clone()),
                _ => return Err(error),
            },
        };
        *kept = (fresh.number, Some(fresh.clone()));
        Ok(fresh)
    }

    /// Core refused this token: the next [`Tokens::get`] fetches another, unless somebody has done so already.
    pub async fn refused(&self, token: &AccessToken) {
        let mut kept = self.kept.lock().await;
        if kept.0 == token.number {
            kept.1 = None;
        }
    }

    async fn fetch(&self, number: u64) -> Result<AccessToken, CallError> {
        let secret = match &self.refresh {
            RefreshToken::Fixed(secret) => secret.clone(),
            RefreshToken::File(path) => {
                Secret::from_file(path).map_err(|error| CallError::Unavailable(error.to_string()))?
            }
        };
        let asked_at = Instant::now();
        let body = BulkRequest::of(vec![auth::RefreshToken { refresh_token: secret.reveal().to_owned().into() }]);
        let answer = self
            .http
            .post(self.url.clone())
            .timeout(self.timing.deadline)
            .json(&body)
            .send()
            .await
            .map_err(|error| CallError::unreachable("token refresh", error))?;
        let (status, bytes) = read_answer(answer).await?;
        if !status.is_success() {
            // Whatever the status, no call can be made now, and nothing about any job follows from it.
            let hint = if status.as_u16() == 403 { "; check core.refresh_token_file" } else { "" };
            return Err(CallError::Unavailable(format!("token refresh: {status}: {}{hint}", why(&bytes))));
        }
        let refreshed: BulkResponse<auth::AccessToken> = serde_json::from_slice(&bytes)
            .map_err(|_| CallError::Unavailable("token refresh: the answer holds no access token".to_owned()))?;
        let Some(item) = refreshed.responses.into_iter().next() else {
            return Err(CallError::Unavailable("token refresh: the answer is empty".to_owned()));
        };
        let life = life_of(item.access_token.expose()).unwrap_or(ASSUMED_LIFE);
        let renew_at = asked_at + life.mul_f64(0.6);
        Ok(AccessToken { bearer: Secret::new(item.access_token.expose()), number, renew_at })
    }
}

/// The life that a JWT claims. Not verified: it only decides when to fetch the next one.
fn life_of(token: &str) -> Option<Duration> {
    let payload = token.split('.').nth(1)?;
    let times: Times = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    Some(Duration::from_secs(times.exp.checked_sub(times.iat)?.clamp(10, 86_400)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokens_life_is_read_from_its_claims() {
        let token = format!("x.{}.y", URL_SAFE_NO_PAD.encode(br#"{"iat":1000,"exp":1900,"sub":"a"}"#));
        assert_eq!(life_of(&token), Some(Duration::from_secs(900)));
        assert_eq!(life_of("opaque"), None);
    }
}
