//! What the demo prints at its beginning and end.

use super::jobs::DemoJob;
use super::log_of;
use crate::core::{Charge, CoreJob};
use crate::harness::{Engine, Site};
use muster_domain::id::ClusterName;
use muster_worker::engine::process::{Isolation, ProcessEngine, ProcessSettings};
use std::time::Duration;

/// Says which engine runs the ranks, and how far it can keep them apart.
pub(super) fn first_line(engine: &Engine) -> anyhow::Result<String> {
    Ok(match engine {
        Engine::Docker { socket } => format!("engine: docker ({socket}); images are made here from a static busybox"),
        _ => format!("engine: process, since no Docker engine answers or was asked for; {}", isolation()?),
    })
}

/// Found out by trying it, as a worker does when it starts.
fn isolation() -> anyhow::Result<&'static str> {
    let folder = tempfile::tempdir()?;
    let cluster = ClusterName::new("demo")?;
    let shim = crate::harness::binary("muster-worker")?;
    let settings = ProcessSettings::new(folder.path().join("state"), folder.path().join("work"), cluster, shim);
    Ok(match ProcessEngine::new(settings)?.isolation() {
        Isolation::Namespaces => "ranks run in namespaces of their own",
        Isolation::UserNamespaces => "ranks run in user namespaces of their own",
        Isolation::Plain => {
            "this machine allows no namespaces: ranks are plain children, UCLOUD_ETC names their folder"
        }
    })
}

/// Prints the closing table and what lies behind it. Answers whether all is as expected.
pub(super) async fn print(site: &Site, jobs: &[DemoJob]) -> anyhow::Result<bool> {
    let mut fine = true;
    println!();
    println!("{:<15}{:<43}{:<33}{:>6}{:>9}  verdict", "job", "what", "states as Core saw them", "ranks", "charged");
    for job in jobs {
        let Some(seen) = site.core.job(&job.id) else {
            println!("{:<15}{:<43}Core does not know it", job.id, job.title);
            fine = false;
            continue;
        };
        let charges = site.core.charges_of(&job.id);
        let wrong = differences(site, job, &seen, &charges);
        let states: Vec<&str> =
            std::iter::once("IN_QUEUE").chain(seen.states().iter().map(|state| state.as_str())).collect();
        let charged: i64 = charges.iter().map(|charge| charge.amount).sum();
        let verdict = if wrong.is_empty() { "as expected".to_owned() } else { format!("WRONG: {}", wrong.join("; ")) };
        println!(
            "{:<15}{:<43}{:<33}{:>6}{:>9}  {verdict}",
            job.id,
            job.title,
            states.join(" > "),
            seen.replicas,
            charged
        );
        fine &= wrong.is_empty();
    }
    println!(
        "       (charged: credits; one million is one core for one minute. What ran for less than a minute is free.)"
    );
    for job in jobs {
        println!("\njob {}: {}", job.id, job.title);
        if let Some(seen) = site.core.job(&job.id) {
            for entry in &seen.history {
                let state = entry.state.map(|state| state.as_str()).unwrap_or("");
                println!("  told {state:<8} {}", entry.status.as_deref().unwrap_or_default());
            }
        }
        for charge in site.core.charges_of(&job.id) {
            println!(
                "  charge {}: {} units x {} = {} credits",
                charge.charge_id, charge.units, charge.periods, charge.amount
            );
        }
        for line in excerpt(&log_of(site, job)) {
            println!("  | {line}");
        }
        let story = site.muster(&["job", &job.id]).await?;
        if story.trim().is_empty() {
            println!("  WRONG: `muster job {}` says nothing", job.id);
            fine = false;
        }
    }
    Ok(fine)
}

/// What is not as it must be.
fn differences(site: &Site, job: &DemoJob, seen: &CoreJob, charges: &[Charge]) -> Vec<String> {
    let mut wrong = Vec::new();
    if seen.states() != job.states {
        wrong.push(format!("expected the states {:?}", job.states));
    }
    if !seen.was_told(job.words) {
        wrong.push(format!("nobody said {:?}", job.words));
    }
    let log = log_of(site, job);
    wrong.extend(job.log.iter().filter(|line| !log.contains(**line)).map(|line| format!("no {line:?} in the log")));
    let charged: Vec<(u64, u64)> = charges.iter().map(|charge| (charge.units as u64, charge.periods as u64)).collect();
    let expected: Vec<(u64, u64)> = job.charge.into_iter().collect();
    if charged != expected {
        wrong.push(format!("charges (units, ranks) {charged:?} instead of {expected:?}"));
    }
    wrong
}

/// The first and the last lines of a log.
fn excerpt(log: &str) -> Vec<String> {
    let lines: Vec<&str> = log.lines().collect();
    if lines.len() <= 6 {
        return lines.into_iter().map(str::to_owned).collect();
    }
    let mut some: Vec<String> = lines[..3].iter().map(|line| (*line).to_owned()).collect();
    some.push(format!("... {} more lines", lines.len() - 5));
    some.extend(lines[lines.len() - 2..].iter().map(|line| (*line).to_owned()));
    some
}

/// How to use the cluster while it stays up.
pub(super) fn how_to_talk(site: &Site, jobs: &[DemoJob], stay: Duration) {
    let muster =
        crate::harness::binary("muster").map(|path| path.display().to_string()).unwrap_or_else(|_| "muster".into());
    let core = site.core.url();
    println!("\nthe cluster stays up for {} s; Ctrl-C ends it. In another terminal:\n", stay.as_secs());
    println!("  export MUSTER_URL={}", site.operator_url());
    println!("  {muster} nodes");
    println!("  {muster} job {}", jobs[1].id);
    println!(
        "  curl -s -X POST {core}/stand-in/jobs -d '{{\"application\":\"hello\",\"image\":\"muster/busybox:1\",\\"
    );
    println!(
        "      \"command\":[\"sh\",\"-c\",\"cat ${{UCLOUD_ETC:-/etc/ucloud}}/nodes.txt\"],\"replicas\":2,\"minutes\":5}}'"
    );
    println!("  curl -s {core}/stand-in/jobs");
    println!("  curl -s {core}/stand-in/wallets");
    println!("  curl -s {}/health\n", site.operator_url());
}
