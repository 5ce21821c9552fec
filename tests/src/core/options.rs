//! How a stand-in is set up.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::product::{ProductReference, compute_product};

/// Options of [`super::Core::start`].
#[derive(Debug, Clone)]
pub struct CoreOptions {
    /// Where to listen; `None`: 127.0.0.1 on a free port of 21000 to 29999, which lies outside the kernel's ephemeral range.
    pub listen: Option<SocketAddr>,
    /// Id of the one provider this Core knows.
    pub provider_id: String,
    /// Base URL of the provider, for example `http://127.0.0.1:20001`; may be set later with [`super::Core::set_provider_url`].
    pub provider_url: String,
    /// Where keys and refresh token are kept and given to the provider; `None`: only in memory.
    pub state_dir: Option<PathBuf>,
    /// Products (`Product.Compute`, protocol 8.7). Empty: one like the seeds' `example-compute-1`.
    pub products: Vec<Value>,
    /// Balance of every wallet nobody has set, credits; `None`: such wallets do not exist.
    pub default_balance: Option<i64>,
    /// How often jobs are looked through for verification. Core: 30 s.
    pub verify_scan: Duration,
    /// How often one job is verified at most. Core: 5 min.
    pub verify_each: Duration,
    /// How long a call to the provider may take (reliability F1).
    pub call_timeout: Duration,
    /// How often a call of a user is tried when the provider answers 449 or 503 (protocol 1.4).
    pub call_attempts: u32,
    /// How long the provider's list of products is believed. Core: 15 min.
    pub support_cache: Duration,
    /// Whether logs of running jobs are followed.
    pub follow_logs: bool,
    /// Send `UCloud-Username` in base64, as later revisions of Core do.
    pub username_base64: bool,
    /// Say `replicas: 1` whatever the user asked for, as Core of December 2021 does (protocol 8.2).
    pub one_replica: bool,
}

impl CoreOptions {
    /// Core as of December 2021 for this provider, with logs followed and replicas kept.
    pub fn new(provider_id: &str, provider_url: &str) -> Self {
        Self {
            listen: None,
            provider_id: provider_id.to_owned(),
            provider_url: provider_url.to_owned(),
            state_dir: None,
            products: Vec::new(),
            default_balance: Some(1_000_000_000_000_000),
            verify_scan: Duration::from_secs(30),
            verify_each: Duration::from_secs(300),
            call_timeout: Duration::from_secs(5),
            call_attempts: 5,
            support_cache: Duration::from_secs(15 * 60),
            follow_logs: true,
            username_base64: false,
            one_replica: false,
        }
    }

    /// The product that an empty list stands for.
    pub fn default_product(&self) -> Value {
        compute_product(
            &ProductReference::new("example-compute-1", "example-compute", &self.provider_id),
            1,
            2,
            1_000_000,
        )
    }
}
