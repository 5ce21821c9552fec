//! What came of an order about a node.

use crate::human;
use crate::table::plain;
use muster_domain::view::NodeView;

/// The node as it is now.
pub(super) fn show(node: &NodeView) -> String {
    let name = plain(&node.name);
    let on_it = match node.ranks.len() {
        0 => "nothing is placed on it".to_owned(),
        1 => "1 rank on it goes on".to_owned(),
        count => format!("{count} ranks on it go on"),
    };
    let until = match (node.ranks.len(), node.drain_ends_in_ms) {
        (0, _) | (_, None) => String::new(),
        (_, Some(left_ms)) => format!(", for {} at most", human::duration(left_ms)),
    };
    match node.admission.as_str() {
        "schedulable" => format!("node {name} takes ranks again\n"),
        admission => format!("node {name} is {} and takes nothing new; {on_it}{until}\n", plain(admission)),
    }
}

/// It is off the list.
pub(super) fn forgotten(name: &str) -> String {
    format!("node {} is forgotten; should its worker dial again, it is taken in like a new one\n", plain(name))
}
