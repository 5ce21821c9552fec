//! Streams between workers and coordinators: in order, and never whole again once broken. What was said on a stream that
//! its speaker has given up may still arrive.

use crate::fault::Fault;
use crate::network::Place;
use crate::world::{What, World, say};
use muster_domain::effect::ToWorker;
use muster_domain::id::SessionId;
use muster_domain::worker::{Hello, Report};

/// What a worker says.
#[derive(Clone, Debug)]
pub(crate) enum Up {
    Hello(Box<Hello>),
    Report(Report),
    /// It has ended the stream.
    End,
}

/// What a coordinator says.
#[derive(Clone, Debug)]
pub(crate) enum Down {
    Say(ToWorker),
    /// It does not lead; who does, as far as it knows.
    Refused(Option<usize>),
    /// It has ended the stream, or nobody listens.
    End,
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) worker: usize,
    pub(crate) worker_process: u32,
    pub(crate) coordinator: usize,
    /// The process that took the hello.
    pub(crate) coordinator_process: u32,
    pub(crate) session: Option<SessionId>,
    /// When the coordinator last heard something on it.
    pub(crate) heard_at: u64,
    /// Nothing overtakes: when the last message of each direction arrives.
    up_at: u64,
    down_at: u64,
    broken: bool,
}

impl World {
    pub(crate) fn open_stream(&mut self, worker: usize, coordinator: usize) -> usize {
        self.streams.push(Stream {
            worker,
            worker_process: self.workers[worker].process,
            coordinator,
            coordinator_process: 0,
            session: None,
            heard_at: self.t,
            up_at: 0,
            down_at: 0,
            broken: false,
        });
        self.streams.len() - 1
    }

    /// When the next message of a stream arrives: what cannot pass now is sent again until it can.
    fn carried(&mut self, from: Place, to: Place) -> u64 {
        let takes = self.takes();
        self.network.blocked(self.t, from, to).unwrap_or(self.t) + takes
    }

    /// A connection that is reset: either side hears of it in its own time.
    fn breaks(&mut self, index: usize) -> bool {
        if self.streams[index].broken {
            return true;
        }
        if self.goes_wrong(self.plan.chances.stream_break, Fault::StreamBreak) {
            self.streams[index].broken = true;
            let (up, down) = (self.random.below(12_000), self.random.below(6_000));
            self.after(up, What::Up(index, Up::End));
            self.after(down, What::Down(index, Down::End));
            return true;
        }
        false
    }

    pub(crate) fn send_up(&mut self, index: usize, message: Up) {
        if self.breaks(index) {
            return;
        }
        let (from, to) =
            (Place::Worker(self.streams[index].worker), Place::Coordinator(self.streams[index].coordinator));
        let at = self.carried(from, to).max(self.streams[index].up_at);
        self.streams[index].up_at = at;
        self.queue.push(at, What::Up(index, message));
    }

    pub(crate) fn send_down(&mut self, index: usize, message: Down) {
        if self.breaks(index) {
            return;
        }
        let (from, to) =
            (Place::Coordinator(self.streams[index].coordinator), Place::Worker(self.streams[index].worker));
        let at = self.carried(from, to).max(self.streams[index].down_at);
        self.streams[index].down_at = at;
        self.queue.push(at, What::Down(index, message));
    }

    pub(crate) fn up_arrives(&mut self, index: usize, message: Up) {
        let coordinator = self.streams[index].coordinator;
        let there = &self.coordinators[coordinator];
        let process = self.streams[index].coordinator_process;
        let known = there.up && (process == 0 || process == there.process);
        let refused = process == 0 && there.listener_dead;
        if !known || refused {
            // Nobody is there: the machine refuses, if it is there itself.
            if !there.host_gone && !matches!(message, Up::End) {
                say!(self, "c{coordinator} refuses a stream of w{}", self.streams[index].worker);
                self.send_down(index, Down::End);
            }
            return;
        }
        if there.paused {
            self.coordinators[coordinator].inbox.push(What::Up(index, message));
            return;
        }
        self.coordinator_hears(coordinator, index, message);
    }

    pub(crate) fn down_arrives(&mut self, index: usize, message: Down) {
        let worker = self.streams[index].worker;
        let there = &self.workers[worker];
        if !there.agent_up || there.process != self.streams[index].worker_process {
            return;
        }
        if there.paused {
            self.workers[worker].inbox.push(What::Down(index, message));
            return;
        }
        self.worker_hears(worker, index, message);
    }
}
