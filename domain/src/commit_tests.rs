use super::*;
use crate::id::NodeName;
use crate::node::{Admission, NodeRecord};
use crate::resources::Resources;
use proptest::prelude::*;

fn node(name: &str) -> Write {
    Write::Node(Box::new(NodeRecord {
        name: NodeName::new(name).unwrap(),
        admission: Admission::Open,
        drained_ms: 0,
        boot_id: "boot".into(),
        capacity: Resources { cores: 1, memory_bytes: 1, gpus: 0 },
        categories: vec![],
        labels: BTreeMap::new(),
        network_zone: "zone".into(),
        engine: "fake".into(),
        engine_version: "1".into(),
        version: "1".into(),
    }))
}

fn decision(names: &[&str]) -> Decision<()> {
    let effects = names.iter().map(|name| Effect::Write { write: node(name), milestones: vec![Milestone::Other] });
    Decision { effects: effects.collect(), caller: None }
}

#[test]
fn a_batch_holds_whole_decisions_and_each_document_once() {
    let mut queue: VecDeque<Decision<()>> = [decision(&["a", "b"]), decision(&["b"]), decision(&["c", "d"])].into();
    let batch = Batch::take(&mut queue, 3);
    assert_eq!((batch.writes.len(), batch.milestones.len(), queue.len()), (2, 3, 1));
    // A decision that is larger than a batch is a batch of its own.
    assert_eq!(Batch::take(&mut queue, 1).writes.len(), 2);
    assert!(queue.is_empty());
}

fn term() -> Term {
    crate::leadership::term_of(1, 7)
}

#[test]
fn an_applied_transaction_moves_the_revisions_and_a_removal_ends_them() {
    let mut ledger = Ledger::default();
    let put = ledger.transaction(term(), vec![node("a")]);
    assert_eq!(put.puts[0].expected, 0);
    assert_eq!(ledger.judge(&put, &Answer::Applied(9), false), Verdict::Durable);
    let remove = ledger.transaction(term(), vec![Write::ForgetNode(NodeName::new("a").unwrap())]);
    assert_eq!(remove.puts[0].expected, 9);
    assert_eq!(ledger.judge(&remove, &Answer::Applied(10), false), Verdict::Durable);
    assert_eq!(ledger.documents().count(), 0);
}

#[test]
fn an_unknown_outcome_is_resolved_by_sending_the_same_again() {
    let mut ledger = Ledger::default();
    let put = ledger.transaction(term(), vec![node("a"), node("b")]);
    assert_eq!(ledger.judge(&put, &Answer::Unknown, false), Verdict::SendAgain);
    let landed = Found { revision: 9, as_wanted: true };
    let answer = Answer::Refused { leader: 7, found: vec![landed, landed] };
    assert_eq!(ledger.judge(&put, &answer, true), Verdict::Durable);
    assert_eq!(ledger.revision(&node("b").key()), 9);
}

#[test]
fn another_leader_fences_and_another_writer_is_a_conflict() {
    let mut ledger = Ledger::default();
    let put = ledger.transaction(term(), vec![node("a"), node("b")]);
    let as_wanted = Found { revision: 9, as_wanted: true };
    let fenced = Answer::Refused { leader: 8, found: vec![as_wanted, as_wanted] };
    assert_eq!(ledger.judge(&put, &fenced, true), Verdict::Fenced { leader: 8 });
    // Without a sending in doubt nobody but us may have written what we want.
    let refused = Answer::Refused { leader: 7, found: vec![Found { revision: 0, as_wanted: false }, as_wanted] };
    assert_eq!(ledger.judge(&put, &refused, false), Verdict::Conflict { key: node("b").key() });
    assert_eq!(ledger.judge(&put, &refused, true), Verdict::Conflict { key: node("b").key() });
}

fn forget(name: &str) -> Write {
    Write::ForgetNode(NodeName::new(name).unwrap())
}

fn of(writes: Vec<Write>) -> Decision<u8> {
    let effects = writes.into_iter().map(|write| Effect::Write { write, milestones: vec![Milestone::Other] });
    Decision { effects: effects.collect(), caller: None }
}

fn keys(names: &[&str]) -> BTreeSet<DocumentKey> {
    names.iter().map(|name| forget(name).key()).collect()
}

fn removals_ahead(queue: &mut VecDeque<Decision<u8>>, under_way: &[&str], documents: usize) -> Option<Vec<Write>> {
    Batch::take_removals(queue, &keys(under_way), documents).map(|batch| batch.writes)
}

#[test]
fn removals_overtake_what_is_about_other_documents() {
    let alarm = Effect::Alarm { message: "the store is nearly full".to_owned() };
    let mut sweep = of(vec![forget("b"), forget("c")]);
    sweep.effects.push(alarm.clone());
    let mut queue: VecDeque<_> = [of(vec![node("a")]), sweep, of(vec![node("d")]), of(vec![forget("e")])].into();
    let batch = Batch::take_removals(&mut queue, &keys(&["x"]), 100).unwrap();
    assert_eq!(batch.writes, [forget("b"), forget("c"), forget("e")]);
    assert_eq!((batch.milestones.len(), batch.effects), (3, vec![alarm]));
    let left: Vec<DocumentKey> = queue.iter().flat_map(Decision::documents).collect();
    assert_eq!(left, [node("a").key(), node("d").key()]);
    assert!(removals_ahead(&mut queue, &[], 100).is_none());
    assert_eq!(queue.len(), 2);
}

#[test]
fn a_removal_stays_behind_an_earlier_write_of_its_document() {
    // Under way; earlier in the queue; and behind a removal that itself stays.
    let mut queue: VecDeque<_> =
        [of(vec![node("b")]), of(vec![forget("a")]), of(vec![forget("b"), forget("c")]), of(vec![forget("c")])].into();
    assert!(removals_ahead(&mut queue, &["a"], 100).is_none());
    assert_eq!(queue.len(), 4);
    // What is decided later does not hold it up.
    let mut queue: VecDeque<_> = [of(vec![forget("a")]), of(vec![node("a")])].into();
    assert_eq!(removals_ahead(&mut queue, &[], 100), Some(vec![forget("a")]));
    assert_eq!(queue.len(), 1);
}

#[test]
fn a_decision_that_does_more_than_remove_stays() {
    let mut answers = of(vec![forget("a")]);
    answers.effects.push(Effect::Reply { request: 1, reply: Ok(()) });
    let waited_for = Decision { caller: Some(1), ..of(vec![forget("b")]) };
    let only_calls = Decision { effects: vec![Effect::Alarm { message: "look".to_owned() }], caller: None };
    let mut queue: VecDeque<_> = [answers, waited_for, of(vec![forget("c"), node("d")]), only_calls, of(vec![])].into();
    assert!(removals_ahead(&mut queue, &[], 100).is_none());
    assert_eq!(queue.len(), 5);
}

#[test]
fn removals_that_go_ahead_fit_one_transaction() {
    let two = |first, second| of(vec![forget(first), forget(second)]);
    let mut queue: VecDeque<_> = [two("a", "b"), two("c", "d"), of(vec![forget("e")]), of(vec![forget("d")])].into();
    // Those that do not fit stay, and whatever must follow them.
    assert_eq!(removals_ahead(&mut queue, &[], 3), Some(vec![forget("a"), forget("b"), forget("e")]));
    assert_eq!(removals_ahead(&mut queue, &[], 1), Some(vec![forget("c"), forget("d")]));
    assert_eq!(removals_ahead(&mut queue, &[], 1), Some(vec![forget("d")]));
    assert!(queue.is_empty());
}

/// Writes of a few documents, each its number and whether it removes; and whether somebody waits for a reply.
type Made = (Vec<(u8, bool)>, bool);

fn decisions() -> impl Strategy<Value = Vec<Made>> {
    let write = (0..6_u8, any::<bool>());
    let writes = prop_oneof![prop::collection::vec((0..6_u8, Just(true)), 1..4), prop::collection::vec(write, 0..4),];
    prop::collection::vec((writes, prop::bool::weighted(0.2)), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn removals_ahead_keep_each_document_s_order_and_lose_nothing(
        made in decisions(),
        under_way in prop::collection::btree_set(0..6_u8, 0..3),
        documents in 1..8_usize,
    ) {
        let name = |number: &u8| format!("n{number}");
        let write = |(number, removes): &(u8, bool)| if *removes { forget(&name(number)) } else { node(&name(number)) };
        // Each decision knows its place by an alarm that goes wherever it goes.
        let decision = |(place, (writes, waited_for)): (usize, &Made)| {
            let mut decision = of(writes.iter().map(write).collect());
            decision.effects.push(Effect::Alarm { message: place.to_string() });
            decision.caller = waited_for.then_some(1);
            decision
        };
        let mut queue: VecDeque<Decision<u8>> = made.iter().enumerate().map(decision).collect();
        let names: Vec<String> = under_way.iter().map(name).collect();
        let busy = keys(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let batch = Batch::take_removals(&mut queue, &busy, documents);
        let place = |effect: &Effect| match effect {
            Effect::Alarm { message } => message.parse::<usize>().ok(),
            _ => None,
        };
        let stayed: Vec<usize> = queue.iter().flat_map(|decision| decision.effects.iter().filter_map(place)).collect();
        let gone: Vec<usize> = batch.iter().flat_map(|batch| batch.effects.iter().filter_map(place)).collect();
        // Nothing is lost or doubled, and on each side the order is as it was.
        prop_assert!(stayed.is_sorted() && gone.is_sorted());
        let all: BTreeSet<usize> = stayed.iter().chain(&gone).copied().collect();
        prop_assert_eq!(all.len(), made.len());
        prop_assert_eq!(stayed.len() + gone.len(), made.len());
        prop_assert_eq!(batch.is_some(), !gone.is_empty());
        let mut removals = 0;
        for moved in &gone {
            let (writes, waited_for) = &made[*moved];
            prop_assert!(!waited_for && !writes.is_empty() && writes.iter().all(|(_, removes)| *removes));
            let writes_it = |other: usize, number: u8| made[other].0.iter().any(|(written, _)| *written == number);
            let touches = |other: &usize| writes.iter().any(|(number, _)| writes_it(*other, *number));
            prop_assert!(!writes.iter().any(|(number, _)| under_way.contains(number)));
            prop_assert!(!stayed.iter().any(|other| other < moved && touches(other)), "{} was overtaken", moved);
            removals += writes.len();
        }
        prop_assert!(gone.len() <= 1 || removals <= documents);
        // What is written is what the decisions that went hold.
        let wanted: BTreeSet<DocumentKey> =
            gone.iter().flat_map(|moved| made[*moved].0.iter().map(|pair| write(pair).key())).collect();
        let written = batch.iter().flat_map(|batch| batch.writes.iter().map(Write::key));
        let written: BTreeSet<DocumentKey> = written.collect();
        prop_assert_eq!(wanted, written);
        prop_assert!(batch.iter().flat_map(|batch| &batch.writes).all(Write::removes));
        // Something that may go does go: the first removal that nothing holds back.
        let held = |at: usize| {
            let writes = &made[at].0;
            let before = || made[..at].iter().flat_map(|(writes, _)| writes);
            let clashes = |number: &u8| under_way.contains(number) || before().any(|(other, _)| other == number);
            made[at].1 || writes.is_empty() || writes.iter().any(|(number, removes)| !removes || clashes(number))
        };
        prop_assert!((0..made.len()).all(held) || !gone.is_empty());
    }
}
