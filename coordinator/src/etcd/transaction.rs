//! Transactions of the rules in [`muster_domain::commit`], as etcd takes them, and its answers, as those rules judge them.

use super::keys::Keys;
use super::meta::gets_all;
use crate::store::StoreError;
use crate::store::document::{self, BadDocument};
use etcd_client::{Compare, CompareOp, GetResponse, Txn, TxnOp, TxnResponse};
use muster_domain::commit::{Answer, Found, Ledger, Put, Revision, Transaction};
use muster_domain::effect::Write;
use muster_domain::id::Term;
use muster_domain::job::Job;
use muster_domain::leadership::revision_of;
use serde::{Deserialize, Serialize};

/// Documents of one transaction; etcd takes 128 operations by default, and one of ours is the leader's.
pub(super) const MOST_DOCUMENTS: usize = 120;
/// Bytes of one transaction; etcd takes 1.5 MiB by default.
const MOST_BYTES: usize = 1 << 20;
/// Bytes of one document, which must fit a request alone.
const MOST_DOCUMENT_BYTES: usize = 1_500_000;

/// A write and the bytes that it puts; `None` removes.
pub(super) type Encoded = (Write, Option<Vec<u8>>);

/// What is sent for one batch, in this order.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Each is one transaction of its own.
    pub(super) parts: Vec<Vec<Encoded>>,
    /// Documents that do not exist yet and must appear all together, but fit no transaction.
    pub(super) staged: Vec<Vec<Write>>,
}

/// Cuts a batch into what etcd takes. Removals go alone: etcd still takes them when it is full. They, and the order of
/// the others, keep that room is given back before it is taken (I7).
pub(super) fn plan(ledger: &Ledger, writes: Vec<Write>) -> Result<Plan, StoreError> {
    let encoded = writes.into_iter().map(|write| encode(&write).map(|bytes| (write, bytes)));
    let encoded = encoded.collect::<Result<Vec<_>, _>>()?;
    let (removals, puts): (Vec<_>, Vec<_>) = encoded.into_iter().partition(|(write, _)| write.removes());
    let mut plan = Plan { parts: cut(removals), staged: Vec::new() };
    if fits(&puts) {
        plan.parts.extend(cut(puts));
        return Ok(plan);
    }
    let new = |write: &Write| matches!(write, Write::Job(_)) && ledger.revision(&write.key()) == 0;
    let (creates, others): (Vec<_>, Vec<_>) = puts.into_iter().partition(|(write, _)| new(write));
    plan.parts.extend(cut(others));
    if fits(&creates) {
        plan.parts.extend(cut(creates));
    } else {
        let writes = |part: Vec<Encoded>| part.into_iter().map(|(write, _)| write).collect();
        plan.staged = cut(creates).into_iter().map(writes).collect();
    }
    Ok(plan)
}

fn encode(write: &Write) -> Result<Option<Vec<u8>>, StoreError> {
    let bytes = match write {
        Write::Job(job) => document::encode(job),
        Write::Node(node) => document::encode_node(node),
        Write::ForgetJob(_) | Write::ForgetNode(_) => return Ok(None),
    };
    let bytes = bytes.map_err(|error| StoreError::Failed(error.to_string()))?;
    if bytes.len() > MOST_DOCUMENT_BYTES {
        let (key, size) = (write.key(), bytes.len());
        let why = format!("document {key} has {size} bytes, more than the {MOST_DOCUMENT_BYTES} that etcd takes");
        return Err(StoreError::Failed(why));
    }
    Ok(Some(bytes))
}

fn size((_, bytes): &Encoded) -> usize {
    bytes.as_ref().map_or(0, Vec::len)
}

fn fits(writes: &[Encoded]) -> bool {
    writes.len() <= MOST_DOCUMENTS && (writes.len() <= 1 || writes.iter().map(size).sum::<usize>() <= MOST_BYTES)
}

fn cut(writes: Vec<Encoded>) -> Vec<Vec<Encoded>> {
    let mut parts: Vec<Vec<Encoded>> = Vec::new();
    let mut bytes = 0;
    for write in writes {
        let more = size(&write);
        match parts.last_mut() {
            Some(part) if part.len() < MOST_DOCUMENTS && bytes + more <= MOST_BYTES => {
                bytes += more;
                part.push(write);
            }
            _ => {
                bytes = more;
                parts.push(vec![write]);
            }
        }
    }
    parts
}

#[derive(Serialize)]
struct StagedJob<'a> {
    v: u32,
    bulk: &'a str,
    job: &'a Job,
}

#[derive(Deserialize)]
struct Staging {
    bulk: Option<String>,
}

/// The bytes of documents that count only once `bulks/<bulk>` exists (`protocol.md` 16.8).
pub(super) fn encode_staged(bulk: &str, writes: Vec<Write>) -> Result<Vec<Encoded>, StoreError> {
    let encoded = writes.into_iter().map(|write| {
        let Write::Job(job) = &write else { return encode(&write).map(|bytes| (write, bytes)) };
        let bytes = serde_json::to_vec(&StagedJob { v: document::VERSION, bulk, job });
        let bytes = bytes.map_err(|error| StoreError::Failed(BadDocument::from(error).to_string()))?;
        Ok((write, Some(bytes)))
    });
    encoded.collect()
}

/// The bulk that must have been accepted for this document to count.
pub(super) fn bulk_of(bytes: &[u8]) -> Option<String> {
    serde_json::from_slice::<Staging>(bytes).ok().and_then(|staging| staging.bulk)
}

/// One transaction on its way.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) transaction: Transaction,
    bytes: Vec<Option<Vec<u8>>>,
    pub(super) txn: Txn,
}

impl Sending {
    pub(super) fn new(ledger: &Ledger, keys: &Keys, term: Term, part: Vec<Encoded>) -> Self {
        let (writes, bytes): (Vec<_>, Vec<_>) = part.into_iter().unzip();
        let transaction = ledger.transaction(term, writes);
        let mut compares = vec![leads(keys, term)];
        let (mut changes, mut reads) = (Vec::new(), vec![TxnOp::get(keys.leader(), None)]);
        for (Put { expected, write }, bytes) in transaction.puts.iter().zip(&bytes) {
            let key = keys.document(&write.key());
            compares.push(Compare::mod_revision(key.as_str(), CompareOp::Equal, expected.cast_signed()));
            changes.push(match bytes {
                Some(bytes) => TxnOp::put(key.as_str(), bytes.as_slice(), None),
                None => TxnOp::delete(key.as_str(), None),
            });
            reads.push(TxnOp::get(key, None));
        }
        let txn = Txn::new().when(compares).and_then(changes).or_else(reads);
        Self { transaction, bytes, txn }
    }

    /// Reads etcd's answer.
    pub(super) fn answer(&self, response: &TxnResponse) -> Option<Answer> {
        if response.succeeded() {
            return Some(Answer::Applied(response.header()?.revision().unsigned_abs()));
        }
        let found = gets_all(response)?;
        let (leader, found) = found.split_first()?;
        let found = found.iter().zip(&self.bytes).map(|(found, wanted)| {
            let pair = found.kvs().first();
            Found {
                revision: pair.map_or(0, |pair| pair.mod_revision().unsigned_abs()),
                as_wanted: pair.map(etcd_client::KeyValue::value) == wanted.as_deref(),
            }
        });
        let found: Vec<Found> = found.collect();
        (found.len() == self.bytes.len()).then(|| Answer::Refused { leader: create_revision(leader), found })
    }
}

/// That the leader key is the one of this term.
pub(super) fn leads(keys: &Keys, term: Term) -> Compare {
    Compare::create_revision(keys.leader(), CompareOp::Equal, revision_of(term).cast_signed())
}

/// The create-revision of a key that was read alone; 0 if there is none.
pub(super) fn create_revision(found: &GetResponse) -> Revision {
    found.kvs().first().map_or(0, |pair| pair.create_revision().unsigned_abs())
}

#[cfg(test)]
#[path = "transaction_tests.rs"]
mod tests;
