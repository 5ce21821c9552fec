//! The thread that runs the rules of [`muster_domain::leadership`]: answers and time go in, effects come out and are
//! performed as tasks of this thread's own runtime, over connections of its own.

mod proofs;
mod pulse;
mod requests;
mod role;

use super::MetaSeen;
use super::client::{Access, Etcd};
use super::diagnosis::Diagnosis;
use super::election::Command;
use super::keys::Keys;
use super::leader::Entry;
use super::leading::Leading;
use super::probe;
use super::registration;
use crate::election::Standing;
use muster_domain::leadership::{LeadershipEvent, LeadershipSettings, LeaseId};
use muster_domain::time::Moment;
use muster_runtime::clock::boottime;
pub(super) use requests::keep_alive;
use requests::{Answer, Requests};
use role::Part;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// The longest sleep: a suspended machine is noticed after at most this time, since sleeps do not count while suspended.
const LONGEST_SLEEP_MS: u64 = 500;
/// From this on, an operator is told that the thread woke up late: keepalives are late then too.
const LATE_MS: u64 = 500;

/// What the thread works with.
pub(super) struct Setting {
    pub(super) access: Access,
    pub(super) keys: Keys,
    pub(super) me: Entry,
    pub(super) meta: MetaSeen,
    /// The lease of this coordinator's name.
    pub(super) name_lease: LeaseId,
    /// Time to live of leases, as etcd counts it.
    pub(super) ttl_s: i64,
    /// Time to live as we count it.
    pub(super) lease_ttl_ms: u64,
    pub(super) leading: Arc<Leading>,
    /// What operators are told of etcd.
    pub(super) diagnosis: Diagnosis,
}

impl Setting {
    /// The times of an election, from the one that operators set.
    fn times(&self) -> LeadershipSettings {
        let (settings, lease_ttl_ms) = (LeadershipSettings::default(), self.lease_ttl_ms);
        let keepalive_ms = (lease_ttl_ms.saturating_sub(settings.margin_ms) / 4).min(settings.keepalive_ms);
        LeadershipSettings { lease_ttl_ms, keepalive_ms, ..settings }
    }
}

/// Ends the leadership with the thread that keeps it, whatever ends the thread.
struct LostAtEnd(Arc<Leading>);

impl Drop for LostAtEnd {
    fn drop(&mut self) {
        if let Some(leadership) = self.0.get() {
            leadership.validity.set(Moment(0));
            leadership.lost.cancel();
        }
        self.0.set(None);
    }
}

/// Starts the thread; it ends when `gone` is cancelled.
pub(super) fn start(
    setting: Setting,
    commands: mpsc::UnboundedReceiver<Command>,
    standing: watch::Sender<Standing>,
    gone: CancellationToken,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let dispatch = tracing::dispatcher::get_default(Clone::clone);
    let lost = LostAtEnd(Arc::clone(&setting.leading));
    let run = move || {
        let _lost = lost;
        tracing::dispatcher::with_default(&dispatch, || {
            runtime.block_on(gone.run_until_cancelled(run(setting, commands, standing)));
        });
    };
    std::thread::Builder::new().name("election".to_owned()).spawn(run)?;
    Ok(())
}

async fn run(setting: Setting, mut commands: mpsc::UnboundedReceiver<Command>, standing: watch::Sender<Standing>) {
    let (answers, mut answered) = mpsc::unbounded_channel();
    let (reports, mut absences) = mpsc::unbounded_channel();
    let (targets, target) = watch::channel(None);
    let etcd = Etcd::new(setting.access.clone());
    let requests = Requests {
        etcd: etcd.clone(),
        keepalives: Etcd::new(setting.access.clone()),
        keys: setting.keys.clone(),
        me: setting.me.clone(),
        ttl_s: setting.ttl_s,
        answers: answers.clone(),
        diagnosis: setting.diagnosis.clone(),
    };
    // They end with this runtime; one that ends before has failed.
    let mut tasks = JoinSet::new();
    tasks.spawn(probe::watch(setting.me.clone(), target, reports));
    tasks.spawn(requests::watch_leader(etcd.clone(), setting.keys.clone(), answers.clone()));
    let resigned = CancellationToken::new();
    let keeping = registration::keep(registration::Name {
        etcd: Etcd::new(setting.access.clone()),
        keys: setting.keys.clone(),
        me: setting.me.clone(),
        ttl_s: setting.ttl_s,
        lease: setting.name_lease,
        resigned: resigned.clone(),
    });
    let name_lost = answers.clone();
    tasks.spawn(async move {
        let answer = keeping.await.map_or_else(Answer::NameLost, |()| Answer::NameReleased);
        // Nobody listens when the thread ends.
        let _ = name_lost.send(answer);
    });
    let mut part = Part::new(&setting, requests, standing, targets, resigned);
    part.apply(LeadershipEvent::Tick);
    loop {
        let due = due(&part);
        let sleep = Duration::from_millis(due.since_ms(boottime()));
        tokio::select! {
            Some(command) = commands.recv() => part.on_command(command),
            Some(answer) = answered.recv() => part.on_answer(answer),
            Some(revision) = absences.recv() => part.on_absence(revision),
            Some(Err(failed)) = tasks.join_next() => part.break_off(words_of(&failed)),
            () = tokio::time::sleep(sleep) => on_time(&mut part, due),
        }
    }
}

fn due(part: &Part) -> Moment {
    let now = boottime();
    let latest = now.plus_ms(LONGEST_SLEEP_MS);
    // A wake-up in the past cannot spin: the rules move it on at the next tick, and a millisecond passes.
    part.next_wakeup().map_or(latest, |wakeup| wakeup.max(now.plus_ms(1)).min(latest))
}

fn on_time(part: &mut Part, due: Moment) {
    let late_ms = boottime().since_ms(due);
    if late_ms > LATE_MS {
        tracing::warn!(
            late_ms,
            "the election woke up late: this machine was suspended or is overloaded, and may lose its leadership"
        );
    }
    part.tick();
}

fn words_of(failed: &JoinError) -> String {
    format!("a task of the election failed, start this coordinator again: {failed}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::{Leadership, Validity};

    #[test]
    fn a_leadership_is_lost_when_its_thread_ends_whatever_ends_it() {
        let leading = Arc::new(Leading::default());
        let lost = CancellationToken::new();
        let leadership = Leadership { term: 1, lost: lost.clone(), validity: Validity::unbounded() };
        leading.set(Some(leadership.clone()));
        let guard = LostAtEnd(Arc::clone(&leading));
        let thread = std::thread::spawn(move || {
            let _guard = guard;
            panic!("as a fault would");
        });
        assert!(thread.join().is_err());
        assert!(lost.is_cancelled() && !leadership.validity.holds(boottime()) && leading.get().is_none());
    }
}
