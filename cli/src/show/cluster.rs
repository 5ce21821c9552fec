//! `muster cluster`.

use crate::table::{Table, plain};
use muster_domain::view::ClusterView;

/// How the cluster is.
pub(super) fn show(view: &ClusterView) -> String {
    let owed = match view.owed_to_core {
        0 => "nothing".into(),
        owed => format!("{owed} updates and charges"),
    };
    let leader = view.leader.as_ref().map(|leader| format!("{} at {}", leader.name, leader.operator));
    let held: Vec<String> = view
        .brakes
        .iter()
        .filter(|brake| brake.held)
        .map(|brake| format!("{} {}", brake.waiting, brake.verdict))
        .collect();
    let facts = Table::of_facts(vec![
        ("cluster", view.cluster.clone()),
        ("provider", view.provider.clone()),
        ("version", view.version.clone()),
        ("role", view.role.clone().unwrap_or_default()),
        ("leader", leader.unwrap_or_default()),
        ("term", view.term.to_string()),
        ("nodes", format!("{} online of {}", view.nodes_online, view.nodes)),
        ("jobs", format!("{} waiting, {} active, {} ended", view.jobs_waiting, view.jobs_active, view.jobs_ended)),
        ("held back", held.join(", ")),
        ("owed to Core", owed),
    ]);
    let mut text = facts.to_string();
    if view.alarms.is_empty() {
        text.push_str("\nno alarms\n");
    } else {
        text.push_str("\nalarms\n");
        for alarm in &view.alarms {
            text.push_str(&format!("  {}\n", plain(alarm)));
        }
    }
    text
}
