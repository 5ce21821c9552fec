//! `muster-simulation`: many worlds, one seed each; or one world as a timeline; or each guard removed until it is missed.

use muster_simulation::{Coverage, Mutant, Options, Outcome, run, timeline};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const USAGE: &str = "\
usage: muster-simulation [--seeds N] [--first S] [--jobs THREADS]   so many worlds
       muster-simulation --trace SEED [--mutant NAME [--control]]   one world, as a timeline
       muster-simulation --mutant NAME [--control]                  one guard removed (--control: its world, guard standing)
       muster-simulation --mutants [--cap N] [--sample N] [--within SECONDS]
                                                                    each guard removed until it is missed
       muster-simulation --twice N                                  so many worlds twice: the same hash each time";

/// From so many seeds on, a fault that never came is a failure.
const ENOUGH_SEEDS: u64 = 1_000;
/// Failures after which a run ends early.
const MOST_FAILURES: u64 = 5;

#[derive(Clone)]
struct Wish {
    seeds: u64,
    first: u64,
    jobs: u64,
    cap: u64,
    sample: Option<usize>,
    within: Option<Duration>,
    mutants: bool,
    mutant: Option<Mutant>,
    control: bool,
    trace: Option<u64>,
    twice: Option<u64>,
}

fn main() -> ExitCode {
    match wish(std::env::args().skip(1)) {
        Ok(wish) => fulfil(&wish),
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn wish(mut words: impl Iterator<Item = String>) -> Result<Wish, String> {
    let mut wish = Wish {
        seeds: 1_000,
        first: 1,
        jobs: std::thread::available_parallelism().map_or(2, |count| count.get() as u64),
        cap: 20_000,
        sample: None,
        within: None,
        mutants: false,
        mutant: None,
        control: false,
        trace: None,
        twice: None,
    };
    while let Some(word) = words.next() {
        let mut number = || {
            let text = words.next().ok_or(format!("{word} needs a number"))?;
            text.parse::<u64>().map_err(|_| format!("{word}: {text:?} is not a number"))
        };
        match word.as_str() {
            "--seeds" => wish.seeds = number()?,
            "--first" => wish.first = number()?,
            "--jobs" => wish.jobs = number()?.max(1),
            "--cap" => wish.cap = number()?,
            "--sample" => wish.sample = usize::try_from(number()?).ok(),
            "--within" => wish.within = Some(Duration::from_secs(number()?)),
            "--trace" => wish.trace = Some(number()?),
            "--twice" => wish.twice = Some(number()?),
            "--mutants" => wish.mutants = true,
            "--control" => wish.control = true,
            "--mutant" => {
                let name = words.next().ok_or("--mutant needs a name")?;
                let names = || Mutant::all().iter().map(|mutant| mutant.name).collect::<Vec<_>>().join(", ");
                let found = Mutant::all().into_iter().find(|mutant| mutant.name == name);
                wish.mutant =
                    Some(found.ok_or_else(|| format!("there is no mutant {name:?}; there are: {}", names()))?);
            }
            _ => return Err(format!("{word:?} is not understood")),
        }
    }
    let removes = wish.mutants || (wish.mutant.is_some() && !wish.control);
    if removes && !cfg!(feature = "mutants") {
        return Err("guards cannot be removed in this build; build with --features mutants".to_owned());
    }
    Ok(wish)
}

fn fulfil(wish: &Wish) -> ExitCode {
    let options = Options { mutant: wish.mutant.as_ref(), control: wish.control };
    if let Some(seed) = wish.trace {
        println!("{}", timeline(seed, options, true));
        let outcome = run(seed, options);
        println!("seed {seed}: hash {:016x}, {:?}", outcome.hash, outcome.broken);
        return ExitCode::from(u8::from(outcome.broken.is_some()));
    }
    let (passed, failed) = if let Some(count) = wish.twice {
        twice(wish, count)
    } else if wish.mutants {
        mutants(wish)
    } else {
        worlds(wish, options)
    };
    println!("{passed} passed, {failed} failed");
    ExitCode::from(u8::from(failed > 0))
}

/// Runs seeds on all threads until `each` says that it is enough; answers how many ran.
fn spread(wish: &Wish, count: u64, options: Options<'_>, each: impl Fn(Outcome) -> bool + Sync) -> u64 {
    let (next, enough, ran) = (AtomicU64::new(0), AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..wish.jobs {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    let outcome = run(wish.first + number, options);
                    ran.fetch_add(1, Ordering::Relaxed);
                    if each(outcome) {
                        enough.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    ran.into_inner()
}

#[derive(Default)]
struct Sum {
    failed: u64,
    simulated_ms: u64,
    events: u64,
    coverage: Coverage,
    first_failures: Vec<(u64, &'static str, String)>,
}

fn worlds(wish: &Wish, options: Options<'_>) -> (u64, u64) {
    let begun = Instant::now();
    let sum = Mutex::new(Sum::default());
    let ran = spread(wish, wish.seeds, options, |outcome| {
        let mut sum = sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        sum.simulated_ms += outcome.simulated_ms;
        sum.events += outcome.events;
        sum.coverage.add(&outcome.coverage);
        if let Some((invariant, what)) = outcome.broken {
            sum.failed += 1;
            sum.first_failures.push((outcome.seed, invariant, what));
        }
        sum.failed >= MOST_FAILURES
    });
    let mut sum = sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    sum.first_failures.sort();
    if let Some((seed, invariant, what)) = sum.first_failures.first() {
        println!("{}\n", timeline(*seed, options, false));
        println!("seed {seed} broke {invariant}: {what}");
    }
    for (seed, invariant, what) in sum.first_failures.iter().skip(1) {
        println!("seed {seed} broke {invariant}: {what}");
    }
    println!("{}", sum.coverage.table());
    let wall = begun.elapsed();
    let hours = sum.simulated_ms as f64 / 3_600_000.0;
    println!(
        "{ran} seeds, {hours:.0} simulated hours, {} events, {:.0} events/s, {:.0} seeds/s, {:.1} s",
        sum.events,
        sum.events as f64 / wall.as_secs_f64(),
        ran as f64 / wall.as_secs_f64(),
        wall.as_secs_f64()
    );
    let mut failed = sum.failed;
    if ran >= ENOUGH_SEEDS && wish.mutant.is_none() {
        for missing in sum.coverage.missing() {
            println!("never seen: {missing}");
            failed += 1;
        }
    }
    (ran - sum.failed, failed)
}

/// Each world twice.
fn twice(wish: &Wish, count: u64) -> (u64, u64) {
    let failed = AtomicU64::new(0);
    let ran = spread(wish, count, Options::default(), |outcome| {
        let again = run(outcome.seed, Options::default());
        if again.hash != outcome.hash {
            println!("seed {}: {:016x}, then {:016x}", outcome.seed, outcome.hash, again.hash);
            failed.fetch_add(1, Ordering::Relaxed);
        }
        false
    });
    let failed = failed.into_inner();
    println!("{ran} seeds ran twice; {failed} of them differ");
    (ran - failed, failed)
}

/// Each guard removed, until it is missed.
fn mutants(wish: &Wish) -> (u64, u64) {
    let (mut passed, mut failed) = (0, 0);
    let all = Mutant::all();
    let every = wish.sample.map_or(1, |sample| all.len().div_ceil(sample.max(1)));
    for mutant in all.iter().step_by(every) {
        let begun = Instant::now();
        let caught: Mutex<Option<(u64, &'static str, String)>> = Mutex::new(None);
        let options = Options { mutant: Some(mutant), control: false };
        let ran = spread(wish, wish.cap, options, |outcome| {
            let late = wish.within.is_some_and(|within| begun.elapsed() > within);
            let Some((invariant, what)) = outcome.broken else { return late };
            let mut caught = caught.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if caught.as_ref().is_none_or(|(seed, ..)| outcome.seed < *seed) {
                *caught = Some((outcome.seed, invariant, what));
            }
            true
        });
        let caught = caught.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        match (caught, mutant.survives) {
            (Some((seed, invariant, what)), _) => {
                passed += 1;
                println!("{:<22} caught after {ran:>5} seeds (seed {seed}) by {invariant}: {what}", mutant.name);
            }
            (None, Some(why)) => println!("{:<22} survives {ran} seeds, as expected: {why}", mutant.name),
            (None, None) => {
                failed += 1;
                println!("{:<22} SURVIVES {ran} seeds", mutant.name);
            }
        }
    }
    (passed, failed)
}
