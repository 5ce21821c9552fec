//! `make chaos`: everything is killed, paused and cut off under a stream of jobs, and then it is counted what came of it.

use clap::Parser;
use muster_tests::chaos::{ChaosOptions, Length};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Parser)]
#[command(about = "Breaks a whole Muster on this machine under a stream of jobs")]
struct Arguments {
    /// Until so many leaders were killed with -9.
    #[arg(long, default_value_t = 50)]
    kills: usize,
    /// For so many minutes instead.
    #[arg(long)]
    minutes: Option<u64>,
    /// Each fault of a short list, about a minute.
    #[arg(long)]
    short: bool,
    /// Repeats the order of an earlier run.
    #[arg(long)]
    seed: Option<u64>,
    /// Folder for a Docker engine of its own, which is stopped and killed, too.
    #[arg(long)]
    docker_folder: Option<PathBuf>,
    /// Program that makes the images at that engine, given its socket.
    #[arg(long, default_value = "tests/setup/images.sh")]
    docker_images: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let length = match arguments.minutes {
        _ if arguments.short => Length::Short,
        Some(minutes) => Length::For(Duration::from_secs(minutes * 60)),
        None => Length::Kills(arguments.kills),
    };
    let options = ChaosOptions {
        length,
        seed: arguments.seed.unwrap_or_else(|| rand::random_range(0..1_000_000)),
        docker: arguments.docker_folder.map(|folder| (folder, arguments.docker_images)),
    };
    match muster_tests::chaos::run(options).await {
        Ok(outcome) => {
            outcome.print();
            if outcome.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("the run broke off: {error:#}");
            ExitCode::FAILURE
        }
    }
}
