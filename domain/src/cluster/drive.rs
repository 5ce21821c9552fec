//! The level-triggered step: whatever happened, compare what the document wants with what is known, and close the gap.

use super::Cluster;
use super::track::{Seen, Sent};
use crate::effect::Milestone;
use crate::id::{JobId, NodeName, Rank, RankKey};
use crate::job::{Job, Life};
use crate::peers::{RankAddress, host_name, peer_files};
use crate::rank::{Assignment, Command, RankState};
use crate::time::{Moment, Now};

/// Moves of one job in one step: more would mean that two moves undo each other.
const MOST_MOVES: usize = 8;

/// What the document wants of each rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Nothing,
    Prepared,
    Running,
    Stopped,
    Gone,
}

fn want(life: &Life) -> Want {
    match life {
        Life::Queued | Life::Ended { released: true, .. } => Want::Nothing,
        Life::Preparing { .. } => Want::Prepared,
        Life::Starting { .. } | Life::Running { .. } => Want::Running,
        Life::Stopping { .. } => Want::Stopped,
        Life::Undoing { .. } | Life::Ended { .. } => Want::Gone,
    }
}

/// The command that brings a rank from what it is to what it should be.
fn next_command(want: Want, seen: &Seen, time_limit_ms: Option<u64>) -> Option<&'static str> {
    use RankState::{Ended, Failed, Prepared, Preparing, Running, Starting};
    match (want, &seen.state) {
        (Want::Prepared, None) if seen.known => Some("prepare"),
        (Want::Running, Some(Prepared { .. })) => Some("start"),
        (Want::Running, Some(Running { .. })) if seen.time_limit_ms != time_limit_ms => Some("set_time_limit"),
        (Want::Stopped, Some(Preparing | Prepared { .. } | Starting | Running { .. }))
        | (Want::Gone, Some(Starting | Running { .. })) => Some("stop"),
        (Want::Gone, Some(Preparing | Prepared { .. } | Ended { .. } | Failed { .. })) => Some("remove"),
        _ => None,
    }
}

impl Cluster {
    /// Looks at one job again.
    pub(super) fn drive(&mut self, now: Now, id: &JobId) {
        self.seal(id);
        for _ in 0..MOST_MOVES {
            if !self.step(now, id) {
                break;
            }
        }
        self.command_ranks(now.moment, id);
        self.owe(now, id);
        self.rearm(now.moment, id);
    }

    /// Seals the windows that the evidence covers (I6).
    fn seal(&mut self, id: &JobId) {
        let Some(tracked) = self.jobs.get_mut(id) else {
            return;
        };
        let Life::Running { offset_ms, .. } = tracked.job.life else {
            return;
        };
        let run_ms = tracked.run_ms(offset_ms);
        if tracked.job.account.seal(&tracked.job.spec.price, run_ms) {
            self.save(id, Milestone::Sealed);
        }
    }

    fn command_ranks(&mut self, now: Moment, id: &JobId) {
        let Some(tracked) = self.jobs.get(id) else {
            return;
        };
        let wanted = want(&tracked.job.life);
        if wanted == Want::Nothing {
            return;
        }
        let mut due: Vec<(Rank, NodeName, Command)> = Vec::new();
        for (rank, seen) in (0..).zip(&tracked.seen) {
            let Some(name) = next_command(wanted, seen, tracked.job.time_limit_ms) else {
                continue;
            };
            let Some(node) = tracked.job.node_of(rank) else {
                continue;
            };
            let Some(session) = self.nodes.get(node).and_then(|node| node.session) else {
                continue;
            };
            let under_way = seen.sent.as_ref().is_some_and(|sent| {
                sent.name == name
                    && sent.session == session
                    && sent.time_limit_ms == tracked.job.time_limit_ms
                    && now.since_ms(sent.at) < self.settings.resend_ms
            });
            if !under_way {
                due.push((rank, node.clone(), self.make_command(name, &tracked.job, rank, node)));
            }
        }
        let time_limit_ms = tracked.job.time_limit_ms;
        for (rank, node, command) in due {
            let name = command.name();
            let Some((session, sequence)) = self.command(&node, command) else {
                continue;
            };
            if let Some(seen) = self.jobs.get_mut(id).and_then(|tracked| tracked.seen.get_mut(rank as usize)) {
                seen.sent = Some(Sent { name, time_limit_ms, session, sequence, at: now });
                if name == "start" {
                    seen.start_sent = Some((session, sequence));
                }
            }
        }
    }

    fn make_command(&self, name: &str, job: &Job, rank: Rank, node: &NodeName) -> Command {
        let key = RankKey { job: job.spec.id.clone(), rank, attempt: job.attempt };
        match name {
            "prepare" => Command::Prepare(Box::new(Assignment {
                host: host_name(&key.job, rank),
                key,
                term: self.term,
                container: job.spec.container.clone(),
                resources: job.spec.per_rank,
                replicas: job.spec.replicas,
                traceparent: job.spec.traceparent.clone(),
            })),
            "start" => Command::Start {
                files: peer_files(&key.job, rank, job.spec.per_rank.cores, &rank_addresses(job)),
                key,
                time_limit_ms: job.time_limit_ms,
                not_after_ms: self.start_deadline_ms(node),
            },
            "set_time_limit" => Command::SetTimeLimit { key, time_limit_ms: job.time_limit_ms },
            "stop" => Command::Stop { key },
            _ => Command::Remove { key },
        }
    }

    /// Sets the one timer of a job to the earliest moment at which time alone changes something.
    fn rearm(&mut self, now: Moment, id: &JobId) {
        let wake = self.jobs.get(id).and_then(|_| self.earliest(now, id));
        let Some(tracked) = self.jobs.get_mut(id) else {
            return;
        };
        if tracked.wake == wake {
            return;
        }
        if let Some(old) = std::mem::replace(&mut tracked.wake, wake) {
            self.timers.remove(&(old, id.clone()));
        }
        if let Some(new) = wake {
            self.timers.insert((new, id.clone()));
        }
    }

    fn earliest(&self, now: Moment, id: &JobId) -> Option<Moment> {
        let tracked = self.jobs.get(id)?;
        let job = &tracked.job;
        let wanted = want(&job.life);
        let mut moments: Vec<Moment> = Vec::new();
        for (rank, seen) in (0..).zip(&tracked.seen) {
            let Some(node) = job.node_of(rank) else {
                continue;
            };
            if let Some(sent) = &seen.sent
                && next_command(wanted, seen, job.time_limit_ms).is_some()
            {
                moments.push(sent.at.plus_ms(self.settings.resend_ms));
            }
            match job.life {
                Life::Preparing { .. } | Life::Starting { .. } => moments.push(self.undone_at(node)),
                Life::Undoing { .. } | Life::Stopping { .. } => {
                    moments.extend([self.undone_at(node), self.lost_at(node)]);
                }
                Life::Running { .. } => {
                    moments.push(self.lost_at(node));
                    moments.extend(self.drained_at(node));
                }
                Life::Queued | Life::Ended { .. } => {}
            }
        }
        if matches!(job.life, Life::Preparing { .. } | Life::Starting { .. }) {
            moments.push(tracked.since.plus_ms(self.settings.prepare_timeout_ms));
        }
        moments.extend(self.stays_at(tracked));
        moments.extend(tracked.held_back.and_then(|verdict| self.judged_at(verdict)));
        moments.extend(tracked.tell_after.filter(|_| tracked.telling.is_none()));
        moments.extend(tracked.charge_after.filter(|_| tracked.charging.is_none()));
        // What is past was looked at just now and changed nothing.
        moments.into_iter().filter(|moment| *moment > now).min()
    }
}

/// Host name and address of every rank of a job whose addresses are known.
pub(super) fn rank_addresses(job: &Job) -> Vec<RankAddress> {
    let named = |(rank, address): (Rank, &String)| RankAddress {
        host: host_name(&job.spec.id, rank),
        address: address.clone(),
    };
    (0..).zip(job.life.addresses()).map(named).collect()
}
