use super::*;
use crate::testing::job;
use muster_domain::effect::DocumentKey;
use muster_domain::id::JobId;
use proptest::prelude::*;

fn create(number: usize) -> Write {
    Write::Job(Box::new(job(&number.to_string())))
}

fn forget(number: usize) -> Write {
    Write::ForgetJob(JobId::new(number.to_string()).unwrap())
}

fn keys_of(writes: &[Encoded]) -> Vec<DocumentKey> {
    writes.iter().map(|(write, _)| write.key()).collect()
}

#[test]
fn a_small_batch_is_one_transaction() {
    let plan = plan(&Ledger::default(), (0..100).map(create).collect()).unwrap();
    assert_eq!((plan.parts.len(), plan.staged.len()), (1, 0));
}

#[test]
fn removals_go_first_and_alone() {
    let plan = plan(&Ledger::default(), vec![create(1), forget(2), create(3), forget(4)]).unwrap();
    let parts: Vec<_> = plan.parts.iter().map(|part| keys_of(part)).collect();
    let key = |number: usize| create(number).key();
    assert_eq!(parts, [vec![key(2), key(4)], vec![key(1), key(3)]]);
}

#[test]
fn new_documents_that_fit_no_transaction_are_staged_and_known_ones_are_not() {
    let plan = plan(&Ledger::default(), (0..500).map(create).collect()).unwrap();
    assert!(plan.parts.is_empty());
    assert_eq!(plan.staged.iter().map(Vec::len).collect::<Vec<_>>(), [120, 120, 120, 120, 20]);
    let known = Ledger::new((0..500).map(|number| (create(number).key(), 7)));
    let plan = super::plan(&known, (0..500).map(create).collect()).unwrap();
    assert_eq!((plan.parts.len(), plan.staged.len()), (5, 0));
}

#[test]
fn large_documents_are_cut_by_size_and_one_that_is_too_large_is_refused() {
    let large = |number: usize, bytes: usize| {
        let mut job = job(&number.to_string());
        job.spec.name = Some("x".repeat(bytes));
        Write::Job(Box::new(job))
    };
    let known = Ledger::new((0..5).map(|number| (create(number).key(), 7)));
    let plan = plan(&known, (0..5).map(|number| large(number, 400_000)).collect()).unwrap();
    assert_eq!(plan.parts.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
    let error = super::plan(&known, vec![large(1, 1_600_000)]).unwrap_err().to_string();
    assert!(error.contains("document jobs/1 has 16") && error.contains("that etcd takes"), "{error}");
}

#[test]
fn a_staged_document_names_its_bulk_and_is_read_like_any_other() {
    let staged = encode_staged("b-1", vec![create(1)]).unwrap();
    let bytes = staged[0].1.as_ref().unwrap();
    assert!(bytes.starts_with(br#"{"v":1,"bulk":"b-1","job":{"#));
    assert_eq!(bulk_of(bytes).as_deref(), Some("b-1"));
    assert_eq!(document::decode(bytes).unwrap(), job("1"));
    assert_eq!(bulk_of(&document::encode(&job("1")).unwrap()), None);
    assert_eq!(bulk_of(b"?"), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the batch: nothing is lost or doubled, removals precede puts, and puts that are not new keep their order.
    #[test]
    fn a_plan_holds_every_write_once_in_an_order_that_is_safe(known in prop::collection::btree_set(0..300_usize, 0..200), removed in prop::collection::btree_set(0..300_usize, 0..50)) {
        let ledger = Ledger::new(known.iter().map(|number| (create(*number).key(), 1)));
        let writes: Vec<Write> = (0..300).rev().map(|n| if removed.contains(&n) { forget(n) } else { create(n) }).collect();
        let plan = plan(&ledger, writes.clone()).unwrap();
        let sent: Vec<Write> = plan.parts.iter().flatten().map(|(write, _)| write.clone()).chain(plan.staged.iter().flatten().cloned()).collect();
        let mut sorted: Vec<_> = sent.iter().map(Write::key).collect();
        sorted.sort();
        let mut wanted: Vec<_> = writes.iter().map(Write::key).collect();
        wanted.sort();
        prop_assert_eq!(sorted, wanted);
        let first_put = sent.iter().position(|write| !write.removes()).unwrap_or(sent.len());
        prop_assert!(sent[first_put..].iter().all(|write| !write.removes()));
        let old = |writes: &[Write]| writes.iter().filter(|w| !w.removes() && ledger.revision(&w.key()) > 0).map(Write::key).collect::<Vec<_>>();
        prop_assert_eq!(old(&sent), old(&writes));
        prop_assert!(plan.parts.iter().all(|part| part.len() <= MOST_DOCUMENTS));
    }
}
