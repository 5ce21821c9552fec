//! The streams of workers at a coordinator, and its look at the leader's machine: what `coordinator/src/fleet` and the probe of
//! the election do.

use crate::coordinator::HOUSE_MS;
use crate::fault::CrashPoint;
use crate::network::Place;
use crate::stream::{Down, Up};
use crate::world::{What, World, say};
use muster_domain::event::Event;
use muster_domain::id::SessionId;
use muster_domain::leadership::LeadershipEvent;
use muster_domain::worker::Report;

/// A stream on which nothing is heard for so long is given up.
const DEAF_MS: u64 = 20_000;

impl World {
    /// Streams that fell silent are given up; a follower looks whether the leader's machine refuses connections.
    pub(crate) fn coordinator_keeps_house(&mut self, index: usize, process: u32) {
        let there = &self.coordinators[index];
        if !there.up || there.process != process {
            return;
        }
        let jitter = self.random.below(HOUSE_MS);
        self.after(HOUSE_MS / 2 + jitter, What::House(index, process));
        if self.coordinators[index].paused {
            return;
        }
        if let Some(brain) = &self.coordinators[index].brain {
            let deaf = |stream: &usize| self.t - self.streams[*stream].heard_at > DEAF_MS;
            let silent: Vec<SessionId> = brain.sessions.iter().filter(|(_, s)| deaf(s)).map(|(id, _)| *id).collect();
            for session in silent {
                self.session_ends(index, session, true);
            }
            return;
        }
        let Some(key) = self.coordinators[index].leadership.seen() else { return };
        let Some(&leader) = self.store.holders.get(&key.revision) else { return };
        let (here, there) = (Place::Coordinator(index), Place::Coordinator(leader));
        let cut = self.network.blocked(self.t, here, there).or(self.network.blocked(self.t, there, here)).is_some();
        let target = &self.coordinators[leader];
        let refuses = (!target.up && !target.host_gone) || target.listener_dead;
        if leader != index && !cut && refuses {
            self.lead(index, LeadershipEvent::Absent { revision: key.revision });
        }
    }

    /// A worker said something on a stream.
    pub(crate) fn coordinator_hears(&mut self, index: usize, stream: usize, message: Up) {
        let now_process = self.coordinators[index].process;
        self.streams[stream].heard_at = self.t;
        let worker = self.streams[stream].worker;
        let leads = self.coordinators[index].brain.as_ref().is_some_and(|brain| brain.leads);
        let said_at = match &message {
            Up::Report(report) => Some(report.sent_at_ms),
            Up::Hello(_) | Up::End => None,
        };
        if let Some(said_at) = said_at.filter(|_| leads) {
            // Of an earlier boot, whose clock is gone, it may be as late as anything is.
            let late = self.workers[worker].clock.read(self.t).0.checked_sub(said_at).unwrap_or(600_000);
            let latest = self.truth.lateness.entry(worker).or_default();
            *latest = late.max(*latest);
        }
        match message {
            Up::Hello(hello) => {
                self.streams[stream].coordinator_process = now_process;
                if !leads {
                    let seen = self.coordinators[index].leadership.seen();
                    let leader = seen.and_then(|key| self.store.holders.get(&key.revision).copied());
                    self.send_down(stream, Down::Refused(leader.filter(|leader| *leader != index)));
                    return;
                }
                let session = self.coordinators[index].next_session;
                self.coordinators[index].next_session += 1;
                self.streams[stream].session = Some(session);
                let (boot, said_at) =
                    (hello.boot_id.trim_start_matches("boot-").parse().unwrap_or(0), hello.sent_at_ms);
                if let Some(brain) = self.coordinators[index].brain.as_mut() {
                    brain.sessions.insert(session, stream);
                    // Not what is turned away for being older than what was heard already.
                    let known = brain.heard.get(&worker).copied().unwrap_or_default();
                    if boot > known.1 || said_at >= known.2 {
                        brain.heard.insert(worker, (self.t, boot, said_at, session));
                    }
                }
                say!(self, "c{index} hears hello of w{worker}, session {session}, {} ranks", hello.ranks.len());
                self.feed(index, Event::WorkerHello { session, hello }, None);
            }
            Up::Report(report) => {
                let Some(session) = self.streams[stream].session.filter(|_| leads) else {
                    return self.send_down(stream, Down::Refused(None));
                };
                let boot = self.workers[worker].boot;
                if let Some(brain) = self.coordinators[index].brain.as_mut() {
                    let newest = brain.heard.get(&worker).map_or(0, |heard| heard.3);
                    // Nor what is said on a stream that a newer one has replaced.
                    if session >= newest {
                        brain.heard.insert(worker, (self.t, boot, report.sent_at_ms, session));
                    }
                }
                for point in self.report_passes(&report) {
                    if let Some(away_ms) = self.dies_at(point) {
                        return self.coordinator_dies(index, away_ms, false);
                    }
                }
                self.feed(index, Event::WorkerReport { session, report }, None);
            }
            Up::End => {
                if let Some(session) = self.streams[stream].session {
                    self.session_ends(index, session, false);
                }
            }
        }
        self.arm_coordinator(index);
    }

    /// Which rows of B.3 a report brings a job to.
    fn report_passes(&self, report: &Report) -> Vec<CrashPoint> {
        if self.armed.is_empty() {
            return Vec::new();
        }
        self.truth.points_of(report)
    }

    pub(crate) fn session_ends(&mut self, index: usize, session: SessionId, tell: bool) {
        let Some(brain) = self.coordinators[index].brain.as_mut() else { return };
        let Some(stream) = brain.sessions.remove(&session) else { return };
        self.streams[stream].session = None;
        if tell {
            self.send_down(stream, Down::End);
        }
        self.feed(index, Event::WorkerGone { session }, None);
    }
}
