//! A store and the elections of several coordinators in one process: who leads is what the test says.

use crate::election::{Election, Identity, Leadership, Standing, Validity};
use crate::leading::Seat;
use crate::store::{Space, Store, StoreError};
use futures_util::future::BoxFuture;
use muster_domain::effect::{DocumentKey, Documents, Write};
use muster_domain::id::Term;
use muster_domain::leadership::Role;
use muster_domain::time::Moment;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// Who leads with which term.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Choice {
    term: Term,
    leader: Option<String>,
}

/// See the module's text. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Arbiter {
    choice: watch::Sender<Choice>,
    members: Arc<Mutex<BTreeMap<String, Identity>>>,
    documents: Arc<Mutex<BTreeMap<DocumentKey, Write>>>,
    /// Commits pass while it has a permit.
    pub(crate) gate: Arc<Semaphore>,
}

impl Arbiter {
    pub(crate) fn new() -> Self {
        let (members, documents) = (Arc::default(), Arc::default());
        Self { choice: watch::Sender::default(), members, documents, gate: Arc::new(Semaphore::new(1)) }
    }

    /// From now on this one leads, or nobody.
    pub(crate) fn elect(&self, leader: Option<&str>) {
        self.choice.send_modify(|choice| {
            choice.term += 1;
            choice.leader = leader.map(str::to_owned);
        });
    }

    /// The seat of a coordinator.
    pub(crate) fn seat(&self, identity: Identity) -> Seat {
        self.members.lock().unwrap().insert(identity.name.clone(), identity.clone());
        let standing = watch::Sender::new(self.seen());
        let member = Member { arbiter: self.clone(), name: identity.name, standing, lost: Mutex::default() };
        let (election, mut choices) = (Arc::new(member), self.choice.subscribe());
        let follower = Arc::downgrade(&election);
        tokio::spawn(async move {
            while choices.changed().await.is_ok() {
                let Some(member) = follower.upgrade() else { return };
                member.look();
            }
        });
        Seat { store: Arc::new(self.clone()), election, is_shared: true }
    }

    pub(crate) fn has(&self, job: &str) -> bool {
        self.documents.lock().unwrap().keys().any(|key| key.to_string().ends_with(job))
    }

    /// What a follower knows.
    fn seen(&self) -> Standing {
        let choice = self.choice.borrow().clone();
        let leader = choice.leader.and_then(|name| self.members.lock().unwrap().get(&name).cloned());
        Standing { role: Role::Follower, term: leader.as_ref().map(|_| choice.term), leader }
    }
}

impl Store for Arbiter {
    fn load(&self, _: Term) -> BoxFuture<'_, Result<Documents, StoreError>> {
        Box::pin(async {
            let mut all = Documents::default();
            for write in self.documents.lock().unwrap().values().cloned() {
                match write {
                    Write::Job(job) => all.jobs.push(*job),
                    Write::Node(node) => all.nodes.push(*node),
                    Write::ForgetJob(_) | Write::ForgetNode(_) => {}
                }
            }
            Ok(all)
        })
    }

    fn commit(&self, ours: Term, writes: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let held = self.choice.borrow().term;
            if held != ours {
                return Err(StoreError::Fenced { held, ours });
            }
            for write in writes {
                let mut documents = self.documents.lock().unwrap();
                match &write {
                    Write::ForgetJob(_) | Write::ForgetNode(_) => documents.remove(&write.key()),
                    Write::Job(_) | Write::Node(_) => documents.insert(write.key(), write),
                };
            }
            // Durable already; only the answer is late.
            let _passed = self.gate.acquire().await;
            Ok(())
        })
    }

    fn batch_documents(&self) -> usize {
        100
    }

    fn space(&self) -> watch::Receiver<Option<Space>> {
        watch::channel(None).1
    }
}

struct Member {
    arbiter: Arbiter,
    name: String,
    standing: watch::Sender<Standing>,
    lost: Mutex<Option<(Term, CancellationToken, Validity)>>,
}

impl Member {
    fn look(&self) {
        let term = self.arbiter.choice.borrow().term;
        match &*self.lost.lock().unwrap() {
            Some((ours, lost, validity)) if *ours != term => {
                validity.set(Moment(0));
                self.standing.send_modify(|standing| standing.role = Role::SteppingDown);
                lost.cancel();
            }
            Some(_) => {}
            None => drop(self.standing.send_replace(self.arbiter.seen())),
        }
    }
}

impl Election for Member {
    fn campaign(&self) -> BoxFuture<'_, Result<Leadership, StoreError>> {
        Box::pin(async {
            let mut choices = self.arbiter.choice.subscribe();
            let chosen = choices.wait_for(|choice| choice.leader.as_deref() == Some(&self.name)).await;
            let term = chosen.map_err(|error| StoreError::Failed(error.to_string()))?.term;
            let (lost, validity) = (CancellationToken::new(), Validity::until(Moment(u64::MAX - 1)));
            *self.lost.lock().unwrap() = Some((term, lost.clone(), validity.clone()));
            let leader = self.arbiter.members.lock().unwrap().get(&self.name).cloned();
            self.standing.send_replace(Standing { role: Role::BecomingLeader, term: Some(term), leader });
            self.look();
            Ok(Leadership { term, lost, validity })
        })
    }

    fn lead(&self) {
        self.standing.send_modify(|standing| {
            if standing.role == Role::BecomingLeader {
                standing.role = Role::Leader;
            }
        });
    }

    fn fenced(&self) {
        self.standing.send_modify(|standing| standing.role = Role::SteppingDown);
        if let Some((_, lost, validity)) = &*self.lost.lock().unwrap() {
            validity.set(Moment(0));
            lost.cancel();
        }
    }

    fn ended(&self) -> BoxFuture<'_, ()> {
        let ended = self.lost.lock().unwrap().take();
        if ended.is_some_and(|(term, ..)| term == self.arbiter.choice.borrow().term) {
            // Nobody else was chosen: it may win again, with a new term.
            self.arbiter.elect(Some(&self.name));
        }
        self.standing.send_replace(self.arbiter.seen());
        Box::pin(async {})
    }

    fn resign(&self) -> BoxFuture<'_, ()> {
        // Whoever is left leads.
        let mut members = self.arbiter.members.lock().unwrap();
        members.remove(&self.name);
        let next = members.keys().next().cloned();
        drop(members);
        if self.arbiter.choice.borrow().leader.as_deref() == Some(&self.name) {
            self.arbiter.elect(next.as_deref());
        }
        Box::pin(async {})
    }

    fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }
}
