//! The moves of a job that holds room: from what its workers report to the next phase of its life.

use super::Cluster;
use super::nodes::Node;
use super::track::{Seen, Tracked};
use crate::brake::Verdict;
use crate::effect::Milestone;
use crate::guard::{self, Guard};
use crate::id::{JobId, NodeName};
use crate::job::{EndCause, Life, Placement, RankOutcome};
use crate::rank::{RankEnd, RankState};
use crate::time::{Moment, Now};

/// How long after the last start deadline a rank that never ran counts as undone on a silent node (reliability B.2).
const UNDONE_SLACK_MS: u64 = 10_000;
/// How long after it was told to go a rank that is still there is an operator's matter.
const STAYS_MS: u64 = 5 * 60_000;

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
    /// It does not run yet, and this node is taken out of service.
    Withdrawn(NodeName),
    Over(EndCause),
    /// Over, but not by what a rank did: the brake has a say.
    Judged(Verdict, EndCause),
    Undone,
    AtRest(Vec<RankOutcome>),
    Removed,
}

impl Cluster {
    /// One move, if one is due. Answers whether there may be another.
    pub(super) fn step(&mut self, now: Now, id: &JobId) -> bool {
        if self.judge_again(now, id) {
            return true;
        }
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
                let removed = tracked.seen.iter().all(Seen::is_gone) || !guard::stands(Guard::ConfirmedRemoval);
                self.give_room_of_the_gone(id);
                if removed { Finding::Removed } else { Finding::Nothing }
            }
            Life::Ended { .. } => Finding::Nothing,
        };
        if matches!(finding, Finding::Nothing) {
            self.notice_what_stays(now.moment, id);
        }
        self.act(now, id, finding)
    }

    /// A rank that a connected node cannot end or remove keeps its room, and its job or others waiting: operators must know.
    fn notice_what_stays(&mut self, now: Moment, id: &JobId) {
        let Some(tracked) = self.jobs.get(id) else { return };
        if self.stays_at(tracked).is_none_or(|moment| now < moment) {
            return;
        }
        let ended = tracked.job.life.has_ended();
        let stays = |seen: &Seen| if ended { seen.state.is_some() } else { seen.may_run() };
        let ranks = (0..).zip(&tracked.seen).filter(|(_, seen)| stays(seen));
        let told: Vec<String> = ranks
            .filter_map(|(rank, _)| Some((rank, tracked.job.node_of(rank)?)))
            .filter(|(_, name)| self.nodes.get(*name).is_some_and(Node::is_online))
            .map(|(rank, node)| {
                format!(
                    "rank {rank} of job {id} is still on node {node}, {} min after it was told to go; its room stays taken. \
                     Look at the worker's log there, and end it by hand",
                    STAYS_MS / 60_000
                )
            })
            .collect();
        for message in told {
            self.alarm(message);
        }
    }

    /// When what is left of a job should be gone by all means.
    pub(super) fn stays_at(&self, tracked: &Tracked) -> Option<Moment> {
        let going = matches!(tracked.job.life, Life::Stopping { .. } | Life::Ended { released: false, .. });
        going.then(|| tracked.since.plus_ms(STAYS_MS))
    }

    fn act(&mut self, now: Now, id: &JobId, finding: Finding) -> bool {
        if !matches!(finding, Finding::Judged(..)) {
            self.take_back(id, &[Verdict::Lost, Verdict::Drain]);
        }
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
            Finding::Withdrawn(node) => self.change(now, id, Milestone::Other, |tracked| tracked.job.withdraw(&node)),
            Finding::Judged(verdict, cause) => return self.judge(now, id, verdict, cause),
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

    fn ends_the_attempt(&self, tracked: &Tracked, placement: &Placement) -> Option<Finding> {
        // What runs already ends by itself, or at the deadline once all of it runs.
        let nothing_runs = !tracked.seen.iter().any(Seen::may_run);
        let withdrawn = || self.draining_node(placement).filter(|_| nothing_runs).cloned().map(Finding::Withdrawn);
        first_failure(tracked, placement).or_else(withdrawn)
    }

    fn look_at_preparing(&self, now: Moment, tracked: &Tracked, placement: &Placement) -> Finding {
        if let Some(finding) = self.ends_the_attempt(tracked, placement) {
            return finding;
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
        if let Some(finding) = self.ends_the_attempt(tracked, placement) {
            return finding;
        }
        for (rank, (seen, node)) in tracked.seen.iter().zip(&placement.0).enumerate() {
            if seen.is_gone() {
                let reason = format!("rank {rank} vanished from node {node} before it was started");
                return Finding::Failed { node: node.clone(), reason, retry: true };
            }
        }
        if tracked.seen.iter().all(Seen::has_started) {
            let mut ranks = tracked.seen.iter().zip(&placement.0);
            let Some((first, home)) = ranks.next() else { return Finding::Nothing };
            let offset_ms = ranks.map(|(seen, node)| seen.behind_ms(first, node == home)).max().unwrap_or(0);
            return Finding::Started { offset_ms };
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
        if let Some(finding) = decisive_end(tracked, placement) {
            return finding;
        }
        // Ranks that have ended well need their nodes no more.
        let ended = |seen: &Seen| matches!(seen.state, Some(RankState::Ended { .. }));
        let needed = || (0..).zip(tracked.seen.iter().zip(&placement.0)).filter(|(_, (seen, _))| !ended(seen));
        if let Some((rank, (_, node))) = needed().find(|(_, (_, node))| now >= self.lost_at(node)) {
            return Finding::Judged(Verdict::Lost, EndCause::NodeLost { node: node.to_string(), rank });
        }
        let drained = needed().find(|(_, (_, node))| self.drained_at(node).is_some_and(|moment| now >= moment));
        drained.map_or(Finding::Nothing, |(_, (_, node))| {
            Finding::Judged(Verdict::Drain, EndCause::Drained { node: node.to_string() })
        })
    }

    fn look_at_undoing(&self, now: Moment, tracked: &Tracked, placement: &Placement) -> Finding {
        // What does not run takes no room and holds nobody up: an image that is still being pulled, a node that cannot even
        // clean up. Such a left-over is a stray from now on, and is told to go with every report that lists it.
        // What was started is never placed again (reliability B.2): it may be running on a node that we do not hear.
        for (rank, (seen, node)) in (0..).zip(tracked.seen.iter().zip(&placement.0)) {
            if seen.may_run() && now >= self.lost_at(node) {
                return Finding::Judged(Verdict::Lost, EndCause::NodeLost { node: node.to_string(), rank });
            }
        }
        let may_run = tracked.seen.iter().any(Seen::may_run) && guard::stands(Guard::MayRun);
        if may_run { Finding::Nothing } else { Finding::Undone }
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
        // Attempts that were withdrawn do not count.
        let failed = u32::try_from(tracked.job.failed_attempts.len()).unwrap_or(u32::MAX).saturating_add(1);
        if !retry {
            self.stop(now, id, EndCause::CannotStart { reason });
        } else if failed >= most {
            let reason = format!("{reason} (attempt {failed} of {most})");
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
/// makes the others fail; then the lowest rank speaks. That a rank is missing on a machine which was not booted anew is a
/// verdict, not an end: its worker may look at the wrong engine, and many may at once (I11).
fn decisive_end(tracked: &Tracked, placement: &Placement) -> Option<Finding> {
    let (mut certain, mut missing) = (Vec::new(), None);
    for (rank, (seen, node)) in (0..).zip(tracked.seen.iter().zip(&placement.0)) {
        let cause = match &seen.state {
            Some(RankState::Ended { end, .. }) => match end {
                RankEnd::Exited { code: 0 } if rank != 0 => continue,
                RankEnd::Exited { code } => EndCause::Exited { rank, code: *code },
                RankEnd::OutOfMemory => EndCause::OutOfMemory { rank },
                RankEnd::Killed { signal } => EndCause::Killed { rank, signal: *signal },
                // Nobody here asked for it, since the gang is not being stopped.
                RankEnd::Stopped => EndCause::Killed { rank, signal: 15 },
                RankEnd::TimeLimit => EndCause::TimeLimit,
                RankEnd::EngineRestarted => EndCause::EngineRestarted { node: node.to_string(), rank },
                RankEnd::Vanished => EndCause::NodeLost { node: node.to_string(), rank },
            },
            None if seen.is_gone() => EndCause::NodeLost { node: node.to_string(), rank },
            _ => continue,
        };
        match cause {
            EndCause::NodeLost { .. } if !seen.rebooted => missing = missing.or(Some(cause)),
            _ => certain.push(cause),
        }
    }
    let memory = certain.iter().position(|cause| matches!(cause, EndCause::OutOfMemory { .. })).unwrap_or(0);
    if certain.is_empty() {
        let judged = |cause| Finding::Judged(Verdict::Lost, cause);
        return missing.map(if guard::stands(Guard::MissingIsJudged) { judged } else { Finding::Over });
    }
    Some(Finding::Over(certain.swap_remove(memory)))
}
