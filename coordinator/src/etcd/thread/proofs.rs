//! Which proofs of absence are believed: none about a process that one was wrong about.
//!
//! A firewall that refuses, or an advertised address at which nobody listens, looks like a process that is gone. Believed again
//! and again it would take leadership from one that leads well, every few hundred milliseconds.

use muster_domain::commit::Revision;
use std::collections::{BTreeMap, BTreeSet};

/// By the instance of the process.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    /// Believed gone, with the leader key at that time.
    gone: BTreeMap<String, Revision>,
    /// Believed gone, and led again later.
    alive: BTreeSet<String>,
}

impl Proofs {
    /// A process that holds this leader key seems to be gone. Answers whether that is believed.
    pub(super) fn of_absence(&mut self, instance: &str, revision: Revision) -> bool {
        if !self.counts(instance) {
            return false;
        }
        let known = self.gone.entry(instance.to_owned()).or_insert(revision);
        *known = (*known).max(revision);
        true
    }

    /// A process has this leader key. Answers whether that shows a proof to have been wrong: it made a newer one since.
    pub(super) fn refuted_by(&mut self, instance: &str, revision: Revision) -> bool {
        let is_newer = self.gone.get(instance).is_some_and(|known| *known < revision);
        if is_newer {
            self.gone.remove(instance);
            self.alive.insert(instance.to_owned());
        }
        is_newer
    }

    /// Whether a proof about this process would be believed.
    pub(super) fn counts(&self, instance: &str) -> bool {
        !self.alive.contains(instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_leads_after_it_was_believed_gone_is_not_believed_gone_again() {
        let mut proofs = Proofs::default();
        assert!(!proofs.refuted_by("a", 5));
        assert!(proofs.of_absence("a", 5));
        // The same key, read once more or from before.
        assert!(!proofs.refuted_by("a", 5) && !proofs.refuted_by("a", 4));
        assert!(proofs.of_absence("a", 5), "the revocation may not have got through");
        assert!(proofs.refuted_by("a", 9));
        assert!(!proofs.counts("a") && !proofs.of_absence("a", 9));
        assert!(proofs.counts("b") && proofs.of_absence("b", 7));
    }
}
