//! The invariants of design section 10 by name, as far as one coordinator's state shows them. Tests check them after
//! every event, the simulator after every commit. In production only [`check_cluster`] runs: the operators' overview shows
//! what it finds as an alarm.

use crate::cluster::Cluster;
use crate::job::Job;
use std::fmt;

/// Every invariant by name, what it says, and where it is held.
pub const ALL: [(&str, &str, &str); 14] = [
    ("I1", "every durable change is fenced by the term", "the store's transaction"),
    ("I2", "an answered create is never lost and always ends", "check_change; the scenarios of cluster/tests"),
    (
        "I3",
        "one document per job id, at most one live container per rank, attempts only grow",
        "check_change; the agent",
    ),
    ("I4", "an end state is written once", "check_change"),
    ("I5", "nothing leaves that is not committed", "the driver's order of commit and dispatch"),
    (
        "I6",
        "one immutable amount per charge id, exact when settled, never ahead of the evidence",
        "check_change; accounting",
    ),
    ("I7", "allocations never exceed capacity and are freed only on confirmed removal", "check_cluster"),
    (
        "I8",
        "per job, Core hears things in commit order; jobs never wait for each other",
        "check_change; cluster/core.rs",
    ),
    ("I9", "a container dies only by its own end, a stop of the present term, or its time limit", "the agent"),
    ("I10", "a worker affects only what is assigned to it", "cluster/nodes.rs"),
    ("I11", "no automatic verdict hits more than max(3, 10 %) of its population in 5 minutes", "brake.rs"),
    ("I12", "every queue, body, frame and buffer has a cap", "the constants beside each"),
    ("I13", "when faults stop, everything becomes stable and nothing stays owed", "the scenarios of cluster/tests"),
    ("I14", "no secret in logs, metrics, traces, errors, arguments", "the edges; this crate knows none"),
];

/// A broken invariant: a mistake of our own, never of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name: `I1` to `I14`.
    pub invariant: &'static str,
    /// What is wrong, with the ids to look at.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// I7 over the whole cluster: no node has given away more than it has.
#[must_use]
pub fn check_cluster(cluster: &Cluster) -> Vec<Violation> {
    cluster
        .allocations()
        .filter(|(_, capacity, used)| capacity.is_some_and(|capacity| !capacity.holds(used)))
        .map(|(node, _, used)| Violation { invariant: "I7", what: format!("node {node} has given away {used}") })
        .collect()
}

/// What must hold for one document that replaces another.
#[must_use]
pub fn check_change(before: Option<&Job>, after: &Job) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut wrong = |invariant: &'static str, what: &str| {
        found.push(Violation { invariant, what: format!("job {}: {what}", after.spec.id) });
    };
    let account = &after.account;
    let window_ms = u64::from(after.spec.price.window_periods.max(1)) * after.spec.price.period.ms();
    let full_windows = account.sealed.saturating_sub(u32::from(account.last_periods.is_some()));
    if u64::from(full_windows) * window_ms > account.evidence_ms {
        wrong("I6", "more is sealed than is proven");
    }
    if account.acked > account.sealed {
        wrong("I6", "a charge was acknowledged that was never sealed");
    }
    if after.told as usize > after.notices.len() {
        wrong("I8", "an update was acknowledged that was never due");
    }
    if after.life.has_ended() != account.settled {
        wrong("I2", "the end and the final account are not one step");
    }
    let Some(before) = before else { return found };
    if after.attempt < before.attempt {
        wrong("I3", "attempts go back");
    }
    if account.sealed < before.account.sealed || account.evidence_ms < before.account.evidence_ms {
        wrong("I6", "what was sealed or proven is taken back");
    }
    if before.account.settled && account.last_periods != before.account.last_periods {
        wrong("I6", "a settled account changed");
    }
    if after.told < before.told || after.notices.len() < before.notices.len() {
        wrong("I8", "what Core was told is taken back");
    }
    if let (crate::job::Life::Ended { cause: first, .. }, life) = (&before.life, &after.life) {
        match life {
            crate::job::Life::Ended { cause, .. } if cause == first => {}
            _ => wrong("I4", "an end was written twice"),
        }
    }
    found
}
