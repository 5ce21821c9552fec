//! What these tests share: a cluster of etcd, and coordinators' halves over it.

use muster_coordinator::config::EtcdConfig;
use muster_coordinator::election::{Election, Identity, Leadership};
use muster_coordinator::etcd::{EtcdParts, Rhythm, connect, connect_with};
use muster_coordinator::standing::Concern;
use muster_coordinator::store::{Store, StoreError};
use muster_domain::effect::{Documents, Write};
use muster_domain::id::{ClusterName, JobId};
use muster_domain::job::Job;
use muster_tests::harness::{EtcdCluster, EtcdOptions, etcd_for_tests};
use std::future::Future;
use std::io;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A short lease, which a busy machine still renews in time: what these tests wait for is counted in it.
pub(crate) const TTL: Duration = Duration::from_secs(5);
/// What is at once may take this long on a machine that is busy with other tests.
pub(crate) const BUSY: Duration = Duration::from_secs(10);
/// What may be waited for on a machine that is busy with builds.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) async fn etcd(test: &str, change: impl FnOnce(&mut EtcdOptions)) -> Option<(EtcdCluster, TempDir)> {
    muster_runtime::tls::install_provider();
    // Shown with a test that fails; the first test of a run installs it.
    let _ = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_test_writer().try_init();
    let mut options = EtcdOptions::new(etcd_for_tests(test)?);
    change(&mut options);
    let folder = tempfile::Builder::new().prefix("muster-etcd-").tempdir().unwrap();
    let cluster = EtcdCluster::start(options, folder.path()).await.unwrap();
    Some((cluster, folder))
}

pub(crate) fn config(endpoints: Vec<String>) -> EtcdConfig {
    EtcdConfig {
        endpoints,
        prefix: "/muster".to_owned(),
        ca_file: None,
        certificate_file: None,
        key_file: None,
        user: None,
        password_file: None,
        incarnation: 0,
        space_budget_mib: 2048,
        lease_ttl_ms: 5_000,
        request_timeout_ms: 1_000,
    }
}

/// Nobody listens at port 9; the address of another one makes the process a possible predecessor.
pub(crate) fn identity(name: &str, http: &str) -> Identity {
    Identity {
        name: name.to_owned(),
        http: http.to_owned(),
        operator: "127.0.0.1:9".to_owned(),
        fleet: "http://127.0.0.1:9".to_owned(),
        version: "0".to_owned(),
    }
}

pub(crate) fn cluster_name() -> ClusterName {
    ClusterName::new("north").unwrap()
}

/// Where a coordinator listens that says so of an address which proves nothing.
pub(crate) fn nowhere() -> std::net::SocketAddr {
    "0.0.0.0:9".parse().unwrap()
}

/// A coordinator that says that it listens at an address which proves nothing.
pub(crate) async fn parts(config: &EtcdConfig, name: &str) -> EtcdParts {
    parts_at(config, name, "0.0.0.0:9").await
}

pub(crate) async fn parts_at(config: &EtcdConfig, name: &str, http: &str) -> EtcdParts {
    connect(config, &cluster_name(), identity(name, http), http.parse().unwrap(), CancellationToken::new())
        .await
        .unwrap()
}

/// One whose housekeeping follows a rhythm of the test's own.
pub(crate) async fn parts_with(config: &EtcdConfig, name: &str, rhythm: Rhythm) -> EtcdParts {
    let identity = identity(name, "0.0.0.0:9");
    let (stop, concern) = (CancellationToken::new(), Concern::default());
    connect_with(config, &cluster_name(), identity, nowhere(), stop, rhythm, concern).await.unwrap()
}

/// One that leads and has listed everything.
pub(crate) async fn leader(config: &EtcdConfig, name: &str) -> (EtcdParts, Leadership, Documents) {
    let parts = parts(config, name).await;
    let (leadership, documents) = lead(&parts).await;
    (parts, leadership, documents)
}

pub(crate) async fn lead(parts: &EtcdParts) -> (Leadership, Documents) {
    let leadership = soon(parts.election.campaign()).await.unwrap();
    let documents = soon(parts.store.load(leadership.term)).await.unwrap();
    parts.election.lead();
    (leadership, documents)
}

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.expect("this takes too long")
}

pub(crate) fn ids(documents: &Documents) -> Vec<String> {
    let mut ids: Vec<String> = documents.jobs.iter().map(|job| job.spec.id.to_string()).collect();
    ids.sort();
    ids
}

pub(crate) fn create(id: &str) -> Write {
    Write::Job(Box::new(job(id)))
}

pub(crate) fn creates(count: usize) -> Vec<Write> {
    let template = job("0");
    let with = |id: String| {
        let mut job = template.clone();
        job.spec.id = JobId::new(id).unwrap();
        Write::Job(Box::new(job))
    };
    (0..count).map(|number| with(format!("{number:05}"))).collect()
}

pub(crate) fn forget(id: &str) -> Write {
    Write::ForgetJob(JobId::new(id).unwrap())
}

/// The document of a job that was just accepted: the one by which the store's format is held, under another id.
pub(crate) fn job(id: &str) -> Job {
    let golden = include_str!("../../../coordinator/src/store/document_v1.json");
    let document: serde_json::Value = serde_json::from_str(golden).unwrap();
    let mut job: Job = serde_json::from_value(document["job"].clone()).unwrap();
    job.spec.id = JobId::new(id).unwrap();
    job
}

/// What etcd itself says, past the code under test.
pub(crate) async fn raw(etcd: &EtcdCluster, arguments: &[&str]) -> String {
    let output = etcd.ctl(arguments).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) async fn keys_below(etcd: &EtcdCluster, prefix: &str) -> Vec<String> {
    let listed = raw(etcd, &["get", "--prefix", "--keys-only", prefix]).await;
    listed.lines().filter(|line| !line.is_empty()).map(String::from).collect()
}

/// How often a key was written since it was made.
pub(crate) async fn version_of(etcd: &EtcdCluster, key: &str) -> u64 {
    let answer = raw(etcd, &["get", "--write-out=json", key]).await;
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    answer["kvs"][0]["version"].as_u64().unwrap_or(0)
}

/// Ends a leader's lease behind its back.
pub(crate) async fn depose(etcd: &EtcdCluster) {
    let value = raw(etcd, &["get", "--print-value-only", "/muster/north/leader"]).await;
    let value: serde_json::Value = serde_json::from_str(&value).unwrap();
    let lease = format!("{:x}", value["lease"].as_i64().unwrap());
    raw(etcd, &["lease", "revoke", &lease]).await;
}

pub(crate) async fn commit(parts: &EtcdParts, leadership: &Leadership, writes: Vec<Write>) -> Result<(), StoreError> {
    soon(parts.store.commit(leadership.term, writes)).await
}

/// What is logged from now on by the thread of this test, on which all its tasks run, and by threads that they start.
pub(crate) fn logged() -> (mpsc::UnboundedReceiver<String>, tracing::subscriber::DefaultGuard) {
    struct Lines(mpsc::UnboundedSender<String>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Nobody reads them when the test ends.
            let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let (sender, lines) = mpsc::unbounded_channel();
    let format = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_ansi(false);
    let subscriber = format.with_writer(move || Lines(sender.clone())).finish();
    (lines, tracing::subscriber::set_default(subscriber))
}
