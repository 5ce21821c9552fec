//! Waiting for a rank's end, and bringing it about.

use super::record::{Description, Ended, Isolation, PEER_FILES_VARIABLE, RankFolder, Running};
use super::{Inner, blocking, node_fault, pid, watch};
use crate::engine::{EngineError, Fault};
use muster_domain::id::RankKey;
use muster_domain::rank::RankEnd;
use rustix::fd::OwnedFd;
use rustix::process::{Signal, WaitId, WaitIdOptions};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How long the shim may take to write down the end of a rank that was killed.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// Where a rank stands, from its folder and its shim.
pub(super) enum Standing {
    Missing,
    Prepared(Box<Description>),
    Running(Box<Description>, Running, OwnedFd),
    Ended(Box<Description>, Ended),
}

impl Inner {
    /// Reads the folder; a shim that is gone without a record makes the rank `Vanished`, durably.
    pub(super) fn standing(&self, folder: &RankFolder) -> io::Result<Standing> {
        let Some(description) = folder.description()?.map(Box::new) else { return Ok(Standing::Missing) };
        if let Some(ended) = folder.ended()? {
            return Ok(Standing::Ended(description, ended));
        }
        let Some(running) = folder.running()? else {
            if description.boot_id == self.boot_id {
                return Ok(Standing::Prepared(description));
            }
            // Its address and its files are of a machine state that is gone.
            return self.vanished(folder, description, None);
        };
        if description.boot_id != self.boot_id {
            return self.vanished(folder, description, None);
        }
        if let Some(shim) = running.shim.open()? {
            return Ok(Standing::Running(description, running, shim));
        }
        // The record comes before the shim's end, so it is there now if it ever will be.
        match folder.ended()? {
            Some(ended) => Ok(Standing::Ended(description, ended)),
            None => self.vanished(folder, description, Some(running)),
        }
    }

    fn vanished(
        &self,
        folder: &RankFolder,
        description: Box<Description>,
        running: Option<Running>,
    ) -> io::Result<Standing> {
        if let Some(running) = running {
            // The rank dies with its shim; where the kernel could not see to that, we do.
            self.kill_all_but_shim(folder, &description, &running)?;
        }
        // Nobody saw when it ended: it ran for as long as was reported, and no longer.
        let ended = Ended { end: RankEnd::Vanished, age_ms: 0 };
        folder.write_ended(&ended)?;
        Ok(Standing::Ended(description, ended))
    }

    pub(super) async fn standing_of(self: &Arc<Self>, key: &RankKey) -> Result<Standing, EngineError> {
        let (inner, folder) = (Arc::clone(self), self.folder(key));
        blocking(move || inner.standing(&folder).map_err(|error| node_fault("the rank's folder cannot be read", error)))
            .await
    }

    pub(super) async fn wait(self: Arc<Self>, key: RankKey) -> Result<(RankEnd, u64), EngineError> {
        loop {
            match self.standing_of(&key).await? {
                Standing::Ended(_, ended) => return Ok((ended.end, ended.age_ms)),
                Standing::Running(_, _, shim) => await_process(shim).await?,
                Standing::Prepared(_) => {
                    let message = "the rank has not been started".to_owned();
                    return Err(EngineError { fault: Fault::Node, message });
                }
                Standing::Missing => {
                    let message = "the rank is not on this node".to_owned();
                    return Err(EngineError { fault: Fault::Node, message });
                }
            }
        }
    }

    pub(super) async fn terminate(self: Arc<Self>, key: RankKey) -> Result<(), EngineError> {
        let _lock = self.lock(&key).await;
        self.settle(&self.folder(&key)).await?;
        if let Standing::Running(_, running, _) = self.standing_of(&key).await? {
            running.first.signal(Signal::TERM).map_err(|error| node_fault("the rank cannot be signalled", error))?;
        }
        Ok(())
    }

    pub(super) async fn kill(self: Arc<Self>, key: RankKey) -> Result<(), EngineError> {
        let _lock = self.lock(&key).await;
        self.kill_locked(&key).await
    }

    /// Returns when nothing of the rank is left, its shim included.
    pub(super) async fn kill_locked(self: &Arc<Self>, key: &RankKey) -> Result<(), EngineError> {
        self.settle(&self.folder(key)).await?;
        let Standing::Running(description, running, shim) = self.standing_of(key).await? else { return Ok(()) };
        let inner = Arc::clone(self);
        let folder = self.folder(key);
        let first = running.first;
        // With its first process a namespace dies; without one, the shim sees to the rest.
        first.signal(Signal::KILL).map_err(|error| node_fault("the rank cannot be killed", error))?;
        if tokio::time::timeout(AFTER_KILL, await_process(shim)).await.is_ok() {
            return Ok(());
        }
        tracing::warn!(rank = %key, "the rank's supervisor is stuck and is killed, how the rank ended will not be known");
        blocking(move || {
            let failed = |error| node_fault("the rank cannot be killed", error);
            running.shim.signal(Signal::KILL).map_err(failed)?;
            inner.kill_all_but_shim(&folder, &description, &running).map_err(failed)
        })
        .await
    }

    fn kill_all_but_shim(&self, folder: &RankFolder, description: &Description, running: &Running) -> io::Result<()> {
        running.first.signal(Signal::KILL)?;
        self.cgroup(&description.assignment.key).kill();
        if description.isolation == Isolation::Plain {
            running.first.kill_session();
            pid::kill_marked(&format!("{PEER_FILES_VARIABLE}={}", folder.peer_files().display()));
        }
        Ok(())
    }
}

/// Returns when the process has ended.
pub(super) async fn await_process(process: OwnedFd) -> Result<(), EngineError> {
    let failed = |error: io::Error| EngineError {
        fault: Fault::Unavailable,
        message: format!("the rank's supervisor cannot be watched: {error}"),
    };
    let watched = watch::readable(process).map_err(failed)?;
    drop(watched.readable().await.map_err(failed)?);
    // Where the agent is the machine's first process, as in a container, the shim is its child now.
    let _ = rustix::process::waitid(
        WaitId::PidFd(std::os::fd::AsFd::as_fd(watched.get_ref())),
        WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
    );
    Ok(())
}
