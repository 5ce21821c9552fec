//! What a run prints at its beginning and end.

use super::nemesis::Nemesis;
use super::verdict::Seen;
use super::{ChaosOptions, Length};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// So many wrong things of one kind are told; the others are counted.
const TOLD: usize = 8;

/// One thing that was promised.
#[derive(Clone, Debug)]
pub(super) struct Line {
    promise: &'static str,
    wrong: Vec<String>,
}

impl Line {
    pub(super) fn new(promise: &'static str, wrong: Vec<String>) -> Self {
        Self { promise, wrong }
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    figures: String,
    lines: Vec<Line>,
}

impl Outcome {
    pub(super) fn new(lines: Vec<Line>, seen: &Seen, accepted: usize, codes_lost: usize) -> Self {
        Self { figures: figures(seen, accepted, codes_lost), lines }
    }

    /// Promises that were not kept.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.lines.iter().filter(|line| !line.wrong.is_empty()).count()
    }

    /// Prints the closing table.
    pub fn print(&self) {
        println!("\n{}", self.figures);
        for line in &self.lines {
            println!("{}  {}", if line.wrong.is_empty() { "ok   " } else { "WRONG" }, line.promise);
            for wrong in line.wrong.iter().take(TOLD) {
                println!("         {wrong}");
            }
            if line.wrong.len() > TOLD {
                println!("         and {} more", line.wrong.len() - TOLD);
            }
        }
        println!("\n{} passed, {} failed", self.lines.len() - self.failed(), self.failed());
    }
}

pub(super) fn first_lines(options: &ChaosOptions) {
    let length = match options.length {
        Length::Short => "short form".to_owned(),
        Length::Kills(kills) => format!("until {kills} leaders were killed"),
        Length::For(time) => format!("for {} minutes", time.as_secs() / 60),
    };
    let engine = if options.docker.is_some() { "process engine, node-4 on docker" } else { "process engine" };
    println!("chaos: seed {}, {length}; 3 coordinators, 3 etcd members, 4 workers ({engine})", options.seed);
}

fn figures(seen: &Seen, accepted: usize, codes_lost: usize) -> String {
    let mut text = format!("{:<58}{:>6}\n", "what was done to it", "times");
    let mut times: BTreeMap<Nemesis, usize> = BTreeMap::new();
    for struck in &seen.struck {
        *times.entry(struck.nemesis).or_default() += 1;
    }
    for (nemesis, times) in times {
        writeln!(text, "  {:<56}{times:>6}", nemesis.words()).ok();
    }
    writeln!(text, "\n{:<58}{:>9}{:>9}{:>9}", "milliseconds", "p50", "p99", "most").ok();
    for (status, latencies) in &seen.answers.by_status {
        let what = status.map_or("creates without an answer".to_owned(), |status| format!("creates answered {status}"));
        let latencies = latencies.iter().map(|us| Duration::from_micros(*us)).collect();
        spread(&mut text, &format!("{what} ({})", seen.answers.by_status[status].len()), latencies);
    }
    for nemesis in [Nemesis::KillLeader, Nemesis::HandOver] {
        let gaps: Vec<Duration> =
            seen.struck.iter().filter(|struck| struck.nemesis == nemesis).filter_map(|struck| struck.gap).collect();
        spread(&mut text, &format!("nobody led: {} ({})", nemesis.words(), gaps.len()), gaps);
    }
    let ranks = &seen.ranks;
    writeln!(
        text,
        "\n{} jobs asked for, {accepted} accepted, {} refused to their users after all of Core's attempts\n\
         {} leaderships; {} ranks seen alive in {} looks{}{}",
        seen.asked.len(),
        seen.calm.given_up,
        seen.reigns.len(),
        ranks.lives.len(),
        ranks.looks,
        if ranks.blind > 0 { format!(", {} of them without the container engine", ranks.blind) } else { String::new() },
        match (&seen.calm.stable, &seen.calm.settled) {
            (Ok(stable), Ok(settled)) => format!(
                "\nafter the last fault: all accepted jobs final after {} s, nothing owed after {} s",
                stable.as_secs(),
                settled.as_secs()
            ),
            _ => String::new(),
        },
    )
    .ok();
    came_twice(&mut text, seen);
    if codes_lost > 0 {
        writeln!(text, "{codes_lost} jobs ended while dockerd was away: it knows no exit code then, and says 255").ok();
    }
    text
}

fn came_twice(text: &mut String, seen: &Seen) {
    let (mut ways, mut answers) = (BTreeMap::<&str, usize>::new(), BTreeMap::<String, usize>::new());
    for again in seen.asked.iter().filter_map(|asked| asked.again.as_ref()) {
        *ways.entry(again.how.words()).or_default() += 1;
        let told = again.told.map_or("nothing".to_owned(), |status| status.to_string());
        *answers.entry(told).or_default() += 1;
    }
    let ways: Vec<String> = ways.iter().map(|(way, times)| format!("{times} {way}")).collect();
    let answers: Vec<String> = answers.iter().map(|(told, times)| format!("{told} ({times})")).collect();
    writeln!(text, "creates that came twice: {}; told {}", ways.join(", "), answers.join(", ")).ok();
}

fn spread(text: &mut String, what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at =
        |percent: usize| times.get((times.len() * percent).div_ceil(100).max(1) - 1).map_or(0, Duration::as_millis);
    if !times.is_empty() {
        writeln!(text, "  {what:<56}{:>9}{:>9}{:>9}", at(50), at(99), at(100)).ok();
    }
}
