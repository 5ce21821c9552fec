//! The ranks that live, seen without asking anybody of Muster: processes in /proc, containers at the engine.

use super::Engine;
use anyhow::Context;
use bollard::Docker;
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptions};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

/// One rank that lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LiveRank {
    /// Where it lives.
    pub node: String,
    /// Its job.
    pub job: String,
    /// Its number.
    pub rank: u32,
    /// The attempt it belongs to.
    pub attempt: u32,
    /// The process or container, and when it was started: another one of the same rank has another.
    pub identity: String,
}

/// Where to look.
#[derive(Clone, Debug)]
pub struct RankSource {
    /// The site's folder.
    pub folder: PathBuf,
    /// The workers by name, and what runs their ranks.
    pub nodes: BTreeMap<String, Engine>,
    /// The cluster's name.
    pub cluster: String,
}

/// What was seen at one moment.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// The ranks that live. The fake engine has nothing to show.
    pub live: Vec<LiveRank>,
    /// Why a container engine could not be asked; its ranks are missing.
    pub blind: Option<String>,
}

impl RankSource {
    /// Looks at all ranks.
    pub async fn look(&self) -> Look {
        let source = self.clone();
        let processes = tokio::task::spawn_blocking(move || source.processes());
        let mut look = Look { live: processes.await.unwrap_or_default(), blind: None };
        let sockets: BTreeSet<&String> = self.nodes.values().filter_map(Engine::socket).collect();
        for socket in sockets {
            match self.containers(socket).await {
                Ok(live) => look.live.extend(live),
                Err(error) => look.blind = Some(format!("{socket}: {error:#}")),
            }
        }
        look
    }

    fn processes(&self) -> Vec<LiveRank> {
        let nodes = self.nodes.iter().filter(|(_, engine)| **engine == Engine::Process);
        let ranks_of = |node: &str| std::fs::read_dir(self.folder.join(node).join("process/ranks"));
        let ranks = nodes.filter_map(|(node, _)| Some((node, ranks_of(node).ok()?)));
        ranks.flat_map(|(node, ranks)| ranks.flatten().filter_map(|entry| live_process(node, &entry.path()))).collect()
    }

    async fn containers(&self, socket: &str) -> anyhow::Result<Vec<LiveRank>> {
        let docker = Docker::connect_with_unix(socket, 5, bollard::API_DEFAULT_VERSION)?;
        let labels = vec![format!("muster.cluster={}", self.cluster), "muster.rank".to_owned()];
        let filters = HashMap::from([("label".to_owned(), labels), ("status".to_owned(), vec!["running".to_owned()])]);
        let options = ListContainersOptions { filters: Some(filters), ..ListContainersOptions::default() };
        let mut live = Vec::new();
        for container in docker.list_containers(Some(options)).await? {
            let (Some(id), Some(labels)) = (container.id, container.labels) else { continue };
            let label = |name: &str| labels.get(name).with_context(|| format!("container {id} has no label {name}"));
            let state = docker.inspect_container(&id, None::<InspectContainerOptions>).await;
            // It may have ended and been removed in between.
            let Some(state) = state.ok().and_then(|container| container.state) else { continue };
            live.push(LiveRank {
                node: label("muster.node")?.clone(),
                job: label("muster.job")?.clone(),
                rank: label("muster.rank")?.parse()?,
                attempt: label("muster.attempt")?.parse()?,
                identity: format!("{id} since {}", state.started_at.unwrap_or_default()),
            });
        }
        Ok(live)
    }
}

/// A rank of the process engine whose first process lives; its folder is named after job, rank and attempt.
fn live_process(node: &str, folder: &Path) -> Option<LiveRank> {
    let mut parts = folder.file_name()?.to_str()?.rsplitn(3, '-');
    let (attempt, rank, job) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.to_owned());
    let record: Value = serde_json::from_slice(&std::fs::read(folder.join("run.json")).ok()?).ok()?;
    let (pid, ticks) = (record["first"]["pid"].as_i64()?, record["first"]["start_ticks"].as_u64()?);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which may contain anything: the state is the third field, the start the twenty-second.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let is_zombie = fields.next()? == "Z";
    let is_same = fields.nth(18)?.parse::<u64>().ok()? == ticks;
    let identity = format!("{pid} since tick {ticks}");
    (is_same && !is_zombie).then(|| LiveRank { node: node.to_owned(), job, rank, attempt, identity })
}

/// Job and rank.
type Pair = (String, u32);

/// What was seen over time.
#[derive(Clone, Debug, Default)]
pub struct RanksSeen {
    /// How often it was looked.
    pub looks: u64,
    /// How often the container engine did not answer.
    pub blind: u64,
    /// Everything that ever lived as a rank: its attempts and processes or containers.
    pub lives: BTreeMap<Pair, BTreeSet<(u32, String)>>,
    /// Ranks that lived more than once at one look, in words.
    pub doubles: BTreeSet<String>,
}

impl RanksSeen {
    fn note(&mut self, live: Vec<LiveRank>) {
        self.looks += 1;
        let mut now: BTreeMap<Pair, BTreeSet<(u32, String)>> = BTreeMap::new();
        for rank in live {
            now.entry((rank.job, rank.rank)).or_default().insert((rank.attempt, rank.identity));
        }
        for (pair, lives) in now {
            if lives.len() > 1 {
                self.doubles.insert(format!("job {} rank {}: {lives:?}", pair.0, pair.1));
            }
            self.lives.entry(pair).or_default().extend(lives);
        }
    }

    /// Attempts of a rank that had more than one process or container, in words: somebody started it again.
    #[must_use]
    pub fn restarts(&self) -> Vec<String> {
        let restarted = |lives: &BTreeSet<(u32, String)>| {
            let attempts: BTreeSet<u32> = lives.iter().map(|(attempt, _)| *attempt).collect();
            attempts.len() < lives.len()
        };
        let lives = self.lives.iter().filter(|(_, lives)| restarted(lives));
        lives.map(|((job, rank), lives)| format!("job {job} rank {rank}: {lives:?}")).collect()
    }
}

/// Looks at all ranks ten times a second.
#[derive(Debug)]
pub struct RankWatch {
    seen: Arc<Mutex<RanksSeen>>,
    task: JoinHandle<()>,
}

impl RankWatch {
    /// Looks from now on.
    #[must_use]
    pub fn start(source: RankSource) -> Self {
        let seen = Arc::new(Mutex::new(RanksSeen::default()));
        let notes = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(100));
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let look = source.look().await;
                let mut seen = notes.lock().unwrap_or_else(PoisonError::into_inner);
                seen.blind += u64::from(look.blind.is_some());
                seen.note(look.live);
            }
        });
        Self { seen, task }
    }

    /// What was seen so far.
    #[must_use]
    pub fn seen(&self) -> RanksSeen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for RankWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_lives_at_once_are_seen_and_so_is_a_restart() {
        let life = |attempt, identity: &str| LiveRank {
            node: "node-1".to_owned(),
            job: "7".to_owned(),
            rank: 0,
            attempt,
            identity: identity.to_owned(),
        };
        let mut seen = RanksSeen::default();
        seen.note(vec![life(1, "a")]);
        seen.note(vec![life(2, "b")]);
        assert!(seen.doubles.is_empty() && seen.restarts().is_empty(), "another attempt is no restart");
        seen.note(vec![life(2, "c")]);
        assert_eq!(seen.restarts().len(), 1);
        seen.note(vec![life(2, "c"), life(3, "d")]);
        assert_eq!(seen.doubles.len(), 1);
    }

    #[test]
    fn the_process_that_runs_this_test_lives_and_a_later_one_of_its_number_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let rank = folder.path().join("a-job-3-1");
        std::fs::create_dir(&rank).unwrap();
        let pid = std::process::id();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let ticks: u64 = stat[stat.rfind(')').unwrap()..].split(' ').nth(20).unwrap().parse().unwrap();
        let record = |ticks: u64| serde_json::json!({"first": {"pid": pid, "start_ticks": ticks}}).to_string();
        std::fs::write(rank.join("run.json"), record(ticks)).unwrap();
        let live = live_process("node-1", &rank).unwrap();
        assert_eq!((live.job.as_str(), live.rank, live.attempt), ("a-job", 3, 1));
        std::fs::write(rank.join("run.json"), record(ticks + 1)).unwrap();
        assert_eq!(live_process("node-1", &rank), None);
    }
}
