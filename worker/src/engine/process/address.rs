//! Which rank has which loopback address.

use super::settings::{Addresses, Ipv4Prefix};
use crate::engine::{EngineError, Fault};
use muster_domain::id::RankKey;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

/// The addresses of this node's ranks.
#[derive(Debug)]
pub(super) enum AddressBook {
    Loopback { base: Ipv4Prefix, given: Mutex<Given> },
    Node { address: String },
}

#[derive(Debug, Default)]
pub(super) struct Given {
    by_rank: BTreeMap<RankKey, u32>,
    used: BTreeSet<u32>,
    /// Where the next search begins, so that an address rests before it is given again and late packets miss.
    next: u32,
}

impl AddressBook {
    pub(super) fn new(addresses: &Addresses) -> Self {
        match addresses {
            Addresses::Loopback { base } => Self::Loopback { base: *base, given: Mutex::default() },
            Addresses::Node { address } => Self::Node { address: address.clone() },
        }
    }

    /// Notes the address of a rank found on this machine.
    pub(super) fn adopt(&self, key: &RankKey, address: &str) {
        if let (Self::Loopback { given, .. }, Ok(address)) = (self, address.parse::<Ipv4Addr>()) {
            let mut given = given.lock().unwrap_or_else(PoisonError::into_inner);
            given.by_rank.insert(key.clone(), address.into());
            given.used.insert(address.into());
        }
    }

    /// The rank's address; the same one if it has one already.
    pub(super) fn give(&self, key: &RankKey) -> Result<String, EngineError> {
        let (base, given) = match self {
            Self::Loopback { base, given } => (base, given),
            Self::Node { address } => return Ok(address.clone()),
        };
        let mut given = given.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = given.by_rank.get(key) {
            return Ok(Ipv4Addr::from(*address).to_string());
        }
        let (lowest, highest) = base.bounds();
        let begin = given.next.clamp(lowest, highest);
        let free = (begin..=highest).chain(lowest..begin).find(|address| !given.used.contains(address));
        let Some(address) = free else {
            let message = format!("every address of {base} is in use by a rank on this node");
            return Err(EngineError { fault: Fault::Node, message });
        };
        given.next = if address == highest { lowest } else { address + 1 };
        given.by_rank.insert(key.clone(), address);
        given.used.insert(address);
        Ok(Ipv4Addr::from(address).to_string())
    }

    /// The rank is gone.
    pub(super) fn release(&self, key: &RankKey) {
        if let Self::Loopback { given, .. } = self {
            let mut given = given.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(address) = given.by_rank.remove(key) {
                given.used.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_domain::id::JobId;

    fn key(rank: u32) -> RankKey {
        RankKey { job: JobId::new("7").unwrap(), rank, attempt: 1 }
    }

    #[test]
    fn addresses_are_given_once_and_rest_before_they_are_given_again() {
        let book = AddressBook::new(&Addresses::Loopback { base: "127.64.1.0/29".parse().unwrap() });
        assert_eq!(book.give(&key(0)).unwrap(), "127.64.1.1");
        assert_eq!(book.give(&key(0)).unwrap(), "127.64.1.1");
        book.release(&key(0));
        assert_eq!(book.give(&key(1)).unwrap(), "127.64.1.2");
        book.adopt(&key(9), "127.64.1.3");
        for (rank, address) in [(2, "127.64.1.4"), (3, "127.64.1.5"), (4, "127.64.1.6"), (5, "127.64.1.1")] {
            assert_eq!(book.give(&key(rank)).unwrap(), address);
        }
        assert_eq!(book.give(&key(6)).unwrap_err().fault, Fault::Node);
    }

    #[test]
    fn a_range_outside_loopback_is_refused() {
        for text in ["10.0.0.0/24", "127.0.0.0/31", "127.0.0.0/7", "127.0.0.0", "x/24", "127.0.0.1/-1"] {
            assert!(text.parse::<Ipv4Prefix>().is_err(), "{text}");
        }
        let all: Ipv4Prefix = "127.0.0.0/8".parse().unwrap();
        assert_eq!(Ipv4Addr::from(all.bounds().0), Ipv4Addr::new(127, 0, 0, 2));
    }
}
