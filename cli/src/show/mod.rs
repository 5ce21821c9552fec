//! Answers as tables.

mod cluster;
mod job;
mod jobs;
mod nodes;

#[cfg(test)]
mod tests;

use crate::Problem;
use crate::command::Ask;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The answer to `ask`, for people.
pub(crate) fn tables(ask: &Ask, answer: Value) -> Result<String, Problem> {
    Ok(match ask {
        Ask::Cluster => cluster::show(&read(answer)?),
        Ask::Nodes => nodes::show(&read::<Vec<_>>(answer)?),
        Ask::Jobs { all, state } => jobs::show(&read::<Vec<_>>(answer)?, *all, state.as_deref()),
        Ask::Job(_) => job::show(&read(answer)?),
    })
}

fn read<T: DeserializeOwned>(answer: Value) -> Result<T, Problem> {
    let foreign = |error| {
        let version = env!("CARGO_PKG_VERSION");
        Problem::Failed(format!("this muster ({version}) does not understand the answer: {error}; try --output json"))
    };
    serde_json::from_value(answer).map_err(foreign)
}
