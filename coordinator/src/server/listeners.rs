//! The sockets that a coordinator listens on, all bound before anything runs.

use super::{Addresses, StartError};
use crate::config::Config;
use std::net::SocketAddr;
use tokio::net::TcpListener;

pub(super) struct Listeners {
    pub(super) http: TcpListener,
    /// The same socket once more: as long as it is held, connections wait instead of being refused. Others take a refusal for
    /// the proof that this process is gone, and would end its lease while it still makes durable what it has decided.
    pub(super) kept: std::net::TcpListener,
    pub(super) operator: TcpListener,
    pub(super) fleet: TcpListener,
    pub(super) addresses: Addresses,
}

impl Listeners {
    pub(super) async fn bind(config: &Config) -> Result<Self, StartError> {
        let http = bind("http.listen", config.http.listen).await?;
        let operator = bind("operator.listen", config.operator.listen).await?;
        let fleet = bind("fleet.listen", config.fleet.listen).await?;
        let failed = |source| StartError::Listen { key: "http.listen", address: config.http.listen, source };
        let listener = http.0.into_std().map_err(failed)?;
        let kept = listener.try_clone().map_err(failed)?;
        let listener = TcpListener::from_std(listener).map_err(failed)?;
        let addresses = Addresses { http: http.1, operator: operator.1, fleet: fleet.1 };
        Ok(Self { http: listener, kept, operator: operator.0, fleet: fleet.0, addresses })
    }
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { key, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
