//! Who leads, for every edge of the process: there from the first moment, also before the store was ever reached.

use crate::election::Standing;
use crate::metrics::Metrics;
use muster_domain::leadership::Role;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long requests are held while nobody leads (reliability F2).
pub const HOLD: Duration = Duration::from_millis(3800);

/// Since when nobody is known to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vacancy {
    /// Since ever: this process has known no leader yet.
    Ever,
    Since(Instant),
    /// Somebody leads.
    Over,
}

/// Why nobody comes to lead, or why nothing becomes durable, in words for operators. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Concern(Arc<Mutex<Kinds>>);

#[derive(Debug, Default)]
struct Kinds {
    election: Option<String>,
    store: Option<String>,
}

impl Concern {
    /// What keeps this coordinator from being elected; `None`: nothing that is known.
    pub fn of_election(&self, why: Option<String>) {
        self.kinds().election = why;
    }

    /// What keeps this leader from making anything durable; `None`: nothing that is known.
    pub fn of_store(&self, why: Option<String>) {
        self.kinds().store = why;
    }

    /// What an operator should know when an answer is missing.
    #[must_use]
    pub fn now(&self) -> Option<String> {
        let kinds = self.kinds();
        kinds.election.clone().or_else(|| kinds.store.clone())
    }

    fn kinds(&self) -> MutexGuard<'_, Kinds> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the standing is put up for all to see. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Board {
    standing: watch::Sender<Standing>,
    vacancy: Arc<watch::Sender<Vacancy>>,
    concern: Concern,
}

impl Board {
    /// What is known to begin with: a follower without a leader, or in tests something else.
    #[must_use]
    pub fn new(standing: Standing) -> Self {
        Self::with_concern(standing, Concern::default())
    }

    /// [`Board::new`] beside a concern that others tell of.
    #[must_use]
    pub fn with_concern(standing: Standing, concern: Concern) -> Self {
        let vacancy = if standing.leads() || standing.leader.is_some() { Vacancy::Over } else { Vacancy::Ever };
        Self { standing: watch::Sender::new(standing), vacancy: Arc::new(watch::Sender::new(vacancy)), concern }
    }

    /// A coordinator that leads for ever, for what has no others.
    #[must_use]
    pub fn alone() -> Self {
        Self::new(Standing { role: Role::Leader, term: None, leader: None })
    }

    /// Who leads, and when that changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Who leads now.
    #[must_use]
    pub fn now(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// What is wrong, for operators.
    #[must_use]
    pub fn concern(&self) -> &Concern {
        &self.concern
    }

    /// Whether a request can be answered or forwarded, or held for a leader that has been away only for a moment.
    #[must_use]
    pub fn can_serve(&self) -> bool {
        match *self.vacancy.borrow() {
            Vacancy::Ever => false,
            Vacancy::Since(at) => at.elapsed() <= HOLD,
            Vacancy::Over => true,
        }
    }

    /// Resolves once this coordinator does not lead (any more).
    pub async fn rested(&self) {
        // The sender lives as long as `self`.
        let _ = self.standing.subscribe().wait_for(|standing| !standing.leads()).await;
    }

    /// Puts up what an election says, as long as it says something.
    pub async fn follow(&self, mut said: watch::Receiver<Standing>, metrics: &Metrics) {
        loop {
            let standing = said.borrow_and_update().clone();
            self.put(standing, metrics);
            if said.changed().await.is_err() {
                return;
            }
        }
    }

    fn put(&self, standing: Standing, metrics: &Metrics) {
        metrics.standing(standing.leads(), standing.term);
        if standing.role == Role::Follower && standing.leader.is_some() {
            // What kept this coordinator from writing is the leader's affair now.
            self.concern.of_store(None);
        }
        let (before, vacancy) = (self.now(), *self.vacancy.borrow());
        let is_led = standing.leads() || standing.leader.is_some();
        if is_led && (before.term != standing.term || vacancy != Vacancy::Over) {
            let vacant = if let Vacancy::Since(at) = vacancy { at.elapsed() } else { Duration::ZERO };
            metrics.leader_seen(vacant);
            let leader = standing.leader.as_ref().map(|leader| leader.name.as_str());
            tracing::info!(leader, term = standing.term, vacant_ms = vacant.as_millis(), "a leader is known");
        }
        match (is_led, vacancy) {
            (true, _) => drop(self.vacancy.send_replace(Vacancy::Over)),
            (false, Vacancy::Over) => {
                tracing::warn!("nobody is known to lead");
                self.vacancy.send_replace(Vacancy::Since(Instant::now()));
            }
            (false, _) => {}
        }
        self.standing.send_replace(standing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::Identity;

    fn led_by(name: &str, term: u64) -> Standing {
        let text = String::new;
        let leader = Identity { name: name.to_owned(), http: text(), operator: text(), fleet: text(), version: text() };
        Standing { role: Role::Follower, term: Some(term), leader: Some(leader) }
    }

    #[tokio::test(start_paused = true)]
    async fn it_can_serve_from_the_first_leader_on_except_in_long_vacancies() {
        let board = Board::new(Standing::default());
        let metrics = Metrics::new();
        assert!(!board.can_serve(), "it never knew a leader");
        board.put(led_by("b", 1), &metrics);
        assert!(board.can_serve());
        board.put(Standing::default(), &metrics);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(board.can_serve(), "a leader may be there before anybody has waited too long");
        board.put(Standing::default(), &metrics);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(!board.can_serve());
        board.put(Standing { role: Role::Leader, ..led_by("a", 2) }, &metrics);
        assert!(board.can_serve() && board.now().leads());
    }

    #[test]
    fn what_kept_this_leader_from_writing_is_over_once_another_one_leads() {
        let board = Board::new(Standing::default());
        let concern = board.concern().clone();
        concern.of_store(Some("it is full".to_owned()));
        board.put(Standing { role: Role::Leader, ..led_by("a", 1) }, &Metrics::new());
        assert_eq!(concern.now().unwrap(), "it is full");
        concern.of_election(Some("etcd is away".to_owned()));
        assert_eq!(concern.now().unwrap(), "etcd is away");
        concern.of_election(None);
        board.put(led_by("b", 2), &Metrics::new());
        assert_eq!(concern.now(), None);
    }
}
