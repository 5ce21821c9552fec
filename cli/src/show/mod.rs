//! Answers as tables.

mod brakes;
mod cluster;
mod job;
mod jobs;
mod nodes;
mod order;

#[cfg(test)]
mod tests;

use crate::Problem;
use crate::ask::{Ask, Order};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The answer to `ask`, for people.
pub(crate) fn tables(ask: &Ask, answer: Value) -> Result<String, Problem> {
    Ok(match ask {
        Ask::Cluster => cluster::show(&read(answer)?),
        Ask::Nodes => nodes::show(&read::<Vec<_>>(answer)?),
        Ask::Jobs { all, state } => jobs::show(&read::<Vec<_>>(answer)?, *all, state.as_deref()),
        Ask::Job(_) => job::show(&read(answer)?),
        Ask::Brakes | Ask::Release(_) => brakes::show(&read::<Vec<_>>(answer)?),
        Ask::Node { order: Order::Forget, name } => order::forgotten(name),
        Ask::Node { order: Order::Cordon | Order::Drain { .. } | Order::Uncordon, .. } => order::show(&read(answer)?),
    })
}

fn read<T: DeserializeOwned>(answer: Value) -> Result<T, Problem> {
    let foreign = |error| {
        let version = env!("CARGO_PKG_VERSION");
        Problem::Failed(format!("this muster ({version}) does not understand the answer: {error}; try --output json"))
    };
    serde_json::from_value(answer).map_err(foreign)
}
