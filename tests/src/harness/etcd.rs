//! An etcd cluster of real processes on 127.0.0.1: one member or three, started, broken and brought back.
//!
//! Members sync their disk and use the default heartbeat (100 ms) and election (1 s) times, as a site's would: what is
//! measured and broken here should be what happens there.

mod certificates;
mod control;
#[cfg(test)]
mod tests;

use super::{Process, free_port};
use anyhow::{Context, bail, ensure};
use certificates::Certificates;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long members may take to serve, together. Generous: tests run beside builds.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a member may take to end after SIGTERM; it hands its leadership over first.
const STOP_LIMIT: Duration = Duration::from_secs(20);

const VARIABLE: &str = "MUSTER_TEST_ETCD";

/// The folder of `etcd` and `etcdctl`: `MUSTER_TEST_ETCD`, which the test command sets to what `tests/setup/etcd.sh`
/// prints, else the first folder on the path that has both.
///
/// # Errors
/// They are not there; the message says how to get them.
pub fn etcd_binaries() -> anyhow::Result<PathBuf> {
    let has_both = |folder: &Path| folder.join("etcd").is_file() && folder.join("etcdctl").is_file();
    if let Some(folder) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        let folder = PathBuf::from(folder);
        ensure!(
            has_both(&folder),
            "{VARIABLE}={} has no etcd and etcdctl: run `sh tests/setup/etcd.sh` and set it to the last line printed",
            folder.display()
        );
        return Ok(folder);
    }
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).find(|folder| has_both(folder)).context(
        "there is no etcd with its etcdctl: run `sh tests/setup/etcd.sh` and set MUSTER_TEST_ETCD to the last line printed",
    )
}

/// [`etcd_binaries`] for a test, which is named as not run if there are none.
///
/// # Panics
/// They are missing, and `REQUIRE_ALL=1` forbids that; or they are not where `MUSTER_TEST_ETCD` says.
#[must_use]
pub fn etcd_for_tests(test: &str) -> Option<PathBuf> {
    match etcd_binaries() {
        Ok(folder) => Some(folder),
        Err(error) => {
            let required = std::env::var("REQUIRE_ALL").is_ok_and(|value| value == "1");
            let named = std::env::var_os(VARIABLE).is_some_and(|value| !value.is_empty());
            assert!(!required && !named, "{test}: {error:#}");
            println!("NOT RUN: {test} on etcd: {error:#}");
            None
        }
    }
}

/// How a cluster is set up.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// 1 or 3.
    pub members: usize,
    /// Size at which the store refuses writes (NOSPACE); `None` is etcd's own default of 2 GiB.
    pub quota_backend_bytes: Option<u64>,
    /// Clients need TLS and a certificate of the cluster's own authority. Members talk plainly to each other.
    pub tls: bool,
    /// Clients need this user and password. It may read and write every key, and administer nothing (unless it is
    /// `root`); `root` has the same password, and is what [`EtcdCluster::ctl`] uses.
    pub auth: Option<(String, String)>,
    /// Where `etcd` and `etcdctl` are, see [`etcd_binaries`].
    pub binaries: PathBuf,
}

impl EtcdOptions {
    /// One plain member.
    #[must_use]
    pub fn new(binaries: PathBuf) -> Self {
        Self { members: 1, quota_backend_bytes: None, tls: false, auth: None, binaries }
    }
}

#[derive(Debug)]
struct Member {
    name: String,
    client_port: u16,
    peer_port: u16,
    /// `None` while it was killed or stopped on purpose.
    process: Option<Process>,
    paused: bool,
}

/// The members, by number from 0. Dropping it kills those that run, and waits until they are gone; their files stay in
/// the folder they were given.
#[derive(Debug)]
pub struct EtcdCluster {
    options: EtcdOptions,
    folder: PathBuf,
    members: Vec<Member>,
    certificates: Option<Certificates>,
    auth_enabled: bool,
}

impl EtcdCluster {
    /// Starts all members on new ports with their data under `folder`, which has none yet, and waits until they serve.
    ///
    /// # Errors
    /// The options make no cluster, or a member does not serve; the message has the end of its log.
    pub async fn start(options: EtcdOptions, folder: &Path) -> anyhow::Result<Self> {
        ensure!([1, 3].contains(&options.members), "an etcd cluster has 1 or 3 members, not {}", options.members);
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let certificates = options.tls.then(|| Certificates::make(&folder.join("certificates"))).transpose()?;
        let member = |number: usize| Member {
            name: format!("etcd-{number}"),
            client_port: free_port(),
            peer_port: free_port(),
            process: None,
            paused: false,
        };
        let members: Vec<Member> = (0..options.members).map(member).collect();
        let mut cluster = Self { options, folder: folder.to_owned(), members, certificates, auth_enabled: false };
        for number in 0..cluster.members.len() {
            cluster.launch(number)?;
        }
        cluster.wait_healthy().await?;
        cluster.enable_auth().await?;
        Ok(cluster)
    }

    /// URLs for clients, of all members, running or not.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        (0..self.members.len()).map(|number| self.endpoint(number)).collect()
    }

    /// The authority that signed the members' certificates; `None` without TLS.
    #[must_use]
    pub fn ca_file(&self) -> Option<&Path> {
        self.certificates.as_ref().map(|files| files.authority.as_path())
    }

    /// The certificate that clients show; `None` without TLS.
    #[must_use]
    pub fn client_certificate(&self) -> Option<&Path> {
        self.certificates.as_ref().map(|files| files.client.as_path())
    }

    /// Its key; `None` without TLS.
    #[must_use]
    pub fn client_key(&self) -> Option<&Path> {
        self.certificates.as_ref().map(|files| files.client_key.as_path())
    }

    /// Whether a member's process runs, paused or not.
    pub fn is_running(&mut self, member: usize) -> bool {
        self.members[member].process.as_mut().is_some_and(Process::is_running)
    }

    /// kill -9 of a member, paused or not.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill(&mut self, member: usize) -> anyhow::Result<()> {
        self.take(member)?.kill().await
    }

    /// SIGTERM of a member, and waits for its end.
    ///
    /// # Errors
    /// It does not run, or does not end in time.
    pub async fn stop(&mut self, member: usize) -> anyhow::Result<()> {
        let mut process = self.take(member)?;
        // A paused process takes no SIGTERM.
        process.signal(Signal::CONT)?;
        process.terminate(STOP_LIMIT).await?;
        Ok(())
    }

    /// SIGSTOP of a member: its connections stay open, and nothing answers.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&mut self, member: usize) -> anyhow::Result<()> {
        self.running(member)?.signal(Signal::STOP)?;
        self.members[member].paused = true;
        Ok(())
    }

    /// SIGCONT of a member.
    ///
    /// # Errors
    /// It does not run.
    pub fn resume(&mut self, member: usize) -> anyhow::Result<()> {
        self.running(member)?.signal(Signal::CONT)?;
        self.members[member].paused = false;
        Ok(())
    }

    /// Starts a member again on its ports and data, killing it first if it runs, and waits until it serves. That needs a
    /// quorum: to bring back several, [`Self::launch`] them and [`Self::wait_healthy`].
    ///
    /// # Errors
    /// It does not serve in time; the message has the end of its log.
    pub async fn restart(&mut self, member: usize) -> anyhow::Result<()> {
        if self.members[member].process.is_some() {
            self.kill(member).await?;
        }
        self.launch(member)?;
        self.wait_until_serving(member, tokio::time::Instant::now() + START_LIMIT).await
    }

    /// Starts a member on its ports and data, and waits for nothing.
    ///
    /// # Errors
    /// It runs already, or cannot be started.
    pub fn launch(&mut self, member: usize) -> anyhow::Result<()> {
        let Member { name, process, .. } = &self.members[member];
        ensure!(process.is_none(), "{name} runs already");
        let program = self.options.binaries.join("etcd");
        let log = self.folder.join(format!("{name}.log"));
        let process = Process::start(name, &program, self.arguments(member), &[], &log)?;
        self.members[member].process = Some(process);
        self.members[member].paused = false;
        Ok(())
    }

    /// Waits until every member serves that was not killed, stopped or paused.
    ///
    /// # Errors
    /// One does not in time, or has ended by itself; the message has the end of its log.
    pub async fn wait_healthy(&mut self) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + START_LIMIT;
        for member in self.reachable() {
            self.wait_until_serving(member, deadline).await?;
        }
        Ok(())
    }

    /// Until it answers a linearizable read, which needs a leader. `etcdctl endpoint health` is no good: it calls a
    /// member ill that merely has no space.
    async fn wait_until_serving(&mut self, member: usize, deadline: tokio::time::Instant) -> anyhow::Result<()> {
        let address = ("127.0.0.1", self.members[member].client_port);
        loop {
            let complaint = match tokio::net::TcpStream::connect(address).await {
                Ok(_) => match self.read_at(member).await {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                },
                Err(error) => error.into(),
            };
            let process = self.running(member)?;
            if !process.is_running() || tokio::time::Instant::now() > deadline {
                bail!("etcd-{member} does not serve: {complaint:#}\nits log ends:\n{}", process.log_tail());
            }
            // etcd tells nobody when it begins to serve; it is asked often.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn endpoint(&self, member: usize) -> String {
        let scheme = if self.options.tls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.members[member].client_port)
    }

    /// Members that run and are not paused.
    fn reachable(&self) -> Vec<usize> {
        let reachable = |number: &usize| self.members[*number].process.is_some() && !self.members[*number].paused;
        (0..self.members.len()).filter(reachable).collect()
    }

    fn running(&mut self, member: usize) -> anyhow::Result<&mut Process> {
        self.members[member].process.as_mut().with_context(|| format!("etcd-{member} does not run"))
    }

    fn take(&mut self, member: usize) -> anyhow::Result<Process> {
        self.members[member].paused = false;
        self.members[member].process.take().with_context(|| format!("etcd-{member} does not run"))
    }

    fn arguments(&self, number: usize) -> Vec<String> {
        let member = &self.members[number];
        let peers = self.members.iter().fold(String::new(), |mut peers, member| {
            let comma = if peers.is_empty() { "" } else { "," };
            write!(peers, "{comma}{}=http://127.0.0.1:{}", member.name, member.peer_port).ok();
            peers
        });
        let peer = format!("http://127.0.0.1:{}", member.peer_port);
        let client = self.endpoint(number);
        let mut arguments = vec![
            format!("--name={}", member.name),
            format!("--data-dir={}", self.folder.join(&member.name).display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={peers}"),
            // Members of another test that got hold of a port of ours must not join us: its first port is in the token.
            format!("--initial-cluster-token=muster-{}", self.members[0].peer_port),
            "--logger=zap".to_owned(),
        ];
        arguments.extend(self.options.quota_backend_bytes.map(|bytes| format!("--quota-backend-bytes={bytes}")));
        if let Some(files) = &self.certificates {
            arguments.push("--client-cert-auth".to_owned());
            arguments.push(format!("--trusted-ca-file={}", files.authority.display()));
            arguments.push(format!("--cert-file={}", files.server.display()));
            arguments.push(format!("--key-file={}", files.server_key.display()));
        }
        arguments
    }
}

impl Drop for EtcdCluster {
    /// Waits as well: a member that is still dying writes into a folder that its owner is about to remove.
    fn drop(&mut self) {
        let processes = self.members.iter().filter_map(|member| member.process.as_ref());
        let pids: Vec<u32> =
            processes.filter_map(|process| process.signal(Signal::KILL).ok().and(process.pid())).collect();
        for pid in pids.into_iter().filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            // The end is left to be reaped by whoever owns the process; one that was reaped already is an error.
            waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).ok();
        }
    }
}
