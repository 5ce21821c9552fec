//! The election of a store that only one process can open: whoever opened it leads.

use super::{Election, Leadership};
use crate::store::StoreError;
use crate::store::embedded::Embedded;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

/// Takes a new term from the file at each start.
#[derive(Clone, Debug)]
pub struct SoleLeader {
    store: Embedded,
}

impl SoleLeader {
    /// The election that belongs to this store.
    #[must_use]
    pub fn new(store: Embedded) -> Self {
        Self { store }
    }
}

impl Election for SoleLeader {
    fn campaign(&self) -> BoxFuture<'_, Result<Leadership, StoreError>> {
        Box::pin(async { Ok(Leadership { term: self.store.next_term().await?, lost: CancellationToken::new() }) })
    }

    fn resign(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}
