//! Sends what waits in the [`Outbox`], as often as it takes, and tells the driver what Core answered.
//!
//! A batch that Core refuses is halved until the items at fault stand alone. A batch that only did not get through is
//! repeated with growing pauses, for days if need be, while further items gather behind it; after some repetitions it is
//! halved too, because one item may be what Core stumbles over (a charge for a product that it cannot resolve is a 502 for
//! the whole batch, `protocol.md` 4.1), and such an item alone must not hold up the others (I8). Several batches are under
//! way at once, never with two items of one kind for one job, because the brain waits for the answer to the first.

use super::backoff::{Backoff, Recovery};
use super::client::{CallError, CoreClient};
use super::outbox::{Bill, Lane, Outbox, Tell};
use crate::crash::{When, crash_point};
use crate::election::Validity;
use crate::handle::Handle;
use crate::metrics::Metrics;
use muster_domain::event::{ChargeAnswer, Delivery, Event};
use muster_domain::id::JobId;
use muster_runtime::clock::now;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span};

/// Calls of one kind under way at once.
const CALLS: usize = 4;
/// Repetitions of a batch before it is halved.
const WHOLE_TRIES: u32 = 4;
/// Repetitions of a single item before it goes to the end of its lane and lets others have its call.
const SINGLE_TRIES: u32 = 6;

/// Repetitions of what nobody waits for: Core asks again, and it may not be true any more by then.
const STRANGER_TRIES: u32 = 1;
/// Between two looks whether a leadership in doubt was renewed.
const VALID_AGAIN: Duration = Duration::from_millis(100);

/// Everything a delivery works with.
#[derive(Clone, Debug)]
pub struct Courier {
    /// Core.
    pub client: CoreClient,
    /// The driver.
    pub handle: Handle,
    /// Counters.
    pub metrics: Metrics,
    /// Pauses between repetitions.
    pub backoff: Backoff,
    /// Wakes who pauses when Core is back.
    pub recovery: Recovery,
    /// Until when anything may be sent.
    pub validity: Validity,
}

/// Delivers until `stop`. What is then under way is given up: the documents know that it is owed.
pub async fn run(courier: Courier, outbox: Outbox, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    tasks.spawn(lane::<Tell>(courier.clone(), outbox.tells, stop.clone()));
    tasks.spawn(lane::<Bill>(courier, outbox.bills, stop));
    tasks.close();
    tasks.wait().await;
}

async fn lane<T: Owed>(courier: Courier, lane: Arc<Lane<T>>, stop: CancellationToken) {
    let calls = Arc::new(Semaphore::new(CALLS));
    let tasks = TaskTracker::new();
    let pump = async {
        // The semaphore is never closed.
        while let Ok(call) = calls.clone().acquire_owned().await {
            let items = lane.take().await;
            let (courier, stop, lane) = (courier.clone(), stop.clone(), Arc::clone(&lane));
            tasks.spawn(async move {
                stop.run_until_cancelled(courier.deliver(items, &lane)).await;
                drop(call);
            });
        }
    };
    stop.run_until_cancelled(pump).await;
    tasks.close();
    tasks.wait().await;
}

/// Something that is owed to Core.
trait Owed: Clone + Send + Sync + Sized + 'static {
    /// For counters and logs.
    const KIND: &'static str;
    /// The crash point between Core's answer and the driver.
    const ANSWERED: &'static str;
    /// What Core answers to a batch that it takes.
    type Answer: Send;

    fn job(&self) -> &JobId;
    /// Whether it says that the job is not known here.
    fn disowns(&self) -> bool {
        false
    }
    fn span(&self) -> Span;
    /// One call about all of them.
    fn send(client: &CoreClient, items: &[Self]) -> impl Future<Output = Result<Self::Answer, CallError>> + Send;
    /// What the driver hears of an item that was taken.
    fn taken(&self, answer: &Self::Answer) -> Option<Event>;
    /// What the driver hears of an item that was refused.
    fn refused(&self, fault: Fault) -> Option<Event>;
}

/// Why a single item was refused.
enum Fault {
    /// Core does not know the job.
    UnknownJob,
    /// No allocation (402).
    NoAllocation,
    /// Something else.
    Other(String),
}

impl Courier {
    /// Delivers a batch, or puts back into the lane what cannot be delivered now.
    async fn deliver<T: Owed>(&self, items: Vec<T>, lane: &Lane<T>) {
        let (strangers, items): (Vec<T>, Vec<T>) = items.into_iter().partition(T::disowns);
        self.disown(strangers).await;
        let mut groups = vec![items];
        while let Some(mut group) = groups.pop() {
            let Some(span) = group.first().map(T::span) else { continue };
            let tries = if group.len() > 1 { WHOLE_TRIES } else { SINGLE_TRIES };
            match self.persist(T::KIND, tries, || T::send(&self.client, &group).instrument(span.clone())).await {
                Sent::Taken(answer) => {
                    crash_point(When::Core, T::ANSWERED);
                    for item in &group {
                        item.span().record("outcome", "taken");
                        self.metrics.sent(T::KIND, "taken");
                        self.tell(item.taken(&answer)).await;
                    }
                }
                Sent::Refused(_) | Sent::GaveUp if group.len() > 1 => {
                    let second = group.split_off(group.len() / 2);
                    groups.push(second);
                    groups.push(group);
                }
                Sent::Refused(refusal) => match self.judge(group[0].job(), &refusal).instrument(span.clone()).await {
                    Some(fault) => {
                        crash_point(When::Core, T::ANSWERED);
                        let outcome = fault.name();
                        span.record("outcome", outcome);
                        self.metrics.sent(T::KIND, outcome);
                        tracing::warn!(job = %group[0].job(), kind = T::KIND, outcome, why = refusal.why, "core refused");
                        self.tell(group[0].refused(fault)).await;
                    }
                    None => group.into_iter().for_each(|item| lane.push(item)),
                },
                Sent::GaveUp => group.into_iter().for_each(|item| lane.push(item)),
            }
        }
    }

    /// Disowns what is still not known here, once.
    async fn disown<T: Owed>(&self, strangers: Vec<T>) {
        let mut groups = vec![strangers];
        while let Some(mut group) = groups.pop() {
            if group.is_empty() {
                continue;
            }
            let jobs: Vec<JobId> = group.iter().map(|item| item.job().clone()).collect();
            let asking = self.handle.query(move |cluster, _| {
                jobs.into_iter().filter(|job| cluster.location(job).is_some()).collect::<BTreeSet<JobId>>()
            });
            self.until_valid().await;
            let Ok(known) = asking.await else { return };
            group.retain(|item| !known.contains(item.job()));
            let Some(span) = group.first().map(T::span) else { continue };
            let sent = self.persist(T::KIND, STRANGER_TRIES, || T::send(&self.client, &group).instrument(span.clone()));
            match sent.await {
                Sent::Refused(_) if group.len() > 1 => {
                    let second = group.split_off(group.len() / 2);
                    groups.extend([second, group]);
                }
                sent => {
                    let outcome = if matches!(sent, Sent::Taken(_)) { "taken" } else { "dropped" };
                    for item in &group {
                        item.span().record("outcome", outcome);
                        self.metrics.sent(T::KIND, outcome);
                    }
                }
            }
        }
    }

    /// Waits while leadership is in doubt: either it is renewed, or it ends, and all of this with it. No event tells, since
    /// it is the clock that decides.
    async fn until_valid(&self) {
        while !self.validity.holds(now().moment) {
            tokio::time::sleep(VALID_AGAIN).await;
        }
    }

    /// Makes a call until Core takes it or refuses it, so many times at most.
    async fn persist<A, F>(&self, kind: &'static str, tries: u32, call: impl Fn() -> F) -> Sent<A>
    where
        F: Future<Output = Result<A, CallError>>,
    {
        for attempt in 1..=tries {
            self.until_valid().await;
            match call().await {
                Ok(answer) => {
                    let failures = self.recovery.noticed();
                    if failures > 0 {
                        tracing::info!(kind, failures, "core answers again");
                    }
                    return Sent::Taken(answer);
                }
                Err(CallError::Refused { status, why }) => {
                    self.recovery.noticed();
                    return Sent::Refused(Refusal { status, why });
                }
                Err(CallError::Unavailable(why)) => {
                    let failures = self.recovery.failed().max(attempt);
                    self.metrics.call_failed(kind);
                    let wait = self.backoff.after(failures);
                    let wait_ms = wait.as_millis();
                    tracing::warn!(kind, failures, why, wait_ms, "core is unavailable, will try again");
                    // Others that get through say that Core is back, or that it is this very call that Core cannot take.
                    if attempt <= 2 { self.recovery.wait(wait).await } else { tokio::time::sleep(wait).await }
                }
            }
        }
        Sent::GaveUp
    }

    /// Finds out what is wrong with a single item. Core says 400 for an unknown job and for much else (`protocol.md` 6.4),
    /// so it is asked. `None`: it cannot be asked now.
    async fn judge(&self, job: &JobId, refusal: &Refusal) -> Option<Fault> {
        let other = || Fault::Other(format!("{} ({})", refusal.why, refusal.status));
        match refusal.status {
            402 => Some(Fault::NoAllocation),
            400 | 404 => match self.persist("retrieve", SINGLE_TRIES, || self.client.knows(job)).await {
                Sent::Taken(false) => Some(Fault::UnknownJob),
                Sent::Taken(true) | Sent::Refused(_) => Some(other()),
                Sent::GaveUp => None,
            },
            _ => Some(other()),
        }
    }

    async fn tell(&self, event: Option<Event>) {
        if let Some(event) = event {
            // The driver only stops with the process; the document knows what is owed.
            let _ = self.handle.tell(event).await;
        }
    }
}

/// What became of a call.
enum Sent<A> {
    Taken(A),
    Refused(Refusal),
    /// It did not get through, so many times that others should have their turn.
    GaveUp,
}

struct Refusal {
    status: u16,
    why: String,
}

impl Fault {
    fn name(&self) -> &'static str {
        match self {
            Self::UnknownJob => "unknown_job",
            Self::NoAllocation => "no_allocation",
            Self::Other(_) => "rejected",
        }
    }
}

impl Owed for Tell {
    const KIND: &'static str = "update";
    const ANSWERED: &'static str = "update-answered";
    type Answer = ();

    fn job(&self) -> &JobId {
        &self.job
    }

    fn disowns(&self) -> bool {
        self.number.is_none()
    }

    fn span(&self) -> Span {
        self.span.clone()
    }

    fn send(client: &CoreClient, items: &[Self]) -> impl Future<Output = Result<(), CallError>> + Send {
        client.update(items.iter().map(|tell| tell.item.clone()).collect())
    }

    fn taken(&self, (): &()) -> Option<Event> {
        Some(Event::Told { job: self.job.clone(), number: self.number?, delivery: Delivery::Accepted })
    }

    fn refused(&self, fault: Fault) -> Option<Event> {
        let delivery = match fault {
            Fault::UnknownJob => Delivery::UnknownJob,
            Fault::NoAllocation => Delivery::Rejected { why: "402".to_owned() },
            Fault::Other(why) => Delivery::Rejected { why },
        };
        Some(Event::Told { job: self.job.clone(), number: self.number?, delivery })
    }
}

impl Owed for Bill {
    const KIND: &'static str = "charge";
    const ANSWERED: &'static str = "charge-answered";
    /// Jobs whose wallet is empty.
    type Answer = BTreeSet<String>;

    fn job(&self) -> &JobId {
        &self.job
    }

    fn span(&self) -> Span {
        self.span.clone()
    }

    fn send(client: &CoreClient, items: &[Self]) -> impl Future<Output = Result<BTreeSet<String>, CallError>> + Send {
        client.charge(items.iter().map(|bill| bill.item.clone()).collect())
    }

    fn taken(&self, insufficient: &BTreeSet<String>) -> Option<Event> {
        let empty = insufficient.contains(self.job.as_str());
        let answer = if empty { ChargeAnswer::InsufficientFunds } else { ChargeAnswer::Booked };
        Some(Event::Charged { job: self.job.clone(), window: self.window, answer })
    }

    fn refused(&self, fault: Fault) -> Option<Event> {
        let answer = match fault {
            Fault::UnknownJob => ChargeAnswer::UnknownJob,
            Fault::NoAllocation => ChargeAnswer::InsufficientFunds,
            Fault::Other(why) => ChargeAnswer::Rejected { why },
        };
        Some(Event::Charged { job: self.job.clone(), window: self.window, answer })
    }
}
