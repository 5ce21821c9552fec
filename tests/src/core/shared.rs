//! What the server, the client and the background tasks of one stand-in share.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::client::CallFailure;
use super::fault::Faults;
use super::follow::Sockets;
use super::keys::ProviderKeys;
use super::options::CoreOptions;
use super::state::{State, now_ms};
use super::tokens;

/// Life of an access token of either direction (protocol 2).
const TOKEN_LIFE_S: u64 = 15 * 60;
/// Tokens are renewed when less than this remains.
const RENEW_BELOW_S: u64 = 3 * 60;

pub(super) struct Shared {
    pub(super) options: CoreOptions,
    pub(super) address: SocketAddr,
    pub(super) http: reqwest::Client,
    pub(super) faults: watch::Sender<Faults>,
    pub(super) revision: watch::Sender<u64>,
    pub(super) sockets: Sockets,
    pub(super) stop: CancellationToken,
    state: Mutex<State>,
    keys: RwLock<Arc<ProviderKeys>>,
    provider_url: RwLock<String>,
    token: Mutex<Option<(u64, String)>>,
    support: tokio::sync::Mutex<Option<(Instant, Arc<Vec<Value>>)>>,
}

impl Shared {
    pub(super) fn new(
        options: CoreOptions,
        address: SocketAddr,
        keys: ProviderKeys,
        state: State,
    ) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self {
            address,
            http,
            faults: watch::Sender::new(Faults::default()),
            revision: watch::Sender::new(0),
            sockets: Sockets::default(),
            stop: CancellationToken::new(),
            state: Mutex::new(state),
            keys: RwLock::new(Arc::new(keys)),
            provider_url: RwLock::new(options.provider_url.trim_end_matches('/').to_owned()),
            token: Mutex::new(None),
            support: tokio::sync::Mutex::new(None),
            options,
        })
    }

    /// The state. A panic of a test while it held the lock does not spoil it for the others.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the faults that are on.
    pub(super) fn set_faults(&self, faults: Faults) {
        self.state().unknown = faults.unknown_jobs.clone();
        self.faults.send_replace(faults);
    }

    /// Tells everybody who waits for anything.
    pub(super) fn changed(&self) {
        self.revision.send_modify(|revision| *revision += 1);
    }

    pub(super) fn keys(&self) -> Arc<ProviderKeys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces key and refresh token at once and forgets the old ones (protocol 2.1).
    pub(super) fn renew_keys(&self, keys: ProviderKeys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn provider_url(&self) -> String {
        self.provider_url.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_provider_url(&self, url: &str) {
        *self.provider_url.write().unwrap_or_else(PoisonError::into_inner) = url.trim_end_matches('/').to_owned();
    }

    /// A path of the provider's API: `/ucloud/{provider}/{rest}`.
    pub(super) fn provider_path(&self, rest: &str) -> String {
        format!("/ucloud/{}/{rest}", self.options.provider_id)
    }

    /// The token that Core presents, renewed in time.
    pub(super) fn core_token(&self) -> anyhow::Result<String> {
        let now_s = now_ms() / 1000;
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, text)) = token.as_ref().filter(|(expires_s, _)| *expires_s >= now_s + RENEW_BELOW_S) {
            return Ok(text.clone());
        }
        let text = tokens::sign(&self.keys(), &tokens::core_claims(now_s, TOKEN_LIFE_S))?;
        *token = Some((now_s + TOKEN_LIFE_S, text.clone()));
        Ok(text)
    }

    /// A new access token for the provider, already expired if that fault is on.
    pub(super) fn provider_token(&self) -> anyhow::Result<String> {
        // Tokens carry no id of their own: one of the same second would be the same text as one that was just revoked.
        let now_s = now_ms() / 1000 - self.state().revocations % 60;
        let (issued_s, expires_s) = if self.faults.borrow().tokens_expire_at_once {
            (now_s - TOKEN_LIFE_S, now_s)
        } else {
            (now_s, now_s + TOKEN_LIFE_S)
        };
        let claims = tokens::provider_claims(&self.options.provider_id, issued_s, expires_s);
        let token = tokens::sign(&self.keys(), &claims)?;
        self.state().note_token(token.clone());
        Ok(token)
    }

    /// The provider's list of products, from the cache if it is young enough. Only successes are cached.
    pub(super) async fn support(&self) -> Result<Arc<Vec<Value>>, CallFailure> {
        let mut cache = self.support.lock().await;
        if let Some((_, list)) = cache.as_ref().filter(|(since, _)| since.elapsed() < self.options.support_cache) {
            return Ok(list.clone());
        }
        let list = Arc::new(self.fetch_support().await?);
        *cache = Some((Instant::now(), list.clone()));
        Ok(list)
    }

    /// Asks the provider now, and renews the cache.
    pub(super) async fn support_now(&self) -> Result<Arc<Vec<Value>>, CallFailure> {
        let list = Arc::new(self.fetch_support().await?);
        *self.support.lock().await = Some((Instant::now(), list.clone()));
        Ok(list)
    }

    async fn fetch_support(&self) -> Result<Vec<Value>, CallFailure> {
        let answer = self.system_call(reqwest::Method::GET, &self.provider_path("jobs/retrieveProducts"), None).await?;
        if !answer.is_success() {
            return Err(CallFailure::answer(&answer, 1));
        }
        let list = answer.body.get("responses").and_then(Value::as_array).cloned();
        list.ok_or_else(|| CallFailure::misfit("retrieveProducts: expected {responses: [ComputeSupport]}", 1))
    }
}
