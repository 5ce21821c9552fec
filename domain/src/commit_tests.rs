use super::*;
use crate::id::NodeName;
use crate::node::{Admission, NodeRecord};
use crate::resources::Resources;

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
