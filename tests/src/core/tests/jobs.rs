//! Protocol 4.4, 4.5, 4.9, 10.2, and tokens of section 2.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::provider::{LONG, World, request};
use crate::core::{BadToken, JobState};

#[tokio::test]
async fn terminate_asks_and_changes_nothing() {
    let world = World::new().await;
    let id = world.job().await;
    world.core.terminate(&id).await.unwrap();
    let asked = &world.provider.asked("/terminate")[0];
    assert_eq!(asked.username.as_deref(), Some("user"));
    let job = &asked.body["items"][0];
    assert!(job["status"]["resolvedProduct"].is_null() && job["status"]["resolvedSupport"].is_null());
    assert!(job["status"]["resolvedApplication"].is_object());
    assert_eq!(world.core.job(&id).unwrap().state, JobState::InQueue);
    world.core.terminate_as_core(&id, "permission lost").await.unwrap();
    assert_eq!(world.provider.asked("/terminate")[1].username.as_deref(), Some("_ucloud"));
    assert!(world.core.job(&id).unwrap().was_told("System initiated cancel: permission lost"));
}

#[tokio::test]
async fn extend_leaves_the_allocation_to_the_provider() {
    let world = World::new().await;
    let id = world.job().await;
    world.core.extend(&id, 0, 30, 15).await.unwrap();
    let item = world.provider.asked("/extend")[0].body["items"][0].clone();
    assert_eq!(item["requestedTime"], json!({"hours": 0, "minutes": 30, "seconds": 15}));
    assert_eq!(item["job"]["id"], json!(id));
    assert_eq!(world.core.job(&id).unwrap().allocation, Some(3_600_000));
    world.core.open_session(&id, 0, "SHELL").await.unwrap();
    let item = world.provider.asked("/interactiveSession")[0].body["items"][0].clone();
    assert_eq!((&item["rank"], &item["sessionType"]), (&json!(0), &json!("SHELL")));
}

#[tokio::test]
async fn live_confirmed_jobs_are_verified_on_a_cadence() {
    let world = World::with(|options| {
        options.verify_scan = Duration::from_millis(50);
        options.verify_each = Duration::from_millis(50);
    })
    .await;
    let (ended, live) = (world.job().await, world.job().await);
    assert_eq!(world.update(&[(&ended, json!({"state": "SUCCESS"}))]).await, 200);
    assert_eq!(world.core.verify_now().await.unwrap(), 1);
    let asked = world.provider.asked("/verify").last().unwrap().clone();
    assert_eq!(asked.username, None);
    assert_eq!(asked.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(asked.body["items"][0]["id"], json!(live));
    let before = world.provider.asked("/verify").len();
    tokio::time::timeout(LONG, async {
        while world.provider.asked("/verify").len() < before + 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn waiting_ends_with_the_change_and_says_how_far_it_came() {
    let world = World::new().await;
    let id = world.job().await;
    let failure = world.core.wait_for(&id, |job| job.state.is_final(), Duration::from_millis(20)).await.unwrap_err();
    assert!(failure.to_string().contains("InQueue"), "{failure}");
    let (core, waited) = (world.core.clone(), id.clone());
    let waiting = tokio::spawn(async move { core.wait_for(&waited, |job| job.state.is_final(), LONG).await });
    assert_eq!(world.update(&[(&id, json!({"state": "FAILURE"}))]).await, 200);
    assert_eq!(waiting.await.unwrap().unwrap().state, JobState::Failure);
    world.core.wait_until(|core| core.count_jobs() == (1, 1), LONG).await.unwrap();
}

#[tokio::test]
async fn control_calls_need_the_providers_own_token() {
    let world = World::new().await;
    let body = json!({"items": []});
    let path = "/api/jobs/control/update";
    assert_eq!(world.post_with(path, &body, None).await.0, 401);
    assert_eq!(world.post_with(path, &body, Some("nonsense")).await.0, 401);
    assert_eq!(world.post_with(path, &body, Some(&world.core.core_token().unwrap())).await.0, 401);
    assert_eq!(world.post(path, &body).await.0, 400);
    let unknown = json!({"items": [{"refreshToken": "unknown"}]});
    assert_eq!(world.post_with("/auth/providers/refresh", &unknown, None).await.0, 403);
    world.core.revoke_tokens();
    assert_eq!(world.post(path, &body).await.0, 401);
    let later = world.refresh().await;
    assert_eq!(world.post_with(path, &body, Some(&later)).await.0, 400);
    world.core.renew_keys().await.unwrap();
    assert_eq!(world.post_with(path, &body, Some(&later)).await.0, 401);
}

#[tokio::test]
async fn raw_calls_carry_what_the_test_says() {
    let world = World::new().await;
    for kind in BadToken::ALL {
        let token = world.core.bad_token(*kind).unwrap();
        world
            .core
            .provider_call(Method::POST, "/ucloud/example/jobs/verify", Some(&json!({"items": []})), Some(&token))
            .await
            .unwrap();
        assert_eq!(world.provider.asked("/verify").last().unwrap().bearer.as_deref(), Some(token.as_str()));
    }
    world.core.provider_call(Method::GET, "/ucloud/example/jobs/retrieveUtilization", None, None).await.unwrap();
    assert_eq!(world.provider.asked("/retrieveUtilization")[0].bearer, None);
}

#[tokio::test]
async fn people_can_use_it_with_curl() {
    let world = World::new().await;
    let short =
        json!({"image": "acme/batch:1.0.0", "command": ["echo", "hi"], "replicas": 2, "minutes": 90, "owner": "ada"});
    let (status, answer) = world.post("/stand-in/jobs", &short).await;
    assert_eq!(status, 200, "{answer}");
    let id = answer["id"].as_str().unwrap().to_owned();
    let job = world.core.job(&id).unwrap();
    assert_eq!((job.replicas, job.allocation, job.payer.as_str()), (2, Some(5_400_000), "ada"));
    assert_eq!(world.post("/stand-in/jobs", &json!({"image": "x", "comand": []})).await.0, 400);
    let (_, bulk) = world.post("/stand-in/jobs", &json!([short, short])).await;
    assert_eq!(bulk["ids"].as_array().unwrap().len(), 2);
    assert_eq!(world.get("/stand-in/jobs").await.1["total"], 3);
    assert_eq!(world.get(&format!("/stand-in/jobs/{id}")).await.1["job"]["state"], "IN_QUEUE");
    assert_eq!(world.get("/stand-in/jobs/1").await.0, 404);
    assert_eq!(world.post(&format!("/stand-in/jobs/{id}/extend"), &json!({"minutes": 5})).await.0, 200);
    assert_eq!(world.post(&format!("/stand-in/jobs/{id}/terminate"), &json!({})).await.0, 200);
    let put = async |path: &str, body: serde_json::Value| {
        let request = world.http.put(format!("{}{path}", world.core.url())).json(&body);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(
        put("/stand-in/wallets", json!({"owner": "ada", "category": "example-compute", "balance": 7})).await,
        200
    );
    assert_eq!(world.get("/stand-in/wallets").await.1["wallets"][0]["balance"], 7);
    assert_eq!(put("/stand-in/faults", json!({"slowMs": 1})).await, 200);
    assert_eq!(put("/stand-in/faults", json!({"refuseConnections": true})).await, 400);
    assert_eq!(world.core.faults().slow_ms, 1);
    let foreign = world.http.get(format!("{}/stand-in/jobs", world.core.url())).header("Origin", "http://example.org");
    assert_eq!(foreign.send().await.unwrap().status().as_u16(), 403);
    assert!(world.core.submit(request()).await.is_ok());
}
