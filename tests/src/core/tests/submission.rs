//! Protocol 1.4, 2.1, 3.2, 3.3; reliability F1 to F3.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::provider::{LONG, Reply, World, request};
use crate::core::{JobRequest, Origin, Repeat};

fn refusal(status: u16) -> Reply {
    Reply::Json(status, json!({"why": "not now", "errorCode": "CLUSTER_PAUSED"}))
}

#[tokio::test]
async fn create_carries_the_whole_job_of_december() {
    let world = World::new().await;
    let id = world.core.submit(request().replicas(3).owner("Ada#1815", Some("p"))).await.unwrap();
    let asked = &world.provider.asked("/jobs")[0];
    assert_eq!(asked.username.as_deref(), Some("Ada#1815"));
    let job = &asked.body["items"][0];
    assert_eq!(job["id"], json!(id));
    assert_eq!(job["owner"], json!({"createdBy": "Ada#1815", "project": "p"}));
    assert_eq!(job["specification"]["replicas"], 3);
    assert_eq!(job["specification"]["timeAllocation"], json!({"hours": 1, "minutes": 0, "seconds": 0}));
    assert_eq!(job["status"]["state"], "IN_QUEUE");
    assert_eq!(job["status"]["resolvedProduct"]["cpu"], 1);
    assert_eq!(job["status"]["resolvedSupport"]["support"]["docker"]["enabled"], true);
    assert_eq!(job["status"]["resolvedSupport"]["product"], job["status"]["resolvedProduct"]);
    let invocation = &job["status"]["resolvedApplication"]["invocation"];
    assert_eq!(invocation["tool"]["tool"]["description"]["image"], "acme/batch:1.0.0");
    assert_eq!(invocation["invocation"][1], json!({"type": "word", "word": "--fast"}));
    let keys: Vec<_> = job.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = ["id", "owner", "updates", "specification", "status", "createdAt", "output", "permissions"];
    expected.sort_unstable();
    let mut keys = keys;
    keys.sort_unstable();
    assert_eq!(keys, expected);
}

#[tokio::test]
async fn the_token_has_cores_claims() {
    let world = World::new().await;
    world.job().await;
    let token = world.provider.asked("/jobs")[0].bearer.clone().unwrap();
    let claims: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap();
    assert_eq!(
        (&claims["iss"], &claims["sub"], &claims["role"]),
        (&json!("cloud.sdu.dk"), &json!("_UCloud"), &json!("SERVICE"))
    );
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 900);
    let header: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap();
    assert_eq!(header["alg"], "RS256");
}

#[tokio::test]
async fn not_ready_is_repeated_after_an_init() {
    let world = World::new().await;
    world.provider.answer_creates([refusal(503), refusal(449)]);
    let id = world.core.submit(request()).await.unwrap();
    let paths = world.provider.paths();
    assert_eq!(paths, ["jobs/retrieveProducts", "jobs", "integration/init", "jobs", "integration/init", "jobs"]);
    let creates = world.provider.asked("/jobs");
    assert_eq!(creates[0].body, creates[2].body, "the same job under the same id");
    assert_eq!(creates[2].body["items"][0]["id"], json!(id));
    let init = &world.provider.asked("/init")[0];
    assert_eq!((&init.body, &init.username), (&json!({"username": "user"}), &None));
    let statistics = world.core.creates();
    assert_eq!((statistics.by_status[&503], statistics.by_status[&449], statistics.by_status[&200]), (1, 1, 1));
    assert!(statistics.percentile_us(50.0).is_some());
}

#[tokio::test]
async fn a_create_can_come_twice_with_the_same_job() {
    let world = World::new().await;
    for after_acceptance in [None, Some(Duration::ZERO)] {
        let repeat = Repeat { after_acceptance, ..Repeat::default() };
        let (id, again) = world.core.submit_twice(&request(), &repeat).await;
        assert_eq!((id.unwrap(), again.unwrap().unwrap().status), (world.core.jobs().pop().unwrap().id, 200));
        let creates = world.provider.asked("/jobs");
        let [.., first, second] = creates.as_slice() else { panic!("{} creates", creates.len()) };
        assert_eq!((&first.body, &first.username), (&second.body, &second.username));
    }
    assert_eq!(world.core.creates().by_status[&200], 2, "the second ones are not Core's");
    world.provider.answer_creates([refusal(400)]);
    let later = Repeat { after_acceptance: Some(Duration::ZERO), ..Repeat::default() };
    let (id, again) = world.core.submit_twice(&request(), &later).await;
    assert!(id.is_err() && again.is_none());
}

#[tokio::test]
async fn a_provider_that_is_never_ready_loses_the_job() {
    let world = World::with(|options| options.call_attempts = 3).await;
    world.provider.answer_creates(vec![refusal(503); 3]);
    let failure = world.core.submit(request()).await.unwrap_err();
    assert_eq!((failure.status, failure.attempts), (500, 3));
    assert_eq!(world.core.deleted_jobs().len(), 1);
    assert!(world.core.jobs().is_empty());
}

#[tokio::test]
async fn a_failed_init_fails_the_call() {
    let world = World::new().await;
    world.provider.answer_creates([refusal(503)]);
    world.provider.answer_init(500);
    let failure = world.core.submit(request()).await.unwrap_err();
    assert_eq!((failure.status, failure.attempts), (500, 1));
    assert_eq!(world.provider.asked("/jobs").len(), 1);
}

#[tokio::test]
async fn any_other_error_deletes_the_job_and_reaches_the_user() {
    let world = World::new().await;
    world.provider.answer_creates([refusal(400)]);
    let failure = world.core.submit_bulk(&[request(), request()]).await.unwrap_err();
    assert_eq!((failure.status, failure.origin, failure.why.as_str()), (400, Origin::Provider, "not now"));
    assert_eq!(failure.error_code.as_deref(), Some("CLUSTER_PAUSED"));
    let deleted = world.core.deleted_jobs();
    assert_eq!(deleted.len(), 2);
    let id = deleted.first().unwrap();
    assert_eq!(world.update(&[(id, json!({"state": "RUNNING"}))]).await, 400);
    assert_eq!(world.get(&format!("/api/jobs/control/retrieve?id={id}")).await.0, 404);
}

#[tokio::test]
async fn no_answer_in_time_deletes_the_job() {
    let world = World::with(|options| options.call_timeout = Duration::from_millis(200)).await;
    world.provider.answer_creates([Reply::Never]);
    let failure = world.core.submit(request()).await.unwrap_err();
    assert_eq!(failure.origin, Origin::TimeOut);
    assert_eq!(world.core.deleted_jobs().len(), 1);
    assert_eq!(world.core.creates().unanswered, 1);
}

#[tokio::test]
async fn while_create_runs_the_job_can_be_named_but_not_browsed() {
    let world = World::with(|options| options.call_timeout = LONG).await;
    world.provider.answer_creates([Reply::Never]);
    let core = world.core.clone();
    let submission = tokio::spawn(async move { core.submit(request()).await });
    let id = loop {
        match world.core.jobs().first() {
            Some(job) => break job.id.clone(),
            None => tokio::task::yield_now().await,
        }
    };
    assert_eq!(world.get(&format!("/api/jobs/control/retrieve?id={id}")).await.0, 200);
    assert_eq!(world.update(&[(&id, json!({"outputFolder": "/1/Jobs"}))]).await, 200);
    assert_eq!(world.get("/api/jobs/control/browse").await.1["items"], json!([]));
    submission.abort();
}

#[tokio::test]
async fn answers_to_create_are_checked() {
    let world = World::new().await;
    let ok = |responses: Value| Reply::Json(200, json!({"responses": responses}));
    for bad in [
        ok(json!([])),
        ok(json!([null, null])),
        ok(json!([{"id": "a,b"}])),
        ok(json!(["x"])),
        Reply::Json(200, json!({})),
    ] {
        world.provider.answer_creates([bad]);
        assert_eq!(world.core.submit(request()).await.unwrap_err().status, 502);
    }
    world.provider.answer_creates([ok(json!([{"id": "example-1"}]))]);
    let id = world.core.submit(request()).await.unwrap();
    assert_eq!(world.core.job(&id).unwrap().provider_generated_id.as_deref(), Some("example-1"));
    assert_eq!(world.core.deleted_jobs().len(), 5);
}

#[tokio::test]
async fn core_checks_credit_and_support_before_it_asks() {
    let world = World::new().await;
    world.core.set_wallet("user", "example-compute", Some(999_999));
    assert_eq!(world.core.submit(request()).await.unwrap_err().status, 402);
    world.core.set_wallet("user", "example-compute", None);
    assert_eq!(world.core.submit(request()).await.unwrap_err().status, 402);
    world.core.set_wallet("user", "example-compute", Some(1_000_000));
    world.job().await;
    let missing = crate::core::ProductReference::new("another", "example-compute", "example");
    assert_eq!(world.core.submit(request().product(&missing)).await.unwrap_err().status, 400);
    world.provider.list_products(&[]);
    world.core.retrieve_products().await.unwrap();
    assert_eq!(world.core.submit(request()).await.unwrap_err().status, 502);
    assert_eq!(world.provider.asked("/jobs").len(), 1);
}

#[tokio::test]
async fn a_whole_job_is_sent_as_it_is() {
    let world = World::with(|options| options.one_replica = true).await;
    world.job().await;
    let mut job = world.provider.asked("/jobs")[0].body["items"][0].clone();
    job["specification"]["replicas"] = json!(4);
    job["specification"]["name"] = json!("again");
    let id = world.core.submit(JobRequest::whole(job)).await.unwrap();
    let sent = world.provider.asked("/jobs")[1].body["items"][0].clone();
    assert_eq!((&sent["specification"]["name"], &sent["id"]), (&json!("again"), &json!(id)));
    assert_eq!(sent["specification"]["replicas"], 1, "Core of December does not keep replicas");
}
