//! Starting a rank's shim.

use super::record::{RankFolder, StartReport};
use super::{Inner, blocking, node_fault, peers, shim};
use crate::engine::{EngineError, Fault};
use muster_domain::id::RankKey;
use muster_domain::peers::PeerFiles;
use muster_domain::time::Moment;
use std::fs::File;
use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

/// A shim that has not answered by then never will.
const DEADLINE: Duration = Duration::from_secs(20);
const ANSWER_BYTES: u64 = 1 << 20;

impl Inner {
    pub(super) async fn start(self: Arc<Self>, key: RankKey, files: PeerFiles) -> Result<Moment, EngineError> {
        let _lock = self.lock(&key).await;
        let folder = self.folder(&key);
        let inner = Arc::clone(&self);
        let at = folder.clone();
        if let Some(started_at) = blocking(move || inner.started_before(&at)).await? {
            return Ok(started_at);
        }
        peers::check(&files)?;
        match tokio::time::timeout(DEADLINE, self.run_shim(&folder, &files)).await {
            Ok(Ok(StartReport::Started { started_at_ms, warnings })) => {
                for warning in warnings {
                    tracing::warn!(rank = %key, warning, "the rank runs without a limit");
                }
                Ok(Moment(started_at_ms))
            }
            Ok(Ok(StartReport::Failed(failure))) => {
                let fault = if failure.by_job { Fault::Job } else { Fault::Node };
                Err(EngineError { fault, message: failure.message })
            }
            Ok(Ok(StartReport::AlreadyStarted)) => self.await_other_start(&folder).await,
            Ok(Err(error)) => Err(node_fault("the rank's supervisor failed", error)),
            Err(_) => {
                let message = format!("the rank was not started within {} s", DEADLINE.as_secs());
                Err(EngineError { fault: Fault::Unavailable, message })
            }
        }
    }

    /// Returns when the rank was started, if it was.
    fn started_before(&self, folder: &RankFolder) -> Result<Option<Moment>, EngineError> {
        let unreadable = |error| node_fault("the rank's folder cannot be read", error);
        if let Some(running) = folder.running().map_err(unreadable)? {
            return Ok(Some(Moment(running.started_at_ms)));
        }
        let description = folder.description().map_err(unreadable)?;
        match description {
            None => {
                let message = "the rank is not prepared on this node".to_owned();
                Err(EngineError { fault: Fault::Node, message })
            }
            Some(description) if description.boot_id != self.boot_id => {
                let message = "the node was restarted after the rank was prepared".to_owned();
                Err(EngineError { fault: Fault::Node, message })
            }
            Some(_) => Ok(None),
        }
    }

    /// The shim reads the peer files from its input and answers with one line.
    async fn run_shim(&self, folder: &RankFolder, files: &PeerFiles) -> io::Result<StartReport> {
        let mut child = tokio::process::Command::new(&self.settings.shim)
            .arg(shim::ARGUMENT)
            .arg(&folder.path)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (Some(mut input), Some(answer), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("its pipes are not there"));
        };
        // A shim that does not read has an answer nevertheless.
        let _ = input.write_all(&serde_json::to_vec(files)?).await;
        drop(input);
        let mut line = Vec::new();
        BufReader::new(answer.take(ANSWER_BYTES)).read_until(b'\n', &mut line).await?;
        // What is waited for here is only the shim's first process; the shim itself is nobody's child.
        let status = child.wait().await?;
        if line.is_empty() {
            let mut words = String::new();
            errors.take(4096).read_to_string(&mut words).await?;
            return Err(io::Error::other(format!(
                "it gave no answer, ended with {status} and said {:?}",
                words.trim()
            )));
        }
        Ok(serde_json::from_slice(&line)?)
    }

    /// An earlier agent started the rank's shim and did not live to hear its answer.
    async fn await_other_start(&self, folder: &RankFolder) -> Result<Moment, EngineError> {
        self.settle(folder).await?;
        match folder.running() {
            Ok(Some(running)) => Ok(Moment(running.started_at_ms)),
            Ok(None) => {
                let message = "the rank was being started, and that failed".to_owned();
                Err(EngineError { fault: Fault::Node, message })
            }
            Err(error) => Err(node_fault("the rank's folder cannot be read", error)),
        }
    }
}

impl Inner {
    /// Waits until no shim is in the midst of starting this rank. Only after an agent died in that very moment.
    pub(super) async fn settle(&self, folder: &RankFolder) -> Result<(), EngineError> {
        let give_up = tokio::time::Instant::now() + DEADLINE;
        while is_starting(folder).map_err(|error| node_fault("the rank's folder cannot be read", error))? {
            if tokio::time::Instant::now() >= give_up {
                let message = "the rank's supervisor neither starts it nor gives up".to_owned();
                return Err(EngineError { fault: Fault::Unavailable, message });
            }
            // A lock tells nobody when it is let go, except whoever blocks a thread on it.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

/// Whether a shim lives that has not yet written what became of its start.
fn is_starting(folder: &RankFolder) -> io::Result<bool> {
    use rustix::fs::FlockOperation::{NonBlockingLockShared, Unlock};
    if folder.running()?.is_some() || folder.ended()?.is_some() {
        return Ok(false);
    }
    let file = match File::open(&folder.path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match rustix::fs::flock(&file, NonBlockingLockShared) {
        Ok(()) => rustix::fs::flock(&file, Unlock)?,
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(true),
        Err(error) => return Err(error.into()),
    }
    // It may have written its record and ended between our two looks.
    Ok(false)
}
