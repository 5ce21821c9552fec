//! The brains of Muster in a simulated world: three coordinators, up to eight workers, a store, UCloud/Core and engines, on a
//! network that loses, repeats and delays, with machines whose clocks differ. One seed is one world, for ever.
//!
//! Safety (I1 to I12) is compared with the truth after every event; then every fault ends, and all must come to rest (I13).
//! `docs/simulation.md` says what is modelled and how to read a failure.

mod agent;
mod books;
mod check;
mod clock;
mod coordinator;
mod core;
mod coverage;
mod engine;
mod fault;
mod faults;
mod mutant;
mod network;
mod plan;
mod queue;
mod random;
mod sessions;
mod shell;
mod store;
mod stream;
mod trace;
mod truth;
mod worker;
mod world;

pub use coverage::Coverage;
pub use fault::{CrashPoint, Fault};
pub use mutant::{Mutant, Shell, Workload};

use world::World;

/// Lines of the timeline that are shown of a world that failed.
const SHOWN_LINES: usize = 200;

/// What became of one world.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The first broken invariant, and what is wrong, if any.
    pub broken: Option<(&'static str, String)>,
    /// The same for the same seed, for ever.
    pub hash: u64,
    /// Simulated time in milliseconds.
    pub simulated_ms: u64,
    /// Events that happened.
    pub events: u64,
    /// What was exercised.
    pub coverage: Coverage,
}

/// Which world a seed stands for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// The mutant whose workload is drawn.
    pub mutant: Option<&'a Mutant>,
    /// Draw the mutant's workload and leave its guard standing.
    pub control: bool,
}

/// Runs one world.
#[must_use]
pub fn run(seed: u64, options: Options<'_>) -> Outcome {
    outcome(seed, ended(seed, options, false))
}

/// Runs one world again and tells what happened in it: everything, or the last lines before a failure.
#[must_use]
pub fn timeline(seed: u64, options: Options<'_>, everything: bool) -> String {
    let ended = ended(seed, options, true);
    let lines = ended.trace.lines();
    let from = if everything { 0 } else { lines.len().saturating_sub(SHOWN_LINES) };
    lines[from..].join("\n")
}

fn outcome(seed: u64, ended: world::Ended) -> Outcome {
    Outcome {
        seed,
        broken: ended.broken.map(|broken| (broken.invariant, broken.what)),
        hash: ended.hash,
        simulated_ms: ended.t,
        events: ended.events,
        coverage: ended.coverage,
    }
}

fn ended(seed: u64, options: Options<'_>, traced: bool) -> world::Ended {
    let removed = options.mutant.filter(|_| !options.control);
    remove(&removed.map(|mutant| mutant.guards().collect::<Vec<_>>()).unwrap_or_default());
    let mut world = World::new(seed, options.mutant, traced);
    if removed.is_none() {
        world.stand();
    }
    let ended = world.run();
    remove(&[]);
    ended
}

#[cfg(feature = "mutants")]
fn remove(guards: &[muster_domain::guard::Guard]) {
    muster_domain::guard::remove(guards);
}

#[cfg(not(feature = "mutants"))]
fn remove(_guards: &[muster_domain::guard::Guard]) {}
