//! What Core and its users are told.

use crate::fixtures::provider;
use muster_domain::accounting::Charge;
use muster_domain::cluster::Wording;
use muster_domain::id::JobId;
use muster_domain::job::EndCause;
use muster_domain::outbox::Notice;
use muster_ucloud::v2021::words::Words;
use proptest::prelude::*;
use serde_json::json;

fn words() -> Words {
    Words { provider: provider() }
}

fn id() -> JobId {
    JobId::new("812").unwrap()
}

fn text(text: &str) -> String {
    text.to_owned()
}

#[test]
fn every_end_has_its_state_and_words() {
    let cases = [
        (EndCause::Exited { rank: 0, code: 0 }, "SUCCESS", "The job has finished (rank 0 exited with code 0)"),
        (EndCause::Exited { rank: 2, code: 3 }, "SUCCESS", "The job has finished (rank 2 exited with code 3)"),
        (EndCause::OutOfMemory { rank: 2 }, "SUCCESS", "The job ran out of memory (rank 2)"),
        (
            EndCause::Killed { rank: 1, signal: 11 },
            "SUCCESS",
            "The job has ended (rank 1 was killed by signal 11, SIGSEGV)",
        ),
        (EndCause::Killed { rank: 1, signal: 40 }, "SUCCESS", "The job has ended (rank 1 was killed by signal 40)"),
        (EndCause::TimeLimit, "EXPIRED", "The time allocation has run out"),
        (EndCause::Terminated, "SUCCESS", "The job was terminated"),
        (EndCause::NoCredit, "SUCCESS", "The job was terminated (No credits)"),
        (
            EndCause::NodeLost { node: text("node-1"), rank: 3 },
            "FAILURE",
            "The job has failed: node node-1 was lost (rank 3). Please start it again",
        ),
        (
            EndCause::EngineRestarted { node: text("node-1"), rank: 3 },
            "FAILURE",
            "The job was ended by a restart of the container engine on node node-1 (rank 3). This was no fault of your \
             program. Please start the job again",
        ),
        (
            EndCause::Drained { node: text("node-1") },
            "FAILURE",
            "The machine was taken out of service by its operator (node node-1 was drained). Please start the job again",
        ),
        (
            EndCause::CannotStart { reason: text("no such image\n") },
            "FAILURE",
            "The job could not be started: no such image",
        ),
        (EndCause::Orphaned, "FAILURE", "The job was stopped: UCloud does not know it"),
    ];
    for (cause, state, reason) in cases {
        assert_eq!((words().outcome(&cause), words().reason(&cause).as_str()), (state, reason));
        let notice = Notice::Ended { cause };
        assert_eq!(Wording::update(&words(), &notice), (Some(text(state)), text(reason)));
        let update = serde_json::to_value(words().update(&id(), &notice)).unwrap();
        assert_eq!(
            update,
            json!({"id": "812", "update": {"state": state, "outputFolder": null, "status": reason, "expectedState": null,
                "expectedDifferentState": true, "newTimeAllocation": null, "timestamp": 0}})
        );
    }
}

#[test]
fn notices_on_the_way() {
    let nodes = vec![text("node-1"), text("node-2")];
    let cases = [
        (Notice::Running { nodes }, Some("RUNNING"), "The job is now running on node-1, node-2"),
        (Notice::Running { nodes: vec![] }, Some("RUNNING"), "The job is now running"),
        (Notice::Waiting { reason: text("no node is free") }, None, "The job is waiting in the queue: no node is free"),
        (
            Notice::AttemptFailed { attempt: 1, reason: text("node-1 went away") },
            None,
            "Attempt 1 at starting the job failed, trying again: node-1 went away",
        ),
        (
            Notice::TimeAllocation { total_ms: 9_001_000 },
            None,
            "The time allocation is now 2 hours 30 minutes 1 second",
        ),
    ];
    for (notice, state, status) in cases {
        let update = words().update(&id(), &notice).update;
        assert_eq!(update.state.map(|state| state.name()), state);
        assert_eq!(update.status.as_deref(), Some(status));
        assert_eq!(update.expected_different_state, state.map(|_| true));
        let total = if let Notice::TimeAllocation { total_ms } = notice { Some(total_ms as i64) } else { None };
        assert_eq!(update.new_time_allocation, total);
    }
    let many = Notice::Running { nodes: (0..1_000).map(|number| format!("node-{number}")).collect() };
    let status = words().update(&id(), &many).update.status.unwrap();
    assert!(status.ends_with("node-15 and 984 more"), "{status}");
}

#[test]
fn an_unknown_job_is_a_failure() {
    let update = words().unknown_job_update(&id());
    assert_eq!((update.id.as_str(), update.update.state.unwrap().name()), ("812", "FAILURE"));
    assert_eq!(update.update.expected_different_state, Some(true));
}

#[test]
fn the_example_charge() {
    let charge = Charge { job: id(), window: 3, periods: 15, units_per_period: 4, ranks: 2 };
    assert_eq!(
        serde_json::to_value(words().charge(&charge)).unwrap(),
        json!({"id": "812", "chargeId": "812-example-3", "units": 60, "numberOfProducts": 2, "periods": 2,
            "performedBy": null, "description": null})
    );
}

proptest! {
    #[test]
    fn a_charge_is_the_exact_product(window: u32, periods in 1u32.., units_per_period in 1u32.., ranks in 1u32..) {
        let charge = Charge { job: id(), window, periods, units_per_period, ranks };
        let wire = words().charge(&charge);
        prop_assert_eq!(u128::from(wire.units), u128::from(periods) * u128::from(units_per_period));
        prop_assert_eq!((wire.number_of_products, wire.periods), (i64::from(ranks), i64::from(ranks)));
    }

    #[test]
    fn no_reason_makes_a_long_or_broken_line(reason in ".{0,4000}") {
        for notice in [Notice::Waiting { reason: reason.clone() }, Notice::Ended { cause: EndCause::CannotStart { reason } }] {
            let (_, status) = Wording::update(&words(), &notice);
            prop_assert!(status.chars().count() <= 2_003 && !status.chars().any(char::is_control));
        }
    }
}
