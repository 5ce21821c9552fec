//! How a request came to this coordinator, as far as that decides where it may go.

use super::FORWARDED;
use crate::http::Bound;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::uri::Authority;
use std::net::IpAddr;

/// See the module's text.
#[derive(Clone, Debug)]
pub(super) struct Came {
    /// The name of the coordinator that passed it on, if one did.
    pub(super) passed_on_by: Option<HeaderValue>,
    /// Whether it came to a listener that only this machine reaches. Then all coordinators are taken to be on this machine.
    pub(super) is_from_here: bool,
}

impl Came {
    pub(super) fn of(request: &Request) -> Self {
        let bound = request.extensions().get::<Bound>();
        Self {
            passed_on_by: request.headers().get(FORWARDED).cloned(),
            is_from_here: bound.is_some_and(|Bound(address)| address.ip().to_canonical().is_loopback()),
        }
    }
}

/// Whether a `host:port` means whatever machine uses it. Anybody may listen there, and would get the caller's token.
pub(super) fn is_of_any_machine(address: &str) -> bool {
    let Ok(authority) = address.parse::<Authority>() else { return false };
    let host = authority.host();
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback() || address.to_canonical().is_unspecified(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_every_machine_has_are_known() {
        for own in ["127.0.0.1:80", "127.8.8.8:80", "localhost:80", "[::1]:80", "[::ffff:127.0.0.1]:80", "0.0.0.0:80"] {
            assert!(is_of_any_machine(own), "{own}");
        }
        for other in ["192.0.2.1:80", "[2001:db8::1]:80", "coordinator-1:80", "localhost.example.org:80"] {
            assert!(!is_of_any_machine(other), "{other}");
        }
    }
}
