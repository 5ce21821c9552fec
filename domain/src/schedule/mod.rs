//! Placement of gangs: a pure choice, `plan(snapshot) -> Plan`. See `README.md` beside this file for the goals.

#[cfg(test)]
mod tests;

use crate::id::{JobId, NodeName};
use crate::resources::Resources;
use std::collections::{BTreeMap, BTreeSet};

/// Most nodes that a reason to wait names; it holds one more, so that whoever words it can say that there are others.
pub const MOST_NAMED: usize = 3;

/// One node that may take ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// The node.
    pub node: NodeName,
    /// What jobs may use of it, empty.
    pub capacity: Resources,
    /// What is left of it now.
    pub free: Resources,
    /// A gang never spans two zones.
    pub zone: String,
    /// Product categories it serves; empty means all.
    pub categories: Vec<String>,
}

/// A node that is known and takes nothing now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Away {
    /// What it would be.
    pub room: Room,
    /// Why it is none.
    pub why: Absence,
}

/// Why a node takes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// It is not heard, or its engine does not answer.
    Offline,
    /// An operator cordoned or drained it.
    Cordoned,
}

/// One job that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gang {
    /// The job.
    pub job: JobId,
    /// The category of its product.
    pub category: String,
    /// Number of ranks.
    pub replicas: u32,
    /// What each takes.
    pub per_rank: Resources,
    /// Nodes at fault in earlier attempts; used only where nothing else could ever hold the gang.
    pub avoid: BTreeSet<NodeName>,
    /// A node with a container of it that the store does not account for: placed once more, it could run twice (I3).
    pub unaccounted: Option<NodeName>,
}

/// Everything a choice depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The nodes that can take something now.
    pub rooms: Vec<Room>,
    /// The nodes that are known and cannot; they explain why a job waits.
    pub away: Vec<Away>,
    /// The jobs that wait, first come first.
    pub queue: Vec<Gang>,
}

/// Why a job waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// No nodes that are known could hold it, even empty.
    NeverFits {
        /// Ranks of it that the best zone of those in service could hold, empty.
        ranks: u32,
    },
    /// The nodes in service could not hold it, even empty; with those that are away they could.
    Away {
        /// Ranks of it that the best zone of those in service could hold, empty.
        ranks: u32,
        /// Nodes of its category that are offline, at most [`MOST_NAMED`] and one.
        offline: Vec<NodeName>,
        /// Nodes of its category that are cordoned or drained, at most [`MOST_NAMED`] and one.
        cordoned: Vec<NodeName>,
    },
    /// Others hold the room.
    Full {
        /// Ranks of it that would fit now.
        ranks: u32,
        /// Nodes of its category that are cordoned or drained.
        cordoned: usize,
    },
    /// A node has a container of it that the store does not account for.
    Unaccounted {
        /// That node.
        node: NodeName,
    },
    /// A job of the same category came first.
    Behind {
        /// That job.
        job: JobId,
    },
}

/// What to do. Data that can be printed, compared, checked and refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// A node for every rank of these jobs.
    pub placements: Vec<(JobId, Vec<NodeName>)>,
    /// The others, and why.
    pub waiting: Vec<(JobId, Wait)>,
}

/// Places as many gangs as fit, first in first out per category, all ranks or none, best fit.
#[must_use]
pub fn plan(snapshot: &Snapshot) -> Plan {
    let mut free: BTreeMap<&NodeName, Resources> = snapshot.rooms.iter().map(|room| (&room.node, room.free)).collect();
    let mut blocked: BTreeMap<&str, &JobId> = BTreeMap::new();
    let mut plan = Plan::default();
    for gang in &snapshot.queue {
        // It must not hold up those behind it: only an operator can help it.
        if let Some(node) = &gang.unaccounted {
            plan.waiting.push((gang.job.clone(), Wait::Unaccounted { node: node.clone() }));
            continue;
        }
        if let Some(first) = blocked.get(gang.category.as_str()) {
            plan.waiting.push((gang.job.clone(), Wait::Behind { job: (*first).clone() }));
            continue;
        }
        let usable = usable(snapshot, gang);
        let Some(nodes) = best(gang, &usable, |room| free.get(&room.node).copied().unwrap_or_default()) else {
            let possible = most(gang, &usable, |room| room.capacity);
            let wait = if possible < gang.replicas {
                // It may wait for a node for ever; it must not hold up those behind it.
                too_few(snapshot, gang, possible)
            } else {
                blocked.insert(&gang.category, &gang.job);
                let ranks = most(gang, &usable, |room| free.get(&room.node).copied().unwrap_or_default());
                let away = snapshot.away.iter().filter(|away| serves(&away.room, gang));
                Wait::Full { ranks, cordoned: away.filter(|away| away.why == Absence::Cordoned).count() }
            };
            plan.waiting.push((gang.job.clone(), wait));
            continue;
        };
        for node in &nodes {
            if let Some(left) = free.get_mut(node) {
                *left = left.minus(&gang.per_rank);
            }
        }
        plan.placements.push((gang.job.clone(), nodes.into_iter().cloned().collect()));
    }
    plan
}

/// Why a gang waits that the nodes in service could not hold.
fn too_few(snapshot: &Snapshot, gang: &Gang, ranks: u32) -> Wait {
    let away: Vec<&Away> = snapshot.away.iter().filter(|away| serves(&away.room, gang)).collect();
    let rooms = snapshot.rooms.iter().filter(|room| serves(room, gang));
    let known: Vec<&Room> = rooms.chain(away.iter().map(|away| &away.room)).collect();
    if most(gang, &known, |room| room.capacity) < gang.replicas {
        return Wait::NeverFits { ranks };
    }
    let named = |why: Absence| {
        let mut names: Vec<NodeName> =
            away.iter().filter(|away| away.why == why).map(|away| away.room.node.clone()).collect();
        names.sort();
        names.truncate(MOST_NAMED + 1);
        names
    };
    Wait::Away { ranks, offline: named(Absence::Offline), cordoned: named(Absence::Cordoned) }
}

fn serves(room: &Room, gang: &Gang) -> bool {
    room.categories.is_empty() || room.categories.contains(&gang.category)
}

/// The nodes that a gang may use: those of its category, without the ones to avoid unless it could not exist without.
fn usable<'a>(snapshot: &'a Snapshot, gang: &Gang) -> Vec<&'a Room> {
    let all: Vec<&Room> = snapshot.rooms.iter().filter(|room| serves(room, gang)).collect();
    let others: Vec<&Room> = all.iter().copied().filter(|room| !gang.avoid.contains(&room.node)).collect();
    if most(gang, &others, |room| room.capacity) >= gang.replicas { others } else { all }
}

/// How many ranks the best zone holds, at most all of them.
fn most(gang: &Gang, rooms: &[&Room], amount: impl Fn(&Room) -> Resources) -> u32 {
    let mut zones: BTreeMap<&str, u32> = BTreeMap::new();
    for room in rooms {
        let count = zones.entry(&room.zone).or_default();
        *count = count.saturating_add(amount(room).times(&gang.per_rank));
    }
    zones.into_values().max().unwrap_or(0).min(gang.replicas)
}

/// The best zone's choice: the fewest nodes, then the least room left over on them.
fn best<'a>(gang: &Gang, rooms: &[&'a Room], free: impl Fn(&Room) -> Resources) -> Option<Vec<&'a NodeName>> {
    let zones: BTreeSet<&str> = rooms.iter().map(|room| room.zone.as_str()).collect();
    zones
        .into_iter()
        .filter_map(|zone| {
            let inside: Vec<(&Room, Resources)> =
                rooms.iter().filter(|room| room.zone == zone).map(|room| (*room, free(room))).collect();
            pack(gang, inside)
        })
        .min_by_key(|choice| (choice.nodes_used, choice.left_over))
        .map(|choice| choice.nodes)
}

struct Choice<'a> {
    nodes: Vec<&'a NodeName>,
    nodes_used: usize,
    left_over: (u32, u32, u64),
}

/// Inside one zone: while no single node holds what is left, the node that holds most takes its share; the rest goes to
/// the node that it fits best.
fn pack<'a>(gang: &Gang, rooms: Vec<(&'a Room, Resources)>) -> Option<Choice<'a>> {
    let mut open: Vec<(&Room, Resources, u32)> =
        rooms.into_iter().map(|(room, free)| (room, free, free.times(&gang.per_rank))).filter(|o| o.2 > 0).collect();
    let total = open.iter().fold(0_u32, |sum, room| sum.saturating_add(room.2));
    if total < gang.replicas {
        return None;
    }
    let mut choice = Choice { nodes: Vec::new(), nodes_used: 0, left_over: (0, 0, 0) };
    let mut left = gang.replicas;
    while left > 0 {
        // GPUs that the gang does not ask for are kept for those who do; then the tightest fit; then the name.
        let tightness = |(room, free, _): &(&Room, Resources, u32), take: u32| {
            let rest = (0..take).fold(*free, |rest, _| rest.minus(&gang.per_rank));
            (rest.gpus, rest.cores, rest.memory_bytes, room.node.clone())
        };
        let fits = open.iter().enumerate().filter(|(_, room)| room.2 >= left);
        let whole = fits.min_by_key(|(_, room)| tightness(room, left)).map(|(index, _)| index);
        let index = whole.or_else(|| {
            let spares_gpus = |free: &Resources| {
                if gang.per_rank.gpus == 0 { free.gpus } else { 0 }
            };
            let order = |(_, (room, free, count)): &(usize, &(&Room, Resources, u32))| {
                (spares_gpus(free), std::cmp::Reverse(*count), free.cores, free.memory_bytes, room.node.clone())
            };
            open.iter().enumerate().min_by_key(order).map(|(index, _)| index)
        })?;
        let room = open.swap_remove(index);
        let take = room.2.min(left);
        let (gpus, cores, memory_bytes, _) = tightness(&room, take);
        choice.left_over = (
            choice.left_over.0.saturating_add(gpus),
            choice.left_over.1.saturating_add(cores),
            choice.left_over.2.saturating_add(memory_bytes),
        );
        choice.nodes.extend(std::iter::repeat_n(&room.0.node, take as usize));
        choice.nodes_used += 1;
        left -= take;
    }
    Some(choice)
}
