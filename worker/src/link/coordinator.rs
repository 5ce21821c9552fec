//! One address of a coordinator, and how to reach it.

use muster_domain::id::Term;
use muster_proto::{AUTHORIZATION, LEFT_TERM};
use muster_runtime::secret::Secret;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

/// How long reaching one address may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// The same while another coordinator may be leading already.
const CONNECT_QUICKLY: Duration = Duration::from_millis(500);
/// How often a silent connection is asked whether it lives, and how long it may take to answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The shared secret, in the form in which every call carries it.
#[derive(Clone, Debug)]
pub(crate) struct JoinSecret(MetadataValue<Ascii>);

impl JoinSecret {
    /// `None`: the text holds what no header can.
    pub(crate) fn new(secret: &Secret) -> Option<Self> {
        let mut value = MetadataValue::try_from(format!("Bearer {}", secret.reveal())).ok()?;
        // Neither shown by Debug nor kept in the compression state of the connection.
        value.set_sensitive(true);
        Some(Self(value))
    }
}

/// Why an address cannot be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreachable {
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    #[error("{}", chain(.0))]
    Refused(#[from] tonic::transport::Error),
}

/// tonic says "transport error" and hides what happened in the sources.
fn chain(error: &tonic::transport::Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Coordinator {
    url: String,
    endpoint: Endpoint,
    ca_pem: Option<Arc<[u8]>>,
    secret: Option<JoinSecret>,
}

impl Coordinator {
    /// `ca_pem` is the authority of an `https` address.
    pub(crate) fn new(
        url: &str,
        ca_pem: Option<Arc<[u8]>>,
        secret: Option<JoinSecret>,
    ) -> Result<Self, tonic::transport::Error> {
        let mut endpoint = Endpoint::from_shared(url.to_owned())?
            .connect_timeout(CONNECT_WITHIN)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        if let Some(pem) = ca_pem.as_ref().filter(|_| url.starts_with("https:")) {
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
            endpoint = endpoint.tls_config(tls)?;
        }
        Ok(Self { url: url.to_owned(), endpoint, ca_pem, secret })
    }

    /// Another one, of which this one told. `None`: the address is not one, or would be spoken to with less (or other)
    /// protection than this one, or is this worker's own machine, where a rank may listen for the secret.
    pub(crate) fn told_of(&self, url: &str) -> Option<Self> {
        let scheme = |url: &str| url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        if scheme(url) != scheme(&self.url) {
            return None;
        }
        let other = Self::new(url, self.ca_pem.clone(), self.secret.clone()).ok()?;
        if other.is_on_this_machine() && !self.is_on_this_machine() {
            return None;
        }
        Some(other)
    }

    /// Whether its address means whatever machine uses it.
    fn is_on_this_machine(&self) -> bool {
        let host = self.endpoint.uri().host().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        match literal.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback() || address.to_canonical().is_unspecified(),
            Err(_) => {
                let name = host.trim_end_matches('.').to_ascii_lowercase();
                name == "localhost" || name.ends_with(".localhost")
            }
        }
    }

    /// Its address, for logs.
    pub(crate) fn name(&self) -> &str {
        &self.url
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> Result<Channel, Unreachable> {
        self.connect_within(CONNECT_WITHIN).await
    }

    /// A new connection, or word soon that there is none.
    pub(crate) async fn connect_quickly(&self) -> Result<Channel, Unreachable> {
        self.connect_within(CONNECT_QUICKLY).await
    }

    async fn connect_within(&self, within: Duration) -> Result<Channel, Unreachable> {
        // The endpoint's own bound does not cover the name lookup and the handshake.
        let connected = tokio::time::timeout(within, self.endpoint.connect()).await;
        Ok(connected.map_err(|_| Unreachable::Timeout(within))??)
    }

    /// A request with the secret and the present trace.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        muster_runtime::telemetry::inject(request.metadata_mut());
        if let Some(JoinSecret(value)) = &self.secret {
            request.metadata_mut().insert(AUTHORIZATION, value.clone());
        }
        request
    }

    /// The same for the worker's stream; `left` is a term whose leader was found gone.
    pub(crate) fn session_request<T>(&self, message: T, left: Option<Term>) -> Request<T> {
        let mut request = self.request(message);
        if let Some(term) = left {
            request.metadata_mut().insert(LEFT_TERM, MetadataValue::from(term));
        }
        request
    }
}
