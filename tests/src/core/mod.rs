//! A stand-in for UCloud/Core as of December 2021, as far as a compute provider can tell.
//!
//! It is a real HTTP server that signs tokens with a key pair of its own, keeps jobs with their history and wallets, judges updates
//! and charges, calls the provider, follows logs over WebSocket and sends `verify` on its cadence. It reads the protocol
//! independently of the provider's code: a mistake in one of them shows as a difference between the two. Faults can be switched on.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use std::time::Duration;
//! use muster_tests::core::{Core, CoreOptions, JobRequest, JobState};
//!
//! let core = Core::start(CoreOptions::new("example", "http://127.0.0.1:20001")).await?;
//! let id = core.submit(JobRequest::new("acme/batch:1.0.0").command(["echo", "hello"]).replicas(2)).await?;
//! let job = core.wait_for(&id, |job| job.state.is_final(), Duration::from_secs(30)).await?;
//! assert_eq!(job.state, JobState::Success);
//! # Ok(())
//! # }
//! ```

mod browse;
mod client;
mod fault;
mod follow;
mod http;
mod inspect;
mod job;
mod keys;
mod ledger;
mod options;
mod product;
mod request;
mod shared;
mod state;
mod submit;
mod tokens;
mod update;
mod verify;

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use reqwest::Method;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use client::{CallFailure, Origin, ProviderAnswer};
pub use fault::Faults;
pub use job::{CoreJob, Following, HistoryEntry, JobState, RankLog, Verdict};
pub use keys::ProviderKeys;
pub use ledger::{Charge, RepeatedCharge, Wallet};
pub use options::CoreOptions;
pub use product::{ProductReference, compute_product};
pub use request::JobRequest;
pub use state::{Call, CreateStatistics, Direction};
pub use submit::Repeat;
pub use tokens::{BadToken, core_claims, provider_claims};

/// Why a submission failed.
pub type SubmitError = CallFailure;

/// Ports that tests listen on: below the kernel's ephemeral range, so that no client's own end takes one (protocol, ruling 17).
const TEST_PORTS: std::ops::RangeInclusive<u16> = 21_000..=29_999;

/// A running stand-in. Clones are handles to the same one; it stops when the last is dropped.
#[derive(Clone)]
pub struct Core {
    shared: Arc<shared::Shared>,
    _stop: Arc<DropGuard>,
}

impl Core {
    /// Makes or reads the keys, opens the port and starts the background tasks.
    pub async fn start(options: CoreOptions) -> anyhow::Result<Self> {
        // Needed once per process; fails if somebody was here before, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let directory = options.state_dir.clone();
        let keys = tokio::task::spawn_blocking(move || match directory {
            Some(directory) => ProviderKeys::load_or_create(&directory),
            None => ProviderKeys::generate(),
        });
        let keys = keys.await.context("make keys")??;

        let mut catalogue = product::Catalogue::default();
        let given =
            if options.products.is_empty() { vec![options.default_product()] } else { options.products.clone() };
        for json in &given {
            let product = product::Product::parse(json)
                .map_err(|error| anyhow::anyhow!("product of the options: {}", error.why))?;
            anyhow::ensure!(
                product.reference.provider == options.provider_id,
                "product {}: category.provider is {}, expected {}",
                product.reference.id,
                product.reference.provider,
                options.provider_id
            );
            catalogue.add(product);
        }
        // Jobs live in memory only. A stand-in that keeps its keys meets a provider that remembers the ids of its last life.
        let first_id = if options.state_dir.is_some() { state::now_ms() } else { 54_112 };
        let state = state::State::new(first_id, options.default_balance, catalogue);

        let (listener, address) = bind(options.listen).await?;
        let shared = Arc::new(shared::Shared::new(options, address, keys, state)?);
        let stop: CancellationToken = shared.stop.clone();
        let listener = http::CutListener::new(listener, address, shared.faults.subscribe());
        tokio::spawn(http::serve(shared.clone(), listener));
        tokio::spawn(verify::run(shared.clone()));
        tracing::info!(%address, provider = shared.options.provider_id, "stand-in core listens");
        Ok(Self { shared, _stop: Arc::new(stop.drop_guard()) })
    }

    /// Creates one job. Returns its id when the provider has accepted it.
    pub async fn submit(&self, request: JobRequest) -> Result<String, SubmitError> {
        let ids = self.shared.submit(&[request]).await?;
        ids.into_iter().next().ok_or_else(|| CallFailure::core(500, "no id was assigned"))
    }

    /// As [`Core::submit`], with a second create of the same job. What that one was told is no call of Core's and is not among
    /// [`Core::calls`]; `None`: it was to come after an acceptance, and there was none.
    pub async fn submit_twice(
        &self,
        request: &JobRequest,
        repeat: &Repeat,
    ) -> (Result<String, SubmitError>, Option<Result<ProviderAnswer, CallFailure>>) {
        self.shared.submit_twice(request, repeat).await
    }

    /// Creates 1 to 1000 jobs in one bulk call, all or none. The first one's creator is the caller.
    pub async fn submit_bulk(&self, requests: &[JobRequest]) -> Result<Vec<String>, SubmitError> {
        self.shared.submit(requests).await
    }

    /// Asks the provider to end a job, in the name of its owner. The job ends when the provider says so.
    pub async fn terminate(&self, id: &str) -> Result<(), CallFailure> {
        self.shared.terminate(id, None).await
    }

    /// Ends a job as Core itself does: user name `_ucloud`, and a message in the history (protocol 10.2).
    pub async fn terminate_as_core(&self, id: &str, reason: &str) -> Result<(), CallFailure> {
        self.shared.terminate(id, Some("_ucloud")).await?;
        let entry = HistoryEntry::message(state::now_ms(), format!("System initiated cancel: {reason}"));
        let mut state = self.shared.state();
        if let Some(record) = state.record_mut(id) {
            record.view.history.push(entry);
            record.changed();
        }
        Ok(())
    }

    /// Asks for more time. The new total appears in the job when the provider has pushed it.
    pub async fn extend(&self, id: &str, hours: u64, minutes: u64, seconds: u64) -> Result<(), CallFailure> {
        self.shared.extend(id, hours, minutes, seconds).await
    }

    /// Opens an interactive session of type `SHELL`, `WEB` or `VNC`; the answer is the `OpenSession`, or null.
    pub async fn open_session(&self, id: &str, rank: u32, session_type: &str) -> Result<Value, CallFailure> {
        self.shared.open_session(id, rank, session_type).await
    }

    /// Follows the log of a job once more from its start, as another viewer would. The log of the first viewer is replaced.
    pub fn follow_again(&self, id: &str) {
        follow::start(&self.shared, id);
    }

    /// Asks the provider for its products now (a list of `ComputeSupport`) and believes the answer from here on.
    pub async fn retrieve_products(&self) -> Result<Vec<Value>, CallFailure> {
        Ok(self.shared.support_now().await?.to_vec())
    }

    /// Asks for `{capacity, usedCapacity, queueStatus}`.
    pub async fn utilization(&self) -> Result<Value, CallFailure> {
        let path = self.shared.provider_path("jobs/retrieveUtilization");
        let answer = self.shared.system_call(Method::GET, &path, None).await?;
        if answer.is_success() { Ok(answer.body) } else { Err(CallFailure::answer(&answer, 1)) }
    }

    /// Sends `verify` for every live job now, 100 to a call. Returns how many were named.
    pub async fn verify_now(&self) -> Result<usize, CallFailure> {
        verify::everything(&self.shared).await
    }

    /// One raw call to the provider. `path` begins with a slash; `token` is any text, `None`: no bearer at all.
    pub async fn provider_call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        token: Option<&str>,
    ) -> Result<ProviderAnswer, CallFailure> {
        self.shared.call(method, path, body, token, None).await
    }

    /// As [`Core::provider_call`], with Core's own good token and a user name, and no repetition.
    pub async fn call_as(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        username: &str,
    ) -> Result<ProviderAnswer, CallFailure> {
        let token = self.shared.core_token().map_err(|error| CallFailure::core(500, error.to_string()))?;
        self.shared.call(method, path, body, Some(&token), Some(username)).await
    }

    /// The good token that Core presents at the moment.
    pub fn core_token(&self) -> anyhow::Result<String> {
        self.shared.core_token()
    }

    /// Signs any claims with the provider's key, as Core does.
    pub fn sign(&self, claims: &Value) -> anyhow::Result<String> {
        tokens::sign(&self.shared.keys(), claims)
    }

    /// Makes a token that the provider must refuse.
    pub fn bad_token(&self, kind: BadToken) -> anyhow::Result<String> {
        kind.make(&self.shared.keys(), &self.shared.options.provider_id, state::now_ms() / 1000)
    }

    /// Renews the provider: a new key pair and refresh token replace the old ones at once, also in the state directory.
    pub async fn renew_keys(&self) -> anyhow::Result<()> {
        let directory = self.shared.options.state_dir.clone();
        let made = tokio::task::spawn_blocking(move || {
            let keys = ProviderKeys::generate()?;
            directory.map_or(Ok(()), |directory| keys.write(&directory))?;
            Ok::<_, anyhow::Error>(keys)
        });
        self.shared.renew_keys(made.await??);
        Ok(())
    }
}

async fn bind(wanted: Option<SocketAddr>) -> anyhow::Result<(TcpListener, SocketAddr)> {
    if let Some(address) = wanted {
        let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
        let address = listener.local_addr()?;
        return Ok((listener, address));
    }
    for _ in 0..100 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, rand::random_range(TEST_PORTS)));
        if let Ok(listener) = TcpListener::bind(address).await {
            return Ok((listener, address));
        }
    }
    anyhow::bail!("no free port found between {} and {}", TEST_PORTS.start(), TEST_PORTS.end())
}
