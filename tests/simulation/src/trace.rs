//! The timeline of a world, for a person.

/// Most lines that are kept.
const MOST_LINES: usize = 400_000;

#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) on: bool,
    lines: Vec<String>,
}

impl Trace {
    pub(crate) fn new(on: bool) -> Self {
        Self { on, lines: Vec::new() }
    }

    pub(crate) fn line(&mut self, t: u64, text: String) {
        if self.lines.len() < MOST_LINES {
            self.lines.push(format!("{:>5}.{:03} s  {text}", t / 1_000, t % 1_000));
        }
    }

    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }
}
