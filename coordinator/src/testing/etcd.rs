//! One etcd for a test of this crate: a real process on 127.0.0.1. `MUSTER_TEST_ETCD` names its folder, as `tests/setup/etcd.sh`
//! prints it; without one a test says that it did not run.

use crate::config::EtcdConfig;
use etcd_client::{
    AlarmAction, AlarmOptions, AlarmType, Client, CompactionOptions, ConnectOptions, DeleteOptions, Error, GetOptions,
};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const START_LIMIT: Duration = Duration::from_secs(30);
const JUNK: &str = "/junk/";
const JUNK_BYTES: usize = 256 << 10;

pub(crate) struct Etcd {
    process: Child,
    pub(crate) endpoint: String,
    folder: TempDir,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It writes into its folder until it is gone.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn binary(test: &str) -> Option<PathBuf> {
    let named = std::env::var_os("MUSTER_TEST_ETCD").filter(|folder| !folder.is_empty());
    let path = named.clone().or_else(|| std::env::var_os("PATH")).unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("etcd")).find(|program| program.is_file());
    if found.is_none() {
        let is_required = std::env::var("REQUIRE_ALL").is_ok_and(|value| value == "1");
        assert!(!is_required && named.is_none(), "{test}: no etcd: run `sh tests/setup/etcd.sh`");
        println!(
            "NOT RUN: {test}: there is no etcd: run `sh tests/setup/etcd.sh` and set MUSTER_TEST_ETCD to what it prints"
        );
    }
    found
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

impl Etcd {
    /// One that serves, with this quota; `None` where there is no etcd.
    pub(crate) async fn start(test: &str, quota_bytes: Option<u64>) -> Option<Self> {
        muster_runtime::tls::install_provider();
        let (program, folder) = (binary(test)?, tempfile::tempdir().unwrap());
        let (endpoint, peer) = (free_address(), free_address());
        let mut command = Command::new(program);
        command.arg(format!("--data-dir={}", folder.path().join("data").display()));
        command.arg(format!("--listen-client-urls={endpoint}")).arg(format!("--advertise-client-urls={endpoint}"));
        command.arg(format!("--listen-peer-urls={peer}")).arg(format!("--initial-advertise-peer-urls={peer}"));
        command.arg(format!("--initial-cluster=default={peer}"));
        command.args(quota_bytes.map(|bytes| format!("--quota-backend-bytes={bytes}")));
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let etcd = Self { process, endpoint, folder };
        let serves = async {
            // It tells nobody when it begins to serve.
            while etcd.client(None).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(START_LIMIT, serves).await.expect("etcd does not serve");
        Some(etcd)
    }

    /// A client that has heard an answer.
    pub(crate) async fn client(&self, user: Option<(&str, &str)>) -> Result<Client, Error> {
        let mut options = ConnectOptions::new().with_timeout(Duration::from_secs(10));
        if let Some((user, password)) = user {
            options = options.with_user(user, password);
        }
        let mut client = Client::connect([self.endpoint.as_str()], Some(options)).await?;
        client.get("/", None).await?;
        Ok(client)
    }

    pub(crate) fn config(&self) -> EtcdConfig {
        EtcdConfig {
            endpoints: vec![self.endpoint.clone()],
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

    /// A file with a password that a coordinator accepts.
    pub(crate) fn password_file(&self, password: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.folder.path().join("password");
        std::fs::write(&path, password).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        path
    }

    /// The keys below `prefix`.
    pub(crate) async fn keys_below(client: &mut Client, prefix: &str) -> Vec<String> {
        let options = GetOptions::new().with_prefix().with_keys_only();
        let found = client.get(prefix, Some(options)).await.unwrap();
        found.kvs().iter().map(|pair| pair.key_str().unwrap().to_owned()).collect()
    }

    /// Puts junk until it takes no more.
    pub(crate) async fn fill(client: &mut Client) {
        for piece in 0.. {
            let put = client.put(format!("{JUNK}{piece:06}"), vec![b'x'; JUNK_BYTES], None).await;
            let Err(error) = put else { continue };
            assert!(error.to_string().contains("database space exceeded"), "{error}");
            break;
        }
        // The answer comes before the alarm has gone through the log.
        while client.alarm(AlarmAction::Get, AlarmType::None, None).await.unwrap().alarms().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What an operator does then.
    pub(crate) async fn make_room(client: &mut Client) {
        let deleted = client.delete(JUNK, Some(DeleteOptions::new().with_prefix())).await.unwrap();
        let revision = deleted.header().unwrap().revision();
        client.compact(revision, Some(CompactionOptions::new().with_physical())).await.unwrap();
        client.defragment().await.unwrap();
        for alarm in client.alarm(AlarmAction::Get, AlarmType::None, None).await.unwrap().alarms() {
            let mut options = AlarmOptions::new();
            options.with_member(alarm.member_id());
            client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(options)).await.unwrap();
        }
    }
}
