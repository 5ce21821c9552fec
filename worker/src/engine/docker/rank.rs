//! The life of a rank's container: prepare, start, remove.

use super::Inner;
use super::call::{CallError, MAKE, REMOVE, call, job_fault, node_fault, unavailable};
use super::container::{self, Attachment, Surroundings};
use super::label;
use super::log::blocking;
use super::observe::Phase;
use super::settings::{NetworkMode, User};
use crate::engine::{EngineError, Fault};
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use muster_domain::id::RankKey;
use muster_domain::peers::PeerFiles;
use muster_domain::rank::Assignment;
use muster_domain::time::Moment;
use muster_runtime::clock;
use std::time::Duration;

/// How often a container is made anew after another worker removed the job's network under it.
const MOST_TRIES: usize = 3;
/// How long a rank that is removed while it runs may take to die.
const DEATH: Duration = Duration::from_secs(10);

impl Inner {
    /// Makes a rank ready to start, and returns its address.
    pub(super) async fn prepare(&self, assignment: &Assignment) -> Result<String, EngineError> {
        container::check(assignment)?;
        let key = &assignment.key;
        let _one_at_a_time = self.locks.hold(format!("rank {key}")).await;
        if let Some(container) = self.find(key).await? {
            return Ok(container.identity.address);
        }
        let made = self.make(assignment).await;
        if made.as_ref().is_err_and(|error| error.fault != Fault::Unavailable) {
            self.forget(key).await?;
        }
        made
    }

    async fn make(&self, assignment: &Assignment) -> Result<String, EngineError> {
        let key = &assignment.key;
        let image_directory = self.ensure_image(&assignment.container.image).await?;
        let user = if assignment.container.as_root { User::ROOT } else { self.job_user };
        let (folders, its_key) = (self.folders.clone(), key.clone());
        blocking(move || folders.prepare(&its_key, user)).await?.map_err(|error| {
            node_fault(format!("the job's folder could not be made and given to user {}: {error}", user.text()))
        })?;
        let _no_removal = self.locks.hold(format!("job {}", key.job)).await;
        for _ in 0..MOST_TRIES {
            let (attachment, address) = self.attachment(assignment).await?;
            let wants_gpus = assignment.resources.gpus > 0 && !self.settings.gpus.is_empty();
            let _one_chooses = if wants_gpus { Some(self.gpus.lock().await) } else { None };
            let gpus = if wants_gpus { self.choose_gpus(assignment.resources.gpus).await? } else { Vec::new() };
            let around = Surroundings {
                settings: &self.settings,
                abilities: &self.abilities,
                folders: &self.folders,
                labels: label::of_rank(&self.settings, assignment, &address, &gpus),
                user,
                image_directory: &image_directory,
                attachment,
                gpus: &gpus,
            };
            let name = label::container_name(&self.settings.cluster, key);
            let options = CreateContainerOptionsBuilder::new().name(&name).build();
            let body = container::body(assignment, &around);
            match call(MAKE, self.docker.create_container(Some(options), body)).await {
                Ok(answer) => {
                    tracing::debug!(%key, warnings = ?answer.warnings, "container made");
                    return Ok(address);
                }
                // An earlier call whose answer was lost made it (reliability B.3).
                Err(CallError::Conflict(message)) => match self.find(key).await? {
                    Some(container) => return Ok(container.identity.address),
                    None => return Err(unavailable(format!("the container is being removed: {message}"))),
                },
                // Another worker on this engine removed the network with its last rank this moment.
                Err(CallError::Missing(message)) if message.contains("network") => {}
                Err(error) => return Err(error.on("the container could not be made")),
            }
        }
        Err(node_fault("the job's network was removed again and again while the container was made"))
    }

    async fn attachment(&self, assignment: &Assignment) -> Result<(Attachment, String), EngineError> {
        let key = &assignment.key;
        let pool = match (&self.settings.network, self.pool) {
            (NetworkMode::Host { address }, _) => return Ok((Attachment::Host, address.clone())),
            (_, Some(pool)) => pool,
            (_, None) => return Err(node_fault("the network mode needs a subnet pool")),
        };
        let subnet = self.ensure_network(&key.job, assignment.replicas, pool).await?;
        let address = subnet
            .rank_address(key.rank)
            .ok_or_else(|| node_fault(format!("the job's network {subnet} is too narrow for rank {}", key.rank)))?
            .to_string();
        let name = label::network_name(&self.settings.cluster, &key.job);
        Ok((Attachment::Network { name, address: address.clone() }, address))
    }

    async fn choose_gpus(&self, count: u32) -> Result<Vec<String>, EngineError> {
        let all = self.labels_of_all(&[]).await?;
        let live: Vec<_> = all.into_iter().filter(|(_, ended)| !ended).map(|(labels, _)| labels).collect();
        container::free_gpus(&self.settings.gpus, count, &live)
            .ok_or_else(|| node_fault(format!("this node has fewer than {count} free GPUs")))
    }

    /// Starts a prepared rank. Returns when it started.
    pub(super) async fn start(&self, key: &RankKey, files: &PeerFiles) -> Result<Moment, EngineError> {
        let _one_at_a_time = self.locks.hold(format!("rank {key}")).await;
        let container = self.find(key).await?.ok_or_else(|| node_fault("the rank is not prepared on this node"))?;
        // A start that was done is not done again: Docker would run an ended container a second time.
        if container.phase != Phase::Created {
            return Ok(self.note_start(&container));
        }
        let (folders, its_key, files) = (self.folders.clone(), key.clone(), files.clone());
        blocking(move || folders.fill(&its_key, &files))
            .await?
            .map_err(|error| node_fault(format!("the peer files could not be written: {error}")))?;
        let name = label::container_name(&self.settings.cluster, key);
        let called_at = clock::boottime();
        call(MAKE, self.docker.start_container(&name, None)).await.map_err(start_failure)?;
        self.starts.notify_waiters();
        let container = self.find(key).await?.ok_or_else(|| node_fault("the container vanished as it started"))?;
        let started_at = container.started_at(clock::now()).max(called_at);
        self.started().insert(key.clone(), started_at);
        Ok(started_at)
    }

    /// Saves a rank's logs, and removes everything of it.
    pub(super) async fn remove(&self, key: &RankKey) -> Result<(), EngineError> {
        let _one_at_a_time = self.locks.hold(format!("rank {key}")).await;
        if let Some(mut container) = self.find(key).await? {
            if container.phase == Phase::Running {
                self.kill(key).await?;
                let stopped = tokio::time::timeout(DEATH, self.wait_for_stop(key)).await;
                stopped.unwrap_or_else(|_| {
                    Err(node_fault("the rank runs on after SIGKILL; a process of it hangs in the kernel"))
                })?;
                container.phase = Phase::Ended;
            }
            if container.phase == Phase::Ended {
                self.save_log(key).await?;
                let (folders, its_key, user) = (self.folders.clone(), key.clone(), container.user);
                if let Err(error) = blocking(move || folders.export_log(&its_key, user)).await? {
                    // The log itself is safe with us; a full or strange folder of the user must not keep the rank here.
                    tracing::warn!(%key, %error, "log could not be put beside the job's output");
                }
            }
            let name = label::container_name(&self.settings.cluster, key);
            let options = RemoveContainerOptionsBuilder::new().v(true).force(true).build();
            match call(REMOVE, self.docker.remove_container(&name, Some(options))).await {
                Ok(()) | Err(CallError::Missing(_)) => {}
                Err(CallError::Conflict(message)) => {
                    return Err(unavailable(format!("the container is being removed: {message}")));
                }
                Err(error) => return Err(error.on("the container could not be removed")),
            }
        }
        self.forget(key).await?;
        self.started().remove(key);
        self.terminated_by_kill().remove(key);
        self.watches().remove(key);
        self.sweep_logs().await;
        Ok(())
    }

    /// Removes what was made around a container that is gone.
    async fn forget(&self, key: &RankKey) -> Result<(), EngineError> {
        let (folders, its_key) = (self.folders.clone(), key.clone());
        blocking(move || folders.forget(&its_key))
            .await?
            .map_err(|error| node_fault(format!("the rank's folder could not be removed: {error}")))?;
        let _nobody_attaches = self.locks.hold(format!("job {}", key.job)).await;
        self.release_network(&key.job).await
    }

    /// Removes saved logs whose time is over.
    pub(super) async fn sweep_logs(&self) {
        let (folders, retention) = (self.folders.clone(), self.settings.log_retention);
        match blocking(move || folders.sweep_logs(retention, clock::now())).await {
            Ok(Ok(0)) => {}
            Ok(Ok(removed)) => tracing::info!(removed, "removed saved logs past their retention"),
            Ok(Err(error)) => tracing::warn!(%error, "old saved logs could not be removed"),
            Err(error) => tracing::warn!(%error, "old saved logs could not be removed"),
        }
    }
}

/// A start's failure. Docker says in words only whether the command was at fault.
fn start_failure(error: CallError) -> EngineError {
    let message = error.message();
    let why = message.rfind("exec: ").map(|at| message[at + 6..].trim_end_matches(": unknown"));
    let texts = [
        "executable file not found",
        "no such file or directory",
        "permission denied",
        "exec format error",
        "is a directory",
    ];
    match why.filter(|why| texts.iter().any(|text| why.contains(text))) {
        Some(why) if !matches!(error, CallError::Silent(_)) => {
            job_fault(format!("the command could not be started: {why}"))
        }
        _ => error.on("the rank could not be started"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_command_is_told_from_a_failing_node() {
        let refused = |status, message: &str| CallError::Refused { status, message: message.into() };
        let wrapped = "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: ";
        for why in [
            "\"nosuch\": executable file not found in $PATH",
            "\"/etc/passwd\": permission denied",
            "\"/nosuch\": stat /nosuch: no such file or directory",
        ] {
            let error = start_failure(refused(400, &format!("{wrapped}exec: {why}: unknown")));
            assert_eq!(error, job_fault(format!("the command could not be started: {why}")));
        }
        let node = "failed to create shim task: mount /sys/fs/cgroup: permission denied: unknown";
        assert_eq!(start_failure(refused(500, node)).fault, Fault::Node);
        assert_eq!(start_failure(CallError::Silent("exec: permission denied".into())).fault, Fault::Unavailable);
    }
}
