//! One leadership after another: campaign, list everything, decide, and let nothing out once it is over.
//!
//! The edges live as long as the process; what decides lives as long as a leadership: driver, committer, what is owed to
//! Core and the streams of workers. All of it is made anew from the store for each term, and has ended before the next
//! campaign begins, so that nothing of one term can speak in another.

use crate::commit;
use crate::core::backoff::{Backoff, Recovery};
use crate::core::client::CoreClient;
use crate::core::delivery::{self, Courier};
use crate::core::outbox::Outbox;
use crate::dispatch::Dispatch;
use crate::driver::{CommitStopped, Driver, QUEUED_DECISIONS, QUEUED_INPUTS};
use crate::election::{Election, Leadership};
use crate::fleet::sessions::{Direction, Sessions};
use crate::handle::Handle;
use crate::metrics::Metrics;
use crate::store::{Space, Store, StoreError};
use muster_domain::cluster::{Cluster, Settings};
use muster_domain::effect::{Documents, Effect};
use muster_domain::event::Event;
use muster_domain::id::JobId;
use muster_domain::leadership::Role;
use muster_runtime::clock::now;
use muster_ucloud::v2021::words::Words;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, broadcast, mpsc};
use tokio::task::JoinError;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// How long a new leader tries to list a store that others may be able to read, before it lets them try.
const LOAD_WITHIN: Duration = Duration::from_secs(10);
/// How long a leader that stops may take to make durable what it has decided.
const FLUSH_WITHIN: Duration = Duration::from_secs(3);
/// How long what served a leadership may take to end.
const END_WITHIN: Duration = Duration::from_secs(2);
/// The least time between two leaderships given up because all workers fell silent (reliability B.5).
const YIELD_AGAIN: Duration = Duration::from_secs(600);
/// How long a leader that gave leadership up leaves it to others to win it.
const YIELD_PAUSE: Duration = Duration::from_secs(3);
/// Before a store that cannot be listed is tried again.
const LOAD_AGAIN: Backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(2) };
/// Before leadership is campaigned for again after it ended with an error, by the number of such ends in a row.
const CAMPAIGN_AGAIN: Backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(10) };
/// How long a coordinator that cannot read a document leaves leadership to others: a newer version may well read it.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(60);
/// A leadership that lasted so long was a good one.
const GOOD_TERM: Duration = Duration::from_secs(60);

/// Where the state is kept, and who may change it.
#[derive(Clone)]
pub struct Seat {
    /// The documents.
    pub store: Arc<dyn Store>,
    /// Who leads.
    pub election: Arc<dyn Election>,
    /// Whether another coordinator may lead instead. Where none can, a store that fails stops the process, because a fresh
    /// start is the only other try there is.
    pub is_shared: bool,
}

/// What every leadership works with.
pub struct Leading {
    /// Store and election.
    pub seat: Seat,
    /// The rules for the cluster's brain.
    pub settings: Settings,
    /// The edges' way to the driver.
    pub handle: Handle,
    /// Where changed jobs are published.
    pub changes: broadcast::Sender<JobId>,
    /// The streams of workers.
    pub sessions: Sessions,
    /// Core.
    pub client: CoreClient,
    /// The dialect's words.
    pub words: Words,
    /// Counters.
    pub metrics: Metrics,
}

/// How a leadership ended, if not by an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// The process stops.
    Stopped,
    /// Another coordinator leads or may lead.
    Lost,
    /// Another coordinator should lead.
    Yielded,
}

impl Leading {
    /// Leads whenever this coordinator wins, until `stop`; then makes durable what was decided, and resigns.
    ///
    /// # Errors
    /// This coordinator cannot go on: its name was taken, or a store of its own failed.
    pub async fn run(self, stop: CancellationToken) -> Result<(), StoreError> {
        let led = self.lead_again_and_again(&stop).await;
        self.seat.election.resign().await;
        led
    }

    async fn lead_again_and_again(&self, stop: &CancellationToken) -> Result<(), StoreError> {
        let mut yielded_at = None;
        let mut failures = 0;
        while let Some(won) = self.campaign(stop).await {
            let (leadership, begun) = (won?, Instant::now());
            let term = leadership.term;
            let over = self.lead(&leadership, stop, &mut yielded_at).await;
            self.seat.election.ended().await;
            match over {
                Ok(Over::Stopped) => return Ok(()),
                Ok(Over::Lost) => {
                    tracing::warn!(term, "leads no more");
                    failures = 0;
                }
                Ok(Over::Yielded) => {
                    self.pause(YIELD_PAUSE, stop).await;
                }
                Err(error) if !self.seat.is_shared => return Err(error),
                Err(error @ StoreError::Unreadable(_)) => {
                    tracing::error!(term, %error, again_in_ms = UNREADABLE_PAUSE.as_millis(), "leads no more, and leaves it to others");
                    self.pause(UNREADABLE_PAUSE, stop).await;
                }
                Err(error) => {
                    failures = if begun.elapsed() >= GOOD_TERM { 1 } else { failures + 1 };
                    let pause = CAMPAIGN_AGAIN.after(failures);
                    tracing::error!(term, %error, again_in_ms = pause.as_millis(), "gave leadership back, so that others may try");
                    self.pause(pause, stop).await;
                }
            }
        }
        Ok(())
    }

    /// Waits for leadership; `None` when the process stops.
    async fn campaign(&self, stop: &CancellationToken) -> Option<Result<Leadership, StoreError>> {
        tokio::select! {
            biased;
            () = stop.cancelled() => None,
            won = self.seat.election.campaign() => Some(won),
        }
    }

    async fn pause(&self, pause: Duration, stop: &CancellationToken) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }

    /// One leadership, from the list to the end of everything that served it.
    async fn lead(
        &self,
        leadership: &Leadership,
        stop: &CancellationToken,
        yielded_at: &mut Option<Instant>,
    ) -> Result<Over, StoreError> {
        let begun = Instant::now();
        let documents = tokio::select! {
            loaded = self.load(leadership) => loaded?,
            () = leadership.lost.cancelled() => return Ok(Over::Lost),
            () = stop.cancelled() => return Ok(Over::Stopped),
        };
        let (jobs, term) = (documents.jobs.len(), leadership.term);
        let (inputs, queue) = mpsc::channel(QUEUED_INPUTS);
        self.handle.lead(inputs, leadership.validity.clone());
        let mut work = self.begin(leadership, queue, documents);
        let (yielded, yielded_before) = (work.yielded.clone(), *yielded_at);
        let may_yield = || self.seat.is_shared && yielded_before.is_none_or(|at| at.elapsed() >= YIELD_AGAIN);
        let yields = async {
            yielded.notified().await;
            while !may_yield() {
                yielded.notified().await;
            }
        };
        self.sessions.serve(leadership.validity.clone());
        self.seat.election.lead();
        tracing::info!(term, jobs, took_ms = begun.elapsed().as_millis(), "leading");

        let over = tokio::select! {
            ended = work.deciding() => self.failed(ended, leadership),
            () = leadership.lost.cancelled() => Ok(Over::Lost),
            () = yields => {
                tracing::error!(term, "gives leadership back, so that another coordinator may try");
                *yielded_at = Some(Instant::now());
                self.seat.election.fenced();
                Ok(Over::Yielded)
            }
            () = stop.cancelled() => self.flush(&mut work, leadership).await,
        };
        self.handle.rest();
        self.sessions.rest(&self.direction(leadership));
        work.end().await;
        over
    }

    /// Everything in the store, tried again while leadership lasts.
    async fn load(&self, leadership: &Leadership) -> Result<Documents, StoreError> {
        let (begun, mut failures) = (Instant::now(), 0);
        loop {
            let error = match self.seat.store.load(leadership.term).await {
                Ok(documents) => return Ok(documents),
                Err(error) => error,
            };
            failures += 1;
            let certain = matches!(
                error,
                StoreError::Fenced { .. }
                    | StoreError::Conflict(_)
                    | StoreError::Refused(_)
                    | StoreError::Unreadable(_)
            );
            if certain || !self.seat.is_shared || begun.elapsed() >= LOAD_WITHIN {
                self.seat.election.fenced();
                return Err(error);
            }
            tracing::warn!(term = leadership.term, %error, failures, "the store cannot be listed yet");
            tokio::time::sleep(LOAD_AGAIN.after(failures)).await;
        }
    }

    /// Spawns what serves this leadership.
    fn begin(
        &self,
        leadership: &Leadership,
        queue: mpsc::Receiver<crate::handle::Input>,
        documents: Documents,
    ) -> Work {
        let (cluster, owed) = Cluster::restore(self.settings.clone(), leadership.term, now(), documents);
        let (decisions, decided) = mpsc::channel(QUEUED_DECISIONS);
        let (outbox, yielded) = (Outbox::new(self.words.clone()), Arc::new(Notify::new()));
        let dispatch = Dispatch::new(
            self.sessions.clone(),
            outbox.clone(),
            self.changes.clone(),
            yielded.clone(),
            self.metrics.clone(),
        );
        let store = Arc::clone(&self.seat.store);
        let committing = commit::run(store, leadership.clone(), decided, dispatch, self.metrics.clone());
        let (flush, over) = (CancellationToken::new(), CancellationToken::new());
        let deciding = decide(Driver::new(cluster, queue, decisions, now), owed, flush.clone(), committing);
        let courier = Courier {
            client: self.client.clone(),
            handle: self.handle.clone(),
            metrics: self.metrics.clone(),
            backoff: Backoff::default(),
            recovery: Recovery::default(),
            validity: leadership.validity.clone(),
        };
        let measuring =
            over.clone().run_until_cancelled_owned(measure(Arc::clone(&self.seat.store), self.handle.clone()));
        Work {
            deciding: Some(AbortOnDropHandle::new(tokio::spawn(deciding))),
            delivering: AbortOnDropHandle::new(tokio::spawn(delivery::run(courier, outbox, over.clone()))),
            _measuring: AbortOnDropHandle::new(tokio::spawn(measuring)),
            flush,
            over,
            yielded,
        }
    }

    /// The process stops: what was let in is decided, made durable and answered first.
    async fn flush(&self, work: &mut Work, leadership: &Leadership) -> Result<Over, StoreError> {
        work.flush.cancel();
        tokio::select! {
            ended = timeout(FLUSH_WITHIN, work.deciding()) => match ended {
                Ok(Ok(())) => Ok(Over::Stopped),
                Ok(Err(error)) => self.failed(Err(error), leadership).map(|_| Over::Stopped),
                Err(_) => {
                    tracing::warn!("not everything became durable before the stop; callers got no answer and will ask again");
                    Ok(Over::Stopped)
                }
            },
            () = leadership.lost.cancelled() => Ok(Over::Stopped),
        }
    }

    /// What it means that driver and committer ended by themselves.
    fn failed(&self, ended: Result<(), StoreError>, leadership: &Leadership) -> Result<Over, StoreError> {
        if leadership.lost.is_cancelled() {
            return Ok(Over::Lost);
        }
        self.seat.election.fenced();
        ended.and_then(|()| Err(StoreError::Failed("the driver ended although nothing had stopped it".to_owned())))
    }

    /// Where workers should go now.
    fn direction(&self, leadership: &Leadership) -> Direction {
        let standing = self.seat.election.standing();
        let standing = standing.borrow();
        let next = standing
            .leader
            .as_ref()
            .filter(|_| standing.role == Role::Follower || standing.term.is_some_and(|term| term > leadership.term));
        match (next, standing.term) {
            (Some(next), Some(term)) => Direction { address: next.fleet.clone(), term },
            _ => Direction { address: String::new(), term: leadership.term },
        }
    }
}

/// The tasks of one leadership.
struct Work {
    /// Driver and committer; `None` once they have ended.
    deciding: Option<AbortOnDropHandle<Result<(), StoreError>>>,
    delivering: AbortOnDropHandle<()>,
    _measuring: AbortOnDropHandle<Option<()>>,
    /// Ends the driver once it has applied what is queued.
    flush: CancellationToken,
    /// Ends everything else.
    over: CancellationToken,
    /// Cancelled when the brain thinks that another coordinator should try.
    yielded: Arc<Notify>,
}

impl Work {
    /// The end of driver and committer. Cancel-safe.
    async fn deciding(&mut self) -> Result<(), StoreError> {
        let Some(deciding) = &mut self.deciding else { return Ok(()) };
        let ended = deciding.await;
        self.deciding = None;
        ended.unwrap_or_else(panic_again)
    }

    /// Ends what is left and waits for it, so that nothing of this leadership is sent after it.
    async fn end(mut self) {
        self.over.cancel();
        let all = async {
            if let Some(deciding) = self.deciding.take() {
                deciding.abort();
                // Whatever it was about to say does not matter any more.
                let _ = deciding.await;
            }
            self.delivering.await
        };
        match timeout(END_WITHIN, all).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the client of core failed"),
            Err(_) => {
                tracing::warn!(within_ms = END_WITHIN.as_millis(), "what served the leadership has not ended in time");
            }
        }
    }
}

/// A panic of a task is one of the process: whoever supervises it starts it anew with clean state.
fn panic_again<T>(error: JoinError) -> Result<T, StoreError> {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(error) => Err(StoreError::Failed(error.to_string())),
    }
}

/// Runs driver and committer; the committer ends after the driver, with everything that was decided committed and handed
/// over.
async fn decide(
    driver: Driver,
    owed: Vec<Effect>,
    flush: CancellationToken,
    committing: impl Future<Output = Result<(), StoreError>>,
) -> Result<(), StoreError> {
    let (driven, committed) = tokio::join!(driver.run(owed, flush), committing);
    committed?;
    driven.map_err(|CommitStopped| StoreError::Failed("the committer has stopped".to_owned()))
}

/// Tells the brain how full the store is: whenever it is measured, and at once when it refuses writes or takes them again. What
/// the brain takes in meanwhile would become durable once there is room, long after its callers gave up.
async fn measure(store: Arc<dyn Store>, handle: Handle) {
    let (mut space, mut full) = (store.space(), store.full());
    loop {
        let (seen, is_full) = (*space.borrow_and_update(), *full.borrow_and_update());
        if handle.tell(space_event(seen, is_full)).await.is_err() {
            return;
        }
        tokio::select! {
            Ok(()) = space.changed() => {}
            Ok(()) = full.changed() => {}
            else => return,
        }
    }
}

/// A store that refuses writes for want of room has none left, whatever it measures: its own quota may be below our budget.
fn space_event(seen: Option<Space>, is_full: bool) -> Event {
    let Space { used_bytes, budget_bytes } = seen.unwrap_or(Space { used_bytes: 0, budget_bytes: u64::MAX });
    Event::StoreSpace { used_bytes: if is_full { used_bytes.max(budget_bytes) } else { used_bytes }, budget_bytes }
}

#[cfg(test)]
#[path = "leading_tests.rs"]
mod tests;
