//! `make bench`: what users and operators wait for, as medians and ratios.

use clap::Parser;
use muster_tests::bench;
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Measures a whole Muster on this machine")]
struct Arguments {
    /// Socket of a Docker engine; without it containers are not measured.
    #[arg(long)]
    docker: Option<String>,
    /// How often each measurement is repeated.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only this measurement.
    #[arg(long)]
    only: Option<bench::Measure>,
    /// How often the leader is killed, and how often it is asked to stop.
    #[arg(long, default_value_t = 50)]
    changes: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match bench::run(arguments.docker, arguments.rounds.max(1), arguments.only, arguments.changes).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the benchmark failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
