//! Whose keys these are: the cluster, the layout, and how often etcd was restored from a copy.

use super::client::Etcd;
use super::keys::Keys;
use super::patience::Trouble;
use super::{EtcdError, MetaSeen};
use etcd_client::{Compare, CompareOp, GetOptions, GetResponse, Txn, TxnOp, TxnOpResponse, TxnResponse};
use muster_domain::id::ClusterName;
use muster_domain::leadership::Incarnation;
use serde::{Deserialize, Serialize};

/// The layout of the keys. A later one is refused.
pub(super) const SCHEMA: u64 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    schema: u64,
    cluster: String,
    incarnation: Incarnation,
    /// The version of the program that wrote it, for people.
    created_by: String,
}

/// The layout alone, read first: a later one may not parse as ours.
#[derive(Deserialize)]
struct Layout {
    schema: u64,
}

/// Makes `meta` under a prefix that nobody uses, or checks that it is ours; raises the incarnation if we have a higher
/// one. Every change is compared, so that coordinators that start together agree.
pub(super) async fn establish(
    etcd: &Etcd,
    keys: &Keys,
    cluster: &ClusterName,
    incarnation: Incarnation,
    made_by: &str,
) -> Result<MetaSeen, Trouble> {
    let failed = |error| Trouble::from((error, keys.root()));
    loop {
        let looking = Txn::new().and_then([
            TxnOp::get(keys.meta(), None),
            TxnOp::get(keys.root(), Some(GetOptions::new().with_prefix().with_keys_only().with_limit(1))),
        ]);
        let answer = etcd.call(|client| txn(client, looking.clone())).await.map_err(failed)?;
        let [found, any] =
            gets(&answer).ok_or_else(|| Trouble::Passing("etcd's answer is not understood".to_owned()))?;
        let held = found.kvs().first().map(|pair| (pair.mod_revision(), pair.value().to_vec()));
        if held.is_none() && !any.kvs().is_empty() {
            let why = "there are keys, but not the key `meta`".to_owned();
            return Err(Trouble::ToMend(EtcdError::Foreign { root: keys.root().to_owned(), why }));
        }
        let (revision, wanted) = match held {
            None => {
                (0, Meta { schema: SCHEMA, cluster: cluster.to_string(), incarnation, created_by: made_by.to_owned() })
            }
            Some((revision, bytes)) => {
                let meta = read(&bytes, keys, cluster).map_err(Trouble::ToMend)?;
                if meta.incarnation > incarnation {
                    tracing::warn!(
                        stored = meta.incarnation,
                        configured = incarnation,
                        "etcd holds a higher incarnation, which counts; set store.etcd.incarnation to it"
                    );
                }
                if meta.incarnation >= incarnation {
                    return Ok(MetaSeen { incarnation: meta.incarnation, revision });
                }
                (revision, Meta { incarnation, ..meta })
            }
        };
        let text = serde_json::to_vec(&wanted).map_err(|error| Trouble::Passing(error.to_string()))?;
        let writing = Txn::new()
            .when([Compare::mod_revision(keys.meta(), CompareOp::Equal, revision)])
            .and_then([TxnOp::put(keys.meta(), text, None)]);
        // Whatever came of it, the next round reads it.
        etcd.call(|client| txn(client, writing.clone())).await.map_err(failed)?;
    }
}

/// Reads `meta` from an answer, for a campaign that found another one than it knew.
pub(super) fn seen(found: &GetResponse, keys: &Keys) -> Result<MetaSeen, EtcdError> {
    let pair = found.kvs().first().ok_or_else(|| EtcdError::MetaGone { key: keys.meta() })?;
    Ok(MetaSeen { incarnation: incarnation(pair.value(), keys)?, revision: pair.mod_revision() })
}

fn incarnation(bytes: &[u8], keys: &Keys) -> Result<Incarnation, EtcdError> {
    let strange = |_| EtcdError::MetaGone { key: keys.meta() };
    let Layout { schema } = serde_json::from_slice(bytes).map_err(strange)?;
    if schema > SCHEMA {
        return Err(EtcdError::Newer { root: keys.root().to_owned(), found: schema });
    }
    let meta: Meta = serde_json::from_slice(bytes).map_err(strange)?;
    Ok(meta.incarnation)
}

fn read(bytes: &[u8], keys: &Keys, cluster: &ClusterName) -> Result<Meta, EtcdError> {
    let root = || keys.root().to_owned();
    let strange =
        |error: serde_json::Error| EtcdError::Foreign { root: root(), why: format!("`meta` is not ours: {error}") };
    let Layout { schema } = serde_json::from_slice(bytes).map_err(strange)?;
    if schema > SCHEMA {
        return Err(EtcdError::Newer { root: root(), found: schema });
    }
    let meta: Meta = serde_json::from_slice(bytes).map_err(strange)?;
    if meta.cluster != cluster.to_string() {
        let why = format!("`meta` names cluster {}, not {cluster}", meta.cluster);
        return Err(EtcdError::Foreign { root: root(), why });
    }
    Ok(meta)
}

/// The answers of a transaction that only reads, or whose other branch does.
pub(super) fn gets_all(answer: &TxnResponse) -> Option<Vec<GetResponse>> {
    let responses = answer.op_responses().into_iter().map(|response| match response {
        TxnOpResponse::Get(found) => Some(found),
        _ => None,
    });
    responses.collect()
}

/// So many of them.
pub(super) fn gets<const COUNT: usize>(answer: &TxnResponse) -> Option<[GetResponse; COUNT]> {
    gets_all(answer)?.try_into().ok()
}

/// One transaction, for [`Etcd::call`].
pub(super) async fn txn(client: etcd_client::Client, txn: Txn) -> Result<TxnResponse, etcd_client::Error> {
    client.kv_client().max_decoding_message_size(super::snapshot::LARGEST_ANSWER_BYTES).txn(txn).await
}

/// One key, for [`Etcd::call`].
pub(super) async fn get(client: etcd_client::Client, key: String) -> Result<GetResponse, etcd_client::Error> {
    client.kv_client().get(key, None).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_layout_is_told_apart_from_what_is_not_ours() {
        let keys = Keys::new("/muster", &ClusterName::new("north").unwrap());
        let said = |text: &str| incarnation(text.as_bytes(), &keys).map_err(|error| error.to_string());
        assert_eq!(said(r#"{"schema":1,"cluster":"north","incarnation":4,"created_by":"0"}"#), Ok(4));
        let newer = said(r#"{"schema":2,"else":true}"#).unwrap_err();
        assert!(newer.contains("newer version") && newer.contains("schema 2") && newer.contains("run that version"));
        for strange in ["theirs", "{}", r#"{"schema":1}"#] {
            let error = said(strange).unwrap_err();
            assert!(error.contains("/muster/north/meta") && error.contains("gone or not ours"), "{error}");
        }
    }
}
