//! Supervised tasks: each has a kind that states what its failure means, and all end within a bound.
//!
//! A task of kind [`OnFailure::StopProcess`] that fails, panics, or ends although nobody asked it to, stops the process;
//! main then exits with an error, and whoever supervises the process starts it anew with clean state.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// What the failure of a task means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The process cannot go on without it.
    StopProcess,
    /// One thing failed; it is logged, the rest goes on.
    LogOnly,
}

/// A kind of task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskKind {
    /// Its name in logs.
    pub name: &'static str,
    /// What its failure means.
    pub on_failure: OnFailure,
}

impl TaskKind {
    /// A task without which the process cannot go on.
    #[must_use]
    pub const fn essential(name: &'static str) -> Self {
        Self { name, on_failure: OnFailure::StopProcess }
    }

    /// A task whose failure is logged only.
    #[must_use]
    pub const fn incidental(name: &'static str) -> Self {
        Self { name, on_failure: OnFailure::LogOnly }
    }
}

/// Why the process stops although nobody asked it to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task {task} {reason}")]
pub struct TaskFailed {
    /// The name of its kind.
    pub task: &'static str,
    /// What happened, in words.
    pub reason: String,
}

/// The tasks of a process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    failure: Arc<Mutex<Option<TaskFailed>>>,
}

impl Tasks {
    /// Tasks that end when `stop` is cancelled.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        Self { stop, ..Self::default() }
    }

    /// Cancelled when the process stops. A task must end soon after it.
    #[must_use]
    pub fn stop_token(&self) -> &CancellationToken {
        &self.stop
    }

    /// Runs a task until it ends by itself; an `Err` is a failure, and so is the end of an essential task before the
    /// process stops.
    pub fn spawn<E>(&self, kind: TaskKind, task: impl Future<Output = Result<(), E>> + Send + 'static)
    where
        E: fmt::Display + Send + 'static,
    {
        let tasks = self.clone();
        let inner = self.tracker.spawn(task.in_current_span());
        self.tracker.spawn(async move {
            let reason = match inner.await {
                Ok(Ok(())) if kind.on_failure == OnFailure::LogOnly || tasks.stop.is_cancelled() => return,
                Ok(Ok(())) => "ended although nothing had stopped it".to_owned(),
                Ok(Err(error)) => format!("failed: {error:#}"),
                Err(error) if error.is_cancelled() => return,
                Err(error) => format!("panicked: {}", panic_text(error.into_panic().as_ref())),
            };
            tasks.on_failure(kind, reason);
        });
    }

    fn on_failure(&self, kind: TaskKind, reason: String) {
        match kind.on_failure {
            OnFailure::LogOnly => tracing::warn!(task = kind.name, reason, "task failed"),
            OnFailure::StopProcess => {
                tracing::error!(task = kind.name, reason, "task failed, stopping the process");
                let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                // Later failures mostly follow from the first.
                failure.get_or_insert(TaskFailed { task: kind.name, reason });
                self.stop.cancel();
            }
        }
    }

    /// Waits until the process is asked to stop, by a signal or by the failure of an essential task.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Cancels the token and waits for all tasks, `within` at most. `Err` tells why the process stopped, if a task failed.
    ///
    /// # Errors
    /// The first essential task that failed.
    pub async fn drain(&self, within: Duration) -> Result<(), TaskFailed> {
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(within, self.tracker.wait()).await.is_err() {
            // Two for each task: itself and its supervisor.
            let left = self.tracker.len().div_ceil(2);
            tracing::warn!(tasks = left, within_ms = within.as_millis() as u64, "tasks did not end in time");
        }
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.map_or(Ok(()), Err)
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn the_failure_of_an_essential_task_stops_the_process_and_is_told() {
        let tasks = Tasks::new(CancellationToken::new());
        let stop = tasks.stop_token().clone();
        tasks.spawn(TaskKind::essential("waiter"), async move {
            stop.cancelled().await;
            Ok::<_, String>(())
        });
        tasks.spawn(TaskKind::essential("driver"), async { Err("the disk is full") });
        tasks.stopped().await;
        let failed = tasks.drain(LONG).await.unwrap_err();
        assert_eq!(failed.to_string(), "the task driver failed: the disk is full");
    }

    #[tokio::test]
    async fn a_panic_and_an_early_end_count_as_failures() {
        let tasks = Tasks::new(CancellationToken::new());
        tasks.spawn(TaskKind::essential("driver"), async {
            let wrong = "index out of range";
            if !wrong.is_empty() {
                panic!("{wrong}");
            }
            Ok::<_, String>(())
        });
        tasks.stopped().await;
        let failed = tasks.drain(LONG).await.unwrap_err();
        assert_eq!(failed.reason, "panicked: index out of range");

        let tasks = Tasks::new(CancellationToken::new());
        tasks.spawn(TaskKind::essential("driver"), async { Ok::<_, String>(()) });
        tasks.stopped().await;
        assert_eq!(tasks.drain(LONG).await.unwrap_err().reason, "ended although nothing had stopped it");
    }

    #[tokio::test]
    async fn the_failure_of_an_incidental_task_stops_nothing() {
        let tasks = Tasks::new(CancellationToken::new());
        tasks.spawn(TaskKind::incidental("session"), async { Err("the peer went away") });
        tasks.tracker.close();
        tasks.tracker.wait().await;
        assert!(!tasks.stop_token().is_cancelled());
        assert_eq!(tasks.drain(LONG).await, Ok(()));
    }

    #[tokio::test]
    async fn a_task_that_never_ends_does_not_hold_the_drain() {
        let tasks = Tasks::new(CancellationToken::new());
        tasks.spawn(TaskKind::essential("stubborn"), std::future::pending::<Result<(), String>>());
        assert_eq!(tasks.drain(Duration::from_millis(20)).await, Ok(()));
    }
}
