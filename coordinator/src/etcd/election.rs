//! The election over etcd, as the server sees it. The work is done by a thread of its own ([`super::thread`]), so that
//! nothing the process is busy with delays a keepalive.

use super::leading::Leading;
use super::thread::{self, Setting};
use crate::election::{Election, Leadership, Standing};
use crate::store::StoreError;
use futures_util::future::BoxFuture;
use muster_domain::id::Term;
use muster_domain::time::Moment;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longest time for giving a lease back. A successor that waits longer has the lease's end to wait for.
const GIVE_BACK_WITHIN: Duration = Duration::from_secs(1);

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Take part; answer when won.
    Campaign(oneshot::Sender<Result<Leadership, StoreError>>),
    /// Everything is listed.
    Lead,
    /// The store refused a write of this term.
    Fenced(Term),
    /// Nothing of the leadership can be sent any more; answer when its lease is given back.
    Ended(oneshot::Sender<()>),
    /// The process stops; answer when everything is given back.
    Resign(oneshot::Sender<()>),
}

/// The election. Dropping it ends its thread and gives nothing back, as a killed process would.
pub struct EtcdElection {
    commands: mpsc::UnboundedSender<Command>,
    standing: watch::Receiver<Standing>,
    leading: Arc<Leading>,
    _thread: DropGuard,
}

impl fmt::Debug for EtcdElection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("EtcdElection").field("standing", &*self.standing.borrow()).finish_non_exhaustive()
    }
}

/// Ends the leadership for a reason that the store found.
#[derive(Clone, Debug)]
pub(super) struct Fence {
    commands: mpsc::UnboundedSender<Command>,
    leading: Arc<Leading>,
}

impl Fence {
    /// Ends the leadership of this term, and no other.
    pub(super) fn fenced(&self, term: Term) {
        let Some(leadership) = self.leading.get().filter(|held| held.term == term) else { return };
        leadership.validity.set(Moment(0));
        leadership.lost.cancel();
        // A thread that is gone has ended the leadership too.
        let _ = self.commands.send(Command::Fenced(term));
    }
}

impl EtcdElection {
    pub(super) fn start(setting: Setting) -> std::io::Result<Self> {
        let (commands, queue) = mpsc::unbounded_channel();
        let (standing, reader) = watch::channel(Standing::default());
        let leading = Arc::clone(&setting.leading);
        let gone = CancellationToken::new();
        thread::start(setting, queue, standing, gone.clone())?;
        Ok(Self { commands, standing: reader, leading, _thread: gone.drop_guard() })
    }

    pub(super) fn fence(&self) -> Fence {
        Fence { commands: self.commands.clone(), leading: Arc::clone(&self.leading) }
    }

    /// Asks the thread for something that it answers within a bound, or that the caller need not wait for any longer.
    async fn ask(&self, command: impl FnOnce(oneshot::Sender<()>) -> Command) {
        let (done, answer) = oneshot::channel();
        let _ = self.commands.send(command(done));
        let _ = tokio::time::timeout(GIVE_BACK_WITHIN, answer).await;
    }
}

impl Election for EtcdElection {
    fn campaign(&self) -> BoxFuture<'_, Result<Leadership, StoreError>> {
        Box::pin(async {
            let (done, answer) = oneshot::channel();
            let _ = self.commands.send(Command::Campaign(done));
            let stopped = || StoreError::Failed("the thread of the election has stopped".to_owned());
            answer.await.unwrap_or_else(|_| Err(stopped()))
        })
    }

    fn lead(&self) {
        let _ = self.commands.send(Command::Lead);
    }

    fn fenced(&self) {
        if let Some(leadership) = self.leading.get() {
            self.fence().fenced(leadership.term);
        }
    }

    fn ended(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.ask(Command::Ended))
    }

    fn resign(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.ask(Command::Resign))
    }

    fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }
}
