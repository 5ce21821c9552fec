//! What operators see of a site: the API and `muster`, asked at whichever coordinator answers.

use super::{Site, binary};
use anyhow::{Context, bail};
use muster_domain::view::{ClusterView, JobStory, JobView, NodeView};
use serde::de::DeserializeOwned;
use std::process::Output;
use std::time::Duration;

impl Site {
    /// Base URL of the operators' side of a coordinator that runs; of the first if none does.
    #[must_use]
    pub fn operator_url(&self) -> String {
        let running = self.answering().into_iter().next().map(|(_, url)| url);
        running.or_else(|| self.coordinator_names().first().map(|name| self.operator_url_of(name))).unwrap_or_default()
    }

    /// Asks the operators' API, at each coordinator that runs until one answers.
    ///
    /// # Errors
    /// None answers, or not with what was expected; the last one's complaint.
    pub async fn operator<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let mut complaint = anyhow::anyhow!("no coordinator runs that could be asked for {path}");
        for (name, url) in self.answering() {
            match self.ask(&url, path).await {
                Ok(answer) => return Ok(answer),
                Err(error) => complaint = error.context(name),
            }
        }
        Err(complaint)
    }

    /// Asks one coordinator's operators' API.
    ///
    /// # Errors
    /// It does not answer, or not with what was expected.
    pub async fn operator_of<T: DeserializeOwned>(&self, name: &str, path: &str) -> anyhow::Result<T> {
        self.ask(&self.operator_url_of(name), path).await
    }

    async fn ask<T: DeserializeOwned>(&self, url: &str, path: &str) -> anyhow::Result<T> {
        let answer = self.client.get(format!("{url}{path}")).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// Asks the operators' API until the answer is as wanted.
    ///
    /// # Errors
    /// It is not, in time; the message has the last answer.
    pub async fn wait_for_operator<T: DeserializeOwned + std::fmt::Debug>(
        &self,
        path: &str,
        wanted: impl Fn(&T) -> bool,
        limit: Duration,
    ) -> anyhow::Result<T> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let answer = self.operator::<T>(path).await;
            match answer {
                Ok(value) if wanted(&value) => return Ok(value),
                answer if tokio::time::Instant::now() > deadline => {
                    bail!("{path} is not as wanted in {limit:?}: {answer:?}")
                }
                // The operators' API has no stream of changes; it is asked often.
                _ => tokio::time::sleep(Duration::from_millis(30)).await,
            }
        }
    }

    /// A job's whole story, as `muster job ID` gets it.
    ///
    /// # Errors
    /// No coordinator answers, or knows the job.
    pub async fn story(&self, job: &str) -> anyhow::Result<JobStory> {
        self.operator(&format!("/v1/jobs/{job}")).await
    }

    /// Waits until the coordinator sees a job in this state.
    ///
    /// # Errors
    /// It does not, in time.
    pub async fn wait_for_state(&self, job: &str, state: &str, limit: Duration) -> anyhow::Result<JobStory> {
        let path = format!("/v1/jobs/{job}");
        self.wait_for_operator(&path, |story: &JobStory| story.job.state == state, limit).await
    }

    /// Waits until nothing is owed to Core, no job holds room, and every job Core knows is final.
    ///
    /// # Errors
    /// It is not so in time; the message has what is left.
    pub async fn wait_until_settled(&self, limit: Duration) -> anyhow::Result<()> {
        let settled =
            |cluster: &ClusterView| cluster.owed_to_core == 0 && cluster.jobs_active + cluster.jobs_waiting == 0;
        let cluster = self.wait_for_operator("/v1/cluster", settled, limit).await;
        if let Err(error) = cluster {
            let jobs: Vec<JobView> = self.operator("/v1/jobs").await.unwrap_or_default();
            bail!("{error:#}\nopen jobs: {:?}", jobs.iter().filter(|job| job.state != "ended").collect::<Vec<_>>());
        }
        let freed = |nodes: &Vec<NodeView>| nodes.iter().all(|node| node.ranks.is_empty());
        self.wait_for_operator("/v1/nodes", freed, limit).await?;
        Ok(())
    }

    /// Runs `muster` with these arguments and gives what it printed.
    ///
    /// # Errors
    /// It fails; the message has its complaint.
    pub async fn muster(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.muster_output(arguments).await?;
        if !output.status.success() {
            bail!("muster {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs `muster` with these arguments.
    ///
    /// # Errors
    /// It cannot be run. That it failed is in the output.
    pub async fn muster_output(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let mut command = tokio::process::Command::new(binary("muster")?);
        let output = command.args(["--url", &self.operator_url()]).args(arguments).output();
        output.await.context("run muster")
    }
}
