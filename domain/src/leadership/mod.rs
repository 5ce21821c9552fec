//! Who leads: how a coordinator comes to lead, how it knows that it still does, and how it stops.
//!
//! The leader is whoever made the leader key, a key that exists at most once and is bound to the maker's lease. The
//! key's create-revision is the fencing token: every durable change is conditional on it, so the store, not a belief,
//! decides who may write. What a store cannot fence (answers to workers and to Core) is let out only while the lease is
//! valid by arithmetic on our own clock: the *send* time of the last keepalive that was answered, plus the time to
//! live, less a margin (reliability B.2, hole 3).
//!
//! [`Leadership::apply`] takes one event and answers with what the shell must do. Readings of the store may come late,
//! twice or out of order: they are hints, and only revisions are believed. A lost answer is repaired by asking again.

mod event;
#[cfg(test)]
mod tests;

pub use event::{LeadershipEffect, LeadershipEvent, StepDown};

use crate::commit::Revision;
use crate::guard::{self, Guard};
use crate::id::Term;
use crate::time::Moment;
use serde::{Deserialize, Serialize};

/// A lease of the store.
pub type LeaseId = i64;
/// How often the store was restored from a copy, as its operator says; revisions start over inside each incarnation.
pub type Incarnation = u16;

/// Bits of a term that hold the revision; the incarnation is above them.
const REVISION_BITS: u32 = 48;

/// The fencing token: the create-revision of the leader key, inside one incarnation of the cluster.
#[must_use]
pub fn term_of(incarnation: Incarnation, revision: Revision) -> Term {
    (Term::from(incarnation) << REVISION_BITS) | (revision & ((1 << REVISION_BITS) - 1))
}

/// The create-revision of the leader key of this term.
#[must_use]
pub fn revision_of(term: Term) -> Revision {
    term & ((1 << REVISION_BITS) - 1)
}

/// Where a coordinator stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Another one leads, or nobody; forwards what it is asked.
    #[default]
    Follower,
    /// Has won and lists everything again; speaks for nobody yet.
    BecomingLeader,
    /// Decides.
    Leader,
    /// Leads no more and ends what it had under way.
    SteppingDown,
}

impl Role {
    /// The role as operators read it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Follower => "follower",
            Self::BecomingLeader => "becoming leader",
            Self::Leader => "leader",
            Self::SteppingDown => "stepping down",
        }
    }
}

/// The leader key, as somebody read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderKey {
    /// Its create-revision.
    pub revision: Revision,
    /// The lease it is bound to.
    pub lease: LeaseId,
}

/// Times of an election, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeadershipSettings {
    /// Time to live of the lease.
    pub lease_ttl_ms: u64,
    /// How much earlier than the store we hold the lease for lapsed.
    pub margin_ms: u64,
    /// Between two keepalives.
    pub keepalive_ms: u64,
    /// After how long an unanswered request to the store is made again.
    pub retry_ms: u64,
    /// How often a follower reads the leader key although no watch told it to.
    pub look_ms: u64,
}

impl Default for LeadershipSettings {
    fn default() -> Self {
        Self { lease_ttl_ms: 9_000, margin_ms: 1_000, keepalive_ms: 2_000, retry_ms: 1_000, look_ms: 3_000 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lease {
    id: LeaseId,
    /// Send time of the last keepalive that was answered.
    kept_at: Moment,
    /// Send time of the last keepalive.
    asked_at: Moment,
}

/// The brain of an election. See the module's text.
#[derive(Clone, Debug)]
pub struct Leadership {
    settings: LeadershipSettings,
    role: Role,
    lease: Option<Lease>,
    /// The newest leader key that was seen and is not known to be gone.
    seen: Option<LeaderKey>,
    /// Our own key, while we lead or step down.
    ours: Option<Revision>,
    granting_since: Option<Moment>,
    /// When the leader key was last asked for.
    looked_at: Option<Moment>,
    /// Whether the last reading did not show the key that we hold.
    missed: bool,
    resigning: bool,
}

impl Leadership {
    /// A follower that has no lease yet; its first tick asks for one.
    #[must_use]
    pub fn new(settings: LeadershipSettings) -> Self {
        Self {
            settings,
            role: Role::Follower,
            lease: None,
            seen: None,
            ours: None,
            granting_since: None,
            looked_at: None,
            missed: false,
            resigning: false,
        }
    }

    /// Where this coordinator stands.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The newest leader key seen.
    #[must_use]
    pub fn seen(&self) -> Option<LeaderKey> {
        self.seen
    }

    /// Until when the lease is certainly ours, on our own clock. `None`: there is none.
    #[must_use]
    pub fn valid_until(&self) -> Option<Moment> {
        let life_ms = self.settings.lease_ttl_ms.saturating_sub(self.settings.margin_ms);
        self.lease.map(|lease| lease.kept_at.plus_ms(life_ms))
    }

    /// Whether anything may leave this process at `now`.
    #[must_use]
    pub fn is_valid(&self, now: Moment) -> bool {
        self.role == Role::Leader && self.holds_lease(now)
    }

    fn holds_lease(&self, now: Moment) -> bool {
        self.valid_until().is_some_and(|until| now < until || !guard::stands(Guard::LeaseValidity))
    }

    /// When [`LeadershipEvent::Tick`] is due, if nothing happens before.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Moment> {
        let grant = match (&self.lease, self.resigning) {
            (None, false) => Some(self.granting_since.map_or(Moment(0), |at| at.plus_ms(self.settings.retry_ms))),
            _ => None,
        };
        let keep = self.lease.map(|lease| lease.asked_at.plus_ms(self.settings.keepalive_ms));
        let doubt = self.leads().then(|| self.valid_until()).flatten();
        [grant, keep, doubt, self.look_due()].into_iter().flatten().min()
    }

    fn leads(&self) -> bool {
        matches!(self.role, Role::BecomingLeader | Role::Leader)
    }

    /// When the leader key is to be asked for again.
    fn look_due(&self) -> Option<Moment> {
        if self.role != Role::Follower || self.lease.is_none() || self.resigning {
            return None;
        }
        let after_ms = if self.seen.is_some() { self.settings.look_ms } else { self.settings.retry_ms };
        Some(self.looked_at.map_or(Moment(0), |at| at.plus_ms(after_ms)))
    }

    /// Takes one event and says what to do about it, in order.
    pub fn apply(&mut self, now: Moment, event: LeadershipEvent) -> Vec<LeadershipEffect> {
        let mut effects = Vec::new();
        match event {
            LeadershipEvent::Tick => {}
            LeadershipEvent::Granted { lease, sent_at } => self.on_granted(now, lease, sent_at, &mut effects),
            LeadershipEvent::Kept { lease, sent_at, alive } => self.on_kept(lease, sent_at, alive, &mut effects),
            LeadershipEvent::Saw(leader) => self.on_saw(now, leader, &mut effects),
            LeadershipEvent::Absent { revision } => {
                let dead = self.seen.filter(|leader| leader.revision == revision && self.role == Role::Follower);
                if let Some(leader) = dead {
                    self.looked_at = Some(now);
                    effects.push(LeadershipEffect::Revoke(leader.lease));
                }
            }
            LeadershipEvent::Restored => {
                if let (Role::BecomingLeader, Some(revision)) = (self.role, self.ours) {
                    self.role = Role::Leader;
                    effects.push(LeadershipEffect::Lead { revision });
                }
            }
            LeadershipEvent::Fenced => self.step_down(StepDown::Fenced, &mut effects),
            LeadershipEvent::Resign => self.on_resign(&mut effects),
            LeadershipEvent::Stopped => self.on_stopped(&mut effects),
        }
        self.on_time(now, &mut effects);
        effects
    }

    fn on_granted(&mut self, now: Moment, id: LeaseId, sent_at: Moment, effects: &mut Vec<LeadershipEffect>) {
        self.granting_since = None;
        if self.lease.is_some() || self.resigning {
            // An answer to a request that was made twice.
            if self.lease.is_none_or(|lease| lease.id != id) {
                effects.push(LeadershipEffect::Release(id));
            }
            return;
        }
        self.lease = Some(Lease { id, kept_at: sent_at, asked_at: now });
        // Whatever is known of the leader key, the campaign reads it again.
        self.looked_at = None;
    }

    fn on_kept(&mut self, id: LeaseId, sent_at: Moment, alive: bool, effects: &mut Vec<LeadershipEffect>) {
        let Some(lease) = self.lease.as_mut().filter(|lease| lease.id == id) else {
            return;
        };
        if alive {
            lease.kept_at = lease.kept_at.max(sent_at);
        } else if self.leads() {
            self.step_down(StepDown::LeaseGone, effects);
        } else if self.role == Role::Follower {
            self.lease = None;
        }
    }

    fn on_saw(&mut self, now: Moment, leader: Option<LeaderKey>, effects: &mut Vec<LeadershipEffect>) {
        if self.leads() {
            return self.on_saw_while_leading(now, leader, effects);
        }
        match leader {
            // A reading from before the one we know.
            Some(key) if self.seen.is_some_and(|seen| key.revision < seen.revision) => {}
            Some(key) => {
                self.seen = Some(key);
                let mine = self.lease.is_some_and(|lease| lease.id == key.lease);
                if mine && self.role == Role::Follower && !self.resigning {
                    self.win(now, key.revision, effects);
                }
            }
            None => {
                if self.seen.take().is_some() {
                    self.looked_at = None;
                }
            }
        }
    }

    /// Only a newer key, or a key that two readings in a row miss, deposes: a single reading may be an old one.
    fn on_saw_while_leading(&mut self, now: Moment, leader: Option<LeaderKey>, effects: &mut Vec<LeadershipEffect>) {
        let ours = self.ours.unwrap_or_default();
        match leader {
            Some(key) if key.revision > ours => {
                self.seen = leader;
                self.step_down(StepDown::Deposed, effects);
            }
            Some(key) => self.missed &= key.revision != ours,
            None if self.missed => self.step_down(StepDown::Deposed, effects),
            None => {
                self.missed = true;
                self.looked_at = Some(now);
                effects.push(LeadershipEffect::Look);
            }
        }
    }

    fn win(&mut self, now: Moment, revision: Revision, effects: &mut Vec<LeadershipEffect>) {
        self.role = Role::BecomingLeader;
        self.ours = Some(revision);
        self.missed = false;
        if self.holds_lease(now) {
            effects.push(LeadershipEffect::Restore { revision });
        } else {
            self.step_down(StepDown::InDoubt, effects);
        }
    }

    fn step_down(&mut self, why: StepDown, effects: &mut Vec<LeadershipEffect>) {
        if self.leads() {
            self.role = Role::SteppingDown;
            effects.push(LeadershipEffect::StepDown(why));
        }
    }

    fn on_resign(&mut self, effects: &mut Vec<LeadershipEffect>) {
        if self.resigning {
            return;
        }
        self.resigning = true;
        match self.role {
            Role::BecomingLeader | Role::Leader => self.step_down(StepDown::Resigned, effects),
            Role::SteppingDown => {}
            Role::Follower => self.release(effects),
        }
    }

    /// The lease goes with the leadership. Leading again under the same key would let a write that is still under way
    /// from before land in between (hole 5).
    fn on_stopped(&mut self, effects: &mut Vec<LeadershipEffect>) {
        if self.role != Role::SteppingDown {
            return;
        }
        self.role = Role::Follower;
        self.ours = None;
        self.release(effects);
    }

    fn release(&mut self, effects: &mut Vec<LeadershipEffect>) {
        if let Some(lease) = self.lease.take() {
            effects.push(LeadershipEffect::Release(lease.id));
        }
        if self.resigning {
            effects.push(LeadershipEffect::Resigned);
        }
    }

    fn on_time(&mut self, now: Moment, effects: &mut Vec<LeadershipEffect>) {
        if self.leads() && !self.holds_lease(now) {
            self.step_down(StepDown::InDoubt, effects);
        }
        if let Some(lease) = self.lease.as_mut()
            && lease.asked_at.plus_ms(self.settings.keepalive_ms) <= now
        {
            lease.asked_at = now;
            effects.push(LeadershipEffect::Keep(lease.id));
        }
        let retry_ms = self.settings.retry_ms;
        if self.lease.is_none()
            && !self.resigning
            && self.role == Role::Follower
            && self.granting_since.is_none_or(|at| at.plus_ms(retry_ms) <= now)
        {
            self.granting_since = Some(now);
            effects.push(LeadershipEffect::Grant);
        }
        if self.look_due().is_some_and(|due| due <= now) {
            self.looked_at = Some(now);
            match (self.seen, self.lease) {
                (None, Some(lease)) if self.holds_lease(now) => effects.push(LeadershipEffect::Campaign(lease.id)),
                _ => effects.push(LeadershipEffect::Look),
            }
        }
    }
}
