//! What the leader key and the names of coordinators hold.

use crate::election::Identity;
use etcd_client::KeyValue;
use muster_domain::leadership::{Incarnation, LeaderKey, LeaseId};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// A coordinator's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Drawn anew by each process.
    pub(super) instance: String,
    /// See [`super::machine::name`].
    pub(super) machine: String,
    pub(super) identity: Identity,
    /// Where it listens for what reaches `identity.http`, on its own machine.
    pub(super) listens: SocketAddr,
}

/// The content of the leader key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LeaderValue {
    #[serde(flatten)]
    pub(super) entry: Entry,
    /// The lease, for people; the key is bound to it.
    pub(super) lease: LeaseId,
    /// The incarnation of the terms of this leadership.
    pub(super) incarnation: Incarnation,
}

/// The leader key as it was read. `None` for the value: it is not one that we write.
pub(super) type Seen = (LeaderKey, Option<Box<LeaderValue>>);

/// What is wrong with the leader key of this name, for an operator; `None`: it is one that Muster writes.
pub(super) fn strange(key: &str, (found, value): &Seen) -> Option<String> {
    if found.lease == 0 {
        return Some(format!(
            "the key {key} has no lease, so it is not one that Muster writes, and as long as it is there nobody can be \
             elected; delete it with `etcdctl del {key}`"
        ));
    }
    value.is_none().then(|| {
        format!(
            "the value of the key {key} is not understood; if no coordinator of a newer version leads, delete it with \
             `etcdctl del {key}`"
        )
    })
}

/// Reads the leader key from an answer or an event.
pub(super) fn read(pair: &KeyValue) -> Seen {
    let key = LeaderKey { revision: pair.create_revision().unsigned_abs(), lease: pair.lease() };
    (key, serde_json::from_slice(pair.value()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_key_is_plain_to_people() {
        let identity = Identity {
            name: "a".to_owned(),
            http: "127.0.0.1:8470".to_owned(),
            operator: "127.0.0.1:8471".to_owned(),
            fleet: "http://127.0.0.1:8472".to_owned(),
            version: "0.1.0".to_owned(),
        };
        let listens = "0.0.0.0:8470".parse().unwrap();
        let entry = Entry { instance: "i".to_owned(), machine: "m".to_owned(), identity, listens };
        let value = LeaderValue { entry, lease: 7, incarnation: 1 };
        let seen =
            |lease, value: Option<&LeaderValue>| (LeaderKey { revision: 3, lease }, value.cloned().map(Box::new));
        assert_eq!(strange("k", &seen(7, Some(&value))), None);
        for (lease, value) in [(0, Some(&value)), (0, None), (7, None)] {
            assert!(strange("/m/n/leader", &seen(lease, value)).unwrap().contains("`etcdctl del /m/n/leader`"));
        }
        let text = serde_json::to_string(&value).unwrap();
        assert!(text.starts_with(r#"{"instance":"i","machine":"m","identity":{"name":"a","#), "{text}");
        assert_eq!(serde_json::from_str::<LeaderValue>(&text).unwrap(), value);
    }
}
