//! How decisions become durable: gathered into batches, written under compare-and-set, and only then let out.
//!
//! A batch holds whole decisions in the order in which they were made. A [`Transaction`] compares the leader key's
//! create-revision and each document's revision; [`Ledger`] knows these revisions and judges the store's answer. When
//! no answer came, the same transaction is sent again: had the first one landed, the second one's comparisons fail and
//! show our own content, so that a conditional write, not a read and not waiting, tells what happened (hole 5, F11).

use crate::effect::{DocumentKey, Effect, Milestone, Write};
use crate::id::Term;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A revision of the store; a document that does not exist has revision 0.
pub type Revision = u64;

/// What one event led to.
#[derive(Debug)]
pub struct Decision<Caller> {
    /// In the order in which the brain gave them.
    pub effects: Vec<Effect>,
    /// Who waits for a reply that may be among them.
    pub caller: Option<Caller>,
}

impl<Caller> Decision<Caller> {
    /// The documents that it writes, in order.
    fn documents(&self) -> impl Iterator<Item = DocumentKey> {
        self.effects
            .iter()
            .filter_map(|effect| if let Effect::Write { write, .. } = effect { Some(write.key()) } else { None })
    }

    /// Whether it removes documents, and at most calls an operator besides: nothing in it rests on what was decided before.
    #[must_use]
    pub fn only_removes(&self) -> bool {
        let removes = |effect: &Effect| matches!(effect, Effect::Write { write, .. } if write.removes());
        self.caller.is_none()
            && self.effects.iter().any(removes)
            && self.effects.iter().all(|effect| removes(effect) || matches!(effect, Effect::Alarm { .. }))
    }
}

/// Decisions that become durable together.
#[derive(Debug)]
pub struct Batch<Caller> {
    /// The last write of each document; earlier ones of the same batch are never seen by anybody. Those that give room
    /// back come first, so that a store which splits the batch never shows more given away than there is (I7).
    pub writes: Vec<Write>,
    /// The steps these writes make durable, in order.
    pub milestones: Vec<Milestone>,
    /// Who waits for replies among `effects`.
    pub callers: Vec<Caller>,
    /// What may leave once every write is durable, in order.
    pub effects: Vec<Effect>,
}

impl<Caller> Batch<Caller> {
    /// Takes at least one decision, and further ones while the batch has at most `documents` writes. One decision is
    /// never split between batches.
    pub fn take(queue: &mut VecDeque<Decision<Caller>>, documents: usize) -> Self {
        let mut batch = Self { writes: Vec::new(), milestones: Vec::new(), callers: Vec::new(), effects: Vec::new() };
        let mut writes: BTreeMap<DocumentKey, Write> = BTreeMap::new();
        while let Some(next) = queue.front() {
            if !writes.is_empty()
                && writes.len() + next.effects.iter().filter(|effect| is_write(effect)).count() > documents
            {
                break;
            }
            let Some(decision) = queue.pop_front() else { break };
            batch.callers.extend(decision.caller);
            for effect in decision.effects {
                match effect {
                    Effect::Write { write, milestones } => {
                        writes.insert(write.key(), write);
                        batch.milestones.extend(milestones);
                    }
                    other => batch.effects.push(other),
                }
            }
        }
        batch.writes = writes.into_values().collect();
        batch.writes.sort_by_key(|write| !write.gives_room());
        batch
    }

    /// Takes decisions that only remove documents out of the queue, for a store that is full: it takes removals when it
    /// takes nothing else, and they give room back, while what came before them waits for that room (reliability F10).
    ///
    /// A decision goes ahead if none of its documents is among those `under_way` or of an earlier decision that stays, so
    /// that the writes of each document keep their order; and while the batch has at most `documents` writes, the first
    /// decision whatever its size. The others keep their places. `None`: there is nothing to go ahead.
    ///
    /// That a removal overtakes other documents does no harm: what is removed is over. A job is forgotten when its end is
    /// durable and settled with Core, and no other document speaks of it.
    pub fn take_removals(
        queue: &mut VecDeque<Decision<Caller>>,
        under_way: &BTreeSet<DocumentKey>,
        documents: usize,
    ) -> Option<Self> {
        let mut spoken_for = under_way.clone();
        let mut ahead = VecDeque::new();
        let mut removals = 0;
        let mut stay = VecDeque::with_capacity(queue.len());
        for decision in queue.drain(..) {
            let keys: Vec<DocumentKey> = decision.documents().collect();
            let fits = ahead.is_empty() || removals + keys.len() <= documents;
            if fits && decision.only_removes() && !keys.iter().any(|key| spoken_for.contains(key)) {
                removals += keys.len();
                ahead.push_back(decision);
            } else {
                spoken_for.extend(keys);
                stay.push_back(decision);
            }
        }
        *queue = stay;
        (!ahead.is_empty()).then(|| Self::take(&mut ahead, usize::MAX))
    }
}

fn is_write(effect: &Effect) -> bool {
    matches!(effect, Effect::Write { .. })
}

/// One document of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The revision it must have for the transaction to apply.
    pub expected: Revision,
    /// What to write.
    pub write: Write,
}

/// All or nothing, and only while the leader key has the create-revision of `term` and every document its `expected`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The leader's term.
    pub term: Term,
    /// Each document once.
    pub puts: Vec<Put>,
}

/// What a refused transaction found in place of one of its documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its revision; 0 if there is none.
    pub revision: Revision,
    /// Whether it is, byte for byte, what the transaction would have written (absent, for a removal).
    pub as_wanted: bool,
}

/// What the store said to a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Applied, at this revision.
    Applied(Revision),
    /// A comparison failed; nothing was written by this sending.
    Refused {
        /// Create-revision of the leader key; 0 if there is none.
        leader: Revision,
        /// Every document of the transaction, in its order, read in the same step.
        found: Vec<Found>,
    },
    /// Nothing is known: no answer, a time-out, or an answer that the store is known to give in both cases (NOSPACE).
    Unknown,
}

/// What follows from an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is durable.
    Durable,
    /// Send the same transaction again.
    SendAgain,
    /// Somebody else leads: step down.
    Fenced {
        /// Create-revision of the leader key; 0 if there is none.
        leader: Revision,
    },
    /// Somebody wrote a document that only the leader may write: step down, and have a person look.
    Conflict {
        /// The document.
        key: DocumentKey,
    },
}

/// The revisions of the documents, as this leader knows them.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    revisions: BTreeMap<DocumentKey, Revision>,
}

impl Ledger {
    /// What a leader has just listed.
    #[must_use]
    pub fn new(listed: impl IntoIterator<Item = (DocumentKey, Revision)>) -> Self {
        Self { revisions: listed.into_iter().collect() }
    }

    /// The known revision of a document.
    #[must_use]
    pub fn revision(&self, key: &DocumentKey) -> Revision {
        self.revisions.get(key).copied().unwrap_or(0)
    }

    /// Every document that exists, with its revision.
    pub fn documents(&self) -> impl Iterator<Item = (&DocumentKey, Revision)> {
        self.revisions.iter().map(|(key, revision)| (key, *revision))
    }

    /// The transaction for these writes.
    #[must_use]
    pub fn transaction(&self, term: Term, writes: Vec<Write>) -> Transaction {
        let puts = writes.into_iter().map(|write| Put { expected: self.revision(&write.key()), write });
        Transaction { term, puts: puts.collect() }
    }

    /// Judges the store's answer to one sending of `transaction`. `in_doubt`: an earlier sending got no answer.
    pub fn judge(&mut self, transaction: &Transaction, answer: &Answer, in_doubt: bool) -> Verdict {
        let ours = crate::leadership::revision_of(transaction.term);
        match answer {
            Answer::Applied(revision) => {
                for put in &transaction.puts {
                    self.settle(put, *revision);
                }
                Verdict::Durable
            }
            Answer::Refused { leader, .. } if *leader != ours => Verdict::Fenced { leader: *leader },
            Answer::Refused { found, .. } => {
                let landed = in_doubt && found.iter().all(|found| found.as_wanted);
                if !landed {
                    let moved = transaction.puts.iter().zip(found).find(|(put, found)| put.expected != found.revision);
                    let moved = moved.map(|(put, _)| put).or(transaction.puts.first());
                    return moved.map_or(Verdict::Durable, |put| Verdict::Conflict { key: put.write.key() });
                }
                for (put, found) in transaction.puts.iter().zip(found) {
                    self.settle(put, found.revision);
                }
                Verdict::Durable
            }
            Answer::Unknown => Verdict::SendAgain,
        }
    }

    fn settle(&mut self, put: &Put, revision: Revision) {
        if put.write.removes() {
            self.revisions.remove(&put.write.key());
        } else {
            self.revisions.insert(put.write.key(), revision);
        }
    }
}

#[cfg(test)]
#[path = "commit_tests.rs"]
mod tests;
