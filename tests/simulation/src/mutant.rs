//! Guards that can be removed one at a time, and the world in which each must be missed.

use crate::fault::Fault;
use muster_domain::guard::Guard;

/// Guards that live in the shells and the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shell {
    /// A transaction compares the leader key (I1).
    LeaderCompare,
    /// A transaction compares each document's revision.
    DocumentCompare,
    /// Effects leave after the commit (I5).
    PersistThenSpeak,
    /// Effects leave only while the lease is valid (hole 3).
    DispatchValidity,
    /// A keepalive counts from when it was sent.
    KeepaliveSendTime,
    /// A transaction without an answer may have been applied.
    UnknownIsFailed,
    /// A transaction without an answer may not have been applied.
    UnknownIsSuccess,
    /// A worker keeps the newest term over restarts.
    TermOverRestart,
    /// A worker listens to its present stream only.
    CurrentStream,
    /// A worker says nothing on a stream before it is welcomed.
    WelcomeFirst,
}

/// What a mutant's world has more of.
#[derive(Clone, Debug, Default)]
pub struct Workload {
    pub(crate) faults: &'static [(Fault, u32)],
    pub(crate) long_delays: bool,
    pub(crate) few_workers: bool,
    pub(crate) many_jobs: bool,
    pub(crate) long_jobs: bool,
    pub(crate) lost_replies: bool,
    /// Workers' clocks run 15 % fast.
    pub(crate) fast_workers: bool,
    /// Nothing goes wrong that is not asked for.
    pub(crate) calm: bool,
    /// Jobs are given up as soon as the rules allow.
    pub(crate) short_lost: bool,
}

/// What is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removed {
    Domain(Guard),
    Shell(Shell),
}

/// One guard removed.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// Its name on the command line.
    pub name: &'static str,
    pub(crate) removed: Vec<Removed>,
    pub(crate) workload: Workload,
    /// Words that the violation must have. For a second line of defence, which is tried with the first one removed, too.
    pub(crate) only: Option<&'static str>,
    /// Why no world is expected to miss it.
    pub survives: Option<&'static str>,
}

impl Mutant {
    pub(crate) fn shells(&self) -> impl Iterator<Item = Shell> {
        self.removed.iter().filter_map(|removed| if let Removed::Shell(shell) = removed { Some(*shell) } else { None })
    }

    pub(crate) fn guards(&self) -> impl Iterator<Item = Guard> {
        self.removed.iter().filter_map(|removed| if let Removed::Domain(guard) = removed { Some(*guard) } else { None })
    }

    /// Every mutant.
    #[must_use]
    pub fn all() -> Vec<Self> {
        const LEADERS: &[(Fault, u32)] = &[(Fault::LeaderCrash, 3), (Fault::LongPause, 3)];
        const PAUSES: &[(Fault, u32)] = &[(Fault::LongPause, 6), (Fault::SlowStore, 1)];
        const ABSENT: &[(Fault, u32)] =
            &[(Fault::FalseAbsence, 4), (Fault::DeadListener, 2), (Fault::AgentCrash, 5), (Fault::LongPause, 3)];
        const CUTS: &[(Fault, u32)] =
            &[(Fault::CutFromWorkers, 4), (Fault::CutWorkers, 3), (Fault::CutToWorkers, 3), (Fault::LongPause, 1)];
        const HOSTS: &[(Fault, u32)] = &[(Fault::CutWorkers, 5), (Fault::HostLoss, 2)];
        const ENGINES: &[(Fault, u32)] = &[(Fault::EngineSlow, 4), (Fault::CutWorkers, 4), (Fault::CutFromWorkers, 3)];
        const FORGETTING: &[(Fault, u32)] = &[(Fault::EngineForgets, 6)];
        const FORGETFUL: &[(Fault, u32)] =
            &[(Fault::CutStore, 6), (Fault::AgentCrash, 16), (Fault::CutWorkers, 4), (Fault::EngineSlow, 3)];
        const MOVES: &[(Fault, u32)] = &[
            (Fault::Resign, 6),
            (Fault::LeaderCrash, 3),
            (Fault::FalseAbsence, 4),
            (Fault::CutFromWorkers, 5),
            (Fault::AgentPause, 3),
        ];
        const STILL: &[(Fault, u32)] = &[(Fault::AgentPause, 14)];
        const CRASHES: &[(Fault, u32)] = &[(Fault::ArmedCrash, 6), (Fault::LeaderCrash, 4)];
        let usual = Workload::default;
        let leaders = || Workload { faults: LEADERS, ..usual() };
        let mutant = |name, removed, workload| Self { name, removed, workload, only: None, survives: None };
        let shell = |name, shell, workload| mutant(name, vec![Removed::Shell(shell)], workload);
        let domain = |name, guard, workload| mutant(name, vec![Removed::Domain(guard)], workload);
        let both = |name, second: [Removed; 2], only, workload| Self {
            only: Some(only),
            ..mutant(name, second.into(), workload)
        };
        let crashes = || Workload { faults: CRASHES, many_jobs: true, ..usual() };
        let cuts = || Workload { faults: CUTS, few_workers: true, long_delays: true, ..usual() };
        let moves = || Workload { faults: MOVES, few_workers: true, long_delays: true, ..usual() };
        vec![
            shell("leader-compare", Shell::LeaderCompare, Workload { faults: PAUSES, long_delays: true, ..usual() }),
            shell("document-compare", Shell::DocumentCompare, Workload { lost_replies: true, ..leaders() }),
            shell("persist-then-speak", Shell::PersistThenSpeak, leaders()),
            shell("dispatch-validity", Shell::DispatchValidity, Workload { faults: PAUSES, ..usual() }),
            shell(
                "keepalive-send-time",
                Shell::KeepaliveSendTime,
                Workload { faults: PAUSES, long_delays: true, ..usual() },
            ),
            shell("unknown-is-failed", Shell::UnknownIsFailed, Workload { lost_replies: true, ..usual() }),
            shell("unknown-is-success", Shell::UnknownIsSuccess, Workload { lost_replies: true, ..usual() }),
            Self {
                survives: Some(
                    "the worker would have to come back to a leader that was called absent, within the few seconds in which that one \
                     still believes; its commands are refused by the store's fence and the stream check before",
                ),
                ..both(
                    "term-over-restart",
                    [Removed::Shell(Shell::TermOverRestart), Removed::Domain(Guard::LeaseValidity)],
                    "an older term",
                    Workload { faults: FORGETFUL, many_jobs: true, ..usual() },
                )
            },
            shell("current-stream", Shell::CurrentStream, cuts()),
            shell("welcome-first", Shell::WelcomeFirst, moves()),
            domain("lease-validity", Guard::LeaseValidity, Workload { faults: PAUSES, ..usual() }),
            both(
                "worker-term",
                [Removed::Domain(Guard::WorkerTerm), Removed::Shell(Shell::CurrentStream)],
                "an older term",
                Workload { faults: ABSENT, long_delays: true, ..usual() },
            ),
            domain(
                "start-deadline",
                Guard::StartDeadline,
                Workload { faults: STILL, short_lost: true, many_jobs: true, ..usual() },
            ),
            Self {
                survives: Some(
                    "a stream on which nothing is heard is closed after 20 s and a started rank is given up after lost_after, \
                     which is longer than both together; one world in 20,000 misses it",
                ),
                ..domain(
                    "start-deadline-origin",
                    Guard::StartDeadlineOrigin,
                    Workload { faults: STILL, short_lost: true, many_jobs: true, ..usual() },
                )
            },
            both(
                "one-attempt-lives",
                [Removed::Domain(Guard::OneAttemptLives), Removed::Domain(Guard::MayRun)],
                "lives there",
                Workload { few_workers: true, ..cuts() },
            ),
            domain("seal-first", Guard::SealFirst, crashes()),
            domain("ack-after-answer", Guard::AckAfterAnswer, crashes()),
            domain("fixed-amount", Guard::FixedAmount, crashes()),
            domain("complete-report", Guard::CompleteReport, usual()),
            domain("counted-commands", Guard::CountedCommands, Workload { long_delays: true, ..usual() }),
            domain("may-run", Guard::MayRun, Workload { faults: ENGINES, ..usual() }),
            domain("takeover-grace", Guard::TakeoverGrace, leaders()),
            domain(
                "brake",
                Guard::Brake,
                Workload { faults: HOSTS, few_workers: true, many_jobs: true, long_jobs: true, ..usual() },
            ),
            domain("assigned-only", Guard::AssignedOnly, usual()),
            Self {
                survives: Some(
                    "nothing is concluded from a hello, and nothing is said on its stream before the welcome: it costs its \
                     worker a stream",
                ),
                ..domain("late-hello", Guard::LateHello, cuts())
            },
            domain("confirmed-removal", Guard::ConfirmedRemoval, usual()),
            domain("idempotent-create", Guard::IdempotentCreate, usual()),
            domain("one-end", Guard::OneEnd, crashes()),
            domain("patient-orphan", Guard::PatientOrphan, usual()),
            domain(
                "clamped-age",
                Guard::ClampedAge,
                Workload { fast_workers: true, long_jobs: true, calm: true, ..usual() },
            ),
            domain("evidence-of-all", Guard::EvidenceOfAll, Workload { faults: HOSTS, long_jobs: true, ..usual() }),
            domain(
                "missing-is-judged",
                Guard::MissingIsJudged,
                Workload { faults: FORGETTING, few_workers: true, many_jobs: true, long_jobs: true, ..usual() },
            ),
            domain("known-jobs-pay", Guard::KnownJobsPay, usual()),
        ]
    }
}
