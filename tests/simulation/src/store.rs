//! The model of the store: keys with revisions, leases on its own clock, transactions that compare; answers that get lost.

use crate::clock::Clock;
use crate::fault::Fault;
use crate::mutant::Shell;
use crate::network::Place;
use crate::plan::Watch;
use crate::world::{What, World, say};
use muster_domain::commit::{Answer, Found, Revision, Transaction};
use muster_domain::effect::{DocumentKey, Documents, Write};
use muster_domain::job::{Job, Life};
use muster_domain::leadership::{LeaderKey, LeaseId, revision_of};
use muster_domain::time::Moment;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Time to live of every lease.
pub(crate) const TTL_MS: u64 = 9_000;

/// What coordinators ask of it.
#[derive(Clone, Debug)]
pub(crate) enum StoreCall {
    Grant,
    Keep(LeaseId),
    Campaign(LeaseId),
    Look,
    /// End a lease; and read the leader key, if it is another's.
    Revoke(LeaseId, bool),
    List,
    Commit(Rc<Transaction>),
}

#[derive(Clone, Debug)]
pub(crate) struct StoreRequest {
    pub(crate) coordinator: usize,
    pub(crate) process: u32,
    pub(crate) ticket: u64,
    pub(crate) sent_at: u64,
    pub(crate) call: StoreCall,
}

/// What it answers. No answer at all is the other possibility.
#[derive(Debug)]
pub(crate) enum StoreAnswer {
    Granted(LeaseId),
    Kept(bool),
    Saw(Option<LeaderKey>),
    Listed(Documents, Vec<(DocumentKey, Revision)>),
    Committed(Answer),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) revision: Revision,
    pub(crate) lease: LeaseId,
    pub(crate) coordinator: usize,
    pub(crate) process: u32,
}

impl Key {
    pub(crate) fn shown(self) -> LeaderKey {
        LeaderKey { revision: self.revision, lease: self.lease }
    }
}

#[derive(Debug)]
struct Lease {
    ends: Moment,
    coordinator: usize,
    process: u32,
}

#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) revision: Revision,
    pub(crate) write: Write,
}

impl Document {
    pub(crate) fn job(&self) -> Option<&Job> {
        if let Write::Job(job) = &self.write { Some(job) } else { None }
    }
}

#[derive(Debug)]
pub(crate) struct Store {
    clock: Clock,
    pub(crate) revision: Revision,
    pub(crate) key: Option<Key>,
    /// The key as it was before, for stale readings; and who held which revision.
    before: Option<Key>,
    pub(crate) holders: BTreeMap<Revision, usize>,
    /// Keys that somebody else ended, calling their holder absent.
    pub(crate) taken: BTreeSet<Revision>,
    leases: BTreeMap<LeaseId, Lease>,
    next_lease: LeaseId,
    pub(crate) documents: BTreeMap<DocumentKey, Document>,
    pub(crate) down_until: u64,
    pub(crate) slow_until: u64,
    pub(crate) full_until: u64,
    armed: u64,
}

impl Store {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            revision: 1,
            key: None,
            before: None,
            holders: BTreeMap::new(),
            taken: BTreeSet::new(),
            leases: BTreeMap::new(),
            next_lease: 1,
            documents: BTreeMap::new(),
            down_until: 0,
            slow_until: 0,
            full_until: 0,
            armed: u64::MAX,
        }
    }

    pub(crate) fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.documents.values().filter_map(Document::job)
    }
}

impl World {
    /// Sends a request; the answer comes with the ticket.
    pub(crate) fn ask_store(&mut self, coordinator: usize, call: StoreCall) -> u64 {
        let ticket = self.ticket();
        let process = self.coordinators[coordinator].process;
        if !matches!(call, StoreCall::Keep(_) | StoreCall::Commit(_)) {
            say!(self, "c{coordinator} asks the store: {call:?}");
        }
        if self.goes_wrong(self.plan.chances.store_request_lost, Fault::StoreRequestLost) {
            return ticket;
        }
        let request = StoreRequest { coordinator, process, ticket, sent_at: self.t, call };
        if let Some(takes) = self.passes(Place::Coordinator(coordinator), Place::Store) {
            if self.goes_wrong(self.plan.chances.duplicate, Fault::Duplicate) {
                // Nobody waits for the answer to a copy, which comes after the original.
                let copy = StoreRequest { ticket: 0, ..request.clone() };
                let later = takes + 1 + self.random.below(8_000);
                self.after(later, What::AtStore(Box::new(copy)));
            }
            self.after(takes, What::AtStore(Box::new(request)));
        }
        ticket
    }

    pub(crate) fn at_store(&mut self, request: StoreRequest) {
        // What is still late when faults are over is lost: late keepalives would make the last leader's lease longer.
        let late = self.plan.heal_at + 1_000 < self.t && request.sent_at < self.plan.heal_at;
        if self.store.down_until > self.t || late {
            return;
        }
        self.end_leases();
        let Some(answer) = self.store_does(&request) else { return };
        if request.ticket == 0 || self.goes_wrong(self.plan.chances.store_reply_lost, Fault::StoreReplyLost) {
            return;
        }
        let slow = if self.store.slow_until > self.t { self.random.between(800, 5_000) } else { 0 };
        let StoreRequest { coordinator, process, ticket, .. } = request;
        if let Some(takes) = self.passes(Place::Store, Place::Coordinator(coordinator)) {
            self.after(takes + slow, What::FromStore(coordinator, process, ticket, Box::new(answer)));
        }
    }

    fn store_does(&mut self, request: &StoreRequest) -> Option<StoreAnswer> {
        let full = self.store.full_until > self.t;
        let now = self.store.clock.read(self.t);
        match &request.call {
            StoreCall::Grant if full => None,
            StoreCall::Grant => {
                let lease = self.store.next_lease;
                self.store.next_lease += 1;
                let StoreRequest { coordinator, process, .. } = *request;
                self.store.leases.insert(lease, Lease { ends: now.plus_ms(TTL_MS), coordinator, process });
                self.arm_leases();
                Some(StoreAnswer::Granted(lease))
            }
            StoreCall::Keep(lease) => {
                let kept = self.store.leases.get_mut(lease);
                let alive = kept.map(|lease| lease.ends = now.plus_ms(TTL_MS)).is_some();
                Some(StoreAnswer::Kept(alive))
            }
            StoreCall::Campaign(lease) => self.campaign(*lease, full),
            StoreCall::Look => Some(StoreAnswer::Saw(self.reading())),
            StoreCall::Revoke(lease, look) => {
                if *look && let Some(key) = self.store.key.filter(|key| key.lease == *lease) {
                    self.store.taken.insert(key.revision);
                }
                self.end_lease(*lease);
                look.then(|| StoreAnswer::Saw(self.store.key.map(Key::shown)))
            }
            StoreCall::List => Some(self.listed()),
            StoreCall::Commit(transaction) => {
                let transaction = Rc::clone(transaction);
                Some(StoreAnswer::Committed(self.transact(request, &transaction, full)))
            }
        }
    }

    /// Old values may be read (F11).
    fn reading(&mut self) -> Option<LeaderKey> {
        if self.goes_wrong(self.plan.chances.stale_look, Fault::StaleLook) {
            return self.store.before.map(Key::shown);
        }
        self.store.key.map(Key::shown)
    }

    fn campaign(&mut self, lease: LeaseId, full: bool) -> Option<StoreAnswer> {
        if self.store.key.is_none() {
            let held = self.store.leases.get(&lease)?;
            if full {
                return None;
            }
            let (coordinator, process) = (held.coordinator, held.process);
            self.store.revision += 1;
            let key = Key { revision: self.store.revision, lease, coordinator, process };
            say!(self, "store: c{coordinator} holds the leader key, revision {}", key.revision);
            self.store.key = Some(key);
            self.store.holders.insert(key.revision, coordinator);
            self.tell_watchers();
        }
        Some(StoreAnswer::Saw(self.store.key.map(Key::shown)))
    }

    fn listed(&self) -> StoreAnswer {
        let mut documents = Documents::default();
        let mut revisions = Vec::with_capacity(self.store.documents.len());
        for (key, document) in &self.store.documents {
            revisions.push((key.clone(), document.revision));
            if let Write::Job(job) = &document.write {
                documents.jobs.push((**job).clone());
            } else if let Write::Node(node) = &document.write {
                documents.nodes.push((**node).clone());
            }
        }
        StoreAnswer::Listed(documents, revisions)
    }

    fn transact(&mut self, request: &StoreRequest, transaction: &Transaction, full: bool) -> Answer {
        let leader = self.store.key.map_or(0, |key| key.revision);
        let led = leader == revision_of(transaction.term) || self.without(Shell::LeaderCompare);
        let found: Vec<Found> = transaction.puts.iter().map(|put| self.found(&put.write)).collect();
        let unchanged = transaction.puts.iter().zip(&found).all(|(put, found)| put.expected == found.revision)
            || self.without(Shell::DocumentCompare);
        if !led || !unchanged {
            return Answer::Refused { leader, found };
        }
        let mut unsaid = false;
        if full && transaction.puts.iter().any(|put| !put.write.removes()) {
            // At the moment the quota trips the write is applied, and the answer is the same (F10). Rare, so that writes wait.
            if !self.goes_wrong(50, Fault::NoSpaceApplied) {
                return Answer::Unknown;
            }
            unsaid = true;
        }
        self.store.revision += 1;
        let revision = self.store.revision;
        if self.store.key.map(|key| (key.coordinator, key.process)) != Some((request.coordinator, request.process)) {
            let what = format!("c{} wrote without holding the leader key", request.coordinator);
            self.violated("I1", what);
        }
        for put in &transaction.puts {
            self.committed(request.coordinator, transaction.term, &put.write);
            let key = put.write.key();
            if put.write.removes() {
                self.store.documents.remove(&key);
            } else {
                self.store.documents.insert(key, Document { revision, write: put.write.clone() });
            }
        }
        let places = |write: &Write| matches!(write, Write::Job(job) if matches!(job.life, Life::Preparing { .. }));
        if transaction.puts.iter().any(|put| places(&put.write)) {
            self.check_room();
        }
        if unsaid { Answer::Unknown } else { Answer::Applied(revision) }
    }

    fn found(&self, write: &Write) -> Found {
        match self.store.documents.get(&write.key()) {
            Some(document) => Found { revision: document.revision, as_wanted: document.write == *write },
            None => Found { revision: 0, as_wanted: write.removes() },
        }
    }

    fn end_lease(&mut self, lease: LeaseId) {
        self.store.leases.remove(&lease);
        if let Some(key) = self.store.key.filter(|key| key.lease == lease) {
            say!(self, "store: the leader key of c{} is gone", key.coordinator);
            self.store.revision += 1;
            self.store.before = Some(key);
            self.store.key = None;
            self.tell_watchers();
        }
    }

    fn end_leases(&mut self) {
        let now = self.store.clock.read(self.t);
        let over: Vec<LeaseId> = self.store.leases.iter().filter(|(_, l)| l.ends <= now).map(|(id, _)| *id).collect();
        for lease in over {
            self.end_lease(lease);
        }
    }

    pub(crate) fn store_checks_leases(&mut self) {
        self.store.armed = u64::MAX;
        if self.store.down_until <= self.t {
            self.end_leases();
        }
        self.arm_leases();
    }

    fn arm_leases(&mut self) {
        let Some(first) = self.store.leases.values().map(|lease| lease.ends).min() else { return };
        let at = self.store.clock.when(first).max(self.store.down_until).max(self.t + 1);
        if at < self.store.armed {
            self.store.armed = at;
            self.queue.push(at, What::LeaseCheck);
        }
    }

    /// The store was away; its new leader lets every lease begin anew (F9).
    pub(crate) fn store_goes(&mut self, lasts_ms: u64) {
        let back = self.t + lasts_ms;
        self.store.down_until = self.store.down_until.max(back);
        let ends = self.store.clock.read(self.store.down_until).plus_ms(TTL_MS);
        for lease in self.store.leases.values_mut() {
            lease.ends = lease.ends.max(ends);
        }
    }

    fn tell_watchers(&mut self) {
        let now = self.store.key.map(Key::shown);
        let watch = if self.faults_on { self.plan.watch } else { Watch::Prompt };
        for index in 0..self.coordinators.len() {
            let process = self.coordinators[index].process;
            let passes = self.passes(Place::Store, Place::Coordinator(index));
            let Some(takes) = passes else { continue };
            match watch {
                Watch::Prompt => self.after(takes, What::Watch(index, process, now)),
                Watch::None => self.fault(Fault::NoWatch),
                Watch::Late => {
                    self.fault(Fault::LateWatch);
                    for _ in 0..=self.random.below(2) {
                        let later = self.random.below(20_000);
                        self.after(takes + later, What::Watch(index, process, now));
                    }
                }
            }
        }
    }
}
