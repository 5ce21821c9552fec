//! The nodes' documents: what nodes said they are, and what operators decided about them.

use super::Cluster;
use crate::effect::{DocumentKey, Effect, Refusal, RefusalKind};
use crate::id::{JobId, NodeName, RankKey, RequestId};
use crate::job::Placement;
use crate::node::{Admission, NodeRecord};
use crate::time::{Moment, Now};
use crate::worker::Hello;
use std::collections::BTreeSet;

/// Nodes that are remembered; beyond, unknown ones are turned away (I12).
const MOST_NODES: usize = 10_000;
/// How often it is written down how long a drain has gone on.
const NOTED_EVERY_MS: u64 = 60_000;

impl Cluster {
    /// Why a node cannot be taken in, if so.
    pub(super) fn no_room_for(&self, hello: &Hello) -> Option<String> {
        let full = self.records.len() >= MOST_NODES && !self.records.contains_key(&hello.node);
        full.then(|| {
            format!(
                "{MOST_NODES} nodes are known, which is the most; forget those that are gone for good: `muster node forget`"
            )
        })
    }

    /// Writes a node's document if it says something new; a reconnect without change costs no write.
    pub(super) fn remember(&mut self, hello: &Hello) {
        let known = self.records.get(&hello.node);
        let mut record = NodeRecord::new(hello, known.map(|record| record.admission).unwrap_or_default());
        record.drained_ms = known.map_or(0, |record| record.drained_ms);
        if known != Some(&record) {
            self.records.insert(hello.node.clone(), record);
            self.save_node(&hello.node);
        }
    }

    fn save_node(&mut self, name: &NodeName) {
        self.writes.entry(DocumentKey::Node(name.clone())).or_default();
    }

    /// What operators decided about a node.
    pub(super) fn admission(&self, name: &NodeName) -> Admission {
        self.records.get(name).map(|record| record.admission).unwrap_or_default()
    }

    /// When what runs on a node must have left it, if its drain has a deadline.
    pub(super) fn drained_at(&self, name: &NodeName) -> Option<Moment> {
        Some(self.nodes.get(name)?.decided.plus_ms(drain_left_ms(self.records.get(name)?)?))
    }

    /// When it is next written down how long a drain has gone on. What is over needs no note.
    pub(super) fn drains_noted_at(&self) -> Option<Moment> {
        let noted_at = |record: &NodeRecord| {
            let left_ms = drain_left_ms(record).filter(|left_ms| *left_ms > 0)?;
            Some(self.nodes.get(&record.name)?.decided.plus_ms(left_ms.min(NOTED_EVERY_MS)))
        };
        self.records.values().filter_map(noted_at).min()
    }

    pub(super) fn note_drains(&mut self, now: Now) {
        if self.drains_noted_at().is_none_or(|moment| moment > now.moment) {
            return;
        }
        let goes_on = |record: &&mut NodeRecord| drain_left_ms(record).is_some_and(|left_ms| left_ms > 0);
        for record in self.records.values_mut().filter(goes_on) {
            let Some(node) = self.nodes.get_mut(&record.name) else { continue };
            record.drained_ms = record.drained_ms.saturating_add(now.moment.since_ms(node.decided));
            node.decided = now.moment;
            self.writes.entry(DocumentKey::Node(record.name.clone())).or_default();
        }
    }

    /// The first node of a placement that is being drained.
    pub(super) fn draining_node<'a>(&self, placement: &'a Placement) -> Option<&'a NodeName> {
        placement.0.iter().find(|name| matches!(self.admission(name), Admission::Draining { .. }))
    }

    /// An operator's order. Given again it changes nothing, and a deadline runs on.
    pub(super) fn on_admission(&mut self, now: Now, request: RequestId, name: &NodeName, admission: Admission) {
        let Some(record) = self.records.get_mut(name) else {
            return self.reply(request, Err(unknown(name)));
        };
        if record.admission != admission {
            record.admission = admission;
            record.drained_ms = 0;
            self.save_node(name);
            self.nodes.entry(name.clone()).or_default().decided = now.moment;
            self.replan = true;
            for id in self.jobs_on(name) {
                self.drive(now, &id);
            }
        }
        self.reply(request, Ok(()));
    }

    /// The jobs that hold room on a node.
    fn jobs_on(&self, name: &NodeName) -> BTreeSet<JobId> {
        self.nodes.get(name).into_iter().flat_map(|node| &node.placed).map(|key| key.job.clone()).collect()
    }

    pub(super) fn on_forget_node(&mut self, now: Now, request: RequestId, name: &NodeName) {
        if !self.nodes.contains_key(name) {
            return self.reply(request, Err(unknown(name)));
        }
        if let Some(why) = self.still_needed(name) {
            return self.reply(request, Err(Refusal { kind: RefusalKind::Conflict, why }));
        }
        // The machine is declared gone: what ended jobs left on it will never be confirmed by anybody. Should it come
        // back all the same, its containers are left-overs of known jobs and are told to go.
        let left: Vec<RankKey> =
            self.nodes.get(name).into_iter().flat_map(|node| node.placed.iter().cloned()).collect();
        for key in left {
            if let Some(seen) = self.jobs.get_mut(&key.job).and_then(|job| job.seen.get_mut(key.rank as usize)) {
                seen.absent();
            }
            self.drive(now, &key.job);
        }
        let session = self.nodes.remove(name).and_then(|node| node.session);
        if let Some(session) = session {
            self.sessions.remove(&session);
            let reason = "an operator has declared this node gone; it is taken in again when it dials".to_owned();
            self.effects.push(Effect::Close { session, reason });
        }
        if self.records.remove(name).is_some() {
            self.save_node(name);
        }
        self.replan = true;
        self.reply(request, Ok(()));
    }

    /// Why a node cannot be forgotten now.
    fn still_needed(&self, name: &NodeName) -> Option<String> {
        let node = self.nodes.get(name)?;
        if node.session.is_some() && node.silent.is_none() {
            return Some(format!("node {name} is connected; stop its worker first"));
        }
        let open = |id: &JobId| self.jobs.get(id).is_some_and(|tracked| !tracked.job.life.has_ended());
        let mut jobs = self.jobs_on(name).into_iter().filter(open);
        let first = jobs.next()?;
        let others = match jobs.count() {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        Some(format!(
            "job {first}{others} may still run on node {name}; terminate it, or drain the node and wait until it counts as \
             lost"
        ))
    }
}

/// What is left until the deadline of a drain, as of its last note.
fn drain_left_ms(record: &NodeRecord) -> Option<u64> {
    let Admission::Draining { deadline_ms: Some(deadline_ms) } = record.admission else { return None };
    Some(deadline_ms.saturating_sub(record.drained_ms))
}

fn unknown(name: &NodeName) -> Refusal {
    let why = format!("node {name} is not known here; `muster nodes` lists all that are");
    Refusal { kind: RefusalKind::NotFound, why }
}
