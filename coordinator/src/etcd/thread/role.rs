//! The part that this coordinator plays: feeds the rules, performs what they say, and tells the others.

use super::super::MetaSeen;
use super::super::election::Command;
use super::super::leader::{self, Entry, LeaderValue, Seen};
use super::super::leading::Leading;
use super::super::probe::Target;
use super::Setting;
use super::proofs::Proofs;
use super::pulse::Pulse;
use super::requests::{Answer, Requests};
use crate::election::{Leadership, Standing, Validity};
use crate::metrics::Metrics;
use crate::store::StoreError;
use muster_domain::commit::Revision;
use muster_domain::leadership::{Leadership as Rules, LeadershipEffect, LeadershipEvent, Role, StepDown, term_of};
use muster_domain::time::Moment;
use muster_runtime::clock::boottime;
use std::sync::Arc;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

/// How often who leads is looked at within a lease's life.
const LOOKS_IN_A_LEASE: u64 = 3;

type Winner = oneshot::Sender<Result<Leadership, StoreError>>;

pub(super) struct Part {
    rules: Rules,
    requests: Requests,
    me: Entry,
    meta: MetaSeen,
    leading: Arc<Leading>,
    standing: watch::Sender<Standing>,
    targets: watch::Sender<Option<Target>>,
    /// The newest leader key whose value was read.
    known: Option<(Revision, Box<LeaderValue>)>,
    /// Whether the server wants to lead: only then a lease is asked for.
    wanted: bool,
    /// The rules asked for a lease while it was not wanted.
    grant_owed: bool,
    /// Who waits for leadership.
    winner: Option<Winner>,
    /// The leadership was handed over, and nobody has said that it ended.
    taken: bool,
    /// The server ended a leadership that was not lost.
    retiring: bool,
    /// Leases that are being given back.
    releasing: u32,
    /// Who waits until none is.
    waiting: Vec<oneshot::Sender<()>>,
    /// Cancelled when this process gives up for good, its name too.
    resigned: CancellationToken,
    /// Why this coordinator must not go on.
    broken: Option<String>,
    proofs: Proofs,
    pulse: Pulse,
    metrics: Metrics,
    /// When etcd last answered anything.
    heard_at: Moment,
    /// When the leader key was last looked at without a lease.
    looked_at: Moment,
    lease_ttl_ms: u64,
    /// A `meta` with an incarnation below ours, which an operator was told of.
    too_low: Option<MetaSeen>,
}

impl Part {
    pub(super) fn new(
        setting: &Setting,
        requests: Requests,
        standing: watch::Sender<Standing>,
        targets: watch::Sender<Option<Target>>,
        resigned: CancellationToken,
    ) -> Self {
        Self {
            rules: Rules::new(setting.times()),
            requests,
            me: setting.me.clone(),
            meta: setting.meta,
            leading: Arc::clone(&setting.leading),
            standing,
            targets,
            known: None,
            wanted: false,
            grant_owed: false,
            winner: None,
            taken: false,
            retiring: false,
            releasing: 0,
            waiting: Vec::new(),
            resigned,
            broken: None,
            proofs: Proofs::default(),
            pulse: Pulse::new(setting.lease_ttl_ms),
            metrics: Metrics::new(),
            heard_at: boottime(),
            looked_at: Moment(0),
            lease_ttl_ms: setting.lease_ttl_ms,
            too_low: None,
        }
    }

    pub(super) fn next_wakeup(&self) -> Option<Moment> {
        self.rules.next_wakeup()
    }

    /// Feeds the rules and performs what they say.
    pub(super) fn apply(&mut self, event: LeadershipEvent) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for effect in self.rules.apply(boottime(), event) {
                if let Some(follows) = self.perform(effect) {
                    events.push(follows);
                }
            }
        }
        if let (Some(leadership), Some(until), true) = (self.leading.get(), self.rules.valid_until(), self.leads()) {
            // A leadership that the store found fenced stays without validity.
            if !leadership.lost.is_cancelled() {
                leadership.validity.set(until);
            }
        }
        self.tell();
    }

    /// Time passed. Without a lease the rules ask nothing of etcd, but who leads is to be known all the same.
    pub(super) fn tick(&mut self) {
        self.apply(LeadershipEvent::Tick);
        let now = boottime();
        let is_due = self.looked_at.plus_ms(self.lease_ttl_ms / LOOKS_IN_A_LEASE) <= now;
        if is_due && self.rules.role() == Role::Follower && self.rules.valid_until().is_none() {
            self.looked_at = now;
            self.requests.look();
        }
    }

    fn leads(&self) -> bool {
        matches!(self.rules.role(), Role::BecomingLeader | Role::Leader)
    }

    pub(super) fn on_command(&mut self, command: Command) {
        match command {
            Command::Campaign(winner) => self.on_campaign(winner),
            Command::Lead => self.apply(LeadershipEvent::Restored),
            // What one leadership found out late says nothing about the next.
            Command::Fenced(term) if self.leading.get().is_none_or(|held| held.term != term) => {}
            Command::Fenced(_) => self.apply(LeadershipEvent::Fenced),
            Command::Ended(done) => {
                self.wanted = false;
                self.end(LeadershipEvent::Fenced);
                self.when_released(done);
            }
            Command::Resign(done) => {
                self.wanted = false;
                self.end(LeadershipEvent::Resign);
                self.releasing += u32::from(!self.resigned.is_cancelled() && self.broken.is_none());
                self.resigned.cancel();
                self.when_released(done);
            }
        }
    }

    fn on_campaign(&mut self, winner: Winner) {
        if let Some(why) = &self.broken {
            let _ = winner.send(Err(StoreError::Failed(why.clone())));
            return;
        }
        self.wanted = true;
        self.winner = Some(winner);
        // Who asks has no leadership: nobody waited when it was won, or who did was gone before it arrived.
        if let Some(held) = self.leading.get() {
            self.hand_over(held);
        } else if self.rules.role() == Role::SteppingDown {
            self.apply(LeadershipEvent::Stopped);
        }
        if std::mem::take(&mut self.grant_owed) {
            self.requests.grant();
        }
    }

    /// Ends what the server says it has ended.
    fn end(&mut self, event: LeadershipEvent) {
        self.retiring = self.leads();
        // Else the step down itself would be taken for one that nobody serves, and end it twice.
        self.taken = true;
        self.apply(event);
        self.taken = false;
        self.retiring = false;
        self.apply(LeadershipEvent::Stopped);
    }

    pub(super) fn on_answer(&mut self, answer: Answer) {
        if !matches!(answer, Answer::NameLost(_) | Answer::NameReleased | Answer::Released | Answer::NotKept) {
            self.heard_at = boottime();
        }
        match answer {
            // With it this coordinator could win while nobody here is there to lead.
            Answer::Granted { lease, .. } if !self.wanted => {
                self.grant_owed = true;
                self.releasing += 1;
                self.requests.release(lease);
            }
            Answer::Granted { lease, sent_at } => {
                if self.pulse.waits() {
                    self.felt(sent_at);
                }
                self.apply(LeadershipEvent::Granted { lease, sent_at });
            }
            Answer::Kept { lease, sent_at, alive } => {
                self.felt(sent_at);
                self.apply(LeadershipEvent::Kept { lease, sent_at, alive });
            }
            Answer::NotKept => self.pulse.refused(),
            Answer::Saw(seen) => self.on_saw(seen),
            Answer::Meta(meta) => self.on_meta(meta),
            Answer::Released | Answer::NameReleased => {
                self.releasing = self.releasing.saturating_sub(1);
                if self.releasing == 0 {
                    for done in self.waiting.drain(..) {
                        // Whoever waited may have given up.
                        let _ = done.send(());
                    }
                }
            }
            Answer::NameLost(why) => self.break_off(why),
        }
    }

    /// A term of a lower incarnation would be below those that workers have obeyed: this coordinator does not lead in one.
    fn on_meta(&mut self, meta: MetaSeen) {
        if meta.incarnation >= self.meta.incarnation {
            tracing::info!(incarnation = meta.incarnation, "another coordinator changed what is said of these keys");
            self.meta = meta;
        } else if self.too_low.replace(meta) != Some(meta) {
            tracing::error!(
                found = meta.incarnation,
                known = self.meta.incarnation,
                "etcd holds a lower incarnation than before, as after a restore from a copy: this coordinator does not lead. \
                 Set store.etcd.incarnation of every coordinator above the known one, and start them again"
            );
        }
    }

    fn on_saw(&mut self, seen: Option<Seen>) {
        let strange = seen.as_ref().and_then(|seen| leader::strange(&self.requests.keys.leader(), seen));
        self.requests.diagnosis.of_leader_key(boottime(), strange);
        if let Some((key, Some(value))) = &seen
            && self.known.as_ref().is_none_or(|(revision, _)| key.revision >= *revision)
        {
            self.known = Some((key.revision, value.clone()));
            if self.proofs.refuted_by(&value.entry.instance, key.revision) {
                tracing::error!(
                    name = value.entry.identity.name,
                    address = value.entry.identity.http,
                    "a coordinator that seemed gone, because its address refuses connections, leads again: look at its \
                     advertise.http, and at firewalls between the coordinators. Until one of them is started again, only its \
                     lease says whether it is alive"
                );
            }
        }
        self.apply(LeadershipEvent::Saw(seen.map(|(key, _)| key)));
    }

    pub(super) fn on_absence(&mut self, revision: Revision) {
        let Some((_, value)) = self.known.as_ref().filter(|(known, _)| *known == revision) else { return };
        if !self.proofs.of_absence(&value.entry.instance, revision) {
            return;
        }
        tracing::info!(revision, "the leader's address refuses connections: its lease is ended");
        self.apply(LeadershipEvent::Absent { revision });
    }

    /// This coordinator takes no part any more, and its process must end: of two processes of one name the one that was silent
    /// for longer than its lease gives way.
    pub(super) fn break_off(&mut self, why: String) {
        tracing::error!(why, "this coordinator must stop");
        self.wanted = false;
        if let Some(winner) = self.winner.take() {
            let _ = winner.send(Err(StoreError::Failed(why.clone())));
        }
        self.broken = Some(why);
        self.apply(LeadershipEvent::Resign);
    }

    /// Performs one effect; what follows at once is returned.
    fn perform(&mut self, effect: LeadershipEffect) -> Option<LeadershipEvent> {
        match effect {
            LeadershipEffect::Grant if !self.wanted => self.grant_owed = true,
            LeadershipEffect::Grant => self.requests.grant(),
            LeadershipEffect::Keep(lease) => {
                if let Some(slow) = self.pulse.sent(boottime()) {
                    slow.tell(&self.metrics);
                }
                self.requests.keep(lease);
            }
            LeadershipEffect::Campaign(lease) => self.requests.campaign(lease, self.meta),
            LeadershipEffect::Look => self.requests.look(),
            LeadershipEffect::Revoke(lease) => self.requests.revoke(lease),
            LeadershipEffect::Restore { revision } => self.restore(revision),
            LeadershipEffect::Lead { revision } => tracing::info!(revision, "leading"),
            LeadershipEffect::StepDown(why) => return self.step_down(why),
            LeadershipEffect::Release(lease) => {
                self.releasing += 1;
                self.requests.release(lease);
            }
            LeadershipEffect::Resigned => tracing::info!("this coordinator takes no part in elections any more"),
        }
        None
    }

    /// etcd has answered the election.
    fn felt(&mut self, sent_at: Moment) {
        let (took, slow) = self.pulse.answered(boottime(), sent_at);
        self.metrics.kept(took);
        if let Some(slow) = slow {
            slow.tell(&self.metrics);
        }
    }

    fn restore(&mut self, revision: Revision) {
        let known = self.known.as_ref().filter(|(known, _)| *known == revision);
        let incarnation = known.map_or(self.meta.incarnation, |(_, value)| value.incarnation);
        let leadership = Leadership {
            term: term_of(incarnation, revision),
            lost: CancellationToken::new(),
            validity: Validity::until(self.rules.valid_until().unwrap_or(Moment(0))),
        };
        tracing::info!(term = leadership.term, "won the election");
        self.leading.set(Some(leadership.clone()));
        self.hand_over(leadership);
    }

    fn hand_over(&mut self, leadership: Leadership) {
        // If nobody waits just now, the next who does gets it.
        self.taken = self.winner.take().is_some_and(|winner| winner.send(Ok(leadership)).is_ok());
    }

    fn step_down(&mut self, why: StepDown) -> Option<LeadershipEvent> {
        if let Some(leadership) = self.leading.get() {
            leadership.validity.set(Moment(0));
            leadership.lost.cancel();
        }
        self.leading.set(None);
        match why {
            _ if self.retiring => tracing::info!("leadership is given back"),
            StepDown::Resigned => tracing::info!(%why, "leadership is given back"),
            _ => tracing::warn!(%why, "leadership ended"),
        }
        // Nobody will say that it ended, if nobody ever had it.
        (!self.taken).then_some(LeadershipEvent::Stopped)
    }

    fn when_released(&mut self, done: oneshot::Sender<()>) {
        if self.releasing == 0 {
            let _ = done.send(());
        } else {
            self.waiting.push(done);
        }
    }

    /// Tells everybody in this process who leads, and what is to be probed.
    fn tell(&self) {
        let role = self.rules.role();
        let seen = self.rules.seen().map(|key| key.revision);
        let leader = self.known.as_ref().filter(|(revision, _)| Some(*revision) == seen);
        let mine = leader.is_some_and(|(_, value)| value.entry.instance == self.me.instance);
        // Our own key stays for a while after we have ceased to lead.
        let leader = leader.filter(|_| !mine || self.leads());
        // Who is cut off from etcd knows another leader no longer than a lease lasts.
        let is_current = mine || boottime() < self.heard_at.plus_ms(self.lease_ttl_ms);
        let told = leader.filter(|_| is_current);
        let standing = Standing {
            role,
            term: told.map(|(revision, value)| term_of(value.incarnation, *revision)),
            leader: told.map(|(_, value)| value.entry.identity.clone()),
        };
        let is_probed = |value: &LeaderValue| self.proofs.counts(&value.entry.instance);
        let target = leader.filter(|(_, value)| !mine && role == Role::Follower && self.wanted && is_probed(value));
        let target = target.map(|(revision, value)| Target { revision: *revision, entry: value.entry.clone() });
        replace(&self.standing, standing);
        replace(&self.targets, target);
    }
}

fn replace<T: PartialEq>(sender: &watch::Sender<T>, value: T) {
    sender.send_if_modified(|held| {
        let changed = *held != value;
        *held = value;
        changed
    });
}
