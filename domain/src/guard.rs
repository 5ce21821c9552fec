//! Names of the guards that fencing, money and containers rest on, so that a simulation can remove one at a time and show that
//! its absence would be noticed.
//!
//! In every normal build [`stands`] is the constant `true` and costs nothing. The feature `mutants`, which only
//! `tests/simulation` ever turns on, lets `remove` take one away for the present thread.

/// A rule that holds something up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guard {
    /// A leader leads only while its lease is certainly its own (hole 3).
    LeaseValidity,
    /// A worker obeys no older term.
    WorkerTerm,
    /// A worker starts nothing after the start's own deadline (hole 4).
    StartDeadline,
    /// The deadline of a start counts from a heartbeat that was answered, not from now.
    StartDeadlineOrigin,
    /// A worker starts no rank of which another attempt lives there.
    OneAttemptLives,
    /// Only a sealed window is charged (hole 1).
    SealFirst,
    /// A charge is acknowledged by Core's answer, not by being sent.
    AckAfterAnswer,
    /// The amount of a sealed window never changes.
    FixedAmount,
    /// A rank is absent only if a complete report does not list it.
    CompleteReport,
    /// A rank is absent only if every command about it was taken in.
    CountedCommands,
    /// A rank that may run is not placed again.
    MayRun,
    /// A new leader waits for its workers before it calls them lost.
    TakeoverGrace,
    /// Verdicts are bounded (I11).
    Brake,
    /// A worker affects only what is assigned to it (I10).
    AssignedOnly,
    /// A hello that was sent before a later word of the same worker is turned away.
    LateHello,
    /// Room is free only once the containers are gone (I7).
    ConfirmedRemoval,
    /// A create that comes again changes nothing (I3).
    IdempotentCreate,
    /// An end is decided once (I4).
    OneEnd,
    /// A job is an orphan only after Core denied it several times over a minute.
    PatientOrphan,
    /// An age grows no faster than the leader saw time pass.
    ClampedAge,
    /// A gang is charged no further than every rank that has not ended is proven to run.
    EvidenceOfAll,
    /// That a rank is missing on a machine that was not booted anew counts for the brake.
    MissingIsJudged,
    /// Only a job that Core has shown to know is charged.
    KnownJobsPay,
}

/// Whether the guard is in its place.
#[cfg(not(feature = "mutants"))]
#[must_use]
#[inline]
pub const fn stands(_guard: Guard) -> bool {
    true
}

#[cfg(feature = "mutants")]
mod removed {
    use super::Guard;
    use std::cell::Cell;

    thread_local! {
        static REMOVED: Cell<[Option<Guard>; 2]> = const { Cell::new([None, None]) };
    }

    /// Whether the guard is in its place.
    #[must_use]
    #[inline]
    pub fn stands(guard: Guard) -> bool {
        !REMOVED.get().contains(&Some(guard))
    }

    /// Takes these guards, two at most, away from this thread, and puts all others back.
    pub fn remove(guards: &[Guard]) {
        REMOVED.set([guards.first().copied(), guards.get(1).copied()]);
    }
}

#[cfg(feature = "mutants")]
pub use removed::{remove, stands};
