//! Who leads. Leadership is a term carried in every write, never a boolean asked before the write; what no store can
//! fence leaves only while [`Validity`] holds. The rules are in [`muster_domain::leadership`]; here is their IO.

pub mod embedded;

use crate::store::StoreError;
use futures_util::future::BoxFuture;
use muster_domain::id::Term;
use muster_domain::leadership::Role;
use muster_domain::time::Moment;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How a coordinator is reached by the others, by workers and by operators; the content of the leader key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its name, unique in the cluster.
    pub name: String,
    /// `host:port` for UCloud's calls.
    pub http: String,
    /// `host:port` for operators.
    pub operator: String,
    /// URL for workers.
    pub fleet: String,
    /// The program's version, for people.
    pub version: String,
}

/// Who leads, as this coordinator knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Where this coordinator stands itself.
    pub role: Role,
    /// The term of `leader`; `None` while nobody is known to lead.
    pub term: Option<Term>,
    /// The leader, which may be this coordinator; `None` while nobody is known to lead.
    pub leader: Option<Identity>,
}

impl Standing {
    /// Whether this coordinator leads and answers itself.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.role == Role::Leader
    }
}

/// Until when this process may let anything out, on its own `CLOCK_BOOTTIME`. Cheap to clone; one value for all clones.
#[derive(Clone, Debug)]
pub struct Validity(Arc<AtomicU64>);

impl Validity {
    /// Valid until somebody says otherwise: for a store that only one process can open.
    #[must_use]
    pub fn unbounded() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }

    /// Valid before `until`.
    #[must_use]
    pub fn until(until: Moment) -> Self {
        Self(Arc::new(AtomicU64::new(until.0)))
    }

    /// Moves the end; `Moment(0)` ends it now.
    pub fn set(&self, until: Moment) {
        self.0.store(until.0, Ordering::Release);
    }

    /// Whether anything may leave at `now`.
    #[must_use]
    pub fn holds(&self, now: Moment) -> bool {
        now.0 < self.0.load(Ordering::Acquire)
    }
}

/// Leadership, won.
#[derive(Clone, Debug)]
pub struct Leadership {
    /// The fencing token; greater than every term before.
    pub term: Term,
    /// Cancelled when leadership is lost, in doubt or resigned: let nothing out any more.
    pub lost: CancellationToken,
    /// Asked before anything leaves.
    pub validity: Validity,
}

/// How a coordinator comes to lead. Object-safe.
///
/// The order of calls: `campaign`, then `lead` once everything is listed and the brain lives, then `ended` once nothing
/// that served the leadership can send any more; and again. `resign` at the stop of the process.
pub trait Election: Send + Sync + 'static {
    /// Waits until this coordinator has won; it becomes leader and must list everything anew.
    fn campaign(&self) -> BoxFuture<'_, Result<Leadership, StoreError>>;

    /// Everything is listed and the brain lives: this coordinator leads from now on.
    fn lead(&self);

    /// A commit was fenced or contradicted: leadership is over (`lost` is cancelled by this).
    fn fenced(&self);

    /// Everything that served the leadership has ended; its lease is given back, and the next campaign may begin.
    fn ended(&self) -> BoxFuture<'_, ()>;

    /// Gives leadership or candidature back for good, so that a successor need not wait. Called after `ended`.
    fn resign(&self) -> BoxFuture<'_, ()>;

    /// Who leads, and where this coordinator stands.
    fn standing(&self) -> watch::Receiver<Standing>;
}
