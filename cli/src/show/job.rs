//! `muster job ID`: the whole story.

use super::jobs::{owner_of, state_of};
use crate::human;
use crate::table::Table;
use muster_domain::view::{ChargeView, JobStory, JobView};

/// Facts, ranks, failed attempts, updates and charges.
pub(super) fn show(story: &JobStory) -> String {
    let mut text = facts(story).to_string();
    let mut section = |title: &str, empty: &str, is_empty: bool, table: Table| {
        text.push_str(&if is_empty { format!("\n{title}: {empty}\n") } else { format!("\n{title}\n{table}") });
    };
    let mut ranks = Table::new(&[">RANK", "NODE", "STATE", ">AGE", "HOST", "ADDRESS", "DETAIL"]);
    for rank in &story.ranks {
        ranks.row(vec![
            rank.rank.to_string(),
            rank.node.clone(),
            rank.state.clone(),
            rank.age_ms.map(human::duration).unwrap_or_default(),
            rank.host.clone(),
            rank.address.clone().unwrap_or_default(),
            rank.detail.clone(),
        ]);
    }
    section("ranks", "none is placed", story.ranks.is_empty(), ranks);
    if !story.failed_attempts.is_empty() {
        let mut attempts = Table::new(&[">ATTEMPT", "NODE", "REASON"]);
        for attempt in &story.failed_attempts {
            attempts.row(vec![attempt.attempt.to_string(), attempt.node.clone(), attempt.reason.clone()]);
        }
        section("failed attempts", "", false, attempts);
    }
    let mut updates = Table::new(&["STATE", "CORE KNOWS", "STATUS"]);
    for update in &story.updates {
        let state = update.state.clone().unwrap_or_default();
        updates.row(vec![state, yes_or_not_yet(update.acknowledged), update.status.clone()]);
    }
    section("updates", "none", story.updates.is_empty(), updates);
    let mut charges = Table::new(&["CHARGE", ">PERIODS", ">UNITS", ">RANKS", "CORE KNOWS"]);
    for charge in &story.charges {
        charges.row(charge_row(charge));
    }
    section("charges", "none", story.charges.is_empty(), charges);
    text
}

fn facts(story: &JobStory) -> Table {
    let job = &story.job;
    let attempt = if job.attempt == 0 { "none yet".into() } else { job.attempt.to_string() };
    Table::of_facts(vec![
        ("job", job.id.clone()),
        ("name", job.name.clone().unwrap_or_default()),
        ("state", state_of(job)),
        ("reason", job.reason.clone()),
        ("application", job.application.clone()),
        ("image", story.image.clone()),
        ("command", command_line(&story.argv)),
        ("owner", owner_of(job)),
        ("product", job.product.clone()),
        ("replicas", job.replicas.to_string()),
        ("attempt", attempt),
        ("ran", ran(job)),
        ("created", human::time(job.created_at_ms)),
        ("started", job.started_at_ms.map(human::time).unwrap_or_default()),
        ("ended", job.ended_at_ms.map(human::time).unwrap_or_default()),
    ])
}

fn ran(job: &JobView) -> String {
    let ran = human::duration(job.ran_ms);
    match job.time_limit_ms {
        Some(limit) => format!("{ran} of {}", human::duration(limit)),
        None => format!("{ran}, without a limit"),
    }
}

fn charge_row(charge: &ChargeView) -> Vec<String> {
    vec![
        charge.charge_id.clone(),
        charge.periods.to_string(),
        charge.units.to_string(),
        charge.ranks.to_string(),
        yes_or_not_yet(charge.acknowledged),
    ]
}

fn yes_or_not_yet(acknowledged: bool) -> String {
    if acknowledged { "yes".into() } else { "not yet".into() }
}

/// Arguments as one could type them to a shell.
fn command_line(argv: &[String]) -> String {
    let bare = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=,@%+".contains(letter);
    let quoted = |argument: &String| match !argument.is_empty() && argument.chars().all(bare) {
        true => argument.clone(),
        false => format!("'{}'", argument.replace('\'', r"'\''")),
    };
    argv.iter().map(quoted).collect::<Vec<_>>().join(" ")
}
