//! Which coordinator is dialed next, and when.
//!
//! A worker that lost its leader must be with the next one in well under a second, and a thousand workers that find no
//! coordinator must not storm the first one that comes up. So the first few tries follow each other quickly, and only
//! then waits grow. The coordinator that was lost is not dialed first: if it is gone, that may take long to show, and any
//! other knows who leads.

use super::{Coordinator, Welcomed, Why};
use crate::backoff::Backoff;
use muster_domain::id::Term;
use rand::Rng;
use std::sync::Arc;
use std::time::Duration;

/// The longest wait between quick tries; they are spread so that workers do not come all at once.
const QUICK_WAIT: Duration = Duration::from_millis(50);
/// Redirects that are followed one after another without a coordinator that keeps the worker.
const REDIRECTS: u32 = 3;
/// A leader that kept the worker for so long has it for good: when it is lost, the next one is looked for quickly again, as
/// after any change of leadership. Two agents that use one node's name throw each other out at once, under one leader, and
/// must not do so at full speed.
const SETTLED_AFTER: Duration = Duration::from_secs(10);
/// Between two tries with a secret that was refused; it will not get better by itself.
const WRONG_SECRET_WAIT: Duration = Duration::from_secs(10);

/// Where to dial.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) coordinator: Arc<Coordinator>,
    /// A term whose leader was found gone: a coordinator that knows no other should wait for one.
    pub(super) left: Option<Term>,
    /// Whether to give up soon when the address does not answer.
    pub(super) quickly: bool,
    /// The term of the leader that is said to be there.
    told: Option<Term>,
}

/// The search for the leader.
pub(super) struct Search {
    known: Vec<Arc<Coordinator>>,
    turn: usize,
    redirected: Option<(Arc<Coordinator>, Term)>,
    redirects: u32,
    left: Option<Term>,
    /// The newest term of a leader that took this worker in.
    newest: Term,
    quick: usize,
    backoff: Backoff,
}

impl Search {
    /// Among these; at least one.
    pub(super) fn new(known: Vec<Arc<Coordinator>>) -> Self {
        let quick = quick_tries(&known);
        let backoff = Backoff::coordinator();
        Self { known, turn: 0, redirected: None, redirects: 0, left: None, newest: 0, quick, backoff }
    }

    /// Whom to dial now.
    pub(super) fn next(&mut self) -> Target {
        let quickly = self.quick > 0;
        if let Some((coordinator, term)) = self.redirected.take() {
            return Target { coordinator, left: None, quickly, told: Some(term) };
        }
        let coordinator = Arc::clone(&self.known[self.turn % self.known.len()]);
        Target { coordinator, left: self.left, quickly, told: None }
    }

    /// What was learned at `target`; how long to wait before the next try.
    pub(super) fn after(&mut self, target: &Target, why: &Why, welcomed: Option<Welcomed>) -> Duration {
        if let Some(Welcomed { lasted, term }) = welcomed {
            self.left = None;
            self.redirects = 0;
            if lasted >= SETTLED_AFTER || term > self.newest {
                self.newest = self.newest.max(term);
                self.quick = quick_tries(&self.known);
                self.backoff.reset();
            }
        }
        match why {
            Why::Redirected { address, term } if address.is_empty() => {
                // Its leadership is over; nobody need send us back there.
                self.left = Some(*term).filter(|term| *term > 0).or(self.left);
                self.turn += 1;
            }
            Why::Redirected { address, term } if self.redirects < REDIRECTS => {
                self.redirects += 1;
                if self.left == Some(*term) {
                    // It names a leader that was found gone. That is tried once more, and then somebody else is asked.
                    self.turn += 1;
                }
                let known = self.known.iter().find(|known| known.name() == address).cloned();
                let there = known.or_else(|| target.coordinator.told_of(address).map(Arc::new));
                if let Some(there) = there {
                    self.redirected = Some((there, *term));
                    return Duration::ZERO;
                }
                tracing::warn!(
                    address,
                    "sent to an address that cannot be used: expected the scheme of `coordinators`, and not this machine \
                     itself; set advertise.fleet at the coordinator that leads"
                );
                self.turn += 1;
            }
            _ => {
                let is_circle = matches!(why, Why::Redirected { .. });
                self.redirects = 0;
                // The leader that we were told of is not there.
                self.left = target.told.filter(|term| welcomed.is_none() && *term > 0).or(self.left);
                // Whoever told us is in turn still, and may know better by now, unless it sent us in a circle.
                if target.told.is_none() || welcomed.is_some() || is_circle {
                    self.turn += 1;
                }
            }
        }
        if matches!(why, Why::WrongSecret(_)) {
            return WRONG_SECRET_WAIT;
        }
        if self.quick > 0 {
            self.quick -= 1;
            return QUICK_WAIT.mul_f64(rand::rng().random_range(0.0..=1.0));
        }
        self.backoff.next()
    }
}

/// How many tries follow each other quickly.
fn quick_tries(known: &[Arc<Coordinator>]) -> usize {
    known.len() + 3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(urls: &[&str]) -> Search {
        let known = urls.iter().map(|url| Arc::new(Coordinator::new(url, None, None).unwrap()));
        Search::new(known.collect())
    }

    fn redirect(address: &str, term: Term) -> Why {
        Why::Redirected { address: address.to_owned(), term }
    }

    fn unreachable() -> Why {
        Why::Unreachable("refused".to_owned())
    }

    /// Dials, learns this, and says where the dial went.
    fn step(search: &mut Search, why: &Why, welcomed: Option<Term>) -> (String, Option<Term>, Duration) {
        let target = search.next();
        let welcomed = welcomed.map(|term| Welcomed { term, lasted: SETTLED_AFTER });
        let wait = search.after(&target, why, welcomed);
        (target.coordinator.name().to_owned(), target.left, wait)
    }

    #[tokio::test]
    async fn a_lost_leader_is_replaced_within_a_few_quick_tries() {
        let mut search = search(&["http://a:1", "http://b:1", "http://c:1"]);
        let broken = Why::Broken("reset".to_owned());
        let (first, _, wait) = step(&mut search, &broken, Some(7));
        assert!(first == "http://a:1" && wait <= QUICK_WAIT);
        // The next one does not know yet that the leader is dead.
        let (second, left, wait) = step(&mut search, &redirect("http://a:1", 7), None);
        assert_eq!((second.as_str(), left, wait), ("http://b:1", None, Duration::ZERO));
        assert_eq!(step(&mut search, &unreachable(), None).0, "http://a:1");
        // It is asked again, and told what was found.
        let (third, left, wait) = step(&mut search, &redirect("http://c:1", 8), None);
        assert_eq!((third.as_str(), left, wait), ("http://b:1", Some(7), Duration::ZERO));
        assert_eq!(step(&mut search, &broken, Some(8)).0, "http://c:1");
        assert_eq!(search.next().left, None);
    }

    #[tokio::test]
    async fn a_leader_that_steps_down_is_not_asked_for_again() {
        let mut search = search(&["http://a:1", "http://b:1"]);
        step(&mut search, &redirect("", 7), Some(7));
        let target = search.next();
        assert_eq!((target.coordinator.name(), target.left), ("http://b:1", Some(7)));
    }

    #[tokio::test]
    async fn a_follower_that_names_a_dead_leader_for_ever_is_left_for_another() {
        let mut search = search(&["http://b:1", "http://a:1", "http://c:1"]);
        let dead = redirect("http://unlisted:1", 7);
        assert_eq!(step(&mut search, &dead, None).0, "http://b:1");
        assert_eq!(step(&mut search, &unreachable(), None).0, "http://unlisted:1");
        // It was told that the leader is gone, waited, and knows no better.
        let (again, left, _) = step(&mut search, &dead, None);
        assert_eq!((again.as_str(), left), ("http://b:1", Some(7)));
        assert_eq!(step(&mut search, &unreachable(), None).0, "http://unlisted:1");
        let (next, left, _) = step(&mut search, &unreachable(), None);
        assert_eq!((next.as_str(), left), ("http://a:1", Some(7)));
        assert_eq!(search.next().coordinator.name(), "http://c:1");
    }

    #[tokio::test]
    async fn two_agents_that_throw_each_other_out_slow_down() {
        let mut search = search(&["http://a:1"]);
        let thrown_out = Why::Refused("another agent has this name".to_owned());
        let mut waits = Vec::new();
        for _ in 0..12 {
            let target = search.next();
            let welcomed = Welcomed { term: 7, lasted: Duration::from_millis(20) };
            waits.push(search.after(&target, &thrown_out, Some(welcomed)));
        }
        assert!(waits[0] <= QUICK_WAIT && waits[11] >= Duration::from_secs(1), "{waits:?}");
        assert!(step(&mut search, &thrown_out, Some(7)).2 <= QUICK_WAIT, "it was settled in between");
    }

    #[tokio::test]
    async fn leaders_that_follow_each_other_fast_are_each_found_fast() {
        let mut search = search(&["http://a:1", "http://b:1"]);
        for term in 1..50 {
            for _ in 0..4 {
                let target = search.next();
                assert!(search.after(&target, &unreachable(), None) <= QUICK_WAIT, "term {term}");
            }
            let target = search.next();
            let welcomed = Welcomed { term, lasted: Duration::from_millis(300) };
            search.after(&target, &Why::Broken("reset".to_owned()), Some(welcomed));
        }
    }

    #[tokio::test]
    async fn redirects_in_a_circle_end_and_waits_grow() {
        let mut search = search(&["http://a:1", "http://b:1"]);
        let mut dialed = Vec::new();
        for _ in 0..4 {
            let (name, _, wait) = step(&mut search, &redirect("http://a:1", 7), None);
            dialed.push((name, wait == Duration::ZERO));
        }
        assert_eq!(dialed.iter().filter(|(_, at_once)| *at_once).count(), 3);
        assert_eq!(search.next().coordinator.name(), "http://b:1", "whoever sends in circles is not asked next");
        let mut waits = Vec::new();
        for _ in 0..12 {
            waits.push(step(&mut search, &unreachable(), None).2);
        }
        assert!(waits[11] >= Duration::from_secs(1), "{waits:?}");
    }

    #[tokio::test]
    async fn no_redirect_leads_to_an_address_with_another_scheme_or_to_this_machine_itself() {
        let own =
            ["127.0.0.1", "127.9.9.9", "localhost", "LocalHost.", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]"];
        let own: Vec<String> = own.iter().map(|host| format!("http://{host}:8472")).collect();
        let own = own.iter().map(|own| ("http://a:1", own.as_str()));
        let foreign = [("https://a:1", "http://b:1"), ("http://a:1", "https://b:1"), ("http://a:1", "nonsense")];
        for (from, to) in foreign.into_iter().chain(own) {
            let mut search = search(&[from]);
            step(&mut search, &redirect(to, 7), None);
            assert_eq!(search.next().coordinator.name(), from, "{to}");
        }
        let mut search = search(&["http://a:1"]);
        step(&mut search, &redirect("http://unlisted:1", 7), None);
        assert_eq!(search.next().coordinator.name(), "http://unlisted:1");
        // All on one machine, as in a trial.
        let mut search = self::search(&["http://localhost:1"]);
        step(&mut search, &redirect("http://127.0.0.1:2", 7), None);
        assert_eq!(search.next().coordinator.name(), "http://127.0.0.1:2");
    }
}
