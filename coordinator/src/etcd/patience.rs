//! Waiting for etcd when a coordinator starts.

use super::EtcdError;
use super::failure::CallError;
use crate::config::EtcdConfig;
use crate::core::backoff::Backoff;
use crate::standing::Concern;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Between two lines of the log about the same trouble.
const SAY_EVERY: Duration = Duration::from_secs(10);
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(2) };

/// Why a step did not succeed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may pass; try again.
    Passing(String),
    /// etcd has no space. It may pass when an operator makes some.
    Full,
    /// Somebody must mend something.
    ToMend(EtcdError),
}

/// Where etcd should be.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) endpoints: String,
    /// What an operator may look at when it is not there.
    pub(super) advice: String,
}

impl Place {
    pub(super) fn new(endpoints: &[String], config: &EtcdConfig) -> Self {
        let hint = match (config.ca_file.is_some(), config.certificate_file.is_some()) {
            (true, false) => {
                ". If they ask for a client's certificate, set store.etcd.certificate_file and store.etcd.key_file"
            }
            _ => "",
        };
        let advice = format!(
            "check that it runs, that this machine reaches store.etcd.endpoints, and whether they serve TLS (https) or not \
             (http){hint}"
        );
        Self { endpoints: endpoints.join(", "), advice }
    }
}

/// Repeats steps while etcd is in trouble that may pass.
#[derive(Debug)]
pub(super) struct Patience {
    stop: CancellationToken,
    place: Place,
    concern: Concern,
    said_at: Option<Instant>,
}

impl Patience {
    pub(super) fn new(stop: CancellationToken, place: Place, concern: Concern) -> Self {
        Self { stop, place, concern, said_at: None }
    }

    /// Tells whoever asks what is waited for.
    pub(super) fn waits_for(&self, why: String) {
        self.concern.of_election(Some(why));
    }

    /// Waits that long, or until the process stops.
    pub(super) async fn pause(&self, wait: Duration) -> Result<(), EtcdError> {
        self.stop.run_until_cancelled(tokio::time::sleep(wait)).await.ok_or(EtcdError::Stopped)
    }

    /// Tries until it works, until something must be mended, or until the process stops.
    pub(super) async fn until<T, F>(&mut self, step: impl Fn() -> F) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let stop = self.stop.clone();
        let mut failures = 0;
        loop {
            let why = match stop.run_until_cancelled(step()).await.ok_or(EtcdError::Stopped)? {
                Ok(value) => {
                    self.concern.of_election(None);
                    return Ok(value);
                }
                Err(Trouble::ToMend(error)) => return Err(error),
                Err(Trouble::Passing(why)) => Some(why),
                Err(Trouble::Full) => None,
            };
            failures += 1;
            self.say(why.as_deref());
            self.pause(BACKOFF.after(failures)).await?;
        }
    }

    /// The first time soon, then every 10 s. Without a `why` it has no space.
    fn say(&mut self, why: Option<&str>) {
        let Place { endpoints, advice } = &self.place;
        self.waits_for(match why {
            Some(why) => format!("etcd does not answer at {endpoints} ({why}); {advice}"),
            None => CallError::NoSpace.to_string(),
        });
        if self.said_at.is_some_and(|at| at.elapsed() < SAY_EVERY) {
            return;
        }
        self.said_at = Some(Instant::now());
        match why {
            Some(why) => tracing::warn!(endpoints, why, "waiting for etcd; {advice}"),
            None => tracing::error!(endpoints, "waiting for room in etcd: {}", CallError::NoSpace),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn patience(stop: &CancellationToken) -> Patience {
        let place = Place { endpoints: "http://127.0.0.1:1".to_owned(), advice: "look".to_owned() };
        Patience::new(stop.clone(), place, Concern::default())
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_waited_for_and_what_must_be_mended_is_told() {
        let (stop, tries) = (CancellationToken::new(), AtomicU32::new(0));
        let step = || async {
            match tries.fetch_add(1, Ordering::Relaxed) {
                0 => Err(Trouble::Full),
                1..5 => Err(Trouble::Passing("connection refused".to_owned())),
                5 => Ok(7),
                _ => Err(Trouble::ToMend(EtcdError::Credentials("no".to_owned()))),
            }
        };
        let mut waiting = patience(&stop);
        assert_eq!(waiting.until(step).await.unwrap(), 7);
        assert_eq!(waiting.concern.now(), None);
        assert!(matches!(patience(&stop).until(step).await, Err(EtcdError::Credentials(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_waiting() {
        let stop = CancellationToken::new();
        let mut patience = patience(&stop);
        let waiting = patience.until(|| async { Err::<(), _>(Trouble::Passing("away".to_owned())) });
        let stopping = async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            stop.cancel();
        };
        let (waited, ()) = tokio::join!(waiting, stopping);
        assert!(matches!(waited, Err(EtcdError::Stopped)));
        let told = patience.concern.now().unwrap();
        assert_eq!(told, "etcd does not answer at http://127.0.0.1:1 (away); look");
    }
}
