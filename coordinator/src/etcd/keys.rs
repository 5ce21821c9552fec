//! The names of keys. Everything is below `<prefix>/<cluster>/`.

use muster_domain::effect::DocumentKey;
use muster_domain::id::{ClusterName, JobId, NodeName};

/// Makes and reads names of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keys {
    root: String,
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Document(DocumentKey),
    /// That a bulk was accepted.
    Bulk(String),
    /// Anything else; not a document.
    Other,
}

impl Keys {
    pub(super) fn new(prefix: &str, cluster: &ClusterName) -> Self {
        Self { root: format!("{prefix}/{cluster}/") }
    }

    /// What every key begins with.
    pub(super) fn root(&self) -> &str {
        &self.root
    }

    pub(super) fn meta(&self) -> String {
        format!("{}meta", self.root)
    }

    pub(super) fn leader(&self) -> String {
        format!("{}leader", self.root)
    }

    pub(super) fn coordinator(&self, name: &str) -> String {
        format!("{}coordinators/{name}", self.root)
    }

    pub(super) fn document(&self, key: &DocumentKey) -> String {
        format!("{}{key}", self.root)
    }

    pub(super) fn bulk(&self, id: &str) -> String {
        format!("{}bulks/{id}", self.root)
    }

    /// Reads the name of a key that was listed.
    pub(super) fn read(&self, key: &[u8]) -> Name {
        let rest = std::str::from_utf8(key).ok().and_then(|key| key.strip_prefix(self.root.as_str()));
        let Some((folder, name)) = rest.and_then(|rest| rest.split_once('/')) else { return Name::Other };
        match folder {
            "jobs" => JobId::new(name).map_or(Name::Other, |job| Name::Document(DocumentKey::Job(job))),
            "nodes" => NodeName::new(name).map_or(Name::Other, |node| Name::Document(DocumentKey::Node(node))),
            "bulks" => Name::Bulk(name.to_owned()),
            _ => Name::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_found_under_its_own_name() {
        let keys = Keys::new("/muster", &ClusterName::new("north").unwrap());
        let job = DocumentKey::Job(JobId::new("54112").unwrap());
        let node = DocumentKey::Node(NodeName::new("w-1").unwrap());
        assert_eq!(keys.document(&job), "/muster/north/jobs/54112");
        assert_eq!(keys.document(&node), "/muster/north/nodes/w-1");
        for key in [job, node] {
            assert_eq!(keys.read(keys.document(&key).as_bytes()), Name::Document(key));
        }
        assert_eq!(keys.read(keys.bulk("b").as_bytes()), Name::Bulk("b".to_owned()));
        for other in [keys.meta(), keys.leader(), keys.coordinator("a"), "/muster/north/jobs/a b".to_owned()] {
            assert_eq!(keys.read(other.as_bytes()), Name::Other);
        }
        assert_eq!(keys.read(b"/muster/\xff"), Name::Other);
        assert_eq!(keys.read(b"/muster/northern/jobs/1"), Name::Other);
    }
}
