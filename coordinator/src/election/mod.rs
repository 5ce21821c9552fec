//! Who leads. Leadership is a term carried in every write, never a boolean asked before the write.

pub mod embedded;

use crate::store::StoreError;
use futures_util::future::BoxFuture;
use muster_domain::id::Term;
use tokio_util::sync::CancellationToken;

/// Leadership, won.
#[derive(Clone, Debug)]
pub struct Leadership {
    /// The fencing token; greater than every term before.
    pub term: Term,
    /// Cancelled when leadership is lost or in doubt: let nothing out any more.
    pub lost: CancellationToken,
}

/// How a coordinator comes to lead. Object-safe.
pub trait Election: Send + Sync + 'static {
    /// Waits until this coordinator leads.
    fn campaign(&self) -> BoxFuture<'_, Result<Leadership, StoreError>>;

    /// Gives leadership back after the last commit, so that a successor need not wait.
    fn resign(&self) -> BoxFuture<'_, ()>;
}
