//! Persist, then speak: what a leader's brain decides becomes durable, and only then leaves, and only while the lease holds.
//! Mirrors `coordinator/src/{driver,commit,dispatch}.rs` and `core/delivery.rs`.

use crate::coordinator::{Commit, Outgoing, STORE_AGAIN_MS};
use crate::core::{Answer as CoreAnswer, Asked, Item};
use crate::fault::CrashPoint;
use crate::mutant::Shell;
use crate::network::Place;
use crate::store::StoreCall;
use crate::stream::Down;
use crate::world::{What, World, say};
use muster_domain::commit::{Answer, Batch, Decision, Verdict};
use muster_domain::effect::{Effect, Milestone, Reply, ToWorker};
use muster_domain::event::Event;
use muster_domain::leadership::LeadershipEvent;
use muster_domain::rank::Command;
use muster_domain::time::Moment;
use std::rc::Rc;

/// After how many documents a batch takes no further decision (reliability F13).
const BATCH_DOCUMENTS: usize = 60;
/// Decisions that may wait (I12).
const MOST_DECISIONS: usize = 4_096;
/// How long Core may take to answer.
const CORE_WITHIN_MS: u64 = 5_000;
/// Between two leaderships that one process gives up because all workers fell silent.
const YIELD_AGAIN_MS: u64 = 600_000;

impl World {
    /// One event for the cluster, and what follows.
    pub(crate) fn feed(&mut self, index: usize, event: Event, caller: Option<Asked>) {
        let now = self.coordinators[index].clock.now(self.t);
        let Some(brain) = self.coordinators[index].brain.as_mut() else { return };
        let effects = brain.cluster.apply(now, event);
        self.decided(index, &effects);
        self.decide(index, effects, caller);
    }

    pub(crate) fn decide(&mut self, index: usize, effects: Vec<Effect>, caller: Option<Asked>) {
        let Some(brain) = self.coordinators[index].brain.as_mut() else { return };
        if !effects.is_empty() || caller.is_some() {
            brain.queue.push_back(Decision { effects, caller });
            let waiting = brain.queue.len();
            if waiting > MOST_DECISIONS {
                self.violated("I12", format!("{waiting} decisions wait at c{index}"));
            }
        }
        self.pump(index);
    }

    /// One transaction is under way at a time; the rest gathers. Only removals go ahead of one that the store has no room for.
    pub(crate) fn pump(&mut self, index: usize) {
        loop {
            let now = self.coordinators[index].clock.read(self.t);
            let Some(brain) = self.coordinators[index].brain.as_mut().filter(|brain| brain.leads) else { return };
            if brain.queue.is_empty() || brain.releasing {
                return;
            }
            let batch = match brain.commits.as_slice() {
                [] => Some(Batch::take(&mut brain.queue, BATCH_DOCUMENTS)),
                [waiting] if waiting.full => {
                    let under_way = waiting.transaction.puts.iter().map(|put| put.write.key()).collect();
                    Batch::take_removals(&mut brain.queue, &under_way, BATCH_DOCUMENTS)
                }
                _ => None,
            };
            let Some(mut batch) = batch else { return };
            let goes_ahead = !brain.commits.is_empty();
            if batch.writes.is_empty() {
                self.release(index, batch);
                continue;
            }
            let writes = std::mem::take(&mut batch.writes);
            let transaction = Rc::new(brain.ledger.transaction(brain.term, writes));
            if batch.milestones.contains(&Milestone::Accepted)
                && let Some(away_ms) = self.dies_at(CrashPoint::CreateReceived)
            {
                return self.coordinator_dies(index, away_ms, false);
            }
            if self.without(Shell::PersistThenSpeak) {
                let effects = std::mem::take(&mut batch.effects);
                for effect in effects {
                    self.dispatch(index, effect);
                }
            }
            if goes_ahead {
                say!(self, "c{index}: {} removals go ahead, the store is full", transaction.puts.len());
            }
            let ticket = self.send_commit(index, &transaction);
            let accepted = batch.milestones.contains(&Milestone::Accepted);
            let Some(brain) = self.coordinators[index].brain.as_mut() else { return };
            brain.commits.push(Commit { batch, transaction, in_doubt: false, full: false, ticket, sent_at: now });
            self.arm_coordinator(index);
            if accepted && let Some(away_ms) = self.dies_at(CrashPoint::CreateSent) {
                return self.coordinator_dies(index, away_ms, false);
            }
        }
    }

    fn send_commit(&mut self, index: usize, transaction: &Rc<muster_domain::commit::Transaction>) -> u64 {
        let ticket = self.ask_store(index, StoreCall::Commit(Rc::clone(transaction)));
        self.coordinators[index].pending.insert(ticket, crate::coordinator::Pending::Commit);
        ticket
    }

    /// No answer in time: nothing is known, and the same transaction goes again.
    pub(crate) fn commits_unanswered(&mut self, index: usize) {
        let now = self.coordinators[index].clock.read(self.t);
        let guesses = self.without(Shell::UnknownIsFailed) || self.without(Shell::UnknownIsSuccess);
        let Some(brain) = self.coordinators[index].brain.as_mut() else { return };
        let mut late = Vec::new();
        for commit in brain.commits.iter_mut().filter(|commit| now.since_ms(commit.sent_at) >= STORE_AGAIN_MS) {
            (commit.in_doubt, commit.sent_at) = (true, now);
            late.push((commit.ticket, Rc::clone(&commit.transaction)));
        }
        for (old, transaction) in late {
            if guesses {
                self.commit_answered(index, old, &Answer::Unknown);
                continue;
            }
            self.coordinators[index].pending.remove(&old);
            let ticket = self.send_commit(index, &transaction);
            let brain = self.coordinators[index].brain.as_mut();
            if let Some(commit) = brain.and_then(|brain| brain.commits.iter_mut().find(|commit| commit.ticket == old)) {
                commit.ticket = ticket;
            }
        }
    }

    pub(crate) fn commit_answered(&mut self, index: usize, ticket: u64, answer: &Answer) {
        let (failed, succeeded) = (self.without(Shell::UnknownIsFailed), self.without(Shell::UnknownIsSuccess));
        let Some(brain) = self.coordinators[index].brain.as_mut() else { return };
        let Some(at) = brain.commits.iter().position(|commit| commit.ticket == ticket) else { return };
        let mut commit = brain.commits.remove(at);
        let verdict = brain.ledger.judge(&commit.transaction, answer, commit.in_doubt);
        match verdict {
            Verdict::Durable => {
                for milestone in commit.batch.milestones.clone() {
                    let point = match milestone {
                        Milestone::Accepted => CrashPoint::CreateCommitted,
                        Milestone::Placed => CrashPoint::Placed,
                        Milestone::Running => CrashPoint::RunningCommitted,
                        Milestone::Sealed => CrashPoint::Sealed,
                        Milestone::Ended => CrashPoint::Ended,
                        _ => continue,
                    };
                    if let Some(away_ms) = self.dies_at(point) {
                        return self.coordinator_dies(index, away_ms, false);
                    }
                }
                self.release(index, commit.batch);
                self.pump(index);
            }
            Verdict::SendAgain if failed => self.pump(index),
            Verdict::SendAgain if succeeded => {
                self.release(index, commit.batch);
                self.pump(index);
            }
            Verdict::SendAgain => {
                // Answered, but nothing is known: again after the usual time. Only a full store answers so.
                (commit.in_doubt, commit.full) = (true, true);
                brain.commits.push(commit);
                self.pump(index);
            }
            Verdict::Fenced { .. } | Verdict::Conflict { .. } => {
                say!(self, "c{index}: its transaction was refused: {verdict:?}");
                self.lead(index, LeadershipEvent::Fenced);
            }
        }
    }

    /// What is durable may leave, while the lease holds.
    fn release(&mut self, index: usize, batch: Batch<Asked>) {
        let now = self.coordinators[index].clock.read(self.t);
        let valid = self.coordinators[index].leadership.is_valid(now) || self.without(Shell::DispatchValidity);
        if !valid {
            say!(self, "c{index}: its lease is in doubt, {} effects are dropped", batch.effects.len());
            return self.lead(index, LeadershipEvent::Tick);
        }
        // What an effect leads to at once, such as the end of a stream, is decided after all of them have left.
        self.set_releasing(index, true);
        for effect in batch.effects {
            self.dispatch(index, effect);
        }
        self.set_releasing(index, false);
    }

    fn set_releasing(&mut self, index: usize, releasing: bool) {
        if let Some(brain) = self.coordinators[index].brain.as_mut() {
            brain.releasing = releasing;
        }
    }

    fn dispatch(&mut self, index: usize, effect: Effect) {
        let Some(brain) = self.coordinators[index].brain.as_mut() else { return };
        let revision = brain.revision;
        match effect {
            Effect::Reply { request, reply } => {
                if let Some(asked) = brain.requests.remove(&request) {
                    self.reply(index, asked, Some(reply));
                }
            }
            Effect::Send { session, message, .. } => {
                let Some(&stream) = brain.sessions.get(&session) else { return };
                let starts = matches!(&message, ToWorker::Command { command: Command::Start { .. }, .. });
                if let ToWorker::Command { command, .. } = &message {
                    say!(self, "c{index} -> w{}: {} {}", self.streams[stream].worker, command.name(), command.key());
                }
                self.send_down(stream, Down::Say(message));
                if starts && let Some(away_ms) = self.dies_at(CrashPoint::StartSent) {
                    return self.coordinator_dies(index, away_ms, false);
                }
            }
            Effect::Close { session, reason } => {
                say!(self, "c{index} closes session {session}: {reason}");
                self.session_ends(index, session, true);
            }
            Effect::Tell { job, number, notice, .. } => self.owe(index, Item::Tell { job, number, notice }),
            Effect::Charge { charge, .. } => self.owe(index, Item::Charge(charge)),
            Effect::Disown { job } => {
                let process = self.coordinators[index].process;
                if let Some(takes) = self.passes(Place::Coordinator(index), Place::Core) {
                    self.after(takes, What::AtCore(index, process, 0, Box::new(Item::Disown(job))));
                }
            }
            Effect::Alarm { message } => {
                say!(self, "c{index} raises an alarm: {message}");
            }
            Effect::Yield { .. } => return self.yields(index),
            _ => return,
        }
        let ours = self.store.key.is_some_and(|key| key.revision == revision);
        if !ours && !self.store.taken.contains(&revision) {
            self.violated("I5", format!("c{index} speaks although its leader key is gone (hole 3)"));
        }
    }

    /// The brain thinks that another coordinator should try; not more often than once in ten minutes.
    fn yields(&mut self, index: usize) {
        let there = &mut self.coordinators[index];
        if there.yielded_at.is_none_or(|at| self.t - at >= YIELD_AGAIN_MS) {
            there.yielded_at = Some(self.t);
            self.fault(crate::fault::Fault::Yield);
            self.lead(index, LeadershipEvent::Fenced);
        }
    }

    /// An answer to Core's call; `None` is a 503.
    pub(crate) fn reply(&mut self, index: usize, asked: Asked, reply: Option<Reply>) {
        if let Some(takes) = self.passes(Place::Coordinator(index), Place::Core) {
            self.after(takes, What::Replied(asked, reply));
        }
    }

    /// Puts something for Core on its way; it goes again until it is answered, or the leadership ends.
    fn owe(&mut self, index: usize, item: Item) {
        let charge = matches!(item, Item::Charge(_));
        let Some(job) = item.job().cloned() else { return };
        let now = self.coordinators[index].clock.read(self.t);
        let Some(brain) = self.coordinators[index].brain.as_mut() else { return };
        let outgoing = Outgoing { item, ticket: 0, tries: 0, again_at: now };
        if brain.outbox.insert((job.clone(), charge), outgoing).is_some() {
            return self.violated("I8", format!("c{index} has two of a kind under way to Core for job {job}"));
        }
        self.send_again(index, now);
        let point = if charge { CrashPoint::ChargeSent } else { CrashPoint::UpdateSent };
        if let Some(away_ms) = self.dies_at(point) {
            self.coordinator_dies(index, away_ms, false);
        }
    }

    /// Sends Core what is due.
    pub(crate) fn send_again(&mut self, index: usize, now: Moment) {
        let Some(brain) = self.coordinators[index].brain.as_mut() else { return };
        let mut due = Vec::new();
        for outgoing in brain.outbox.values_mut().filter(|outgoing| outgoing.again_at <= now) {
            self.next_ticket += 1;
            outgoing.ticket = self.next_ticket;
            outgoing.tries += 1;
            let wait_ms = CORE_WITHIN_MS + (500 << outgoing.tries.min(5));
            outgoing.again_at = now.plus_ms(wait_ms);
            due.push((outgoing.ticket, outgoing.item.clone()));
        }
        let process = self.coordinators[index].process;
        for (ticket, item) in due {
            if let Some(takes) = self.passes(Place::Coordinator(index), Place::Core) {
                if self.goes_wrong(self.plan.chances.duplicate, crate::fault::Fault::Duplicate) {
                    let later = takes + self.random.below(30_000);
                    self.after(later, What::AtCore(index, process, 0, Box::new(item.clone())));
                }
                self.after(takes, What::AtCore(index, process, ticket, Box::new(item)));
            }
        }
        self.arm_coordinator(index);
    }

    pub(crate) fn core_answers(&mut self, index: usize, ticket: u64, answer: CoreAnswer) {
        let Some(brain) = self.coordinators[index].brain.as_mut() else { return };
        let Some(key) = brain.outbox.iter().find(|(_, out)| out.ticket == ticket).map(|(key, _)| key.clone()) else {
            return;
        };
        let Some(outgoing) = brain.outbox.remove(&key) else { return };
        let job = key.0;
        let event = match (answer, outgoing.item) {
            (CoreAnswer::Told(delivery), Item::Tell { number, .. }) => Event::Told { job, number, delivery },
            (CoreAnswer::Charged(answer), Item::Charge(charge)) => {
                if let Some(away_ms) = self.dies_at(CrashPoint::ChargeAnswered) {
                    return self.coordinator_dies(index, away_ms, false);
                }
                Event::Charged { job, window: charge.window, answer }
            }
            _ => return,
        };
        self.feed(index, event, None);
    }

    /// Core asks this coordinator, which forwards to the leader, or holds the request for a while.
    pub(crate) fn asked(&mut self, index: usize, asked: Asked, since: u64) {
        let there = &self.coordinators[index];
        if !there.up || there.listener_dead {
            // Refused at once.
            if !there.host_gone {
                self.reply(index, asked, None);
            }
            return;
        }
        if there.paused {
            self.coordinators[index].inbox.push(What::Ask(index, asked, since));
            return;
        }
        if there.speaks(self.t) {
            let request = there.next_request;
            let there = &mut self.coordinators[index];
            there.next_request += 1;
            if let Some(brain) = there.brain.as_mut() {
                brain.requests.insert(request, asked);
            }
            let event = self.core.event(asked, request);
            if matches!(event, Event::Terminate { .. })
                && let Some(away_ms) = self.dies_at(CrashPoint::EndSeen)
            {
                return self.coordinator_dies(index, away_ms, false);
            }
            let verify = matches!(event, Event::Verify { .. });
            self.feed(index, event, Some(asked));
            if verify {
                self.reply(index, asked, Some(Ok(())));
            }
            return self.arm_coordinator(index);
        }
        let leader = there.leadership.seen().and_then(|key| self.store.holders.get(&key.revision).copied());
        if self.t - since > 4_000 {
            return self.reply(index, asked, None);
        }
        match leader.filter(|leader| *leader != index) {
            Some(leader) if self.t == since => {
                if let Some(takes) = self.passes(Place::Coordinator(index), Place::Coordinator(leader)) {
                    self.after(takes, What::Ask(leader, asked, since));
                }
            }
            _ => self.after(400, What::Ask(index, asked, since)),
        }
    }
}
