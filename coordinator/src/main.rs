//! `muster-coordinator`: config, build, bind, announce, run, drain with limit.

use muster_coordinator::config::{Config, PROGRAM};
use muster_coordinator::server;
use muster_runtime::config::from_process;
use muster_runtime::tasks::Tasks;
use muster_runtime::{signals, telemetry, tls};
use std::io::Write;
use std::process::ExitCode;
use tokio_util::sync::CancellationToken;

/// The exit code for what another start would meet again, as for a wrong configuration; supervisors leave the process down.
const TO_MEND: u8 = 2;

fn main() -> ExitCode {
    tls::install_provider();
    let loaded = match from_process::<Config>(&PROGRAM) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return say(&error),
    };
    runtime.block_on(async {
        let config = &loaded.config;
        let instance = match config.name() {
            Ok(name) => name.to_string(),
            Err(error) => return say(&error),
        };
        let service = telemetry::Service { name: PROGRAM.name, version: PROGRAM.version, instance };
        let telemetry = match telemetry::start(&config.telemetry, &service) {
            Ok(telemetry) => telemetry,
            Err(error) => {
                say(&error);
                return ExitCode::from(TO_MEND);
            }
        };
        loaded.log_warnings();
        let code = match run(config).await {
            Ok(code) => code,
            Err(error) => {
                tracing::error!("{error}");
                ExitCode::FAILURE
            }
        };
        telemetry.shutdown().await;
        code
    })
}

async fn run(config: &Config) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let stop = CancellationToken::new();
    signals::stop_on_signal(stop.clone())?;
    // Leadership is the first to stop; the edges go on answering until it is given back.
    let inner = Tasks::new(stop);
    let edges = Tasks::new(CancellationToken::new());
    let running = match server::start(config, &edges, &inner).await {
        Ok(running) => running,
        Err(error) => {
            tracing::error!("{error}");
            return Ok(if error.needs_an_operator() { ExitCode::from(TO_MEND) } else { ExitCode::FAILURE });
        }
    };
    let addresses = running.addresses;
    tracing::info!(
        version = PROGRAM.version,
        provider = config.provider.id,
        name = %config.name()?,
        http = %addresses.http,
        operator = %addresses.operator,
        fleet = %addresses.fleet,
        "listening"
    );
    tokio::select! {
        () = edges.stopped() => {}
        () = inner.stopped() => {}
    }
    if let Err(error) = server::drain(&edges, &inner).await {
        // Why it failed was logged when it did.
        tracing::error!(task = error.task, "stopped, since this task failed");
        return Ok(if running.needs_an_operator() { ExitCode::from(TO_MEND) } else { ExitCode::FAILURE });
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// For what goes wrong before there is a log.
fn say(error: &dyn std::error::Error) -> ExitCode {
    // Without a standard error there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{}: {error}", PROGRAM.name);
    ExitCode::FAILURE
}
