//! What is durable. One trait, so that the same driver runs over one file or over a cluster of stores.

pub mod document;
pub mod embedded;

use futures_util::future::BoxFuture;
use muster_domain::effect::{Documents, Write};
use muster_domain::id::Term;
use tokio::sync::watch;

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Somebody leads with another term; nothing was written. Step down.
    #[error("another coordinator leads with term {held}, this one holds term {ours}: it must not write any more")]
    Fenced {
        /// The term the store holds.
        held: Term,
        /// The term of the batch.
        ours: Term,
    },
    /// Nothing was written.
    #[error("{0}")]
    Failed(String),
    /// The store refuses what a leader needs, and will until somebody mends it; another coordinator may be better off.
    /// Nothing was written. The message says what to do.
    #[error("{0}")]
    Refused(String),
    /// A document cannot be read, and will not be before somebody mends it or runs another version.
    #[error("{0}")]
    Unreadable(String),
    /// It may have been written or not, and leadership ended before a further conditional write could tell.
    #[error("{0}")]
    Unknown(String),
    /// Somebody who does not lead wrote a document. Nothing was written; a person must look.
    #[error("{0} was written by somebody who does not lead; nothing but coordinators may write under this prefix")]
    Conflict(String),
}

/// How full a store is that has a limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What it takes on disk, in bytes, where it takes most.
    pub used_bytes: u64,
    /// What counts as full, in bytes.
    pub budget_bytes: u64,
}

/// A store of documents. Object-safe.
pub trait Store: Send + Sync + 'static {
    /// Every document, listed anew, in one attempt. Called in each leadership until it succeeds, before its first commit.
    fn load(&self, term: Term) -> BoxFuture<'_, Result<Documents, StoreError>>;

    /// Writes all or nothing, and only while the store holds `term`. Resolves when the writes are durable. The
    /// caller names each document once and has at most one commit under way; beside it, while the store is full, one that
    /// only removes, and other documents.
    fn commit(&self, term: Term, writes: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// After how many documents a batch takes no further decision.
    fn batch_documents(&self) -> usize;

    /// How full the store is, as it was last seen. `None`: not known, or it has no limit but the disk's.
    fn space(&self) -> watch::Receiver<Option<Space>>;

    /// Whether the store has no room: commits wait until there is some, all but those that only remove. Never, unless the
    /// store has a limit of its own.
    fn full(&self) -> watch::Receiver<bool> {
        watch::Sender::new(false).subscribe()
    }
}
