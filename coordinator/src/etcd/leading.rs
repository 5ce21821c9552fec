//! The leadership that this process holds, as the store needs to know it.

use crate::election::Leadership;
use muster_domain::id::Term;
use muster_runtime::clock::now;
use std::sync::{Mutex, PoisonError};

/// Written by the election, read by the store.
#[derive(Debug, Default)]
pub(super) struct Leading(Mutex<Option<Leadership>>);

impl Leading {
    pub(super) fn set(&self, leadership: Option<Leadership>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = leadership;
    }

    pub(super) fn get(&self) -> Option<Leadership> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The leadership of this term, while it is held.
    pub(super) fn of(&self, term: Term) -> Option<Leadership> {
        self.get().filter(|held| held.term == term && is_held(held))
    }
}

/// Whether it is neither lost nor in doubt.
pub(super) fn is_held(leadership: &Leadership) -> bool {
    !leadership.lost.is_cancelled() && leadership.validity.holds(now().moment)
}
