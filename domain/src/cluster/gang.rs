//! The moves of a job that holds room: from what its workers report to the next phase of its life.

use super::Cluster;
use super::track::{Seen, Tracked};
use crate::effect::Milestone;
use crate::id::{JobId, NodeName};
use crate::job::{EndCause, Life, Placement, RankOutcome};
use crate::rank::{RankEnd, RankState};
use crate::time::{Moment, Now};

/// How long after the last start deadline a rank that never ran counts as undone on a silent node (reliability B.2).
const UNDONE_SLACK_MS: u64 = 10_000;

/// What the gang's reports amount to.
enum Finding {
    Nothing,
    Prepared(Vec<String>),
    Started {
        offset_ms: u64,
    },
    Failed {
        node: NodeName,
        reason: String,
        retry: bool,
    },
    Over(EndCause),
    /// Over, but only because of silence: the brake has a say.
    Lost(EndCause),
    Undone,
    AtRest(Vec<RankOutcome>),
    Removed,
}

impl Cluster {
    /// One move, if one is due. Answers whether there may be another.
    pub(super) fn step(&mut self, now: Now, id: &JobId) -> bool {
        let Some(tracked) = self.jobs.get(id) else {
            return false;
        };
        let finding = match &tracked.job.life {
            Life::Queued => Finding::Nothing,
            Life::Preparing { placement } => self.look_at_preparing(now.moment, tracked, placement),
            Life::Starting { placement, .. } => self.look_at_starting(now.moment, tracked, placement),
            Life::Running { placement, .. } => self.look_at_running(now.moment, tracked, placement),
            Life::Undoing { placement } => self.look_at_undoing(now.moment, tracked, placement),
            Life::Stopping { placement, .. } => self.look_at_stopping(now.moment, tracked, placement),
            Life::Ended { released: false, .. } => {
                let removed = tracked.seen.iter().all(Seen::is_gone);
                self.give_room_of_the_gone(id);
                if removed { Finding::Removed } else { Finding::Nothing }
            }
            Life::Ended { .. } => Finding::Nothing,
        };
        self.act(now, id, finding)
    }

    fn act(&mut self, now: Now, id: &JobId, finding: Finding) -> bool {
        match finding {
            Finding::Nothing => return false,
            Finding::Prepared(addresses) => {
                self.change(now, id, Milestone::Prepared, |tracked| tracked.job.prepared(addresses));
            }
            Finding::Started { offset_ms } => {
                self.running += 1;
                self.change(now, id, Milestone::Running, |tracked| tracked.job.started(offset_ms, now.wall_ms));
            }
            Finding::Failed { node, reason, retry } => self.fail_attempt(now, id, node, reason, retry),
            Finding::Over(cause) => self.stop(now, id, cause),
            Finding::Lost(cause) => {
                let population = self.holding.len();
                if !self.lost.allow(now.moment, population) {
                    self.hold_back(id, "its node is silent, but too many jobs were lost in the last five minutes");
                    return false;
                }
                self.stop(now, id, cause);
            }
            Finding::Undone => self.requeue(now, id),
            Finding::AtRest(ranks) => self.end(now, id, ranks),
            Finding::Removed => self.release(now, id),
        }
        true
    }

    fn change(&mut self, now: Now, id: &JobId, milestone: Milestone, change: impl FnOnce(&mut Tracked)) {
        if let Some(tracked) = self.jobs.get_mut(id) {
            change(tracked);
            tracked.since = now.moment;
            self.save(id, milestone);
        }
    }

    pub(super) fn hold_back(&mut self, id: &JobId, reason: &str) {
        if let Some(tracked) = self.jobs.get_mut(id) {
            tracked.held_back = Some(reason.to_owned());
        }
        self.alarm(format!("verdicts are held back: {reason}. Find out what is wrong; they go on as the brake frees"));
    }

    fn look_at_preparing(&self, now: Moment, tracked: &Tracked, placement: &Placement) -> Finding {
        if let Some(failed) = first_failure(tracked, placement) {
            return failed;
        }
        let address = |seen: &Seen| match &seen.state {
            Some(RankState::Prepared { address }) => Some(address.clone()),
            _ => None,
        };
        if let Some(addresses) = tracked.seen.iter().map(address).collect::<Option<Vec<_>>>() {
            return Finding::Prepared(addresses);
        }
        let ready = |seen: &Seen| matches!(seen.state, Some(RankState::Prepared { .. }));
        self.overdue(now, tracked, placement, ready, "was not prepared")
    }

    fn look_at_starting(&self, now: Moment, tracked: &Tracked, placement: &Placement) -> Finding {
        if let Some(failed) = first_failure(tracked, placement) {
            return failed;
        }
        for (rank, (seen, node)) in tracked.seen.iter().zip(&placement.0).enumerate() {
            if seen.is_gone() {
                let reason = format!("rank {rank} vanished from node {node} before it was started");
                return Finding::Failed { node: node.clone(), reason, retry: true };
            }
        }
        if tracked.seen.iter().all(Seen::has_started) {
            // Each rank's start on the leader's clock, never earlier than it was.
            // Signed: a rank may be older than this machine's clock.
            let start = |seen: &Seen| i128::from(seen.heard.0) - i128::from(seen.age_ms());
            let last = tracked.seen.iter().map(start).max().unwrap_or(0);
            let first = tracked.seen.first().map_or(last, start);
            return Finding::Started { offset_ms: u64::try_from(last - first).unwrap_or(0) };
        }
        self.overdue(now, tracked, placement, Seen::has_started, "was not started")
    }

    /// A rank that is late, or whose node is silent for longer than any start command is valid.
    fn overdue(
        &self,
        now: Moment,
        tracked: &Tracked,
        placement: &Placement,
        ready: impl Fn(&Seen) -> bool,
        what: &str,
    ) -> Finding {
        let late = now.since_ms(tracked.since) >= self.settings.prepare_timeout_ms;
        for (rank, (seen, node)) in tracked.seen.iter().zip(&placement.0).enumerate() {
            if ready(seen) {
                continue;
            }
            let silent = now >= self.undone_at(node);
            if late || silent {
                let why = if silent { "the node does not answer" } else { "it took too long" };
                let reason = format!("rank {rank} {what} on node {node}: {why}");
                return Finding::Failed { node: node.clone(), reason, retry: true };
            }
        }
        Finding::Nothing
    }

    fn look_at_running(&self, now: Moment, tracked: &Tracked, placement: &Placement) -> Finding {
        if let Some(cause) = decisive_end(tracked, placement) {
            return Finding::Over(cause);
        }
        for (rank, node) in (0..).zip(&placement.0) {
            if now >= self.lost_at(node) {
                return Finding::Lost(EndCause::NodeLost { node: node.to_string(), rank });
            }
        }
        Finding::Nothing
    }

    fn look_at_undoing(&self, now: Moment, tracked: &Tracked, placement: &Placement) -> Finding {
        // What does not run takes no room and holds nobody up: an image that is still being pulled, a node that cannot even
        // clean up. Such a left-over is a stray from now on, and is told to go with every report that lists it.
        // What was started is never placed again (reliability B.2): it may be running on a node that we do not hear.
        for (rank, (seen, node)) in (0..).zip(tracked.seen.iter().zip(&placement.0)) {
            if seen.may_run() && now >= self.lost_at(node) {
                return Finding::Lost(EndCause::NodeLost { node: node.to_string(), rank });
            }
        }
        if tracked.seen.iter().any(Seen::may_run) { Finding::Nothing } else { Finding::Undone }
    }

    fn look_at_stopping(&self, now: Moment, tracked: &Tracked, placement: &Placement) -> Finding {
        let stopped = |(seen, node): (&Seen, &NodeName)| !seen.may_run() || now >= self.lost_at(node);
        if !tracked.seen.iter().zip(&placement.0).all(stopped) {
            return Finding::Nothing;
        }
        let outcome = |seen: &Seen| {
            let end = match &seen.state {
                Some(RankState::Ended { end, .. }) => Some(end.clone()),
                Some(RankState::Running { .. }) => Some(RankEnd::Vanished),
                _ => None,
            };
            RankOutcome { end, age_ms: seen.age_ms() }
        };
        Finding::AtRest(tracked.seen.iter().map(outcome).collect())
    }

    /// Undo, or give up: what the job itself got wrong is not tried again.
    fn fail_attempt(&mut self, now: Now, id: &JobId, node: NodeName, reason: String, retry: bool) {
        let most = self.settings.attempts;
        let Some(tracked) = self.jobs.get(id) else {
            return;
        };
        let attempt = tracked.job.attempt;
        if !retry {
            self.stop(now, id, EndCause::CannotStart { reason });
        } else if attempt >= most {
            let reason = format!("{reason} (attempt {attempt} of {most})");
            self.stop(now, id, EndCause::CannotStart { reason });
        } else {
            self.change(now, id, Milestone::Other, |tracked| tracked.job.undo(node, reason));
        }
    }

    fn requeue(&mut self, now: Now, id: &JobId) {
        let Some(tracked) = self.jobs.get(id) else {
            return;
        };
        let before = tracked.job.clone();
        self.give_room(&before);
        self.holding.remove(id);
        self.queue.insert(before.sequence, id.clone());
        self.change(now, id, Milestone::Other, |tracked| {
            tracked.job.requeue();
            tracked.seen.clear();
        });
    }

    fn end(&mut self, now: Now, id: &JobId, ranks: Vec<RankOutcome>) {
        let round_up = self.settings.round_up;
        self.change(now, id, Milestone::Ended, |tracked| {
            let run_ms = match &tracked.job.life {
                Life::Stopping { offset_ms: Some(offset_ms), .. } => tracked.run_ms(*offset_ms),
                _ => 0,
            };
            let orphaned = matches!(&tracked.job.life, Life::Stopping { cause: EndCause::Orphaned, .. });
            tracked.job.account.void |= orphaned;
            tracked.job.account.settle(&tracked.job.spec.price, run_ms, round_up);
            tracked.job.end(ranks, now.wall_ms);
        });
    }

    fn release(&mut self, now: Now, id: &JobId) {
        let Some(tracked) = self.jobs.get(id) else {
            return;
        };
        let job = tracked.job.clone();
        self.give_room(&job);
        self.holding.remove(id);
        self.change(now, id, Milestone::Released, |tracked| tracked.job.release());
    }

    /// When a rank on this node that never ran counts as undone, if the node stays silent.
    pub(super) fn undone_at(&self, node: &NodeName) -> Moment {
        self.silent_since(node).plus_ms(self.settings.start_lease_ms + UNDONE_SLACK_MS)
    }

    /// When whatever ran on this node counts as lost, if the node stays silent.
    pub(super) fn lost_at(&self, node: &NodeName) -> Moment {
        self.silent_since(node).plus_ms(self.settings.lost_after_ms)
    }
}

fn first_failure(tracked: &Tracked, placement: &Placement) -> Option<Finding> {
    tracked.seen.iter().zip(&placement.0).enumerate().find_map(|(rank, (seen, node))| match &seen.state {
        Some(RankState::Failed { reason, retry }) => {
            let reason = format!("rank {rank} on node {node}: {reason}");
            Some(Finding::Failed { node: node.clone(), reason, retry: *retry })
        }
        _ => None,
    })
}

/// What ends a running gang: the end of rank 0, or the bad end of any rank. Memory comes first, because what it kills
/// makes the others fail; then the lowest rank speaks.
fn decisive_end(tracked: &Tracked, placement: &Placement) -> Option<EndCause> {
    let causes =
        (0..).zip(tracked.seen.iter().zip(&placement.0)).filter_map(|(rank, (seen, node))| match &seen.state {
            Some(RankState::Ended { end, .. }) => match end {
                RankEnd::Exited { code: 0 } if rank != 0 => None,
                RankEnd::Exited { code } => Some(EndCause::Exited { rank, code: *code }),
                RankEnd::OutOfMemory => Some(EndCause::OutOfMemory { rank }),
                RankEnd::Killed { signal } => Some(EndCause::Killed { rank, signal: *signal }),
                // Nobody here asked for it, since the gang is not being stopped.
                RankEnd::Stopped => Some(EndCause::Killed { rank, signal: 15 }),
                RankEnd::TimeLimit => Some(EndCause::TimeLimit),
                RankEnd::Vanished => Some(EndCause::NodeLost { node: node.to_string(), rank }),
            },
            None if seen.is_gone() => Some(EndCause::NodeLost { node: node.to_string(), rank }),
            _ => None,
        });
    let mut causes: Vec<EndCause> = causes.collect();
    let memory = causes.iter().position(|cause| matches!(cause, EndCause::OutOfMemory { .. })).unwrap_or(0);
    (!causes.is_empty()).then(|| causes.swap_remove(memory))
}
