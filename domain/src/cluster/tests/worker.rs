//! The workers of the world under test: a real brain each, and an engine that does everything at once.

use super::*;
use crate::agent::AgentEffect;
use crate::rank::{RankReport, RankState};

/// One worker: its brain, and an engine that does everything at once and ends ranks when the test says so.
pub(in crate::cluster) struct Worker {
    pub(super) agent: Agent,
    pub(super) session: SessionId,
    pub(super) connected: bool,
    /// Ranks whose preparation the engine refuses: (reason, retry).
    pub(super) refuses: Option<(String, bool)>,
    /// Whether the engine fails to remove anything.
    pub(super) keeps_everything: bool,
    /// Commands wait in here while the test holds the engine.
    pub(super) commands: Vec<Command>,
    pub(super) cores: u32,
    /// Counts the boots of its machine.
    pub(super) boot: u32,
}

impl World {
    pub(super) fn perform_on_worker(&mut self, name: &str, effects: Vec<AgentEffect>) {
        let now = Moment(self.now_ms);
        for effect in effects {
            let worker = self.workers.get_mut(name).unwrap();
            let seen = match effect {
                AgentEffect::Prepare(assignment) => {
                    let observation = match worker.refuses.clone() {
                        Some((reason, retry)) => Observation::PrepareFailed { reason, retry },
                        None => Observation::Prepared { address: format!("10.0.0.{}", assignment.key.rank + 2) },
                    };
                    Some((assignment.key, observation))
                }
                AgentEffect::Start { .. } if self.hold_start.as_deref() == Some(name) => None,
                AgentEffect::Start { key, files, .. } => {
                    assert_eq!(files.files["rank.txt"], format!("{}\n", key.rank));
                    Some((key, Observation::Started { started_at: now }))
                }
                AgentEffect::Terminate(key) | AgentEffect::Kill(key) => {
                    let age_ms = self.age(name, &key);
                    Some((key, Observation::Ended { end: RankEnd::Killed { signal: 15 }, age_ms }))
                }
                AgentEffect::Remove(_) if worker.keeps_everything => None,
                AgentEffect::Remove(key) => Some((key, Observation::Removed)),
                AgentEffect::Report(ranks) => {
                    self.report(name, false, ranks);
                    None
                }
                AgentEffect::Refused { .. } | AgentEffect::SaveTerm(_) | AgentEffect::SaveTimeLimit { .. } => None,
            };
            if let Some((key, observation)) = seen {
                let event = AgentEvent::Observed { key, observation };
                self.under_way.push_back(Delivered::Worker(name.to_owned(), event));
            }
        }
    }

    pub(super) fn age(&self, name: &str, key: &RankKey) -> u64 {
        let reports = self.workers[name].agent.reports(Moment(self.now_ms));
        let state = reports.into_iter().find(|report| report.key == *key).map(|report| report.state);
        match state {
            Some(RankState::Running { age_ms }) => age_ms,
            _ => 0,
        }
    }

    fn report(&mut self, name: &str, complete: bool, ranks: Vec<RankReport>) {
        let worker = &self.workers[name];
        if worker.connected && !self.deaf_to.contains(name) {
            let report = Report {
                sent_at_ms: self.now_ms,
                applied_sequence: worker.agent.applied_sequence(),
                complete,
                ranks,
                engine_ok: self.engine_ok,
            };
            let session = worker.session;
            self.send(Event::WorkerReport { session, report });
        }
    }

    pub(super) fn heartbeat(&mut self, name: &str) {
        let ranks = self.workers[name].agent.reports(Moment(self.now_ms));
        self.report(name, true, ranks);
        self.settle();
    }

    pub(super) fn connect(&mut self, name: &str) {
        let session = self.next_session;
        self.next_session += 1;
        let term = self.term;
        let worker = self.workers.get_mut(name).unwrap();
        (worker.session, worker.connected) = (session, true);
        let hello = self.hello(name);
        self.agent(name, AgentEvent::Connected { term });
        self.event(Event::WorkerHello { session, hello: Box::new(hello) });
        // What the hello lists may be old; the first heartbeat after the welcome counts.
        self.heartbeat(name);
    }

    /// What a worker would say now on a new stream.
    pub(super) fn hello(&self, name: &str) -> Hello {
        let worker = &self.workers[name];
        Hello {
            node: NodeName::new(name).unwrap(),
            boot_id: format!("boot-{}", worker.boot),
            capacity: Resources { cores: worker.cores, memory_bytes: 1 << 40, gpus: 0 },
            categories: vec![],
            labels: BTreeMap::new(),
            network_zone: "z".into(),
            engine: "fake".into(),
            engine_version: "1".into(),
            version: "0".into(),
            last_term: worker.agent.last_term(),
            sent_at_ms: self.now_ms,
            ranks: worker.agent.reports(Moment(self.now_ms)),
        }
    }

    /// The machine restarts: nothing that ran is there any more, and the agent remembers only its term.
    pub(super) fn reboot(&mut self, name: &str) {
        self.cut(name);
        let worker = self.workers.get_mut(name).unwrap();
        worker.boot += 1;
        worker.agent = Agent::new(AgentSettings { grace_ms: 10_000 }, worker.agent.last_term());
        self.connect(name);
    }

    /// The stream breaks; the worker lives on.
    pub(super) fn cut(&mut self, name: &str) {
        let worker = self.workers.get_mut(name).unwrap();
        worker.connected = false;
        let session = worker.session;
        self.event(Event::WorkerGone { session });
    }
}
