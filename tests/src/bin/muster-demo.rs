//! `make demo`: four jobs through a whole cluster on this machine, from Core's request to its charge.

use clap::Parser;
use muster_tests::demo;
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Four jobs through a whole Muster on this machine")]
struct Arguments {
    /// Socket of the Docker engine to use; without it the process engine runs the ranks.
    #[arg(long)]
    docker: Option<String>,
    /// Three coordinators over three etcd members; the leader is killed in the middle.
    #[arg(long)]
    etcd: bool,
    /// How long the cluster stays up after its jobs: 90s, 10m, 1h, or seconds.
    #[arg(long, value_parser = demo::parse_duration)]
    duration: Option<std::time::Duration>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = demo::DemoOptions { docker: arguments.docker, over_etcd: arguments.etcd, stay: arguments.duration };
    match demo::run(options).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
