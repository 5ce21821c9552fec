//! The goals of README.md, by example and by property.

use super::*;
use proptest::prelude::*;

fn cores(cores: u32) -> Resources {
    Resources { cores, memory_bytes: u64::from(cores) * 1024, gpus: 0 }
}

fn room(node: &str, free: u32, capacity: u32) -> Room {
    Room {
        node: NodeName::new(node).unwrap(),
        capacity: cores(capacity),
        free: cores(free),
        zone: "z".into(),
        categories: vec![],
    }
}

fn gang(job: &str, replicas: u32, each: u32) -> Gang {
    Gang {
        job: JobId::new(job).unwrap(),
        category: "c".into(),
        replicas,
        per_rank: cores(each),
        avoid: BTreeSet::new(),
        unaccounted: None,
    }
}

fn placed(plan: &Plan, job: &str) -> Option<Vec<String>> {
    let found = plan.placements.iter().find(|(id, _)| id.as_str() == job)?;
    Some(found.1.iter().map(ToString::to_string).collect())
}

#[test]
fn a_gang_goes_to_the_one_node_it_fits_best() {
    let rooms = vec![room("big", 16, 16), room("small", 4, 16), room("mid", 8, 16)];
    let plan = plan(&Snapshot { rooms, away: vec![], queue: vec![gang("1", 4, 1)] });
    assert_eq!(placed(&plan, "1").unwrap(), ["small"; 4]);
}

#[test]
fn a_gang_of_23_is_spread_over_as_few_nodes_as_hold_it() {
    let rooms = vec![room("a", 8, 8), room("b", 8, 8), room("c", 8, 8)];
    let plan = plan(&Snapshot { rooms, away: vec![], queue: vec![gang("1", 23, 1)] });
    let nodes = placed(&plan, "1").unwrap();
    assert_eq!(nodes.len(), 23);
    let count = |name: &str| nodes.iter().filter(|node| *node == name).count();
    assert_eq!((count("a"), count("b"), count("c")), (8, 8, 7));
}

#[test]
fn all_ranks_or_none_and_the_next_waits_its_turn() {
    let rooms = vec![room("a", 3, 8)];
    let plan = plan(&Snapshot { rooms, away: vec![], queue: vec![gang("1", 4, 1), gang("2", 1, 1)] });
    assert_eq!(plan.placements, vec![]);
    let first = JobId::new("1").unwrap();
    assert_eq!(
        plan.waiting,
        vec![
            (first.clone(), Wait::Full { ranks: 3, cordoned: 0 }),
            (JobId::new("2").unwrap(), Wait::Behind { job: first })
        ]
    );
}

#[test]
fn a_gang_that_no_node_could_ever_hold_does_not_hold_up_the_others() {
    let rooms = vec![room("a", 8, 8)];
    let plan = plan(&Snapshot { rooms, away: vec![], queue: vec![gang("1", 9, 1), gang("2", 8, 1)] });
    assert_eq!(plan.waiting, vec![(JobId::new("1").unwrap(), Wait::NeverFits { ranks: 8 })]);
    assert!(placed(&plan, "2").is_some());
}

#[test]
fn a_gang_that_needs_a_node_that_is_away_says_which_and_holds_up_nobody() {
    let mut other = room("gpu", 8, 8);
    other.categories = vec!["gpu".into()];
    let away = |room: Room, why| Away { room, why };
    let away = vec![
        away(room("d", 8, 8), Absence::Offline),
        away(room("b", 8, 8), Absence::Cordoned),
        away(other, Absence::Offline),
    ];
    let queue = vec![gang("1", 24, 1), gang("2", 25, 1), gang("3", 6, 1), gang("4", 4, 1)];
    let plan = plan(&Snapshot { rooms: vec![room("a", 8, 8)], away, queue });
    let node = |name: &str| NodeName::new(name).unwrap();
    assert_eq!(plan.waiting[0].1, Wait::Away { ranks: 8, offline: vec![node("d")], cordoned: vec![node("b")] });
    assert_eq!(plan.waiting[1].1, Wait::NeverFits { ranks: 8 });
    assert!(placed(&plan, "3").is_some());
    assert_eq!(plan.waiting[2].1, Wait::Full { ranks: 2, cordoned: 1 });
}

#[test]
fn categories_and_zones_are_kept_apart() {
    let mut other = room("a", 8, 8);
    other.categories = vec!["gpu".into()];
    let mut far = room("far", 4, 8);
    far.zone = "y".into();
    let rooms = vec![other, room("b", 4, 8), far];
    let plan = plan(&Snapshot { rooms, away: vec![], queue: vec![gang("1", 5, 1)] });
    assert_eq!(plan.waiting, vec![(JobId::new("1").unwrap(), Wait::Full { ranks: 4, cordoned: 0 })]);
}

#[test]
fn a_node_at_fault_is_avoided_unless_there_is_no_other() {
    let mut again = gang("1", 1, 1);
    again.avoid.insert(NodeName::new("a").unwrap());
    let rooms = vec![room("a", 8, 8), room("b", 8, 8)];
    let two = plan(&Snapshot { rooms, away: vec![], queue: vec![again.clone()] });
    assert_eq!(placed(&two, "1").unwrap(), ["b"]);
    let one = plan(&Snapshot { rooms: vec![room("a", 8, 8)], away: vec![], queue: vec![again] });
    assert_eq!(placed(&one, "1").unwrap(), ["a"]);
}

#[test]
fn gpus_are_left_to_those_who_ask_for_them() {
    let mut with_gpu = room("a", 4, 4);
    with_gpu.free.gpus = 2;
    with_gpu.capacity.gpus = 2;
    let rooms = vec![with_gpu, room("b", 16, 16)];
    let plan = plan(&Snapshot { rooms, away: vec![], queue: vec![gang("1", 4, 1)] });
    assert_eq!(placed(&plan, "1").unwrap(), ["b"; 4]);
}

prop_compose! {
    fn any_amount(most: u32)(cores in 0..=most, memory_bytes in 0..=u64::from(most), gpus in 0..=2_u32) -> Resources {
        Resources { cores, memory_bytes, gpus }
    }
}

fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    let room = (any_amount(16), any_amount(16), 0..3_u8, 0..3_u8, 0..4_u8);
    let gang = (
        1..12_u32,
        1..6_u32,
        any_amount(6),
        0..2_u8,
        prop::collection::btree_set(0..8_usize, 0..3),
        prop::bool::weighted(0.1),
    );
    (prop::collection::vec(room, 0..8), prop::collection::vec(gang, 0..12)).prop_map(|(rooms, gangs)| {
        let category = |number: u8| format!("category-{number}");
        let (mut here, mut away) = (vec![], vec![]);
        for (number, (free, used, zone, serves, state)) in rooms.into_iter().enumerate() {
            let room = Room {
                node: NodeName::new(format!("n{number}")).unwrap(),
                capacity: free.plus(&used),
                free,
                zone: format!("zone-{zone}"),
                categories: if serves == 2 { vec![] } else { vec![category(serves)] },
            };
            match state {
                0 => away.push(Away { room, why: Absence::Offline }),
                1 => away.push(Away { room, why: Absence::Cordoned }),
                _ => here.push(room),
            }
        }
        let queue =
            gangs.into_iter().enumerate().map(|(number, (replicas, cores, each, kind, avoid, unaccounted))| Gang {
                job: JobId::new(format!("{number}")).unwrap(),
                category: category(kind),
                replicas,
                per_rank: Resources { cores, ..each },
                avoid: avoid.into_iter().map(|node| NodeName::new(format!("n{node}")).unwrap()).collect(),
                unaccounted: unaccounted.then(|| NodeName::new("n0").unwrap()),
            });
        Snapshot { rooms: here, away, queue: queue.collect() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// I7, and goals 1 to 3: capacity is never exceeded, gangs are whole, in one zone, on nodes of their category.
    #[test]
    fn placements_never_exceed_capacity_and_are_all_or_nothing(snapshot in any_snapshot()) {
        let plan = plan(&snapshot);
        let mut taken: BTreeMap<&NodeName, Resources> = BTreeMap::new();
        for (job, nodes) in &plan.placements {
            let gang = snapshot.queue.iter().find(|gang| gang.job == *job).unwrap();
            prop_assert_eq!(nodes.len(), gang.replicas as usize);
            prop_assert!(gang.unaccounted.is_none());
            let rooms: Vec<&Room> = nodes
                .iter()
                .map(|node| snapshot.rooms.iter().find(|room| room.node == *node).unwrap())
                .collect();
            prop_assert!(rooms.iter().all(|room| room.zone == rooms[0].zone));
            prop_assert!(rooms.iter().all(|room| room.categories.is_empty() || room.categories.contains(&gang.category)));
            for room in rooms {
                let sum = taken.entry(&room.node).or_default();
                *sum = sum.plus(&gang.per_rank);
                prop_assert!(room.free.holds(sum));
            }
        }
        prop_assert_eq!(plan.placements.len() + plan.waiting.len(), snapshot.queue.len());
    }

    /// Goal 7, and a waiting job's explanation is true.
    #[test]
    fn the_answer_is_determined_and_the_reason_true(snapshot in any_snapshot()) {
        let first = plan(&snapshot);
        let mut turned = snapshot.clone();
        turned.rooms.reverse();
        turned.away.reverse();
        prop_assert_eq!(&first, &plan(&turned));
        for (job, wait) in &first.waiting {
            let gang = snapshot.queue.iter().find(|gang| gang.job == *job).unwrap();
            match wait {
                Wait::NeverFits { ranks } | Wait::Full { ranks, .. } => prop_assert!(*ranks < gang.replicas),
                Wait::Away { ranks, offline, cordoned } => {
                    prop_assert!(*ranks < gang.replicas && !(offline.is_empty() && cordoned.is_empty()));
                    // Were they all here, it would not wait for them.
                    let mut back = Snapshot { queue: vec![gang.clone()], ..snapshot.clone() };
                    back.rooms.extend(back.away.drain(..).map(|away| away.room));
                    let could = plan(&back).waiting.iter().all(|(_, wait)| matches!(wait, Wait::Full { .. }));
                    prop_assert!(could);
                }
                Wait::Unaccounted { node } => prop_assert_eq!(gang.unaccounted.as_ref(), Some(node)),
                Wait::Behind { job: ahead } => {
                    let waits = |(id, wait): &(JobId, Wait)| id == ahead && matches!(wait, Wait::Full { .. });
                    prop_assert!(first.waiting.iter().any(waits));
                }
            }
        }
    }
}
