//! The TOML file: its values with the line each stands on, and keys that nobody knows.

use super::error::{Finding, Origin};
use super::key::{Key, Program};
use std::collections::BTreeMap;
use std::path::Path;
use toml::Value;
use toml::de::{DeTable, DeValue};

/// A configuration larger than this is a mistake, such as the path of a log file.
const LARGEST_BYTES: u64 = 1 << 20;

/// What a file sets: values by key path, with the line.
pub(super) type FileValues = BTreeMap<&'static str, (Value, usize)>;

/// Reads the file and sorts its values by key; whatever is wrong goes to `findings`.
pub(super) fn read(program: &Program, path: &Path, findings: &mut Vec<Finding>) -> FileValues {
    let mut values = FileValues::new();
    let text = match contents(path) {
        Ok(text) => text,
        Err(message) => {
            findings.push(Finding { subject: path.display().to_string(), origin: Origin::Absent, message });
            return values;
        }
    };
    let lines = Lines::of(&text);
    let whole = match (toml::from_str::<Value>(&text), DeTable::parse(&text)) {
        (Ok(whole), Ok(spans)) => (whole, spans),
        (Err(error), _) | (_, Err(error)) => {
            let line = lines.at(error.span().map_or(0, |span| span.start));
            let origin = Origin::File { path: path.to_owned(), line };
            let message = format!("not TOML: {}", error.message());
            findings.push(Finding { subject: "the file".into(), origin, message });
            return values;
        }
    };
    let (whole, spans) = whole;
    let mut walk = Walk { program, path, lines, findings, values: &mut values };
    walk.table("", &whole, spans.get_ref());
    values
}

fn contents(path: &Path) -> Result<String, String> {
    let told = |error: std::io::Error| format!("cannot be read: {error}; give the path of a TOML file with --config");
    let size = std::fs::metadata(path).map_err(told)?.len();
    if size > LARGEST_BYTES {
        return Err(format!("has {size} bytes, expected at most {LARGEST_BYTES}"));
    }
    std::fs::read_to_string(path).map_err(told)
}

struct Walk<'a> {
    program: &'a Program,
    path: &'a Path,
    lines: Lines,
    findings: &'a mut Vec<Finding>,
    values: &'a mut FileValues,
}

impl Walk<'_> {
    fn table(&mut self, prefix: &str, whole: &Value, spans: &DeTable<'_>) {
        for (name, span) in spans {
            let path =
                if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
            let Some(value) = whole.get(name.get_ref().as_ref()) else { continue };
            let line = self.lines.at(name.span().start);
            if let Some(key) = self.program.keys().find(|key| key.path == path) {
                self.values.insert(key.path, (value.clone(), line));
            } else if self.is_section(&path) {
                match span.get_ref() {
                    DeValue::Table(inner) => self.table(&path, value, inner),
                    _ => self.complain(path.clone(), line, format!("expected a section, [{path}]")),
                }
            } else {
                let message = format!("unknown key{}", suggestion(self.program, &path));
                self.complain(path, line, message);
            }
        }
    }

    fn is_section(&self, path: &str) -> bool {
        let within = |key: &Key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
        self.program.keys().any(within)
    }

    fn complain(&mut self, subject: String, line: usize, message: String) {
        self.findings.push(Finding { subject, origin: Origin::File { path: self.path.to_owned(), line }, message });
    }
}

/// `"; did you mean …?"`, or nothing when no key is near.
pub(super) fn suggestion(program: &Program, path: &str) -> String {
    let name = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let distance = |key: &&Key| match key.name() == name(path) {
        // The right name in a wrong section is nearer than any misspelling.
        true => 1,
        false => edit_distance(key.path, path),
    };
    let nearest = program.keys().min_by_key(distance).filter(|key| distance(key) <= 2.max(path.len() / 4));
    if let Some(key) = nearest {
        return format!("; did you mean {}?", key.path);
    }
    let sections = program.sections();
    let section = sections.iter().map(|(section, _)| *section).filter(|section| !section.is_empty());
    let nearest = section.min_by_key(|section| edit_distance(section, path));
    match nearest.filter(|section| edit_distance(section, path) <= 2) {
        Some(section) => format!("; did you mean [{section}]?"),
        None => "; --print-config lists all keys".into(),
    }
}

/// Levenshtein's distance.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (column, other) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

/// Line numbers of byte offsets.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(offset, _)| offset).collect())
    }

    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|end| *end < offset) + 1
    }
}
