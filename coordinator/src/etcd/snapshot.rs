//! Everything below the prefix at one revision, and how a follower keeps it warm.
//!
//! A [`Cache`] is complete at its revision. It is brought forward by listing what changed since; keys that vanished show
//! in the number of keys. A new leader trusts nothing of that: it lists all keys with their revisions anew, and only
//! reuses what it has decoded already.

use super::client::Etcd;
use super::failure::CallError;
use super::keys::{Keys, Name};
use super::transaction::bulk_of;
use crate::store::document;
use etcd_client::{Client, Error, GetOptions, GetResponse, KeyValue};
use muster_domain::commit::Revision;
use muster_domain::job::Job;
use muster_domain::node::NodeRecord;
use std::collections::BTreeMap;
use tokio::time::Instant;

/// The largest answer that is read. Pages keep answers far smaller than this, unless documents are unusually large.
pub(super) const LARGEST_ANSWER_BYTES: usize = 512 << 20;
/// Documents of one page.
const PAGE: i64 = 250;
/// Keys of one page without their values.
const PAGE_OF_KEYS: i64 = 5_000;
/// By how much a page shrinks that did not come in time: large documents over a slow network come in smaller ones, and an etcd
/// that does not answer at all is known for that after a few.
const SHRINK: i64 = 4;

/// One key as it was read.
#[derive(Debug)]
pub(super) struct Row {
    /// Its mod-revision.
    pub(super) revision: i64,
    /// How often it was written since it was made; tells apart what a restored store wrote at a revision once more.
    version: i64,
    pub(super) content: Content,
}

/// What it holds.
#[derive(Debug)]
pub(super) enum Content {
    Job(Box<Job>, Option<String>),
    Node(Box<NodeRecord>),
    /// That this bulk was accepted.
    Bulk(String),
    /// A document that cannot be read, and why.
    Bad(String),
    /// Not a document.
    Other,
}

impl Row {
    fn read(keys: &Keys, pair: &KeyValue) -> Self {
        use muster_domain::effect::DocumentKey;
        let bad = |error: document::BadDocument| {
            Content::Bad(format!("etcd key {}: {error}", String::from_utf8_lossy(pair.key())))
        };
        let content = match keys.read(pair.key()) {
            Name::Document(DocumentKey::Job(_)) => match document::decode(pair.value()) {
                Ok(job) => Content::Job(Box::new(job), bulk_of(pair.value())),
                Err(error) => bad(error),
            },
            Name::Document(DocumentKey::Node(_)) => {
                document::decode_node(pair.value()).map_or_else(bad, |node| Content::Node(Box::new(node)))
            }
            Name::Bulk(id) => Content::Bulk(id),
            Name::Other => Content::Other,
        };
        Self { revision: pair.mod_revision(), version: pair.version(), content }
    }
}

/// What is kept of etcd.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// Every change up to it is in `rows`; 0: nothing was listed yet.
    revision: i64,
    pub(super) rows: BTreeMap<Vec<u8>, Row>,
}

impl Cache {
    /// The revision at which this is complete.
    pub(super) fn revision(&self) -> Revision {
        self.revision.unsigned_abs()
    }

    /// Brings it forward. After an error it may have moved in part, and the next call mends that.
    pub(super) async fn refresh(&mut self, etcd: &Etcd, keys: &Keys) -> Result<(), CallError> {
        let (revision, count) = look(etcd, keys).await?;
        if revision == self.revision {
            return Ok(());
        }
        self.take_changes(etcd, keys, revision).await?;
        if i64::try_from(self.rows.len()) != Ok(count) {
            self.verify(etcd, keys, revision).await?;
        }
        self.revision = revision;
        Ok(())
    }

    /// Brings it forward to now, and makes sure that it is exactly what etcd holds.
    pub(super) async fn relist(&mut self, etcd: &Etcd, keys: &Keys) -> Result<(), CallError> {
        let (revision, _) = look(etcd, keys).await?;
        let is_new = self.revision == 0;
        self.take_changes(etcd, keys, revision).await?;
        if !is_new && !self.verify(etcd, keys, revision).await? {
            *self = Self::default();
            self.take_changes(etcd, keys, revision).await?;
        }
        self.revision = revision;
        Ok(())
    }

    async fn take_changes(&mut self, etcd: &Etcd, keys: &Keys, revision: i64) -> Result<(), CallError> {
        if revision < self.revision {
            // A member that lags, or a store that was restored: nothing known so far counts.
            *self = Self::default();
        }
        if self.revision == 0 {
            // What a listing that broke off half-way left: some of it may have vanished since.
            self.rows.clear();
        }
        let options = GetOptions::new().with_revision(revision);
        let options = if self.revision > 0 { options.with_min_mod_revision(self.revision + 1) } else { options };
        let rows = &mut self.rows;
        pages(etcd, keys, PAGE, &options, |pair| {
            rows.insert(pair.key().to_vec(), Row::read(keys, &pair));
        })
        .await
    }

    /// Drops what vanished. Answers whether every key of etcd is known as it is.
    async fn verify(&mut self, etcd: &Etcd, keys: &Keys, revision: i64) -> Result<bool, CallError> {
        let listed = list_keys(etcd, keys, revision).await?;
        self.rows.retain(|key, _| listed.contains_key(key));
        let known = |(key, (revision, version)): (&Vec<u8>, &(i64, i64))| {
            self.rows.get(key).is_some_and(|row| row.revision == *revision && row.version == *version)
        };
        Ok(listed.iter().all(known))
    }
}

/// The present revision of the store, and how many keys we have in it. Costs etcd next to nothing.
pub(super) async fn look(etcd: &Etcd, keys: &Keys) -> Result<(i64, i64), CallError> {
    let options = GetOptions::new().with_prefix().with_count_only();
    let answer = etcd.call(|client| range(client, keys.root().into(), options.clone())).await?;
    let revision = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
    if revision <= 0 {
        Err(CallError::Unknown("etcd's answer has no revision".to_owned()))
    } else {
        Ok((revision, answer.count()))
    }
}

/// Every key with its mod-revision and version, at one revision.
pub(super) async fn list_keys(
    etcd: &Etcd,
    keys: &Keys,
    revision: i64,
) -> Result<BTreeMap<Vec<u8>, (i64, i64)>, CallError> {
    let options = GetOptions::new().with_revision(revision).with_keys_only();
    let mut listed = BTreeMap::new();
    pages(etcd, keys, PAGE_OF_KEYS, &options, |pair| {
        listed.insert(pair.key().to_vec(), (pair.mod_revision(), pair.version()));
    })
    .await?;
    Ok(listed)
}

async fn pages(
    etcd: &Etcd,
    keys: &Keys,
    mut limit: i64,
    options: &GetOptions,
    mut take: impl FnMut(KeyValue) + Send,
) -> Result<(), CallError> {
    let mut from = keys.root().as_bytes().to_vec();
    let options = options.clone().with_range(end_of(&from));
    loop {
        let asked = Instant::now();
        let answer = etcd.call(|client| range(client, from.clone(), options.clone().with_limit(limit))).await;
        let mut answer = match answer {
            Err(CallError::Unknown(why)) if limit > 1 && asked.elapsed() >= etcd.timeout() => {
                limit = (limit / SHRINK).max(1);
                tracing::debug!(why, limit, "a page did not come in time, and is asked for in smaller ones");
                continue;
            }
            answer => answer?,
        };
        let more = answer.more();
        let pairs = answer.take_kvs();
        let last = pairs.last().map(|pair| [pair.key(), &[0]].concat());
        pairs.into_iter().for_each(&mut take);
        match last {
            Some(next) if more => from = next,
            _ => return Ok(()),
        }
    }
}

async fn range(client: Client, from: Vec<u8>, options: GetOptions) -> Result<GetResponse, Error> {
    client.kv_client().max_decoding_message_size(LARGEST_ANSWER_BYTES).get(from, Some(options)).await
}

/// The first key after all that begin with `root`, which ends in a slash.
fn end_of(root: &[u8]) -> Vec<u8> {
    let mut end = root.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
