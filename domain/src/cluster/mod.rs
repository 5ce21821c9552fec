//! The coordinator's brain: jobs, nodes, and every rule that connects them.
//!
//! [`Cluster::apply`] takes one event. What it concerns is looked at again by `drive` (file `drive.rs`): a
//! level-triggered step that compares what a job's document wants with what the workers report, moves the document on,
//! and says which commands, notices and charges are due. A restored document takes the same step, so restoring goes
//! through the same code as living.

mod admission;
mod core;
mod drive;
mod gang;
mod jobs;
mod nodes;
mod place;
mod settings;
mod silence;
mod space;
mod strays;
#[cfg(test)]
mod tests;
mod track;
mod verdicts;
mod views;

pub use settings::{JobLocation, RankLocation, Settings, Utilization, Wording};

use crate::brake::Brakes;
use crate::effect::{DocumentKey, Documents, Effect, Milestone, Reply, Write};
use crate::event::Event;
use crate::id::{JobId, NodeName, RequestId, SessionId, Term};
use crate::node::{Admission, NodeRecord};
use crate::time::{Moment, Now};
use nodes::Node;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use track::Tracked;

/// Most alarms that are kept for operators.
const MOST_ALARMS: usize = 20;
/// An alarm that goes on is raised again after this time.
const ALARM_AGAIN_MS: u64 = 600_000;

/// The state of the cluster. Only [`Cluster::apply`] changes it.
#[derive(Debug)]
pub struct Cluster {
    settings: Settings,
    term: Term,
    restored_at: Moment,
    /// Since when this leader has listened without a break: after a pause of its own the silence of others proves nothing.
    awake_since: Moment,
    /// The moment of the event that is being applied.
    moment: Moment,
    /// When the next tick is due.
    due: Option<Moment>,
    jobs: BTreeMap<JobId, Tracked>,
    /// Jobs that wait for room, by order of acceptance.
    queue: BTreeMap<u64, JobId>,
    nodes: BTreeMap<NodeName, Node>,
    /// The nodes' documents.
    records: BTreeMap<NodeName, NodeRecord>,
    sessions: BTreeMap<SessionId, NodeName>,
    next_sequence: u64,
    /// Jobs that hold room, and those of them that every rank runs in.
    holding: BTreeSet<JobId>,
    running: u64,
    timers: BTreeSet<(Moment, JobId)>,
    /// Ended and settled jobs, by the wall clock at which they may be forgotten.
    retention: BTreeSet<(u64, JobId)>,
    /// When the next of them is looked at.
    retention_at: Option<Moment>,
    /// Whether room or queue changed, so that a scheduling pass may place something.
    replan: bool,
    brakes: Brakes,
    /// When this leader last offered its leadership to another.
    offered_at: Option<Moment>,
    strangers: core::Strangers,
    alarms: VecDeque<(Moment, String)>,
    /// Whether the store is so full that no new job is taken.
    store_is_full: bool,
    sweep: space::Sweep,
    // Of the event that is being applied:
    writes: BTreeMap<DocumentKey, Vec<Milestone>>,
    effects: Vec<Effect>,
}

impl Cluster {
    /// A leader's cluster: `documents` is everything the store holds. The effects are what is owed at once.
    #[must_use]
    pub fn restore(settings: Settings, term: Term, now: Now, documents: Documents) -> (Self, Vec<Effect>) {
        let mut cluster = Self {
            settings,
            term,
            restored_at: now.moment,
            awake_since: now.moment,
            moment: now.moment,
            due: None,
            jobs: BTreeMap::new(),
            queue: BTreeMap::new(),
            // Known before they are heard; what is left of a drain's deadline counts from now.
            nodes: documents.nodes.iter().map(|record| (record.name.clone(), Node::restored(now.moment))).collect(),
            records: documents.nodes.into_iter().map(|record| (record.name.clone(), record)).collect(),
            sessions: BTreeMap::new(),
            next_sequence: 1,
            holding: BTreeSet::new(),
            running: 0,
            timers: BTreeSet::new(),
            retention: BTreeSet::new(),
            retention_at: None,
            replan: false,
            brakes: Brakes::restored(now, documents.jobs.iter()),
            offered_at: None,
            strangers: core::Strangers::default(),
            alarms: VecDeque::new(),
            store_is_full: false,
            sweep: space::Sweep::default(),
            writes: BTreeMap::new(),
            effects: Vec::new(),
        };
        let ids: Vec<JobId> = documents.jobs.iter().map(|job| job.spec.id.clone()).collect();
        for job in documents.jobs {
            cluster.next_sequence = cluster.next_sequence.max(job.sequence + 1);
            cluster.adopt(now, job);
        }
        for id in &ids {
            cluster.drive(now, id);
        }
        let effects = cluster.finish(now);
        (cluster, effects)
    }

    /// Takes one event and says what to do about it, in order.
    pub fn apply(&mut self, now: Now, event: Event) -> Vec<Effect> {
        self.moment = now.moment;
        if self.due.is_some_and(|due| now.moment.since_ms(due) > self.settings.offline_after_ms) {
            self.awake_since = now.moment;
        }
        match event {
            Event::Create { request, jobs } => self.on_create(now, request, jobs),
            Event::Terminate { request, jobs } => self.on_terminate(now, request, &jobs),
            Event::Extend { request, items } => self.on_extend(now, request, &items),
            Event::Verify { jobs } => self.on_verify(now, &jobs),
            Event::WorkerHello { session, hello } => self.on_hello(now, session, *hello),
            Event::WorkerReport { session, report } => self.on_report(now, session, report),
            Event::WorkerGone { session } => self.on_gone(now, session),
            Event::Told { job, number, delivery } => self.on_told(now, &job, number, delivery),
            Event::Charged { job, window, answer } => self.on_charged(now, &job, window, answer),
            Event::StoreSpace { used_bytes, budget_bytes } => self.on_store_space(now, used_bytes, budget_bytes),
            Event::Cordon { request, node } => self.on_admission(now, request, &node, Admission::Cordoned),
            Event::Drain { request, node, deadline_ms } => {
                self.on_admission(now, request, &node, Admission::Draining { deadline_ms });
            }
            Event::Uncordon { request, node } => self.on_admission(now, request, &node, Admission::Open),
            Event::ForgetNode { request, node } => self.on_forget_node(now, request, &node),
            Event::ReleaseBrake { request, verdict } => self.on_release_brake(now, request, verdict),
            Event::Tick => {}
        }
        self.finish(now)
    }

    /// When [`Event::Tick`] is due, if nothing happens before.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Moment> {
        self.due
    }

    fn earliest_due(&self) -> Option<Moment> {
        let timer = self.timers.first().map(|(moment, _)| *moment);
        let silence =
            self.nodes.values().filter_map(|node| node.goes_offline_at(&self.settings, self.awake_since)).min();
        let others = [self.retention_at, self.sweep.due, self.disowns_at(), self.doubts_at(), self.drains_noted_at()];
        [timer, silence].into_iter().chain(others).flatten().min()
    }

    /// The leader's term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// What is due by time, one scheduling pass if something changed, then everything in order: writes first.
    fn finish(&mut self, now: Now) -> Vec<Effect> {
        let swept = self.sweep(now);
        if !swept {
            self.on_time(now);
            if std::mem::take(&mut self.replan) {
                self.place(now);
            }
        }
        let mut effects = Vec::with_capacity(self.writes.len() + self.effects.len());
        for (key, milestones) in std::mem::take(&mut self.writes) {
            let write = match key {
                DocumentKey::Job(id) => match self.jobs.get(&id) {
                    Some(tracked) => Write::Job(Box::new(tracked.job.clone())),
                    None => Write::ForgetJob(id),
                },
                DocumentKey::Node(name) => match self.records.get(&name) {
                    Some(record) => Write::Node(Box::new(record.clone())),
                    None => Write::ForgetNode(name),
                },
            };
            effects.push(Effect::Write { write, milestones });
        }
        effects.append(&mut self.effects);
        // What a sweep has put off follows at once.
        self.due = if swept { Some(now.moment) } else { self.earliest_due() };
        effects
    }

    fn on_time(&mut self, now: Now) {
        while let Some((moment, id)) = self.timers.first().cloned() {
            if moment > now.moment {
                break;
            }
            self.timers.pop_first();
            if let Some(tracked) = self.jobs.get_mut(&id) {
                tracked.wake = None;
            }
            self.drive(now, &id);
        }
        self.notice_silence(now);
        self.note_drains(now);
        self.disown_strangers(now);
        self.end_retention(now);
    }

    /// Marks a job's document for writing, and names the step that this is.
    fn save(&mut self, id: &JobId, milestone: Milestone) {
        self.writes.entry(DocumentKey::Job(id.clone())).or_default().push(milestone);
        if milestone != Milestone::Acknowledged {
            self.effects.push(Effect::Changed { job: id.clone() });
        }
    }

    fn reply(&mut self, request: RequestId, reply: Reply) {
        self.effects.push(Effect::Reply { request, reply });
    }

    fn alarm(&mut self, message: String) {
        let moment = self.moment;
        if self.alarms.iter().any(|(at, old)| *old == message && moment.since_ms(*at) < ALARM_AGAIN_MS) {
            return;
        }
        self.alarms.retain(|(_, old)| *old != message);
        if self.alarms.len() == MOST_ALARMS {
            self.alarms.pop_front();
        }
        self.alarms.push_back((moment, message.clone()));
        self.effects.push(Effect::Alarm { message });
    }
}
