//! Who led when, as the coordinators' health pages said.

use super::Site;
use super::cluster::health;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How often each coordinator is asked.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// One coordinator's leadership in one term.
#[derive(Clone, Debug)]
pub struct Reign {
    /// The fencing token.
    pub term: u64,
    /// Who led.
    pub name: String,
    /// When it first said so.
    pub from: Instant,
    /// When it last said so.
    pub to: Instant,
}

/// Asks every coordinator twenty times a second whether it leads, each on its own: one that does not answer holds up no other.
#[derive(Debug)]
pub struct ReignWatch {
    reigns: Arc<Mutex<Vec<Reign>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl ReignWatch {
    /// Asks from now on.
    #[must_use]
    pub fn start(site: &Site) -> Self {
        let reigns = Arc::new(Mutex::new(Vec::new()));
        let ask =
            |(name, url): (String, String)| tokio::spawn(ask(name, url, site.client.clone(), Arc::clone(&reigns)));
        let tasks = site.health_urls().into_iter().map(ask).collect();
        Self { reigns, tasks }
    }

    /// All so far, by term.
    #[must_use]
    pub fn reigns(&self) -> Vec<Reign> {
        let mut reigns = self.reigns.lock().unwrap_or_else(PoisonError::into_inner).clone();
        reigns.sort_by_key(|reign| (reign.term, reign.from));
        reigns
    }
}

impl Drop for ReignWatch {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn ask(name: String, url: String, client: reqwest::Client, reigns: Arc<Mutex<Vec<Reign>>>) {
    let mut ticks = tokio::time::interval(ASK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(term) = health(&client, &url).await.and_then(|health| health.leads_in()) else { continue };
        let now = Instant::now();
        let mut reigns = reigns.lock().unwrap_or_else(PoisonError::into_inner);
        match reigns.iter_mut().rev().find(|reign| reign.name == name && reign.term == term) {
            Some(reign) => reign.to = now,
            None => reigns.push(Reign { term, name: name.clone(), from: now, to: now }),
        }
    }
}
