//! Everything that is done to the site. Each fault is whole: something breaks, stays broken, and is repaired.

use super::dockerd::Dockerd;
use crate::harness::{Direction, EtcdCluster, FaultProxy, Leader, Site};
use anyhow::{Context, ensure};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Nobody may lead for at most so long once nothing is broken (I13).
const LED_WITHIN: Duration = Duration::from_secs(15);
/// A fault that outlasts the lease of 5 s.
const PAST_LEASE: Duration = Duration::from_secs(7);

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Nemesis {
    KillLeader,
    KillFollower,
    HandOver,
    PauseLeader,
    KillMember,
    PauseEtcdLeader,
    LoseQuorum,
    CutWorkersToLeader,
    CutLeaderToWorkers,
    CutLeaderFromStore,
    HoldLeaderToStore,
    KillAgent,
    FillStore,
    StopDockerd,
    KillDockerd,
}

use Nemesis::{
    CutLeaderFromStore, CutLeaderToWorkers, CutWorkersToLeader, FillStore, HandOver, HoldLeaderToStore, KillAgent,
    KillDockerd, KillFollower, KillLeader, KillMember, LoseQuorum, PauseEtcdLeader, PauseLeader, StopDockerd,
};

/// The kinds that a run has; one that comes twice is wanted twice.
pub(super) fn all(short: bool, docker: bool) -> Vec<Nemesis> {
    let mut all = vec![KillLeader, HandOver, PauseLeader, KillMember, LoseQuorum, CutWorkersToLeader];
    all.extend([CutLeaderFromStore, KillAgent]);
    if docker {
        all.extend([StopDockerd, KillDockerd]);
    }
    if short {
        all.extend([KillLeader, KillLeader]);
    } else {
        all.extend([KillFollower, PauseEtcdLeader, CutLeaderToWorkers, HoldLeaderToStore, FillStore]);
    }
    all
}

impl Nemesis {
    pub(super) fn words(self) -> &'static str {
        match self {
            KillLeader => "leader killed with -9",
            KillFollower => "follower killed with -9",
            HandOver => "leader asked to stop",
            PauseLeader => "leader stopped past its lease, then continued",
            KillMember => "etcd member killed with -9",
            PauseEtcdLeader => "etcd's leader stopped for a while, then continued",
            LoseQuorum => "two etcd members killed at once",
            CutWorkersToLeader => "nothing passes from workers to the leader",
            CutLeaderToWorkers => "nothing passes from the leader to workers",
            CutLeaderFromStore => "leader cut off from etcd past its lease",
            HoldLeaderToStore => "nothing passes from the leader to etcd, past its lease",
            KillAgent => "worker agent killed with -9 over live ranks",
            FillStore => "etcd full (NOSPACE) for a while",
            StopDockerd => "dockerd stopped and started",
            KillDockerd => "dockerd killed with -9 and started",
        }
    }
}

/// What came of one.
#[derive(Clone, Debug)]
pub(super) struct Struck {
    pub(super) nemesis: Nemesis,
    /// Details for the reader.
    detail: String,
    /// From the kill or the request to stop until another one led.
    pub(super) gap: Option<Duration>,
}

impl Struck {
    pub(super) fn words(&self) -> String {
        let gap = self.gap.map(|gap| format!("; nobody led for {} ms", gap.as_millis())).unwrap_or_default();
        format!("{}: {}{gap}", self.nemesis.words(), self.detail)
    }
}

/// Breaks, waits, repairs; when it answers, somebody leads.
pub(super) async fn strike(
    nemesis: Nemesis,
    site: &mut Site,
    dockerd: Option<&mut Dockerd>,
    random: &mut StdRng,
) -> anyhow::Result<Struck> {
    let leader = site.wait_for_leader(None, LED_WITHIN).await?;
    let mut gap = None;
    let hold = Duration::from_millis(random.random_range(2_500..4_500));
    let detail = match nemesis {
        KillLeader => {
            let begin = Instant::now();
            site.kill_named(&leader.name).await?;
            gap = Some(next_leader(site, &leader, begin).await?);
            back(site, &leader.name, random).await?
        }
        KillFollower => {
            let followers: Vec<String> =
                site.coordinator_names().into_iter().filter(|name| *name != leader.name).collect();
            let follower = followers.choose(random).context("there are followers")?;
            site.kill_named(follower).await?;
            back(site, follower, random).await?
        }
        HandOver => {
            let begin = Instant::now();
            site.coordinators[&leader.name].signal(rustix::process::Signal::TERM)?;
            gap = Some(next_leader(site, &leader, begin).await?);
            let mut stopped = site.coordinators.remove(&leader.name).context("it runs")?;
            let status = stopped.ended(LED_WITHIN).await?;
            ensure!(status.success(), "{} ended with {status}:\n{}", leader.name, stopped.log_tail());
            back(site, &leader.name, random).await?
        }
        PauseLeader => {
            site.pause(&leader.name)?;
            let next = site.wait_for_leader(Some(&leader), PAST_LEASE + LED_WITHIN).await?;
            sleep(hold).await;
            site.resume(&leader.name)?;
            format!("{}, while {} took over", leader.name, next.name)
        }
        KillMember => {
            let etcd = etcd(site)?;
            let member = random.random_range(0..etcd.endpoints().len());
            etcd.kill(member).await?;
            sleep(hold).await;
            etcd.restart(member).await?;
            format!("member {member}, away for {} ms", hold.as_millis())
        }
        PauseEtcdLeader => {
            let etcd = etcd(site)?;
            let member = etcd.leader().await?;
            etcd.pause(member)?;
            sleep(hold).await;
            etcd.resume(member)?;
            format!("member {member}, for {} ms", hold.as_millis())
        }
        LoseQuorum => lose_quorum(etcd(site)?, hold, random).await?,
        CutWorkersToLeader => hold_fleet(site, &leader, Direction::ToTarget, hold).await?,
        CutLeaderToWorkers => hold_fleet(site, &leader, Direction::FromTarget, hold).await?,
        CutLeaderFromStore => cut_store(site, &leader, FaultProxy::cut).await?,
        HoldLeaderToStore => cut_store(site, &leader, |proxy| proxy.blackhole(Direction::ToTarget)).await?,
        KillAgent => kill_agent(site, hold).await?,
        FillStore => {
            let etcd = etcd(site)?;
            etcd.fill().await?;
            sleep(hold).await;
            etcd.make_room().await?;
            format!("for {} ms", hold.as_millis())
        }
        StopDockerd => dockerd.context("there is a dockerd")?.stop_and_start(hold).await?,
        KillDockerd => dockerd.context("there is a dockerd")?.kill_and_start(hold).await?,
    };
    site.wait_for_leader(None, LED_WITHIN).await?;
    Ok(Struck { nemesis, detail, gap })
}

fn etcd(site: &mut Site) -> anyhow::Result<&mut EtcdCluster> {
    site.etcd.as_mut().context("the site has an etcd cluster")
}

async fn next_leader(site: &Site, old: &Leader, begin: Instant) -> anyhow::Result<Duration> {
    site.wait_for_leader(Some(old), LED_WITHIN).await?;
    Ok(begin.elapsed())
}

/// Starts a coordinator again after a while.
async fn back(site: &mut Site, name: &str, random: &mut StdRng) -> anyhow::Result<String> {
    let away = Duration::from_millis(random.random_range(200..2_000));
    sleep(away).await;
    site.start_named(name).await?;
    Ok(format!("{name}, away for {} ms", away.as_millis()))
}

async fn lose_quorum(etcd: &mut EtcdCluster, hold: Duration, random: &mut StdRng) -> anyhow::Result<String> {
    let members = etcd.endpoints().len();
    let first = random.random_range(0..members);
    let pair = [first, (first + 1) % members];
    for member in pair {
        etcd.kill(member).await?;
    }
    sleep(hold * 2).await;
    for member in pair {
        etcd.launch(member)?;
    }
    etcd.wait_healthy().await?;
    Ok(format!("members {pair:?}, away for {} ms", hold.as_millis() * 2))
}

async fn hold_fleet(site: &Site, leader: &Leader, way: Direction, hold: Duration) -> anyhow::Result<String> {
    let fleet = &site.links(&leader.name)?.fleet;
    fleet.blackhole(way);
    sleep(hold * 2).await;
    fleet.heal();
    Ok(format!("{}, for {} ms", leader.name, hold.as_millis() * 2))
}

async fn cut_store(site: &Site, leader: &Leader, cut: impl Fn(&FaultProxy)) -> anyhow::Result<String> {
    let store = &site.links(&leader.name)?.store;
    store.iter().for_each(cut);
    let next = site.wait_for_leader(Some(leader), PAST_LEASE + LED_WITHIN).await;
    store.iter().for_each(FaultProxy::heal);
    Ok(format!("{}, until {} led", leader.name, next?.name))
}

/// The agent with the most live ranks.
async fn kill_agent(site: &mut Site, hold: Duration) -> anyhow::Result<String> {
    let live = site.rank_source().look().await.live;
    let on = |node: &String| live.iter().filter(|rank| rank.node == *node).count();
    let node = site.worker_names().into_iter().max_by_key(on).context("there are workers")?;
    let ranks = on(&node);
    site.kill_worker(&node).await?;
    sleep(hold).await;
    site.start_worker(&node)?;
    Ok(format!("{node}, over {ranks} ranks, away for {} ms", hold.as_millis()))
}
