//! `muster brake`.

use crate::human;
use crate::table::{Table, plain};
use muster_domain::view::BrakeView;

/// One line for each brake, then what to do about those that hold.
pub(super) fn show(brakes: &[BrakeView]) -> String {
    let mut table = Table::new(&["VERDICT", "STATE", ">USED", ">ALLOWED", ">WAITING"]);
    for brake in brakes {
        table.row(vec![
            brake.verdict.clone(),
            state(brake),
            brake.used.to_string(),
            brake.allowed.to_string(),
            brake.waiting.to_string(),
        ]);
    }
    let mut text = table.to_string();
    for brake in brakes.iter().filter(|brake| brake.held) {
        let verdict = plain(&brake.verdict);
        text.push_str(&format!(
            "\n{} held back: find out why so many are hit at once, then `muster brake release {verdict}`\n",
            jobs(brake.waiting),
        ));
    }
    text
}

fn state(brake: &BrakeView) -> String {
    match brake.released_for_ms {
        Some(left_ms) => format!("released for {}", human::duration(left_ms)),
        None if brake.held => "held".into(),
        None => "free".into(),
    }
}

fn jobs(count: usize) -> String {
    if count == 1 { "1 job is".into() } else { format!("{count} jobs are") }
}
