//! Everything the coordinator can be told, with defaults, checked as a whole before any port opens.

mod etcd;
mod keys;

pub use keys::PROGRAM;

use crate::core::client::{ClientSettings, Timing};
use crate::core::token::RefreshToken;
use crate::election::Identity;
use crate::server::Addresses;
use muster_domain::cluster::Settings;
use muster_domain::id::{ClusterName, NodeName, ProviderId};
use muster_domain::product::Product;
use muster_runtime::config::{Complaint, Validate};
use muster_runtime::telemetry;
use muster_ucloud::v2021::accept::Catalogue;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The configuration. Its keys are declared, with their meaning, in [`PROGRAM`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each field is the key of the same name, documented in the table of keys")]
pub struct Config {
    pub provider: ProviderConfig,
    pub cluster: ClusterConfig,
    pub coordinator: CoordinatorConfig,
    pub advertise: AdvertiseConfig,
    pub http: HttpConfig,
    pub operator: OperatorConfig,
    pub fleet: FleetConfig,
    pub core: CoreConfig,
    #[serde(default)]
    pub products: Vec<Product>,
    pub jobs: JobsConfig,
    pub accounting: AccountingConfig,
    pub insufficient_funds: InsufficientFundsConfig,
    pub timeouts: TimeoutsConfig,
    pub store: StoreConfig,
    pub telemetry: telemetry::Config,
}

macro_rules! sections {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $kind:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(missing_docs, reason = "each field is the key of the same name, documented in the table of keys")]
        pub struct $name { $(pub $field: $kind,)* }
    )*};
}

sections! {
    /// `[provider]`
    ProviderConfig { id: String, }
    /// `[cluster]`
    ClusterConfig { name: String, }
    /// `[coordinator]`
    CoordinatorConfig { name: Option<String>, }
    /// `[advertise]`
    AdvertiseConfig { http: Option<String>, operator: Option<String>, fleet: Option<String>, }
    /// `[http]`
    HttpConfig { listen: SocketAddr, }
    /// `[operator]`
    OperatorConfig { listen: SocketAddr, token_file: Option<PathBuf>, }
    /// `[fleet]`
    FleetConfig { listen: SocketAddr, token_file: Option<PathBuf>, }
    /// `[core]`
    CoreConfig {
        url: String,
        refresh_token_file: PathBuf,
        public_key_files: Vec<PathBuf>,
        issuer: String,
        ca_file: Option<PathBuf>,
        token_life_ms: u64,
        token_leeway_ms: u64,
    }
    /// `[jobs]`
    JobsConfig { max_replicas: u32, attempts: u32, }
    /// `[accounting]`
    AccountingConfig { window_ms: u64, rounding: Rounding, }
    /// `[insufficient_funds]`
    InsufficientFundsConfig { confirmations: u32, }
    /// `[timeouts]`
    TimeoutsConfig {
        offline_after_ms: u64,
        lost_after_ms: u64,
        prepare_timeout_ms: u64,
        start_lease_ms: u64,
        resend_ms: u64,
        retention_ms: u64,
    }
    /// `[store]`
    StoreConfig { kind: StoreKind, path: PathBuf, etcd: EtcdConfig, }
    /// `[store.etcd]`
    EtcdConfig {
        endpoints: Vec<String>,
        prefix: String,
        ca_file: Option<PathBuf>,
        certificate_file: Option<PathBuf>,
        key_file: Option<PathBuf>,
        user: Option<String>,
        password_file: Option<PathBuf>,
        incarnation: u16,
        space_budget_mib: u64,
        lease_ttl_ms: u64,
        request_timeout_ms: u64,
    }
}

/// Where the cluster's state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// In one file of one coordinator.
    Embedded,
    /// In etcd, which several coordinators share.
    Etcd,
}

/// What becomes of a last period that has only begun (`protocol.md` 16.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rounding {
    /// It is not charged.
    Down,
    /// It is charged as a whole.
    Up,
}

impl Validate for Config {
    fn validate(&self) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        let mut expect = |fine: bool, key: &str, expected: &str| {
            if !fine {
                complaints.push(Complaint::new(key, expected));
            }
        };
        let id = ProviderId::new(self.provider.id.as_str());
        expect(id.is_ok(), "provider.id", "1 to 63 letters, digits, '-', '.' or '_', beginning with a letter or digit");
        let name = ClusterName::new(self.cluster.name.as_str());
        expect(name.is_ok(), "cluster.name", "1 to 40 letters, digits or '-', beginning with a letter or digit");
        expect(
            self.name().is_ok(),
            "coordinator.name",
            "1 to 63 letters, digits, '-', '.' or '_', unlike any other coordinator's; the machine's name is none, so set one",
        );
        for (key, address) in
            [("advertise.http", &self.advertise.http), ("advertise.operator", &self.advertise.operator)]
        {
            let usable = address.as_ref().is_none_or(|address| is_host_and_port(address));
            expect(usable, key, "a host and a port, such as 10.0.0.1:8470");
        }
        expect(
            self.advertise.fleet.as_ref().is_none_or(|url| {
                let bare = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
                bare.is_some_and(is_host_and_port)
            }),
            "advertise.fleet",
            "http:// or https:// with a host and a port, such as http://10.0.0.1:8472",
        );
        let advertised = [
            ("advertise.http", "http.listen", self.http.listen, self.advertise.http.is_some()),
            ("advertise.operator", "operator.listen", self.operator.listen, self.advertise.operator.is_some()),
            ("advertise.fleet", "fleet.listen", self.fleet.listen, self.advertise.fleet.is_some()),
        ];
        for (key, listens, address, is_said) in advertised {
            let reachable = is_said || !address.ip().is_unspecified() || self.store.kind == StoreKind::Embedded;
            let expected = format!("the address at which others reach {listens}, since that is {address}");
            expect(reachable, key, &expected);
        }
        expect(
            self.fleet.token_file.is_some(),
            "fleet.token_file",
            "a file with the join secret of workers; also on a loopback address, which ranks on this machine may reach",
        );
        expect(
            self.operator.token_file.is_some() || self.operator.listen.ip().is_loopback(),
            "operator.token_file",
            "a file with the operators' token, since operator.listen is not a loopback address",
        );
        expect(
            (1..=4).contains(&self.core.public_key_files.len()),
            "core.public_key_files",
            "1 to 4 files: Core's present public key for this provider, and the next one during a change",
        );
        expect(!self.products.is_empty(), "products", "at least one [[products]] table");
        let names: BTreeSet<_> = self.products.iter().map(|product| (&product.category, &product.id)).collect();
        expect(names.len() == self.products.len(), "products", "each pair of category and id once");
        for product in &self.products {
            let whole = product.cores >= 1 && product.memory_gib >= 1;
            expect(
                whole && !product.id.is_empty() && !product.category.is_empty(),
                "products",
                "each with an id, a category, at least 1 core and at least 1 GiB of memory",
            );
        }
        expect(self.accounting.window_ms >= 60_000, "accounting.window_ms", "at least 60000, one period of a minute");
        let timeouts = &self.timeouts;
        expect(
            timeouts.lost_after_ms > timeouts.offline_after_ms,
            "timeouts.lost_after_ms",
            "more than timeouts.offline_after_ms",
        );
        expect(
            timeouts.start_lease_ms >= timeouts.offline_after_ms,
            "timeouts.start_lease_ms",
            "at least timeouts.offline_after_ms, or a start could expire at a worker that is well",
        );
        // An embedded file at each of them would be two clusters that both lead.
        expect(
            self.store.kind == StoreKind::Etcd || self.store.etcd.endpoints.is_empty(),
            "store.kind",
            "etcd, since store.etcd.endpoints is set; or no section [store.etcd]",
        );
        if self.store.kind == StoreKind::Etcd {
            complaints.extend(self.store.etcd.complaints());
        }
        complaints.extend(self.telemetry.complaints());
        complaints
    }
}

impl Config {
    /// The provider's id.
    ///
    /// # Errors
    /// The text is not one; a validated configuration has none.
    pub fn provider(&self) -> Result<ProviderId, muster_domain::id::BadId> {
        ProviderId::new(self.provider.id.as_str())
    }

    /// This coordinator's own name: the machine's where none is configured.
    ///
    /// # Errors
    /// The text is not one; a validated configuration has none.
    pub fn name(&self) -> Result<NodeName, muster_domain::id::BadId> {
        let configured = self.coordinator.name.clone();
        NodeName::new(configured.unwrap_or_else(host_name))
    }

    /// How others reach this coordinator, which listens on `addresses`.
    ///
    /// # Errors
    /// The name is not one; a validated configuration has none.
    pub fn identity(&self, addresses: &Addresses) -> Result<Identity, muster_domain::id::BadId> {
        let or = |said: &Option<String>, bound: String| said.clone().unwrap_or(bound);
        Ok(Identity {
            name: self.name()?.to_string(),
            http: or(&self.advertise.http, addresses.http.to_string()),
            operator: or(&self.advertise.operator, addresses.operator.to_string()),
            fleet: or(&self.advertise.fleet, format!("http://{}", addresses.fleet)),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    /// The rules for the cluster's brain.
    ///
    /// # Errors
    /// A name is not one; a validated configuration has none.
    pub fn settings(&self) -> Result<Settings, muster_domain::id::BadId> {
        let timeouts = &self.timeouts;
        Ok(Settings {
            cluster: ClusterName::new(self.cluster.name.as_str())?,
            provider: self.provider()?,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            attempts: self.jobs.attempts,
            offline_after_ms: timeouts.offline_after_ms,
            lost_after_ms: timeouts.lost_after_ms,
            prepare_timeout_ms: timeouts.prepare_timeout_ms,
            start_lease_ms: timeouts.start_lease_ms,
            resend_ms: timeouts.resend_ms,
            retention_ms: timeouts.retention_ms,
            round_up: self.accounting.rounding == Rounding::Up,
            no_credit_confirmations: self.insufficient_funds.confirmations,
        })
    }

    /// What is offered to users.
    ///
    /// # Errors
    /// The provider's id is not one; a validated configuration has none.
    pub fn catalogue(&self) -> Result<Catalogue, muster_domain::id::BadId> {
        Ok(Catalogue {
            provider: self.provider()?,
            products: self.products.clone(),
            max_replicas: self.jobs.max_replicas,
            window_ms: self.accounting.window_ms,
        })
    }

    /// How to reach Core.
    #[must_use]
    pub fn client(&self) -> ClientSettings {
        ClientSettings {
            url: self.core.url.clone(),
            refresh_token: RefreshToken::File(self.core.refresh_token_file.clone()),
            ca_file: self.core.ca_file.clone(),
            timing: Timing::default(),
        }
    }
}

/// Whether the text is a host and a port, with nothing else.
fn is_host_and_port(text: &str) -> bool {
    let port = |(host, port): (&str, &str)| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
        !host.is_empty() && host.chars().all(plain) && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    text.rsplit_once(':').is_some_and(port)
}

/// The machine's own name; may be no usable one.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests;
