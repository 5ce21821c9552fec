//! The demo's table of who led when, and what the kill of the leader did to jobs.

use super::failover::{Failover, Watches};
use super::jobs::DemoJob;
use crate::harness::{Reign, Site};
use tokio::time::Instant;

/// Prints it. Answers whether all is as expected.
pub(super) async fn print(
    site: &Site,
    jobs: &[DemoJob],
    watches: &Watches,
    failover: &Failover,
    begin: std::time::Instant,
) -> anyhow::Result<bool> {
    let begin = Instant::from_std(begin);
    println!("\nwho led when, as /health of every coordinator said (each was asked 20 times a second)\n");
    println!("{:>8}  {:<15}{:>9}{:>9}  how it ended", "term", "leader", "from", "to");
    let reigns = watches.reigns.reigns();
    for reign in &reigns {
        let [from, to] = [reign.from, reign.to].map(|moment| format!("{:.1} s", seconds(begin, moment)));
        println!("{:>8}  {:<15}{from:>9}{to:>9}  {}", reign.term, reign.name, how_it_ended(reign, &reigns, failover));
    }
    let mut wrong = gap(failover);
    wrong.extend(creates(failover));
    wrong.extend(ranks(watches, failover));
    if reigns.len() != 2 {
        wrong.push(format!("{} leaderships instead of two", reigns.len()));
    }
    println!("\n$ muster cluster\n{}", site.muster(&["cluster"]).await?.trim_end());
    println!("\n$ muster jobs --all    (without the small ones)");
    for line in site.muster(&["jobs", "--all"]).await?.lines() {
        let first = line.split_whitespace().next().unwrap_or_default();
        if !first.chars().all(|c| c.is_ascii_digit()) || jobs.iter().any(|job| job.id == first) {
            println!("{line}");
        }
    }
    println!();
    for problem in &wrong {
        println!("WRONG: {problem}");
    }
    Ok(wrong.is_empty())
}

fn how_it_ended(reign: &Reign, reigns: &[Reign], failover: &Failover) -> &'static str {
    if reign.term == failover.killed.term && reign.name == failover.killed.name {
        "killed with -9"
    } else if reigns.last().is_some_and(|last| last.term == reign.term) {
        "it leads still"
    } else {
        "it stepped down"
    }
}

/// How long nobody led.
fn gap(failover: &Failover) -> Vec<String> {
    let after = |moment: Instant| format!("{} ms", moment.duration_since(failover.at).as_millis());
    let later = || failover.creates.iter().filter(|create| create.asked >= failover.at);
    let accepted = later().map(|create| create.answered).min();
    let ran = later().filter_map(|create| create.ran).min();
    println!("\nfrom the kill until");
    println!(
        "  another one said that it leads      {:>9}   (every coordinator was asked each 5 ms)",
        after(failover.led_again)
    );
    let never = || "never".to_owned();
    println!("  a create made after it was accepted {:>9}", accepted.map_or_else(never, after));
    println!("  that job ran, as Core heard it      {:>9}", ran.map_or_else(never, after));
    if ran.is_none() { vec!["no job that was created after the kill ran".to_owned()] } else { Vec::new() }
}

/// Whether the users of small jobs noticed.
fn creates(failover: &Failover) -> Vec<String> {
    let all = failover.creates.len();
    let well = failover.creates.iter().filter(|create| create.ended_well).count();
    let slowest = failover.creates.iter().map(|create| create.answered.duration_since(create.asked)).max();
    println!(
        "\nno job noticed\n  {well} of {all} small jobs that were created meanwhile ended well; the slowest create took {} ms",
        slowest.unwrap_or_default().as_millis()
    );
    if well == all { Vec::new() } else { vec![format!("{} small jobs did not end well", all - well)] }
}

/// Whether every rank that lived at the kill is the one that lived after it.
fn ranks(watches: &Watches, failover: &Failover) -> Vec<String> {
    let seen = watches.ranks.seen();
    let mut wrong: Vec<String> = seen.doubles.iter().map(|double| format!("two at once: {double}")).collect();
    wrong.extend(seen.restarts().into_iter().map(|restart| format!("started again: {restart}")));
    let of = |pair: &(String, u32)| seen.lives.get(pair).map_or(0, std::collections::BTreeSet::len);
    let same = failover.lived.iter().filter(|pair| of(pair) == 1).count();
    println!("  {same} of {} ranks that ran at the kill kept their process and its start time", failover.lived.len());
    println!(
        "  {} ranks had one container each, and never two at once ({} looks, 10 a second)",
        seen.lives.len(),
        seen.looks
    );
    println!("  the charges are those of the table above: exactly what was due");
    if failover.lived.is_empty() || same < failover.lived.len() {
        wrong.push("a rank that ran at the kill was replaced, or none ran".to_owned());
    }
    wrong
}

fn seconds(begin: Instant, moment: Instant) -> f64 {
    moment.duration_since(begin).as_secs_f64()
}
