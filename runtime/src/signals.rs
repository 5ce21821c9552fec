//! SIGTERM and SIGINT: the first asks for an orderly end, the second ends at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code after a second signal, as a shell reports a process that SIGTERM ended.
const ENDED_BY_SIGNAL: i32 = 128 + 15;

/// Cancels `stop` at the first SIGTERM or SIGINT, and ends the process with code 143 at the second. Ignores SIGHUP, which
/// would otherwise end a server whose terminal closes. Call it inside the runtime, before anything that must be drained.
///
/// # Errors
/// The handlers cannot be installed.
pub fn stop_on_signal(stop: CancellationToken) -> std::io::Result<()> {
    let mut signals = Signals::new()?;
    tokio::spawn(async move {
        let name = signals.next().await;
        tracing::info!(signal = name, "stopping; a second signal ends at once");
        stop.cancel();
        let name = signals.next().await;
        tracing::warn!(signal = name, "ending at once");
        std::process::exit(ENDED_BY_SIGNAL);
    });
    Ok(())
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => tracing::debug!("hang-up ignored"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal, getpid, kill_process};

    // One test only: handlers and signals belong to the whole process.
    #[tokio::test]
    async fn the_first_signal_cancels_and_a_hang_up_does_not() {
        let stop = CancellationToken::new();
        stop_on_signal(stop.clone()).unwrap();
        kill_process(getpid(), Signal::HUP).unwrap();
        tokio::task::yield_now().await;
        assert!(!stop.is_cancelled());
        kill_process(getpid(), Signal::TERM).unwrap();
        tokio::time::timeout(std::time::Duration::from_secs(5), stop.cancelled()).await.unwrap();
    }
}
