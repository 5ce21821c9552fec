//! `--print-config`, and the reference that the documentation includes.

use super::error::Origin;
use super::key::{Key, Program, capitalised};
use super::load::Effective;
use std::fmt::Write;

/// The effective configuration as TOML that can be loaded again, with where each value comes from.
pub(super) fn effective(program: &Program, set: &Effective) -> String {
    let mut text = format!("# effective configuration of {} {}\n", program.name, program.version);
    for (section, keys) in program.sections() {
        if !section.is_empty() {
            let _ = write!(text, "\n[{section}]\n");
        }
        for key in keys {
            line(&mut text, key, set);
        }
    }
    text
}

fn line(text: &mut String, key: &Key, set: &Effective) {
    let name = key.name();
    // Writing to a String cannot fail.
    let _ = match set.get(key.path) {
        Some((_, origin)) if key.secret => writeln!(text, "# {name} is set and secret  # {origin}"),
        Some((value, origin)) => writeln!(text, "{name} = {value}  # {origin}"),
        None => writeln!(text, "# {name} is {}", Origin::Absent),
    };
}

/// The keys of a component as Markdown: a table for each section.
#[must_use]
pub fn reference(component: &str, keys: &[&'static [Key]]) -> String {
    let mut text = format!("## {component}\n");
    let mut section = None;
    for key in keys.iter().flat_map(|group| group.iter()) {
        if section != Some(key.section()) {
            section = Some(key.section());
            let title =
                if key.section().is_empty() { "Without a section".into() } else { format!("`[{}]`", key.section()) };
            let _ = write!(
                text,
                "\n### {title}\n\n| key | value | default | variable | meaning |\n|---|---|---|---|---|\n"
            );
        }
        let default = match key.default {
            Some("") => "empty".into(),
            Some(default) => format!("`{default}`"),
            None if key.required => "**required**".into(),
            None => "not set".into(),
        };
        let mut variable = format!("`{}`", key.variable());
        if let Some(also) = key.also_variable {
            let _ = write!(variable, " or `{also}`");
        }
        let cells = [format!("`{}`", key.path), key.kind.expected(), default, variable, capitalised(key.doc)];
        let _ = writeln!(text, "| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | "));
    }
    text
}
