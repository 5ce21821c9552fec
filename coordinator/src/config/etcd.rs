//! What is right in section `[store.etcd]`. Looked at only when etcd is the store.

use super::{EtcdConfig, is_host_and_port};
use muster_runtime::config::Complaint;

impl EtcdConfig {
    pub(super) fn complaints(&self) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        let mut expect = |fine: bool, key: &str, expected: &str| {
            if !fine {
                complaints.push(Complaint::new(format!("store.etcd.{key}"), expected));
            }
        };
        let encrypted = self.endpoints.iter().all(|endpoint| is_url(endpoint, "https://"));
        let plain = self.endpoints.iter().all(|endpoint| is_url(endpoint, "http://"));
        expect(!self.endpoints.is_empty(), "endpoints", "the URLs of etcd's members, since store.kind is etcd");
        expect(
            encrypted || plain,
            "endpoints",
            "URLs such as https://etcd-1.example.org:2379, with a port and without a path, either all https or all http",
        );
        let words = self.prefix.strip_prefix('/').unwrap_or_default();
        expect(
            !words.is_empty() && !words.ends_with('/') && words.bytes().all(|byte| byte.is_ascii_graphic()),
            "prefix",
            "a path such as /muster, beginning but not ending with a slash",
        );
        if !self.endpoints.is_empty() && encrypted {
            expect(self.ca_file.is_some(), "ca_file", "a PEM file, since store.etcd.endpoints are https");
        } else if plain {
            for (key, file) in [("ca_file", &self.ca_file), ("certificate_file", &self.certificate_file)] {
                expect(file.is_none(), key, "nothing, since store.etcd.endpoints are http; or https endpoints");
            }
        }
        expect(
            self.key_file.is_some() || self.certificate_file.is_none(),
            "key_file",
            "the private key of store.etcd.certificate_file",
        );
        expect(
            self.certificate_file.is_some() || self.key_file.is_none(),
            "certificate_file",
            "the certificate of store.etcd.key_file",
        );
        expect(
            self.password_file.is_some() || self.user.is_none(),
            "password_file",
            "a file with the password of store.etcd.user",
        );
        expect(
            self.user.is_some() || self.password_file.is_none(),
            "user",
            "the user whose password store.etcd.password_file holds",
        );
        expect((3_000..=60_000).contains(&self.lease_ttl_ms), "lease_ttl_ms", "3s to 60s");
        expect(
            (100..=self.lease_ttl_ms / 3).contains(&self.request_timeout_ms),
            "request_timeout_ms",
            "at least 100ms and at most a third of store.etcd.lease_ttl_ms",
        );
        complaints
    }
}

/// With a port: without one the scheme's own would be dialled, where no etcd listens.
fn is_url(text: &str, scheme: &str) -> bool {
    text.strip_prefix(scheme).is_some_and(|rest| is_host_and_port(rest.strip_suffix('/').unwrap_or(rest)))
}
