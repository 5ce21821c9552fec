//! The election of a store that only one process can open: whoever opened it leads.

use super::{Election, Identity, Leadership, Standing, Validity};
use crate::store::StoreError;
use crate::store::embedded::Embedded;
use futures_util::future::BoxFuture;
use muster_domain::leadership::Role;
use std::sync::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Takes a new term from the file at each campaign.
#[derive(Debug)]
pub struct SoleLeader {
    store: Embedded,
    identity: Identity,
    lost: Mutex<CancellationToken>,
    standing: watch::Sender<Standing>,
}

impl SoleLeader {
    /// The election that belongs to this store.
    #[must_use]
    pub fn new(store: Embedded, identity: Identity) -> Self {
        let standing = watch::Sender::new(Standing::default());
        Self { store, identity, lost: Mutex::new(CancellationToken::new()), standing }
    }

    fn stand(&self, role: Role) {
        self.standing.send_modify(|standing| standing.role = role);
    }
}

impl Election for SoleLeader {
    fn campaign(&self) -> BoxFuture<'_, Result<Leadership, StoreError>> {
        Box::pin(async {
            let term = self.store.next_term().await?;
            let lost = CancellationToken::new();
            *self.lost.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = lost.clone();
            let leader = Some(self.identity.clone());
            self.standing.send_replace(Standing { role: Role::BecomingLeader, term: Some(term), leader });
            Ok(Leadership { term, lost, validity: Validity::unbounded() })
        })
    }

    fn lead(&self) {
        self.stand(Role::Leader);
    }

    fn fenced(&self) {
        self.stand(Role::SteppingDown);
        self.lost.lock().unwrap_or_else(std::sync::PoisonError::into_inner).cancel();
    }

    fn ended(&self) -> BoxFuture<'_, ()> {
        self.standing.send_replace(Standing::default());
        Box::pin(async {})
    }

    fn resign(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }
}
