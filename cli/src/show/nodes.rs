//! `muster nodes`.

use crate::human;
use crate::table::{Table, plain};
use muster_domain::view::NodeView;

/// One line for each node, then what needs a look.
pub(super) fn show(nodes: &[NodeView]) -> String {
    if nodes.is_empty() {
        return "no nodes; a worker appears here once it has dialled the coordinator\n".into();
    }
    let mut table = Table::new(&[
        "NAME",
        "STATE",
        "ADMISSION",
        ">HEARD",
        "ENGINE",
        ">CORES",
        ">MEMORY",
        ">GPUS",
        ">RANKS",
        "ZONE",
        "CATEGORIES",
        "LABELS",
        "VERSION",
    ]);
    for node in nodes {
        let memory = format!("{} / {}", human::bytes(node.memory_bytes_used), human::bytes(node.memory_bytes));
        let labels: Vec<String> = node.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        table.row(vec![
            node.name.clone(),
            node.state.clone(),
            admission(node),
            node.heard_ms_ago.map_or("never".into(), |ms| format!("{} ago", human::duration(ms))),
            node.engine.clone(),
            format!("{} / {}", node.cores_used, node.cores),
            memory,
            format!("{} / {}", node.gpus_used, node.gpus),
            node.ranks.len().to_string(),
            node.network_zone.clone(),
            if node.categories.is_empty() { "all".into() } else { node.categories.join(",") },
            labels.join(","),
            node.version.clone(),
        ]);
    }
    let mut text = table.to_string();
    for node in nodes.iter().filter(|node| !node.unknown_ranks.is_empty()) {
        let (name, ranks) = (plain(&node.name), plain(&node.unknown_ranks.join(", ")));
        text.push_str(&format!("\n{name} has containers that no job here accounts for, left alone: {ranks}\n"));
    }
    text
}

/// What operators decided, and how long what runs on a draining node has.
fn admission(node: &NodeView) -> String {
    match node.drain_ends_in_ms.filter(|_| !node.ranks.is_empty()) {
        Some(left_ms) => format!("{}, {} left", node.admission, human::duration(left_ms)),
        None => node.admission.clone(),
    }
}
