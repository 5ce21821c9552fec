//! Calls to etcd: one connection for each member, one of them in use until it fails.
//!
//! A client that spreads its calls over all members goes on calling a dead one; so calls stick to one member and move on
//! when it does not answer. Moving on by itself is for what was certainly not carried out; whatever may have been is
//! the caller's to resolve.

use super::failure::CallError;
use super::{EtcdError, file_error};
use crate::config::EtcdConfig;
use etcd_client::{Certificate, Client, ConnectOptions, Error, Identity, TlsOptions};
use muster_runtime::secret::Secret;
use std::error::Error as _;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// Longest time for opening a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// Pings on a connection with calls under way. etcd takes more than one in 5 s, or one while idle, for an attack.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_WITHIN: Duration = Duration::from_secs(5);

/// How etcd is reached: endpoints, certificates, user. Read once, when the process starts.
#[derive(Clone)]
pub(super) struct Access {
    endpoints: Vec<String>,
    options: ConnectOptions,
    timeout: Duration,
}

impl Access {
    /// Reads the files that the configuration names.
    pub(super) fn read(config: &EtcdConfig) -> Result<Self, EtcdError> {
        let timeout = Duration::from_millis(config.request_timeout_ms);
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_WITHIN.min(timeout))
            .with_keep_alive(PING_EVERY, PING_WITHIN)
            .with_keep_alive_while_idle(false)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if let Some(path) = &config.ca_file {
            let authorities = certificates("store.etcd.ca_file", path)?;
            let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(authorities));
            if let (Some(certificate), Some(path)) = (&config.certificate_file, &config.key_file) {
                let certificate = certificates("store.etcd.certificate_file", certificate)?;
                let key = Secret::from_file(path).map_err(|error| file_error("store.etcd.key_file", &error))?;
                tls = tls.identity(Identity::from_pem(certificate, key.reveal()));
                check(&tls, path)?;
            }
            options = options.with_tls(tls);
        }
        if let (Some(user), Some(path)) = (&config.user, &config.password_file) {
            let password = Secret::from_file(path).map_err(|error| file_error("store.etcd.password_file", &error))?;
            options = options.with_user(user.as_str(), password.reveal());
        }
        Ok(Self { endpoints: config.endpoints.clone(), options, timeout })
    }
}

/// Reads a file that must hold certificates. A connection would fail over one that does not as it does when etcd is away.
fn certificates(key: &'static str, path: &Path) -> Result<Vec<u8>, EtcdError> {
    let bad = |why: &str| file_error(key, &format!("{}: {why}", path.display()));
    let pem = std::fs::read(path).map_err(|error| bad(&error.to_string()))?;
    match reqwest::Certificate::from_pem_bundle(&pem) {
        Ok(found) if !found.is_empty() => Ok(pem),
        _ => Err(bad("holds no PEM certificate")),
    }
}

/// Whether the private key is one, and that of the certificate.
fn check(tls: &TlsOptions, key: &Path) -> Result<(), EtcdError> {
    let Err(error) = tonic::transport::Endpoint::from_static("https://etcd").tls_config(tls.clone()) else {
        return Ok(());
    };
    let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    let why = format!("{} is not the private key of store.etcd.certificate_file: {why}", key.display());
    Err(file_error("store.etcd.key_file", &why))
}

/// A way to etcd of one's own: nothing waits behind the calls of others. Cheap to clone; clones share the connections,
/// which belong to the runtime in which they were first used.
#[derive(Clone)]
pub(super) struct Etcd(Arc<Shared>);

struct Shared {
    access: Access,
    members: Vec<Mutex<Option<Client>>>,
    current: AtomicUsize,
}

impl Etcd {
    pub(super) fn new(access: Access) -> Self {
        let members = access.endpoints.iter().map(|_| Mutex::new(None)).collect();
        Self(Arc::new(Shared { access, members, current: AtomicUsize::new(0) }))
    }

    /// The members, as configured.
    pub(super) fn endpoints(&self) -> &[String] {
        &self.0.access.endpoints
    }

    /// How long one member may take to answer.
    pub(super) fn timeout(&self) -> Duration {
        self.0.access.timeout
    }

    /// Asks the member in use, and the others in turn while it is certain that nothing was carried out.
    pub(super) async fn call<T, F>(&self, request: impl Fn(Client) -> F + Send + Sync) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, Error>> + Send,
    {
        let mut members = self.endpoints().len();
        loop {
            let at = self.0.current.load(Ordering::Relaxed) % self.endpoints().len().max(1);
            let error = match self.call_at(at, &request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if error.is_of_the_member() {
                // Of calls that fail together, only the first moves on.
                let next = (at + 1) % self.endpoints().len().max(1);
                let _ = self.0.current.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
            }
            members = members.saturating_sub(1);
            let elsewhere = error.was_not_sent() && error.is_of_the_member();
            if members == 0 || !(elsewhere || matches!(error, CallError::LoggedOut(_))) {
                return Err(error);
            }
        }
    }

    /// Asks one member.
    pub(super) async fn call_at<T, F>(
        &self,
        member: usize,
        request: impl Fn(Client) -> F + Send + Sync,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, Error>> + Send,
    {
        let client = self.client(member).await?;
        let answer = match timeout(self.timeout(), request(client)).await {
            Ok(answer) => answer.map_err(CallError::of),
            Err(_) => Err(CallError::Unknown(format!("no answer within {} ms", self.timeout().as_millis()))),
        };
        let answer = answer.map_err(|error| self.named(member, error));
        if let (Err(CallError::LoggedOut(_)), Some(slot)) = (&answer, self.0.members.get(member)) {
            // The next call logs in.
            *slot.lock().await = None;
        }
        answer
    }

    async fn client(&self, member: usize) -> Result<Client, CallError> {
        let (Some(slot), Some(endpoint)) = (self.0.members.get(member), self.endpoints().get(member)) else {
            return Err(CallError::NotSent("etcd has no endpoints".to_owned()));
        };
        let mut slot = slot.lock().await;
        if let Some(client) = slot.as_ref() {
            return Ok(client.clone());
        }
        let connecting = Client::connect([endpoint.as_str()], Some(self.0.access.options.clone()));
        let connected = match timeout(self.timeout(), connecting).await {
            Ok(connected) => connected.map_err(CallError::of),
            Err(_) => Err(CallError::NotSent(format!("no connection within {} ms", self.timeout().as_millis()))),
        };
        let client = connected.map_err(|error| match self.named(member, error) {
            // Logging in changes nothing at etcd.
            CallError::Unknown(words) => CallError::NotSent(words),
            other => other,
        })?;
        Ok(slot.insert(client).clone())
    }

    fn named(&self, member: usize, error: CallError) -> CallError {
        let endpoint = self.endpoints().get(member).map_or("", String::as_str);
        match error {
            CallError::NotSent(words) => CallError::NotSent(format!("{endpoint}: {words}")),
            CallError::Unknown(words) => CallError::Unknown(format!("{endpoint}: {words}")),
            CallError::Refused(kind, words) => CallError::Refused(kind, format!("{endpoint}: {words}")),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::fixture::{CURRENT, CURRENT_PUBLIC, NEXT, NEXT_CERTIFICATE};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn tls_files_that_can_never_do_are_refused_by_their_key() {
        muster_runtime::tls::install_provider();
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
            Some(path)
        };
        let right = EtcdConfig {
            endpoints: vec!["https://etcd:2379".to_owned()],
            prefix: "/muster".to_owned(),
            ca_file: file("ca", NEXT_CERTIFICATE),
            certificate_file: file("certificate", NEXT_CERTIFICATE),
            key_file: file("key", NEXT),
            user: None,
            password_file: None,
            incarnation: 0,
            space_budget_mib: 1,
            lease_ttl_ms: 9_000,
            request_timeout_ms: 2_000,
        };
        assert!(Access::read(&right).is_ok());
        let mut wrong = Vec::new();
        for (name, text) in [("empty", ""), ("junk", "-----BEGIN CERTIFICATE-----\n?\n"), ("public", CURRENT_PUBLIC)] {
            let path = file(name, text);
            wrong.push(("ca_file", EtcdConfig { ca_file: path.clone(), ..right.clone() }));
            wrong.push(("certificate_file", EtcdConfig { certificate_file: path, ..right.clone() }));
        }
        wrong.push(("certificate_file", EtcdConfig { certificate_file: Some("/nowhere".into()), ..right.clone() }));
        for (name, text) in [("no key", "text"), ("another", CURRENT), ("a certificate", NEXT_CERTIFICATE)] {
            wrong.push(("key_file", EtcdConfig { key_file: file(name, text), ..right.clone() }));
        }
        for (key, config) in wrong {
            let error = Access::read(&config).err().unwrap();
            assert!(error.to_string().starts_with(&format!("store.etcd.{key}: /")), "{key}: {error}");
            assert!(error.needs_an_operator());
        }
    }
}
