//! The agent against a fake coordinator over real sockets, with a fake engine.

mod coordinator;
mod disk;
mod engine;
mod flaky;
mod stream;

use coordinator::soon;
use flaky::Flaky;
use muster_domain::id::NodeName;
use muster_domain::resources::{GIB, Resources};
use muster_runtime::secret::Secret;
use muster_worker::{Settings, Worker};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

fn settings(state_dir: &Path, coordinators: Vec<String>) -> Settings {
    Settings {
        node: NodeName::new("n1").unwrap(),
        coordinators,
        join_secret: None,
        ca_pem: None,
        state_dir: state_dir.to_path_buf(),
        capacity: Resources { cores: 4, memory_bytes: 8 * GIB, gpus: 0 },
        categories: vec!["standard-cpu".to_owned()],
        labels: [("rack".to_owned(), "3".to_owned())].into(),
        heartbeat: Duration::from_millis(200),
        silence: Duration::from_secs(10),
        grace: Duration::from_millis(300),
        engine_patience: Duration::from_secs(10),
    }
}

/// An agent in this process.
struct Running {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(settings: Settings, engine: &Flaky) -> Self {
        let worker = Worker::new(settings).unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(worker.run(Arc::new(engine.clone()), stop.clone()));
        Self { stop, task }
    }

    /// An orderly end.
    async fn stop(self) {
        self.stop.cancel();
        soon("the agent's end", self.task).await.unwrap();
    }

    /// A sudden one.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

fn secret(text: &str) -> Option<Secret> {
    Some(Secret::new(text))
}

/// What is logged on this thread, on which the whole of a test runs.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let sink = self.clone();
        let lines = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
        tracing::subscriber::set_default(lines.with_writer(move || sink.clone()).finish())
    }

    fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl std::io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
