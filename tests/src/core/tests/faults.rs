//! Faults do what they say, and lift again.

use std::time::{Duration, Instant};

use serde_json::json;

use super::provider::{World, charge};
use crate::core::{Direction, Faults, JobState};

impl World {
    /// Sends one charge; `None` if the connection broke without an answer.
    async fn try_charge(&self, id: &str, charge_id: &str) -> Option<u16> {
        let body = json!({"items": [charge(id, charge_id, 1, 1)]});
        let request = self.http.post(format!("{}/api/jobs/control/chargeCredits", self.core.url())).json(&body);
        request.bearer_auth(&self.token).send().await.ok().map(|answer| answer.status().as_u16())
    }
}

#[tokio::test]
async fn a_dropped_answer_was_processed() {
    let world = World::new().await;
    let id = world.job().await;
    world.core.set_faults(Faults { drop_next_charge_answers: 1, drop_next_update_answers: 1, ..Faults::default() });
    assert_eq!(world.try_charge(&id, "a").await, None);
    assert_eq!(world.core.charges().len(), 1);
    assert_eq!(world.try_charge(&id, "a").await, Some(200));
    assert_eq!((world.core.charges().len(), world.core.repeated_charges().len()), (1, 1));
    let body = json!({"items": [{"id": id, "update": {"state": "RUNNING"}}]});
    let request = world.http.post(format!("{}/api/jobs/control/update", world.core.url())).json(&body);
    assert!(request.bearer_auth(&world.token).send().await.is_err());
    assert_eq!(world.core.job(&id).unwrap().state, JobState::Running);
    assert_eq!(world.core.faults(), Faults::default());
    let calls = world.core.calls();
    let dropped = calls.iter().filter(|call| call.direction == Direction::FromProvider && call.status.is_none());
    assert_eq!(dropped.count(), 2);
}

#[tokio::test]
async fn a_cut_or_failed_call_was_not_processed() {
    let world = World::new().await;
    let id = world.job().await;
    world.core.set_faults(Faults { cut_connections: true, ..Faults::default() });
    assert_eq!(world.try_charge(&id, "a").await, None);
    world.core.set_faults(Faults { fail_percent: 100, fail_status: 503, ..Faults::default() });
    assert_eq!(world.try_charge(&id, "a").await, Some(503));
    assert!(world.core.charges().is_empty());
    world.core.set_faults(Faults::default());
    assert_eq!(world.try_charge(&id, "a").await, Some(200));
}

#[tokio::test]
async fn refused_connections_come_back_on_the_same_port() {
    let world = World::new().await;
    let id = world.job().await;
    world.core.set_faults(Faults { refuse_connections: true, ..Faults::default() });
    let closed = async {
        while std::net::TcpStream::connect(world.core.address()).is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), closed).await.unwrap();
    assert_eq!(world.try_charge(&id, "a").await, None);
    world.core.set_faults(Faults::default());
    let open = async {
        while world.try_charge(&id, "a").await != Some(200) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), open).await.unwrap();
}

#[tokio::test]
async fn slow_answers_and_dead_tokens() {
    let world = World::new().await;
    let id = world.job().await;
    world.core.set_faults(Faults { slow_ms: 150, ..Faults::default() });
    let began = Instant::now();
    assert_eq!(world.try_charge(&id, "a").await, Some(200));
    assert!(began.elapsed() >= Duration::from_millis(150));
    world.core.set_faults(Faults { tokens_expire_at_once: true, ..Faults::default() });
    let dead = world.refresh().await;
    assert_eq!(world.post_with("/api/jobs/control/update", &json!({"items": []}), Some(&dead)).await.0, 401);
}

#[tokio::test]
async fn a_job_can_be_unknown_for_a_while() {
    let world = World::new().await;
    let id = world.job().await;
    world.core.set_faults(Faults { unknown_jobs: [id.clone()].into(), ..Faults::default() });
    assert_eq!(world.update(&[(&id, json!({"status": "x"}))]).await, 400);
    assert_eq!(world.try_charge(&id, "a").await, Some(400));
    assert_eq!(world.get(&format!("/api/jobs/control/retrieve?id={id}")).await.0, 404);
    assert_eq!(world.get("/api/jobs/control/browse").await.1["items"], json!([]));
    world.core.set_faults(Faults::default());
    assert_eq!(world.update(&[(&id, json!({"status": "x"}))]).await, 200);
    world.core.forget_job(&id);
    assert_eq!(world.update(&[(&id, json!({"status": "x"}))]).await, 400);
}
