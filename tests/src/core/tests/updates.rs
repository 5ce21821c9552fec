//! Protocol 6.4.

use serde_json::json;

use super::provider::World;
use crate::core::{JobState, Verdict};

#[tokio::test]
async fn running_starts_the_clock_once() {
    let world = World::new().await;
    let id = world.job().await;
    assert_eq!(world.update(&[(&id, json!({"state": "RUNNING", "status": "The job is now running"}))]).await, 200);
    let first = world.core.job(&id).unwrap();
    assert_eq!(first.state, JobState::Running);
    assert!(first.started_at.is_some());
    // There is no transition table: back to the queue and again running is allowed, and keeps the first start.
    assert_eq!(world.update(&[(&id, json!({"state": "IN_QUEUE"}))]).await, 200);
    assert_eq!(world.update(&[(&id, json!({"state": "RUNNING"}))]).await, 200);
    let job = world.core.job(&id).unwrap();
    assert_eq!(job.started_at, first.started_at);
    assert_eq!(job.states(), [JobState::Running, JobState::InQueue, JobState::Running]);
    assert!(job.was_told("now running"));
    let (_, wire) = world.get(&format!("/api/jobs/control/retrieve?id={id}")).await;
    assert_eq!(wire["status"]["expiresAt"], json!(first.started_at.unwrap() + 3_600_000));
}

#[tokio::test]
async fn one_unknown_id_spoils_the_batch() {
    let world = World::new().await;
    let id = world.job().await;
    for unknown in ["99999999", "abc", "007", ""] {
        let body =
            json!({"items": [{"id": id, "update": {"state": "RUNNING"}}, {"id": unknown, "update": {"status": "x"}}]});
        let (status, answer) = world.post("/api/jobs/control/update", &body).await;
        assert_eq!(status, 400);
        assert_eq!(answer["why"], "Unable to use all requested resources");
    }
    let job = world.core.job(&id).unwrap();
    assert_eq!((job.state, job.history.len()), (JobState::InQueue, 0));
}

#[tokio::test]
async fn history_grows_whatever_the_guards_say() {
    let world = World::new().await;
    let id = world.job().await;
    assert_eq!(
        world.update(&[(&id, json!({"state": "SUCCESS", "expectedState": "RUNNING", "status": "one"}))]).await,
        200
    );
    assert_eq!(
        world.update(&[(&id, json!({"state": "IN_QUEUE", "expectedDifferentState": true, "status": "two"}))]).await,
        200
    );
    assert_eq!(world.update(&[(&id, json!({"status": "three"}))]).await, 200);
    assert_eq!(
        world.update(&[(&id, json!({"state": "SUCCESS", "expectedState": "IN_QUEUE", "status": "four"}))]).await,
        200
    );
    assert_eq!(world.update(&[(&id, json!({"state": "FAILURE", "status": "five"}))]).await, 200);
    assert_eq!(world.update(&[(&id, json!({"status": "six", "newTimeAllocation": null}))]).await, 200);
    let job = world.core.job(&id).unwrap();
    let verdicts: Vec<_> = job.history.iter().map(|entry| entry.verdict).collect();
    use Verdict::*;
    assert_eq!(verdicts, [ExpectedStateDiffers, SameState, MessageOnly, Applied, AlreadyFinal, MessageOnly]);
    assert_eq!(job.state, JobState::Success);
    assert!(job.ended_at.is_some());
    let (_, wire) = world.get(&format!("/api/jobs/control/retrieve?id={id}&includeUpdates=true")).await;
    let told: Vec<_> =
        wire["updates"].as_array().unwrap().iter().map(|update| update["status"].as_str().unwrap()).collect();
    assert_eq!(told, ["one", "two", "three", "four", "five", "six"]);
}

#[tokio::test]
async fn guards_look_at_the_state_before_the_request() {
    let world = World::new().await;
    let id = world.job().await;
    let running = json!({"state": "RUNNING", "expectedDifferentState": true});
    let success = json!({"state": "SUCCESS", "expectedState": "RUNNING"});
    assert_eq!(world.update(&[(&id, running), (&id, success.clone())]).await, 200);
    assert_eq!(world.core.job(&id).unwrap().state, JobState::Running, "SUCCESS was judged against IN_QUEUE");
    assert_eq!(world.update(&[(&id, success)]).await, 200);
    assert_eq!(world.core.job(&id).unwrap().state, JobState::Success);
}

#[tokio::test]
async fn allocation_and_output_folder_are_set_until_the_end() {
    let world = World::new().await;
    let id = world.job().await;
    let both = json!({"newTimeAllocation": 7_260_000, "outputFolder": "/12/Jobs/54112"});
    assert_eq!(world.update(&[(&id, both)]).await, 200);
    let (_, wire) = world.get(&format!("/api/jobs/control/retrieve?id={id}")).await;
    assert_eq!(wire["specification"]["timeAllocation"], json!({"hours": 2, "minutes": 1, "seconds": 0}));
    assert_eq!(wire["output"]["outputFolder"], "/12/Jobs/54112");
    assert_eq!(world.update(&[(&id, json!({"state": "EXPIRED"}))]).await, 200);
    assert_eq!(world.update(&[(&id, json!({"newTimeAllocation": 1000}))]).await, 200);
    assert_eq!(world.core.job(&id).unwrap().allocation, Some(7_260_000));
}

#[tokio::test]
async fn bodies_are_decoded_as_core_decodes_them() {
    let world = World::new().await;
    let id = world.job().await;
    // An unknown word takes the default, unknown keys are ignored.
    assert_eq!(world.update(&[(&id, json!({"state": "LOST", "status": "odd", "someday": 1}))]).await, 200);
    assert_eq!(world.core.job(&id).unwrap().history[0].verdict, Verdict::MessageOnly);
    assert_eq!(world.update(&[(&id, json!({"status": 7}))]).await, 400);
    assert_eq!(world.update(&[(&id, json!("RUNNING"))]).await, 400);
    assert_eq!(world.update(&[]).await, 400);
    assert_eq!(world.update(&vec![(id.as_str(), json!({})); 1001]).await, 400);
    assert_eq!(world.update(&vec![(id.as_str(), json!({})); 1000]).await, 200);
}
