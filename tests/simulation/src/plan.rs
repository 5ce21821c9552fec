//! What one seed draws before anything happens: the size of the world, its jobs, and what will go wrong when.

use crate::fault::{CrashPoint, Fault};
use crate::mutant::Workload;
use crate::random::Random;

/// Times a thousand: how often single messages and calls go wrong while faults are on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chances {
    pub(crate) loss: u64,
    pub(crate) duplicate: u64,
    pub(crate) delay: u64,
    pub(crate) delay_most_ms: u64,
    pub(crate) stream_break: u64,
    pub(crate) store_request_lost: u64,
    pub(crate) store_reply_lost: u64,
    pub(crate) stale_look: u64,
    pub(crate) engine_no_answer: u64,
    pub(crate) engine_done_unanswered: u64,
    pub(crate) engine_refuses: u64,
    pub(crate) core_answer_lost: u64,
    pub(crate) core_rejects: u64,
}

/// One fault that comes at a time of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    pub(crate) at: u64,
    pub(crate) fault: Fault,
    pub(crate) lasts_ms: u64,
    /// Which coordinator or worker, or which crash point.
    pub(crate) pick: u64,
}

/// A job as Core will ask for it, and how it would go by itself.
#[derive(Clone, Debug)]
pub(crate) struct JobPlan {
    pub(crate) at: u64,
    pub(crate) replicas: u32,
    pub(crate) cores: u32,
    pub(crate) time_limit_ms: Option<u64>,
    /// How long each rank runs, and its exit code; -1 is an end by want of memory. `None`: until it is stopped.
    pub(crate) ends: Vec<Option<(u64, i32)>>,
    pub(crate) terminate_at: Option<u64>,
    pub(crate) extend_at: Option<u64>,
    /// From this window on the wallet is empty.
    pub(crate) broke_from: Option<u32>,
    pub(crate) bad_image: bool,
    /// Core denies it from then on for so long.
    pub(crate) denied: Option<(u64, u64)>,
    pub(crate) repeated: bool,
}

/// Everything that is drawn.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) worker_cores: Vec<u32>,
    pub(crate) jobs: Vec<JobPlan>,
    pub(crate) faults: Vec<Planned>,
    pub(crate) chances: Chances,
    /// When faults end.
    pub(crate) heal_at: u64,
    pub(crate) latency_ms: u64,
    pub(crate) most_ppm: u64,
    pub(crate) lost_after_ms: u64,
    pub(crate) prepare_timeout_ms: u64,
    pub(crate) retention_ms: u64,
    pub(crate) no_credit_confirmations: u32,
    pub(crate) watch: Watch,
    /// Whether containers that a reboot ended are still listed.
    pub(crate) engine_remembers: bool,
    pub(crate) time_out_lets_orphans: bool,
    pub(crate) terminates_all: bool,
}

/// How the watch on the leader key behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    Prompt,
    Late,
    None,
}

impl Plan {
    pub(crate) fn draw(random: &mut Random, load: &Workload) -> Self {
        let heal_at = random.between(90_000, 240_000);
        let workers = if load.few_workers { random.between(2, 3) } else { random.between(2, 8) };
        let jobs = if load.many_jobs { random.between(8, 14) } else { random.between(3, 12) };
        let lost_after_ms = if load.short_lost { 40_000 } else { random.between(45, 110) * 1_000 };
        let mut faults = Vec::new();
        // A subset of all kinds, so that rare ones meet each other undisturbed.
        let kinds: Vec<Fault> = Fault::SCHEDULED.iter().copied().filter(|_| random.chance(350)).collect();
        let count = if kinds.is_empty() || load.calm { 0 } else { random.between(1, 12) };
        for _ in 0..count {
            let fault = kinds[random.index(kinds.len())];
            faults.push(Self::fault(random, fault, heal_at, lost_after_ms));
        }
        for &(fault, times) in load.faults {
            for _ in 0..times {
                faults.push(Self::fault(random, fault, heal_at, lost_after_ms));
            }
        }
        let jobs = (0..jobs).map(|_| Self::job(random, load, heal_at)).collect();
        let mut some = |per_mille: u64, most: u64| if random.chance(per_mille) { random.between(1, most) } else { 0 };
        let chances = Chances {
            loss: some(400, 40),
            duplicate: some(400, 60),
            delay: if load.long_delays { 30 } else { some(400, 25) },
            delay_most_ms: if load.long_delays { 60_000 } else { some(1_000, 60_000) },
            stream_break: some(300, 12),
            store_request_lost: some(300, 60),
            store_reply_lost: if load.lost_replies { 200 } else { some(300, 100) },
            stale_look: some(300, 300),
            engine_no_answer: some(300, 150),
            engine_done_unanswered: some(300, 150),
            engine_refuses: some(300, 60),
            core_answer_lost: some(400, 150),
            core_rejects: some(150, 20),
        };
        let chances = if load.calm { Chances::default() } else { chances };
        Self {
            worker_cores: (0..workers).map(|_| u32::try_from(random.between(2, 6)).unwrap_or(2)).collect(),
            jobs,
            faults,
            chances,
            heal_at,
            latency_ms: random.between(1, 25),
            most_ppm: if random.chance(200) { 10_000 } else { 200 },
            lost_after_ms,
            prepare_timeout_ms: random.between(30, 60) * 1_000,
            retention_ms: if random.chance(500) { 3_600_000 } else { random.between(200, 400) * 1_000 },
            no_credit_confirmations: if random.chance(200) { 2 } else { 1 },
            watch: match random.below(4) {
                0 | 1 => Watch::Prompt,
                2 => Watch::Late,
                _ => Watch::None,
            },
            engine_remembers: random.chance(500),
            time_out_lets_orphans: random.chance(500),
            terminates_all: random.chance(600),
        }
    }

    fn fault(random: &mut Random, fault: Fault, heal_at: u64, lost_after_ms: u64) -> Planned {
        let lasts_ms = match fault {
            Fault::MemberFault | Fault::FalseAbsence => random.between(300, 4_000),
            Fault::ShortPause => random.between(200, 7_000),
            Fault::LongPause => random.between(8_500, 45_000),
            Fault::AgentCrash | Fault::LeaderCrash | Fault::FollowerCrash => random.between(1_500, 30_000),
            Fault::AgentPause => random.between(1_000, lost_after_ms + 30_000),
            Fault::HostReboot => random.between(8_000, 40_000),
            Fault::HostLoss => lost_after_ms + random.between(5_000, 30_000),
            Fault::CutWorkers | Fault::CutFromWorkers | Fault::CutToWorkers => {
                random.between(2_000, lost_after_ms + 40_000)
            }
            Fault::ArmedCrash => random.between(2_000, 20_000),
            _ => random.between(1_000, 50_000),
        };
        let last = heal_at.saturating_sub(5_000);
        Planned { at: random.between(4_000, last), fault, lasts_ms, pick: random.next() }
    }

    fn job(random: &mut Random, load: &Workload, heal_at: u64) -> JobPlan {
        let replicas = u32::try_from([1, 1, 1, 2, 2, 3, 4][random.index(7)]).unwrap_or(1);
        let endless = random.chance(150);
        let first = (random.between(2_000, if load.long_jobs { 260_000 } else { 200_000 }), Self::code(random));
        let ends = (0..replicas)
            .map(|rank| match rank {
                0 if endless => None,
                0 => Some(first),
                // Others wait for rank 0, are done before it, or spoil it.
                _ => match random.below(8) {
                    0 => Some((random.between(1_000, 150_000), 0)),
                    1 => Some((random.between(1_000, 150_000), Self::code(random))),
                    _ => None,
                },
            })
            .collect();
        let at = random.between(3_000, heal_at.saturating_sub(10_000));
        let limited = random.chance(400);
        JobPlan {
            at,
            replicas,
            cores: u32::try_from(random.between(1, 2)).unwrap_or(1),
            time_limit_ms: limited.then(|| random.between(10_000, 180_000)),
            ends,
            terminate_at: random.chance(250).then(|| at + random.between(0, 150_000)),
            extend_at: (limited && random.chance(400)).then(|| at + random.between(5_000, 60_000)),
            broke_from: random.chance(80).then(|| u32::try_from(random.below(3)).unwrap_or(0)),
            bad_image: random.chance(40),
            denied: random.chance(60).then(|| (at + random.between(0, 60_000), random.between(1_000, 110_000))),
            repeated: random.chance(200),
        }
    }

    fn code(random: &mut Random) -> i32 {
        [0, 0, 0, 0, 1, 137, -1][random.index(7)]
    }
}

/// The row of B.3 that a planned crash waits for.
pub(crate) fn crash_point(pick: u64) -> CrashPoint {
    CrashPoint::ALL[(pick % CrashPoint::ALL.len() as u64) as usize]
}
