//! The short form of `make chaos`: about a minute of faults against real processes.

use muster_tests::chaos::{ChaosOptions, Length, run};
use muster_tests::harness::etcd_for_tests;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chaos_loses_nothing_runs_nothing_twice_and_charges_exactly() {
    if etcd_for_tests("chaos_loses_nothing_runs_nothing_twice_and_charges_exactly").is_none() {
        return;
    }
    let outcome = run(ChaosOptions { length: Length::Short, seed: 1, docker: None }).await.unwrap();
    outcome.print();
    assert_eq!(outcome.failed(), 0, "see the table above");
}
