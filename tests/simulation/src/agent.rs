//! One event for the brain of an agent, and what it says must be done: the journal first, then the engine and the stream.

use crate::engine::Order;
use crate::world::{World, say};
use muster_domain::agent::{AgentEffect, AgentEvent};

impl World {
    /// One event for the agent, and what it says.
    pub(crate) fn agent(&mut self, index: usize, event: AgentEvent) {
        let now = self.workers[index].clock.read(self.t);
        let term = if let AgentEvent::Command { term, .. } = &event { Some(*term) } else { None };
        let effects = self.workers[index].agent.apply(now, event);
        // I9: what is not refused is obeyed.
        let refused = effects.iter().any(|effect| matches!(effect, AgentEffect::Refused { .. }));
        let newest = self.workers[index].newest_term;
        if let Some(older) = term.filter(|term| *term < newest && !refused) {
            self.violated("I9", format!("w{index} obeys an older term: {older}, although it has obeyed {newest}"));
        }
        for effect in effects {
            let ordered = match effect {
                AgentEffect::SaveTerm(term) => {
                    self.workers[index].journal.term = term;
                    None
                }
                AgentEffect::SaveTimeLimit { key, time_limit_ms } => {
                    let limits = &mut self.workers[index].journal.limits;
                    match time_limit_ms {
                        Some(limit_ms) => limits.insert(key, limit_ms),
                        None => limits.remove(&key),
                    };
                    None
                }
                AgentEffect::Prepare(assignment) => Some((assignment.key, Order::Prepare)),
                AgentEffect::Start { key, not_after, .. } => Some((key, Order::Start(not_after))),
                AgentEffect::Terminate(key) => Some((key, Order::Terminate)),
                AgentEffect::Kill(key) => Some((key, Order::Kill)),
                AgentEffect::Remove(key) => Some((key, Order::Remove)),
                AgentEffect::Report(ranks) => {
                    self.say_ranks(index, now, false, ranks);
                    None
                }
                AgentEffect::Refused { key, reason } => {
                    say!(self, "w{index} refuses a command about {key}: {reason}");
                    None
                }
            };
            if let Some((key, order)) = ordered {
                self.order(index, key, order);
            }
        }
        let worker = &mut self.workers[index];
        worker.newest_term = worker.newest_term.max(worker.agent.last_term());
    }
}
