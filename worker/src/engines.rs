//! Makes the configured engine.

use crate::backoff::Backoff;
use crate::config::{Config, DockerNetwork, EngineChoice, Machine, Pull, user_and_group};
use crate::engine::docker::{DockerEngine, DockerSettings, NetworkMode, PullPolicy};
use crate::engine::fake::FakeEngine;
use crate::engine::process::{ProcessEngine, ProcessSettings, SetUpError};
use crate::engine::{Engine, EngineError, Fault};
use crate::health::Unanswered;
use std::sync::Arc;
use std::time::Duration;

/// Why the engine cannot be used. Messages are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum EngineUnusable {
    /// A value of the configuration; [`muster_runtime::config::Validate`] finds these first.
    #[error("{key}: expected {expected}")]
    Config {
        /// The key.
        key: &'static str,
        /// What was expected.
        expected: String,
    },
    /// The process engine.
    #[error(transparent)]
    Process(#[from] SetUpError),
    /// The Docker engine; its message says what to do.
    #[error("docker: {0}")]
    Docker(EngineError),
    /// This program cannot find itself, and so cannot supervise ranks.
    #[error("cannot find the worker's own program, which also supervises ranks")]
    OwnProgram(#[source] std::io::Error),
}

/// The engine that the configuration names. Waits for one that does not answer: ranks may run there, and another engine
/// would know nothing of them.
///
/// # Errors
/// Something an operator must put right.
pub async fn build_engine(config: &Config) -> Result<Arc<dyn Engine>, EngineUnusable> {
    let choice = match config.engine {
        // Once Docker, always Docker: while it is stopped its socket may be gone, and the ranks in it must not be forgotten.
        EngineChoice::Auto if config.docker.socket.exists() || config.state_dir.join("docker").exists() => {
            EngineChoice::Docker
        }
        EngineChoice::Auto => EngineChoice::Process,
        choice => choice,
    };
    match choice {
        EngineChoice::Fake => Ok(Arc::new(FakeEngine::new())),
        EngineChoice::Docker => docker(config).await,
        EngineChoice::Process | EngineChoice::Auto => process(config),
    }
}

async fn docker(config: &Config) -> Result<Arc<dyn Engine>, EngineUnusable> {
    let wrong = |key, expected| EngineUnusable::Config { key, expected };
    let cluster = config.cluster_name().map_err(|error| wrong("cluster.name", error))?;
    let node = config.node_name().map_err(|error| wrong("node.name", error))?;
    let given = &config.docker;
    let subnet_pool = given.subnet_pool.clone();
    let mut settings = DockerSettings::new(config.state_dir.join("docker"), config.work_root.clone(), cluster, node);
    settings.socket = Some(given.socket.to_string_lossy().into_owned());
    settings.network = match given.network {
        DockerNetwork::Bridge => NetworkMode::Bridge { subnet_pool },
        DockerNetwork::Overlay => NetworkMode::Overlay { subnet_pool },
        DockerNetwork::Host => NetworkMode::Host { address: given.address.clone().unwrap_or_default() },
    };
    settings.pull = match given.pull {
        Pull::IfMissing => PullPolicy::IfMissing,
        Pull::Never => PullPolicy::Never,
    };
    settings.user = given.user.clone();
    settings.gpus = given.gpus.clone();
    if settings.gpus.is_empty() {
        // By index, so that two ranks on one node never get the same one.
        settings.gpus = (0..config.capacity(&Machine::look()).gpus).map(|index| index.to_string()).collect();
    }
    settings.pids_limit = given.pids_limit;
    settings.log_limit_bytes = given.log_limit_bytes;
    settings.log_retention = Duration::from_millis(given.log_retention_ms);
    let mut backoff = Backoff::engine();
    let mut unanswered = Unanswered::default();
    loop {
        match DockerEngine::connect(settings.clone()).await {
            Ok(engine) => return Ok(Arc::new(engine)),
            Err(error) if error.fault == Fault::Unavailable => {
                unanswered.again("connect", &error.message);
                tokio::time::sleep(backoff.next()).await;
            }
            Err(error) => return Err(EngineUnusable::Docker(error)),
        }
    }
}

fn process(config: &Config) -> Result<Arc<dyn Engine>, EngineUnusable> {
    let wrong = |key, expected| EngineUnusable::Config { key, expected };
    let cluster = config.cluster_name().map_err(|error| wrong("cluster.name", error))?;
    let shim = std::env::current_exe().map_err(EngineUnusable::OwnProgram)?;
    let state_dir = config.state_dir.join("process");
    let mut settings = ProcessSettings::new(state_dir, config.work_root.clone(), cluster, shim);
    settings.addresses = config.process.addresses().map_err(|error| wrong("process.network", error))?;
    settings.images_dir = config.process.images_dir.clone();
    settings.user = config.process.user.as_deref().and_then(user_and_group);
    settings.nobody = true;
    settings.log_limit_bytes = config.process.log_limit_bytes;
    settings.log_retention = Duration::from_millis(config.process.log_retention_ms);
    settings.pids_limit = config.process.pids_limit;
    Ok(Arc::new(ProcessEngine::new(settings)?))
}
