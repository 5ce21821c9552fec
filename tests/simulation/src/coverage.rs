//! What was really exercised: a fault that never fires and a crash point that is never hit prove nothing.

use crate::fault::{CrashPoint, Fault};
use std::collections::BTreeMap;

/// Counts of one world, or of many together.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// How often each kind of fault came.
    pub faults: BTreeMap<Fault, u64>,
    /// How often a process died at each row of reliability B.3.
    pub crashes: BTreeMap<CrashPoint, u64>,
    /// Moves of jobs' lives, as they were committed.
    pub edges: BTreeMap<(&'static str, &'static str), u64>,
}

impl Coverage {
    pub(crate) fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    pub(crate) fn crash(&mut self, point: CrashPoint) {
        *self.crashes.entry(point).or_default() += 1;
    }

    pub(crate) fn edge(&mut self, edge: (&'static str, &'static str)) {
        *self.edges.entry(edge).or_default() += 1;
    }

    /// Adds what another world saw.
    pub fn add(&mut self, other: &Self) {
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        for (point, count) in &other.crashes {
            *self.crashes.entry(*point).or_default() += count;
        }
        for (edge, count) in &other.edges {
            *self.edges.entry(*edge).or_default() += count;
        }
    }

    /// Kinds of faults and crash points that never came.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let faults = Fault::ALL.iter().filter(|fault| !self.faults.contains_key(fault)).map(|fault| fault.name());
        let points = CrashPoint::ALL.iter().filter(|point| !self.crashes.contains_key(point));
        faults.chain(points.map(|point| format!("crash at {point:?}"))).collect()
    }

    /// A table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut lines = vec!["faults:".to_owned()];
        let faults: Vec<String> = Fault::ALL
            .iter()
            .map(|fault| format!("{:>9} {}", self.faults.get(fault).unwrap_or(&0), fault.name()))
            .collect();
        lines.extend(columns(&faults));
        lines.push("processes killed at (reliability B.3):".to_owned());
        let crashes: Vec<String> = CrashPoint::ALL
            .iter()
            .map(|point| format!("{:>9} {point:?}", self.crashes.get(point).unwrap_or(&0)))
            .collect();
        lines.extend(columns(&crashes));
        lines.push("moves of jobs' lives:".to_owned());
        let edges: Vec<String> =
            self.edges.iter().map(|((from, to), count)| format!("{count:>9} {from} -> {to}")).collect();
        lines.extend(columns(&edges));
        lines.join("\n")
    }
}

fn columns(cells: &[String]) -> Vec<String> {
    cells
        .chunks(3)
        .map(|row| row.iter().map(|cell| format!("{cell:<38}")).collect::<String>().trim_end().to_owned())
        .collect()
}
