//! Protocol 5.1 to 5.3.

use serde_json::{Value, json};

use super::provider::{LONG, World};
use crate::core::Following;

fn piece(rank: i64, stdout: Option<&str>, stderr: Option<&str>) -> Value {
    json!({"type": "message", "payload": {"streamId": "s", "rank": rank, "stdout": stdout, "stderr": stderr}})
}

fn end(status: u16) -> Value {
    json!({"type": "response", "status": status, "payload": {"streamId": "s", "rank": -1, "stdout": null, "stderr": null}})
}

async fn world() -> World {
    World::with(|options| options.follow_logs = true).await
}

#[tokio::test]
async fn a_running_job_is_followed_per_rank_and_stream() {
    let world = world().await;
    let id = world.job().await;
    world.provider.stream([
        piece(-1, None, None),
        piece(0, Some("one "), None),
        json!({"type": "message"}),
        piece(1, None, Some("warning")),
        piece(0, Some("two"), None),
    ]);
    assert_eq!(world.core.job(&id).unwrap().following, Following::Never);
    assert_eq!(world.update(&[(&id, json!({"state": "RUNNING"}))]).await, 200);
    let job = world.core.wait_for(&id, |job| job.log(0).stdout == "one two", LONG).await.unwrap();
    assert_eq!((job.log(1).stderr.as_str(), job.following), ("warning", Following::Open));
    let call = &world.provider.follow_calls()[0];
    assert_eq!(call["call"], "jobs.provider.example.follow");
    assert_eq!(call["payload"]["type"], "init");
    assert_eq!(call["payload"]["job"]["status"]["state"], "RUNNING");
    assert_eq!(call["bearer"].as_str().unwrap().split('.').count(), 3);
}

#[tokio::test]
async fn a_stream_that_ends_too_early_is_opened_again_and_replayed() {
    let world = world().await;
    let id = world.job().await;
    world.provider.stream([piece(0, Some("begin"), None), end(200)]);
    world.provider.stream([piece(0, Some("begin, middle"), None)]);
    assert_eq!(world.update(&[(&id, json!({"state": "RUNNING"}))]).await, 200);
    let job = world.core.wait_for(&id, |job| job.log(0).stdout == "begin, middle", LONG).await.unwrap();
    assert_eq!(job.subscriptions, 2);
}

#[tokio::test]
async fn the_end_of_the_log_ends_the_following() {
    let world = world().await;
    let id = world.job().await;
    world.provider.stream([piece(0, Some("all"), None), end(200)]);
    assert_eq!(world.update(&[(&id, json!({"state": "RUNNING"})), (&id, json!({"state": "SUCCESS"}))]).await, 200);
    let job = world.core.wait_for(&id, |job| job.following == Following::Ended, LONG).await.unwrap();
    assert_eq!(job.log(0).stdout, "all");
}

#[tokio::test]
async fn an_error_response_stops_the_viewer_and_a_lost_socket_does_not() {
    let world = world().await;
    let id = world.job().await;
    world.provider.stream([json!("close")]);
    world.provider.stream([end(401)]);
    assert_eq!(world.update(&[(&id, json!({"state": "RUNNING"}))]).await, 200);
    let job = world.core.wait_for(&id, |job| job.following == Following::Refused(401), LONG).await.unwrap();
    assert_eq!(job.subscriptions, 2);
    world.provider.stream([piece(0, Some("after a reload"), None)]);
    world.core.follow_again(&id);
    world.core.wait_for(&id, |job| job.log(0).stdout == "after a reload", LONG).await.unwrap();
}

#[tokio::test]
async fn many_jobs_share_one_socket() {
    let world = world().await;
    let ids = [world.job().await, world.job().await, world.job().await];
    for id in &ids {
        world.provider.stream([piece(0, Some("text"), None)]);
        assert_eq!(world.update(&[(id, json!({"state": "RUNNING"}))]).await, 200);
        world.core.wait_for(id, |job| job.log(0).stdout == "text", LONG).await.unwrap();
    }
    let streams: Vec<_> = world.provider.follow_calls().iter().map(|call| call["streamId"].clone()).collect();
    assert_eq!(streams, [json!("0"), json!("1"), json!("2")], "numbered per socket, so all three came on one");
}
