//! What the leader of a term knows of its documents. Commits, and looks for what strangers wrote, share it: its lock is
//! held to make a transaction and to judge its answer, never while etcd is asked.

use crate::store::StoreError;
use muster_domain::commit::{Ledger, Revision};
use muster_domain::effect::{DocumentKey, Write};
use muster_domain::id::Term;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where it is kept. Empty before a term's listing, and when it is not known what became of a commit, since the ledger may
/// then be behind what is written.
#[derive(Debug, Default)]
pub(super) struct Slot(Mutex<Option<Arc<Held>>>);

/// What is known in a term.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) term: Term,
    known: Mutex<Known>,
}

#[derive(Debug)]
pub(super) struct Known {
    pub(super) ledger: Ledger,
    /// Documents of commits that have not ended: as the ledger says, or as they are to become.
    under_way: BTreeSet<DocumentKey>,
    /// Documents removed since a look for strangers began, while one is under way.
    removed: Option<BTreeSet<DocumentKey>>,
}

impl Slot {
    pub(super) fn set(&self, held: Option<Arc<Held>>) {
        *self.lock() = held;
    }

    pub(super) fn get(&self) -> Option<Arc<Held>> {
        self.lock().clone()
    }

    /// Whether this is what counts, and was not replaced or given up.
    pub(super) fn has(&self, held: &Arc<Held>) -> bool {
        self.lock().as_ref().is_some_and(|present| Arc::ptr_eq(present, held))
    }

    /// Begins a commit.
    pub(super) fn begin(&self, term: Term, writes: &[Write]) -> Result<UnderWay<'_>, StoreError> {
        let Some(held) = self.get().filter(|held| held.term == term) else {
            return Err(StoreError::Failed(format!("nothing was listed in term {term}")));
        };
        let keys: Vec<DocumentKey> = writes.iter().map(Write::key).collect();
        let mut known = held.known();
        if let Some(key) = keys.iter().find(|key| known.under_way.contains(key)) {
            return Err(StoreError::Failed(format!("{key} is being written by another commit")));
        }
        known.under_way.extend(keys.iter().cloned());
        drop(known);
        Ok(UnderWay { slot: self, held, keys, is_known: false })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Held>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    pub(super) fn new(term: Term, ledger: Ledger) -> Self {
        let known = Known { ledger, under_way: BTreeSet::new(), removed: None };
        Self { term, known: Mutex::new(known) }
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// These writes are durable, and the ledger knows.
    pub(super) fn wrote(&mut self, writes: impl Iterator<Item = Write>) {
        if let Some(removed) = &mut self.removed {
            removed.extend(writes.filter(Write::removes).map(|write| write.key()));
        }
    }

    /// A look for strangers begins; it lists at a revision from now on.
    pub(super) fn begin_look(&mut self) {
        self.removed = Some(BTreeSet::new());
    }

    /// Ends the look: a document that is not as this leader wrote it, among those listed at `revision`. Documents of commits
    /// that have not ended are left to the next look.
    pub(super) fn end_look(
        &mut self,
        revision: Revision,
        listed: &BTreeMap<DocumentKey, Revision>,
    ) -> Option<DocumentKey> {
        let removed = self.removed.take().unwrap_or_default();
        let known: BTreeMap<&DocumentKey, Revision> = self.ledger.documents().collect();
        let is_strange = |key: &DocumentKey, found: Revision| match known.get(key) {
            Some(ours) => *ours != found && *ours <= revision,
            None => !removed.contains(key),
        };
        let strange = listed.iter().filter(|(key, found)| is_strange(key, **found)).map(|(key, _)| key);
        let is_missing = |(key, ours): &(&&DocumentKey, &Revision)| **ours <= revision && !listed.contains_key(**key);
        let missing = known.iter().filter(is_missing).map(|(key, _)| *key);
        strange.chain(missing).find(|key| !self.under_way.contains(*key)).cloned()
    }
}

/// A commit that has not ended. Dropped before it is known what became of it, it leaves nothing that claims to know.
pub(super) struct UnderWay<'a> {
    slot: &'a Slot,
    pub(super) held: Arc<Held>,
    keys: Vec<DocumentKey>,
    is_known: bool,
}

impl UnderWay<'_> {
    /// What became of it is in the ledger.
    pub(super) fn settled(mut self) {
        self.is_known = true;
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if self.is_known {
            let mut known = self.held.known();
            for key in &self.keys {
                known.under_way.remove(key);
            }
        } else {
            let mut present = self.slot.lock();
            // A later listing knows better.
            present.take_if(|present| Arc::ptr_eq(present, &self.held));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_domain::id::JobId;

    fn forget(id: &str) -> Write {
        Write::ForgetJob(JobId::new(id).unwrap())
    }

    fn held(documents: &[(&str, Revision)]) -> Arc<Held> {
        Arc::new(Held::new(7, Ledger::new(listed(documents))))
    }

    fn listed(documents: &[(&str, Revision)]) -> BTreeMap<DocumentKey, Revision> {
        documents.iter().map(|(id, revision)| (forget(id).key(), *revision)).collect()
    }

    #[test]
    fn a_commit_that_ends_without_an_outcome_leaves_nothing_that_claims_to_know() {
        let slot = Slot::default();
        slot.set(Some(held(&[("1", 3), ("2", 3)])));
        assert!(slot.begin(8, &[forget("1")]).is_err(), "another term's listing");
        slot.begin(7, &[forget("1")]).unwrap().settled();
        let (first, second) = (slot.begin(7, &[forget("1")]).unwrap(), slot.begin(7, &[forget("2")]).unwrap());
        assert!(slot.begin(7, &[forget("2")]).is_err(), "the same document twice at a time");
        drop(first);
        second.settled();
        assert!(slot.get().is_none() && slot.begin(7, &[forget("2")]).is_err());
        // What was listed since is not given up for it.
        slot.set(Some(held(&[])));
        let old = slot.begin(7, &[forget("1")]).unwrap();
        let newer = held(&[]);
        slot.set(Some(Arc::clone(&newer)));
        drop(old);
        assert!(slot.has(&newer));
    }

    #[test]
    fn a_look_finds_what_others_changed_and_nothing_of_our_own() {
        let slot = Slot::default();
        let ours = held(&[("1", 3), ("2", 4)]);
        slot.set(Some(Arc::clone(&ours)));
        let look = |revision, documents: &[(&str, Revision)]| {
            ours.known().begin_look();
            ours.known().end_look(revision, &listed(documents)).map(|key| key.to_string())
        };
        assert_eq!(look(9, &[("1", 3), ("2", 4)]), None);
        assert_eq!(look(9, &[("1", 3), ("2", 8)]).unwrap(), "jobs/2");
        assert_eq!(look(9, &[("1", 3)]).unwrap(), "jobs/2");
        assert_eq!(look(9, &[("1", 3), ("2", 4), ("3", 9)]).unwrap(), "jobs/3");
        // Written by us after the listing, or removed by us since it began.
        assert_eq!(look(3, &[("1", 3)]), None);
        ours.known().begin_look();
        ours.known().wrote([forget("3")].into_iter());
        assert_eq!(ours.known().end_look(9, &listed(&[("1", 3), ("2", 4), ("3", 9)])), None);
        // Of a commit that has not ended nothing is known; of the others it is.
        let writing = slot.begin(7, &[forget("2"), forget("5")]).unwrap();
        assert_eq!(look(9, &[("1", 3), ("5", 9)]), None);
        assert_eq!(look(9, &[("1", 8), ("5", 9)]).unwrap(), "jobs/1");
        writing.settled();
        assert_eq!(look(9, &[("1", 3), ("5", 9)]).unwrap(), "jobs/5");
    }
}
