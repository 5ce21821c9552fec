//! The worker agent's program. Also the supervisor of each rank of the process engine, as a hidden first argument.

use anyhow::Context;
use muster_runtime::config::{Loaded, from_process};
use muster_runtime::tasks::{TaskKind, Tasks};
use muster_runtime::{signals, telemetry, tls};
use muster_worker::config::{Config, PROGRAM};
use muster_worker::engine::process::shim;
use muster_worker::{Worker, build_engine};
use std::process::ExitCode;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

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
            ExitCode::FAILURE
        }
    };
    // Calls to an engine that hangs may sit in threads of their own.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

async fn run(loaded: &Loaded<Config>) -> anyhow::Result<()> {
    let config = &loaded.config;
    let settings = config.settings()?;
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
