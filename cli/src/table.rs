//! Text in columns.

use std::fmt;

/// Rows of cells; each column is as wide as its widest cell, the last one is not filled up.
pub(crate) struct Table {
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings. A heading that starts with `>` has its column set to the right, as numbers are.
    pub(crate) fn new(headings: &[&str]) -> Self {
        let right = headings.iter().map(|heading| heading.starts_with('>')).collect();
        let first = headings.iter().map(|heading| heading.trim_start_matches('>').to_owned()).collect();
        Self { right, rows: vec![first] }
    }

    /// Names with values, without headings.
    pub(crate) fn of_facts(facts: Vec<(&str, String)>) -> Self {
        let rows = facts.into_iter().filter(|(_, value)| !value.is_empty());
        Self { right: vec![false, false], rows: rows.map(|(name, value)| vec![name.into(), plain(&value)]).collect() }
    }

    /// Adds a row. An empty cell becomes a dash, so that columns can be counted by `awk`.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        let shown = |cell: String| if cell.is_empty() { "-".into() } else { plain(&cell) };
        self.rows.push(cells.into_iter().map(shown).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(&widths).zip(&self.right) {
                match right {
                    true => line.push_str(&format!("{cell:>width$}  ")),
                    false => line.push_str(&format!("{cell:<width$}  ")),
                }
            }
            writeln!(formatter, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Text that cannot steer a terminal: names and reasons may come from users.
pub(crate) fn plain(text: &str) -> String {
    let shown = |letter: char| match letter.is_control() || is_bidirectional(letter) {
        true => letter.escape_default().to_string(),
        false => letter.to_string(),
    };
    text.chars().map(shown).collect()
}

/// Marks that reorder text, which make one name look like another.
fn is_bidirectional(letter: char) -> bool {
    matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["NAME", ">CORES", "REASON"]);
        table.row(vec!["ä".into(), "128".into(), "all is well".into()]);
        table.row(vec!["node-10".into(), "4".into(), String::new()]);
        let expected = "NAME     CORES  REASON\nä          128  all is well\nnode-10      4  -\n";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn text_of_users_cannot_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\nc\u{202e}"), "a\\u{1b}[2Jb\\nc\\u{202e}");
    }
}
