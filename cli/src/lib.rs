//! `muster`: what an operator types. It asks the coordinator's operator listener, gives it orders, and shows what it says.

mod ask;
mod client;
mod command;
mod human;
mod show;
mod table;

#[cfg(test)]
mod tests;

pub use command::PROGRAM;

use ask::Ask;
use command::{Config, Output};
use muster_runtime::config::{Loaded, Outcome};
use std::io::Write;
use std::process::ExitCode;

/// How a call ends, other than well.
#[derive(Debug, thiserror::Error)]
enum Problem {
    /// Something failed; the text says what to do next.
    #[error("{0}")]
    Failed(String),
    /// What was asked for does not exist.
    #[error("{0}")]
    NotFound(String),
}

impl Problem {
    /// 1 for a failure, 3 for something that does not exist. 2 is a wrong command line or configuration.
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Failed(_) => ExitCode::from(1),
            Self::NotFound(_) => ExitCode::from(3),
        }
    }
}

/// Answers one command line: reads it, asks the coordinator, prints.
pub async fn run() -> ExitCode {
    muster_runtime::tls::install_provider();
    let loaded = match command::load(std::env::args_os(), std::env::vars_os()) {
        Ok(Outcome::Run(loaded)) => loaded,
        Ok(Outcome::Print(text)) => return print(&text),
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::from(2);
        }
    };
    for warning in &loaded.warnings {
        complain(&format!("warning: {warning}"));
    }
    match answer(&loaded).await {
        Ok(text) => print(&text),
        Err(problem) => {
            complain(&problem.to_string());
            problem.exit_code()
        }
    }
}

/// What is shown for what was asked.
async fn answer(loaded: &Loaded<Config>) -> Result<String, Problem> {
    let ask = Ask::from_matches(&loaded.matches);
    let answer = client::Client::new(&loaded.config)?.ask(&ask).await?;
    let answer = ask.narrow(answer);
    match loaded.config.output {
        Output::Json => Ok(format!("{answer:#}\n")),
        Output::Table => show::tables(&ask, answer),
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever closed the pipe, such as `head`, has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(1),
    }
}

fn complain(text: &str) {
    // There is nowhere left to say that standard error is closed.
    let _ = writeln!(std::io::stderr(), "muster: {text}");
}
