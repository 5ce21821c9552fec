//! What an operator is told while the election gets no answers from etcd, or such that nobody can lead with: in the log,
//! and to whoever asks why nobody leads.

use super::EtcdError;
use super::failure::CallError;
use super::patience::Place;
use crate::standing::Concern;
use muster_domain::time::Moment;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How long etcd may answer nothing before that is told: less is no more than a change of its leader.
const SILENT_FOR_MS: u64 = 5_000;
/// Between two lines of the log about the same trouble; after this long without another, a refusal counts for over.
const SAY_EVERY_MS: u64 = 30_000;

/// Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub(super) struct Diagnosis {
    place: Place,
    root: String,
    concern: Concern,
    found: Arc<Mutex<Found>>,
}

#[derive(Debug, Default)]
struct Found {
    /// Since when etcd has answered nothing, and what came instead the last time.
    silent: Option<(Moment, String)>,
    /// What it refuses, by request.
    refused: BTreeMap<&'static str, (Moment, String)>,
    /// What is wrong with the leader key.
    leader_key: Option<String>,
    silence_said_at: Option<Moment>,
    refusal_said_at: Option<Moment>,
    leader_key_said_at: Option<Moment>,
}

impl Diagnosis {
    pub(super) fn new(place: Place, root: &str, concern: Concern) -> Self {
        Self { place, root: root.to_owned(), concern, found: Arc::default() }
    }

    /// etcd did what this request asks.
    pub(super) fn answered(&self, now: Moment, what: &'static str) {
        self.update(now, |found| {
            found.heard(&self.place);
            found.refused.remove(what);
        });
    }

    /// It did not.
    pub(super) fn failed(&self, now: Moment, what: &'static str, error: CallError) {
        tracing::debug!(what, %error, "a request of the election got no answer");
        match error {
            CallError::NotSent(why) | CallError::Unknown(why) => {
                self.update(now, |found| found.silent(now, why, &self.place));
            }
            CallError::Refused(refusal, why) => {
                self.refused(now, what, EtcdError::refused(refusal, why, &self.root).to_string());
            }
            CallError::NoSpace => self.refused(now, what, CallError::NoSpace.to_string()),
            CallError::LoggedOut(_) | CallError::LeaseGone | CallError::Compacted => {
                self.update(now, |found| found.heard(&self.place));
            }
        }
    }

    /// etcd answers, and somebody must mend something before this request can be granted.
    pub(super) fn refused(&self, now: Moment, what: &'static str, error: String) {
        self.update(now, |found| {
            found.heard(&self.place);
            if is_due(&mut found.refusal_said_at, now) {
                tracing::warn!(
                    what,
                    error,
                    "etcd refuses what the election needs; nobody can come to lead before that is mended"
                );
            }
            found.refused.insert(what, (now, error));
        });
    }

    /// The leader key was read; what is wrong with it.
    pub(super) fn of_leader_key(&self, now: Moment, strange: Option<String>) {
        self.update(now, |found| {
            if let Some(why) = &strange
                && is_due(&mut found.leader_key_said_at, now)
            {
                tracing::warn!("{why}");
            }
            found.leader_key = strange;
        });
    }

    fn update(&self, now: Moment, change: impl FnOnce(&mut Found)) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut found);
        // What is not asked for any more is not refused any more.
        found.refused.retain(|_, (at, _)| now.since_ms(*at) < SAY_EVERY_MS);
        let Place { endpoints, advice } = &self.place;
        let silent = found.silent.as_ref().filter(|(since, _)| now.since_ms(*since) >= SILENT_FOR_MS);
        let silence = silent.map(|(_, why)| format!("etcd does not answer at {endpoints} ({why}); {advice}"));
        let refusal = || found.refused.values().next().map(|(_, why)| why.clone());
        self.concern.of_election(silence.or_else(refusal).or_else(|| found.leader_key.clone()));
    }
}

impl Found {
    fn heard(&mut self, place: &Place) {
        self.silent = None;
        if self.silence_said_at.take().is_some() {
            tracing::info!(endpoints = place.endpoints, "etcd answers again");
        }
    }

    fn silent(&mut self, now: Moment, why: String, place: &Place) {
        let since = self.silent.as_ref().map_or(now, |(since, _)| *since);
        let silent_ms = now.since_ms(since);
        if silent_ms >= SILENT_FOR_MS && is_due(&mut self.silence_said_at, now) {
            let Place { endpoints, advice } = place;
            tracing::warn!(endpoints, silent_ms, why, "etcd does not answer the election; {advice}");
        }
        self.silent = Some((since, why));
    }
}

/// Whether it is time to say something again, which is then taken for said.
fn is_due(said_at: &mut Option<Moment>, now: Moment) -> bool {
    let is_due = said_at.is_none_or(|at| now.since_ms(at) >= SAY_EVERY_MS);
    if is_due {
        *said_at = Some(now);
    }
    is_due
}

#[cfg(test)]
mod tests {
    use super::super::failure::Refusal;
    use super::*;

    fn diagnosis() -> Diagnosis {
        let place = Place { endpoints: "http://a:2379".to_owned(), advice: "look at it".to_owned() };
        Diagnosis::new(place, "/muster/north/", Concern::default())
    }

    fn away() -> CallError {
        CallError::NotSent("connection refused".to_owned())
    }

    #[test]
    fn an_etcd_that_is_away_is_told_after_a_while_and_until_it_answers() {
        let diagnosis = diagnosis();
        let said = || diagnosis.found.lock().unwrap().silence_said_at.map(|at| at.0);
        for at in [1_000, 3_000, 5_900] {
            diagnosis.failed(Moment(at), "keepalive", away());
            assert_eq!((said(), diagnosis.concern.now()), (None, None), "{at}");
        }
        for (at, last) in [(6_000, 6_000), (20_000, 6_000), (36_000, 36_000), (40_000, 36_000)] {
            diagnosis.failed(Moment(at), "look", away());
            assert_eq!(said(), Some(last), "{at}");
        }
        let told = diagnosis.concern.now().unwrap();
        assert_eq!(told, "etcd does not answer at http://a:2379 (connection refused); look at it");
        // Any answer shows that it is there.
        diagnosis.failed(Moment(41_000), "keepalive", CallError::LeaseGone);
        assert_eq!((said(), diagnosis.concern.now()), (None, None));
        diagnosis.failed(Moment(42_000), "look", away());
        assert_eq!(said(), None);
    }

    #[test]
    fn a_refusal_is_told_with_the_next_step_until_it_is_over() {
        let diagnosis = diagnosis();
        let refused = CallError::Refused(Refusal::Permission, "permission denied".to_owned());
        diagnosis.failed(Moment(1_000), "look", refused.clone());
        diagnosis.answered(Moment(1_500), "keepalive");
        let told = diagnosis.concern.now().unwrap();
        assert!(told.contains("grant-permission ROLE --prefix=true readwrite /muster/north/"), "{told}");
        diagnosis.answered(Moment(2_000), "look");
        assert_eq!(diagnosis.concern.now(), None);
        // One that is not asked for again is over, too.
        diagnosis.failed(Moment(3_000), "campaign", refused);
        diagnosis.answered(Moment(33_000), "look");
        assert_eq!(diagnosis.concern.now(), None);
    }

    #[test]
    fn a_leader_key_of_somebody_else_is_told_while_it_is_there() {
        let diagnosis = diagnosis();
        diagnosis.of_leader_key(Moment(1_000), Some("delete it".to_owned()));
        diagnosis.answered(Moment(2_000), "look");
        assert_eq!(diagnosis.concern.now().unwrap(), "delete it");
        diagnosis.of_leader_key(Moment(3_000), None);
        assert_eq!(diagnosis.concern.now(), None);
    }
}
