//! The worker agent's program. Also the supervisor of each rank of the process engine, as a hidden first argument.

use anyhow::Context;
use muster_runtime::config::{Loaded, from_process};
use muster_runtime::tasks::{TaskKind, Tasks};
use muster_runtime::{signals, telemetry, tls};
use muster_worker::config::{Config, PROGRAM};
use muster_worker::engine::process::{SetUpError, shim};
use muster_worker::{CannotStart, EngineUnusable, JournalError, Worker, build_engine};
use std::io::ErrorKind;
use std::process::ExitCode;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The exit code for what another start would meet again, as for a wrong configuration; supervisors leave the process down.
const TO_MEND: u8 = 2;
/// How long everything may take to end once a signal has come.
const DRAIN_WITHIN: Duration = Duration::from_secs(8);

fn main() -> ExitCode {
    // Before anything else: a supervisor has one thread, no configuration and no telemetry.
    let arguments: Vec<_> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|argument| argument == shim::ARGUMENT) {
        return shim::main(&arguments[2..]);
    }
    let loaded = match from_process::<Config>(&PROGRAM) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    tls::install_provider();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("muster-worker: cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = match runtime.block_on(run(&loaded)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("muster-worker: {error:#}");
            if needs_an_operator(&error) { ExitCode::from(TO_MEND) } else { ExitCode::FAILURE }
        }
    };
    // Calls to an engine that hangs may sit in threads of their own.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

/// Something that the configuration names cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
struct Unfit(anyhow::Error);

/// Whether another start will not help before an operator has mended something.
fn needs_an_operator(error: &anyhow::Error) -> bool {
    let for_good = |error: &std::io::Error| {
        matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::NotADirectory)
    };
    match (error.downcast_ref::<CannotStart>(), error.downcast_ref::<EngineUnusable>()) {
        // The agent before this one may be about to end, and a disk have room again.
        (Some(CannotStart::Journal(JournalError::InUse { .. })), _) => false,
        (Some(CannotStart::Journal(JournalError::Io { source, .. })), _)
        | (_, Some(EngineUnusable::Process(SetUpError::Folder { source, .. }))) => for_good(source),
        (Some(_), _) | (_, Some(EngineUnusable::Config { .. })) => true,
        (_, Some(EngineUnusable::Process(error))) => !matches!(error, SetUpError::Shim { .. }),
        (_, Some(EngineUnusable::Docker(_) | EngineUnusable::OwnProgram(_))) => false,
        (None, None) => error.is::<Unfit>() || error.is::<telemetry::TelemetryError>(),
    }
}

async fn run(loaded: &Loaded<Config>) -> anyhow::Result<()> {
    let config = &loaded.config;
    let settings = config.settings().map_err(Unfit)?;
    let service = telemetry::Service {
        name: PROGRAM.name,
        version: PROGRAM.version,
        instance: settings.node.as_str().to_owned(),
    };
    let telemetry = telemetry::start(&config.telemetry, &service)?;
    loaded.log_warnings();
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let stop = CancellationToken::new();
    signals::stop_on_signal(stop.clone()).context("cannot install signal handlers")?;
    let tasks = Tasks::new(stop.clone());
    let ended = match start(config, settings, &tasks, stop).await {
        Ok(()) => {
            tasks.stopped().await;
            tracing::info!("stopping; ranks go on");
            tasks.drain(DRAIN_WITHIN).await.map_err(anyhow::Error::from)
        }
        Err(error) => Err(error),
    };
    telemetry.shutdown().await;
    ended
}

async fn start(
    config: &Config,
    settings: muster_worker::Settings,
    tasks: &Tasks,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let worker = Worker::new(settings)?;
    let engine = tokio::select! {
        engine = build_engine(config) => engine?,
        () = stop.cancelled() => return Ok(()),
    };
    tasks.spawn(TaskKind::essential("agent"), async move {
        worker.run(engine, stop).await;
        Ok::<_, std::convert::Infallible>(())
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn journal(kind: ErrorKind) -> anyhow::Error {
        let path = PathBuf::from("agent.json");
        CannotStart::Journal(JournalError::Io { action: "write", path, source: kind.into() }).into()
    }

    #[test]
    fn what_only_an_operator_can_mend_is_told_apart_from_what_may_pass() {
        for to_mend in [
            Unfit(anyhow::Error::msg("fleet.token_file: cannot read it")).into(),
            CannotStart::Secret.into(),
            journal(ErrorKind::PermissionDenied),
            EngineUnusable::Config { key: "process.network", expected: String::new() }.into(),
        ] {
            assert!(needs_an_operator(&to_mend), "{to_mend:?}");
        }
        let in_use = JournalError::InUse { path: PathBuf::new() };
        for passing in [
            CannotStart::Journal(in_use).into(),
            journal(ErrorKind::StorageFull),
            anyhow::Error::msg("the task agent panicked"),
        ] {
            assert!(!needs_an_operator(&passing), "{passing:?}");
        }
    }
}
