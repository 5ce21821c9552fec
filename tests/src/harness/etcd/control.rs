//! What is done to a cluster through etcdctl: users, reads, filling it and making room again.

use super::EtcdCluster;
use anyhow::{Context, bail, ensure};
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Where [`EtcdCluster::fill`] puts its junk: no prefix of Muster's.
const JUNK: &str = "muster-test-junk/";
/// Size of one piece of junk. Small enough to end close below the quota, where Muster's own budget has long said no.
const JUNK_BYTES: usize = 256 * 1024;
/// How long etcdctl may take in all; it bounds itself before that.
const CONTROL_LIMIT: Duration = Duration::from_secs(30);

impl EtcdCluster {
    /// Runs etcdctl as administrator against every member that runs and is not paused. Flags of one's own (other
    /// `--endpoints`, a shorter `--command-timeout`) win.
    ///
    /// # Errors
    /// It cannot be run or does not end. That it failed is in the output.
    pub async fn ctl(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        self.ctl_with_input(arguments, Vec::new()).await
    }

    /// The number of the member that leads, as the reachable ones see it.
    ///
    /// # Errors
    /// None does, or nobody answers.
    pub async fn leader(&self) -> anyhow::Result<usize> {
        for member in self.reachable() {
            let arguments = ["endpoint", "status", "--write-out=json", "--endpoints", &self.endpoint(member)];
            let Ok(text) = printed(self.ctl(&arguments).await?) else { continue };
            let status = serde_json::from_str::<serde_json::Value>(&text)?;
            let status = &status[0]["Status"];
            if status["leader"].is_u64() && status["leader"] == status["header"]["member_id"] {
                return Ok(member);
            }
        }
        bail!("no etcd member that can be reached leads")
    }

    /// Puts junk until the store refuses every write with NOSPACE. Needs a quota among the options.
    ///
    /// # Errors
    /// There is no quota, or no alarm after more junk than fits.
    pub async fn fill(&self) -> anyhow::Result<()> {
        let quota = self.options.quota_backend_bytes.context("fill needs quota_backend_bytes: 2 GiB take too long")?;
        let pieces = usize::try_from(quota)? / JUNK_BYTES + 2;
        for piece in 0..pieces {
            let output = self.ctl_with_input(&["put", &format!("{JUNK}{piece:06}")], vec![b'x'; JUNK_BYTES]).await?;
            match printed(output) {
                Ok(_) => {}
                Err(error) if error.to_string().contains("database space exceeded") => {
                    // The answer comes before the alarm has gone through the log.
                    return self.wait_for_alarm(true).await;
                }
                Err(error) => return Err(error),
            }
        }
        bail!("etcd took {pieces} pieces of {JUNK_BYTES} bytes, more than its quota of {quota}")
    }

    /// What an operator does after NOSPACE: deletes the junk, compacts, defragments every reachable member and clears
    /// the alarm.
    ///
    /// # Errors
    /// A step fails, or the alarm comes back.
    pub async fn make_room(&self) -> anyhow::Result<()> {
        printed(self.ctl(&["del", "--prefix", JUNK]).await?)?;
        let answer = printed(self.ctl(&["get", JUNK, "--write-out=json"]).await?)?;
        let answer = serde_json::from_str::<serde_json::Value>(&answer)?;
        let revision = answer["header"]["revision"].as_u64().context("etcd's answer has a revision")?.to_string();
        printed(self.ctl(&["compact", "--physical", &revision]).await?)?;
        for member in self.reachable() {
            printed(self.ctl(&["defrag", "--endpoints", &self.endpoint(member)]).await?)?;
        }
        printed(self.ctl(&["alarm", "disarm"]).await?)?;
        self.wait_for_alarm(false).await
    }

    /// One linearizable read, answered by this member.
    pub(super) async fn read_at(&self, member: usize) -> anyhow::Result<()> {
        let arguments = ["get", JUNK, "--command-timeout=3s", "--endpoints", &self.endpoint(member)];
        printed(self.ctl(&arguments).await?).map(drop)
    }

    pub(super) async fn enable_auth(&mut self) -> anyhow::Result<()> {
        let Some((user, password)) = self.options.auth.clone() else { return Ok(()) };
        printed(self.ctl(&["user", "add", &format!("root:{password}")]).await?)?;
        if user != "root" {
            printed(self.ctl(&["user", "add", &format!("{user}:{password}")]).await?)?;
            printed(self.ctl(&["role", "add", "everything"]).await?)?;
            printed(self.ctl(&["role", "grant-permission", "everything", "readwrite", "--prefix=true", ""]).await?)?;
            printed(self.ctl(&["user", "grant-role", &user, "everything"]).await?)?;
        }
        // etcdctl gives root its role first.
        printed(self.ctl(&["auth", "enable"]).await?)?;
        self.auth_enabled = true;
        Ok(())
    }

    async fn wait_for_alarm(&self, raised: bool) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + CONTROL_LIMIT;
        loop {
            let alarms = printed(self.ctl(&["alarm", "list"]).await?)?;
            if alarms.contains("NOSPACE") == raised {
                return Ok(());
            }
            ensure!(
                tokio::time::Instant::now() < deadline,
                "the NOSPACE alarm should be {}: {alarms:?}",
                if raised { "raised" } else { "cleared" }
            );
            // etcdctl cannot wait for an alarm; it is asked often.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn ctl_with_input(&self, arguments: &[&str], input: Vec<u8>) -> anyhow::Result<Output> {
        let mut flags = vec!["--dial-timeout=3s".to_owned(), "--command-timeout=10s".to_owned()];
        // Given twice, etcdctl would ask the endpoints of both.
        if !arguments.iter().any(|argument| argument.starts_with("--endpoints")) {
            let endpoints: Vec<String> = self.reachable().into_iter().map(|member| self.endpoint(member)).collect();
            ensure!(!endpoints.is_empty(), "no etcd member runs that etcdctl {arguments:?} could ask");
            flags.push(format!("--endpoints={}", endpoints.join(",")));
        }
        if let Some(files) = &self.certificates {
            flags.push(format!("--cacert={}", files.authority.display()));
            flags.push(format!("--cert={}", files.client.display()));
            flags.push(format!("--key={}", files.client_key.display()));
        }
        if let Some((_, password)) = self.options.auth.as_ref().filter(|_| self.auth_enabled) {
            flags.push(format!("--user=root:{password}"));
        }
        // A variable of the developer's own (ETCDCTL_ENDPOINTS) would clash with a flag. ETCDCTL_API is not needed: 3 is the
        // default since etcd 3.4, and 3.6 grumbles about it.
        let mut child = Command::new(self.options.binaries.join("etcdctl"))
            .env_clear()
            .args(flags)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start etcdctl")?;
        let mut stdin = child.stdin.take().context("etcdctl has an input")?;
        let run = async {
            // It may end without having read all: its output says why.
            stdin.write_all(&input).await.ok();
            drop(stdin);
            child.wait_with_output().await
        };
        let output = tokio::time::timeout(CONTROL_LIMIT, run).await;
        Ok(output.with_context(|| format!("etcdctl {arguments:?} still runs after {CONTROL_LIMIT:?}"))??)
    }
}

/// What etcdctl printed.
///
/// # Errors
/// It failed; the message is its complaint.
fn printed(output: Output) -> anyhow::Result<String> {
    ensure!(output.status.success(), "etcdctl: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout)?)
}
