//! Ending a rank.
//!
//! A container's first process is process 1 of its namespace, and to that one the kernel gives only the signals that it
//! handles: a program that knows nothing of SIGTERM would never hear ours and sit out the whole grace. What SIGTERM does
//! to such a program anywhere else is end it, so that is done here with SIGKILL, and told as the SIGTERM that it was.
//! An init process of Docker's in between would do the same, but hide a missing command and not be there on every node.

use super::Inner;
use super::call::{CallError, SIGNAL, call};
use super::label;
use super::observe::Phase;
use crate::engine::EngineError;
use bollard::query_parameters::KillContainerOptionsBuilder;
use muster_domain::id::RankKey;
use muster_domain::rank::RankEnd;

const SIGTERM: u32 = 15;
const SIGKILL: i32 = 9;

impl Inner {
    /// SIGTERM to the rank's first process. Fine if it has ended or never ran.
    pub(super) async fn terminate(&self, key: &RankKey) -> Result<(), EngineError> {
        let Some(container) = self.find(key).await?.filter(|container| container.phase == Phase::Running) else {
            return Ok(());
        };
        if container.first_process_status().is_some_and(|status| takes_default(&status, SIGTERM)) {
            self.terminated_by_kill().insert(key.clone());
            return self.signal(key, "SIGKILL").await;
        }
        self.signal(key, "SIGTERM").await
    }

    /// SIGKILL to all of the rank: with its first process the kernel ends its whole namespace. Fine if it has ended or
    /// never ran.
    pub(super) async fn kill(&self, key: &RankKey) -> Result<(), EngineError> {
        match self.find(key).await?.map(|container| container.phase) {
            Some(Phase::Running) => self.signal(key, "SIGKILL").await,
            Some(Phase::Created | Phase::Ended) | None => Ok(()),
        }
    }

    async fn signal(&self, key: &RankKey, signal: &str) -> Result<(), EngineError> {
        let name = label::container_name(&self.settings.cluster, key);
        let options = KillContainerOptionsBuilder::new().signal(signal).build();
        match call(SIGNAL, self.docker.kill_container(&name, Some(options))).await {
            // It ended, or was removed, meanwhile.
            Ok(()) | Err(CallError::Missing(_) | CallError::Conflict(_)) => Ok(()),
            Err(error) => Err(error.on(&format!("the rank could not be sent {signal}"))),
        }
    }

    /// The end as it is told: a SIGKILL that stood for a SIGTERM was one.
    pub(super) fn told(&self, key: &RankKey, end: RankEnd) -> RankEnd {
        match end {
            RankEnd::Killed { signal: SIGKILL } if self.terminated_by_kill().contains(key) => {
                RankEnd::Killed { signal: 15 }
            }
            end => end,
        }
    }
}

/// Whether a process, given its `/proc/<pid>/status`, neither handles nor ignores a signal.
fn takes_default(status: &str, signal: u32) -> bool {
    let set = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    match (set("SigIgn:"), set("SigCgt:")) {
        (Some(ignored), Some(caught)) => (ignored | caught) & (1 << (signal - 1)) == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_program_that_knows_nothing_of_a_signal_takes_its_default() {
        let status =
            |ignored: &str, caught: &str| format!("Name:\tx\nSigBlk:\t0\nSigIgn:\t{ignored}\nSigCgt:\t{caught}\n");
        assert!(takes_default(&status("0000000000000000", "0000000000000002"), SIGTERM));
        assert!(!takes_default(&status("0000000000000000", "0000000000004000"), SIGTERM));
        assert!(!takes_default(&status("0000000000004000", "0000000000000000"), SIGTERM));
        assert!(!takes_default("Name:\tx\n", SIGTERM));
    }
}
