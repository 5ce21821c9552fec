//! Every call, in good and bad moods of the driver.

use super::stage::{Mood, Stage, items, job, request};
use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use muster_domain::effect::RefusalKind;
use muster_domain::event::Event;
use serde_json::json;

const JOBS: &str = "/ucloud/example/jobs";

#[tokio::test]
async fn jobs_are_created_extended_and_terminated() {
    let stage = Stage::new(Mood::Well);
    let created = stage.post(JOBS, &items(&[job("1"), job("2")])).await;
    assert_eq!((created.status, created.body), (StatusCode::OK, json!({"responses": [null, null]})));
    match stage.events().as_slice() {
        [Event::Create { jobs, .. }] => {
            assert_eq!(jobs.len(), 2);
            assert_eq!(jobs[0].container.argv, ["acme-batch", "Hello"]);
        }
        other => panic!("{other:?}"),
    }
    // The same again gets the same answer; the same id for something else does not.
    assert_eq!(stage.post(JOBS, &items(&[job("1")])).await.status, StatusCode::OK);
    let mut other = job("1");
    other["specification"]["replicas"] = json!(2);
    let conflict = stage.post(JOBS, &items(&[job("3"), other])).await;
    assert_eq!(conflict.status, StatusCode::CONFLICT);
    assert!(conflict.why().contains("items[1]"), "{}", conflict.why());

    let hour = json!({"hours": 1, "minutes": 0, "seconds": 0});
    let longer = items(&[json!({"job": job("1"), "requestedTime": hour})]);
    let extended = stage.post("/ucloud/example/jobs/extend", &longer).await;
    assert_eq!((extended.status, extended.body), (StatusCode::OK, json!({"responses": [{}]})));
    let unknown =
        items(&[json!({"job": job("1"), "requestedTime": hour}), json!({"job": job("9"), "requestedTime": hour})]);
    let refused = stage.post("/ucloud/example/jobs/extend", &unknown).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    assert!(refused.why().contains('9'), "{}", refused.why());

    // Unknown jobs too: whoever asks for an end gets it.
    let terminated = stage.post("/ucloud/example/jobs/terminate", &items(&[job("1"), job("9")])).await;
    assert_eq!((terminated.status, terminated.body), (StatusCode::OK, json!({"responses": [{}, {}]})));
}

#[tokio::test]
async fn the_other_calls_about_jobs_answer() {
    let stage = Stage::new(Mood::Well);
    let verified = stage.post("/ucloud/example/jobs/verify", &items(&[job("1")])).await;
    assert_eq!((verified.status, verified.body), (StatusCode::OK, json!({})));
    // Answered before the driver has seen it; behind this question it has.
    stage.app.handle.query(|_, _| ()).await.unwrap();
    assert!(matches!(stage.events().as_slice(), [Event::Verify { jobs }] if jobs.len() == 1));
    let acl = items(&[json!({"resource": job("1"), "added": [], "deleted": []}), json!({})]);
    let updated = stage.post("/ucloud/example/jobs/updateAcl", &acl).await;
    assert_eq!((updated.status, updated.body), (StatusCode::OK, json!({"responses": [{}, {}]})));
    let init = stage.post("/ucloud/example/jobs/init", &json!({"principal": {}})).await;
    assert_eq!((init.status, init.body), (StatusCode::OK, json!({})));

    let products = stage.get("/ucloud/example/jobs/retrieveProducts?").await;
    assert_eq!(products.status, StatusCode::OK);
    assert_eq!(products.body["responses"][0]["product"]["id"], "example-compute-1");
    assert_eq!(products.body["responses"][0]["docker"]["logs"], true);
    let utilization = stage.get("/ucloud/example/jobs/retrieveUtilization").await;
    assert_eq!(utilization.status, StatusCode::OK);
    assert_eq!(utilization.body["queueStatus"], json!({"running": 0, "pending": 0}));
}

#[tokio::test]
async fn what_is_not_offered_says_so() {
    let stage = Stage::new(Mood::Well);
    stage.post(JOBS, &items(&[job("1")])).await;
    let open = |id: &str| items(&[json!({"job": {"id": id}, "rank": 0, "sessionType": "SHELL"})]);
    let shell = stage.post("/ucloud/example/jobs/interactiveSession", &open("1")).await;
    assert_eq!(shell.status, StatusCode::BAD_REQUEST);
    assert_eq!(shell.body["errorCode"], "FEATURE_NOT_SUPPORTED_BY_PROVIDER");
    let unknown = stage.post("/ucloud/example/jobs/interactiveSession", &open("9")).await;
    assert_eq!(
        (unknown.status, unknown.why()),
        (StatusCode::NOT_FOUND, "items[0].job.id: the job 9 is not known here")
    );
    let suspend = stage.post("/ucloud/example/jobs/suspend", &items(&[job("1")])).await;
    assert_eq!(suspend.status, StatusCode::BAD_REQUEST);
    assert_eq!(suspend.body["errorCode"], "FEATURE_NOT_SUPPORTED_BY_PROVIDER");
    assert_eq!(stage.post("/ucloud/example/jobs/suspend", &items(&[job("9")])).await.status, StatusCode::NOT_FOUND);
    let delete = stage.send(request(Method::DELETE, JOBS, Body::from(items(&[job("1")]).to_string()))).await;
    assert_eq!(delete.status, StatusCode::NOT_FOUND);
    assert!(!delete.why().is_empty());
}

#[tokio::test]
async fn integration_and_deposits_answer() {
    let stage = Stage::new(Mood::Well);
    let manifest = stage.get("/ucloud/example/integration/retrieveManifest").await;
    assert_eq!((manifest.status, manifest.body), (StatusCode::OK, json!({"enabled": false})));
    let init = stage.post("/ucloud/example/integration/init", &json!({"username": "user"})).await;
    assert_eq!((init.status, init.body), (StatusCode::OK, json!({})));
    let connect = stage.post("/ucloud/example/integration/connect", &json!({"username": "user"})).await;
    assert_eq!(connect.status, StatusCode::BAD_REQUEST);
    assert!(!connect.why().is_empty());
    let pull = stage.post("/ucloud/example/depositNotifications/pullRequest", &json!({})).await;
    assert_eq!((pull.status, pull.body), (StatusCode::OK, json!({})));
    let mut welcome = request(Method::POST, "/ucloud/example/integration/welcome", Body::empty());
    welcome.headers_mut().remove(header::AUTHORIZATION);
    assert_eq!(stage.send(welcome).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn refusals_of_the_driver_become_statuses() {
    for (kind, status) in [
        (RefusalKind::Invalid, StatusCode::BAD_REQUEST),
        (RefusalKind::NotFound, StatusCode::NOT_FOUND),
        (RefusalKind::Conflict, StatusCode::CONFLICT),
        (RefusalKind::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let stage = Stage::new(Mood::Refuses(kind));
        let answer = stage.post(JOBS, &items(&[job("1")])).await;
        assert_eq!((answer.status, answer.why()), (status, "no luck"));
    }
}

#[tokio::test]
async fn a_driver_that_does_not_answer_is_a_503_and_for_an_extend_that_it_may_have_heard_a_500() {
    let hour = json!({"job": {"id": "1"}, "requestedTime": {"hours": 1}});
    for mood in [Mood::Silent, Mood::Gone, Mood::Mute] {
        let stage = Stage::new(mood);
        // Lets a driver that goes go.
        tokio::task::yield_now().await;
        let began = std::time::Instant::now();
        let (unavailable, unknown) = (StatusCode::SERVICE_UNAVAILABLE, StatusCode::INTERNAL_SERVER_ERROR);
        for (path, body, status) in [
            ("", job("1"), unavailable),
            ("/terminate", job("1"), unavailable),
            ("/extend", hour.clone(), if mood == Mood::Mute { unknown } else { unavailable }),
        ] {
            let answer = stage.post(&format!("{JOBS}{path}"), &items(&[body])).await;
            assert_eq!(answer.status, status, "{mood:?} {path}");
            assert!(!answer.why().is_empty());
        }
        if mood != Mood::Mute {
            assert_eq!(stage.post(&format!("{JOBS}/suspend"), &items(&[job("1")])).await.status, unavailable);
            assert_eq!(stage.get(&format!("{JOBS}/retrieveUtilization")).await.status, unavailable);
        }
        // Needs no driver.
        assert_eq!(stage.get(&format!("{JOBS}/retrieveProducts")).await.status, StatusCode::OK);
        assert!(began.elapsed() < std::time::Duration::from_secs(4));
    }
    let gone = Stage::new(Mood::Gone);
    tokio::task::yield_now().await;
    let verify = gone.post(&format!("{JOBS}/verify"), &items(&[job("1")])).await;
    assert_eq!(verify.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn paths_that_are_not_ours_are_404() {
    let stage = Stage::new(Mood::Well);
    for (path, part) in [
        ("/ucloud/other/jobs/retrieveProducts", "other"),
        ("/ucloud/example/files/retrieveProducts", "no such call"),
        ("/ucloud/example/jobs/nothing", "no such call"),
        ("/ucloud/%ff/jobs/retrieveProducts", "no such call"),
        ("/", "no such call"),
    ] {
        let answer = stage.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(answer.why().contains(part), "{path}: {}", answer.why());
    }
    let answer = stage.get("/ucloud/example/jobs/extend").await;
    assert_eq!((answer.status, answer.why()), (StatusCode::METHOD_NOT_ALLOWED, "this call is not made with GET"));
}
