//! What is taken although it is not as written (protocol 1.2, 8, 14), and what is not.

use crate::fixtures::{job, job_json, json_with};
use muster_ucloud::v2021::application::{InvocationParameter, VariableInvocation};
use muster_ucloud::v2021::envelope::{BulkRequest, BulkResponse, FindByStringId, MOST_ITEMS, PageV2, Unit};
use muster_ucloud::v2021::follow::FollowRequest;
use muster_ucloud::v2021::ingoing::ExtendItem;
use muster_ucloud::v2021::job::{Job, JobState, JobUpdate};
use muster_ucloud::v2021::parameter::{ApplicationParameter, ParameterKind};
use muster_ucloud::v2021::problem::{CommonErrorMessage, decode};
use muster_ucloud::v2021::product::{ChargeType, ComputeProduct, Product, ProductPriceUnit};
use muster_ucloud::v2021::resource::ResourcePermissions;
use muster_ucloud::v2021::session::OpenInteractiveSession;
use muster_ucloud::v2021::value::AppParameterValue;
use proptest::prelude::*;
use serde_json::{Value, json};

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    decode(value.to_string().as_bytes()).unwrap()
}

#[test]
fn an_id_is_enough_for_most_calls() {
    let job: Job = read(json!({"id": "812"}));
    assert_eq!(job, Job { id: "812".to_owned(), ..Job::default() });
    let nulls = json!({"id": 812, "owner": null, "updates": null, "specification": null, "status": null, "createdAt": null,
        "output": null, "permissions": null, "providerGeneratedId": "x", "acl": [], "billing": {"creditsCharged": 1}});
    assert_eq!(read::<Job>(nulls), job);
    let follow: FollowRequest = read(json!({"type": "init", "job": {"id": "812"}}));
    assert_eq!(follow, FollowRequest::Init { job: Box::new(job) });
    assert!(decode::<Job>(b"{}").unwrap_err().why.contains("id"));
    assert!(decode::<Job>(br#"{"id":null}"#).unwrap_err().why.starts_with("id: "));
}

#[test]
fn nulls_and_missing_keys_are_defaults_everywhere() {
    // Every place of the December job, one at a time, first null and then gone: still a job.
    fn places(value: &Value, at: &str, all: &mut Vec<String>) {
        if let Value::Object(fields) = value {
            for (key, value) in fields {
                all.push(format!("{at}/{key}"));
                places(value, &format!("{at}/{key}"), all);
            }
        }
    }
    let mut all = Vec::new();
    places(&job_json(), "", &mut all);
    assert!(all.len() > 100);
    for place in all.iter().filter(|place| *place != "/id") {
        let null = json_with(place, Value::Null);
        assert!(serde_json::from_value::<Job>(null.clone()).is_ok(), "{place} is null");
        let mut gone = null;
        let (parent, key) = place.rsplit_once('/').unwrap();
        gone.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key);
        assert!(serde_json::from_value::<Job>(gone).is_ok(), "{place} is gone");
    }
}

#[test]
fn unknown_names_become_defaults_where_there_is_one() {
    let mut other = job_json();
    other["status"]["state"] = json!("SUSPENDED");
    other["status"]["resolvedProduct"]["unitOfPrice"] = json!("CREDITS_PER_YEAR");
    other["status"]["resolvedProduct"]["chargeType"] = json!("RELATIVE");
    other["status"]["resolvedApplication"]["invocation"]["applicationType"] = json!("VR");
    other["permissions"] = json!({"myself": ["PROVIDER", "DANCE"], "others": null});
    let other: Job = serde_json::from_value(other).unwrap();
    assert_eq!(other.status.state, None);
    let product = other.status.resolved_product.unwrap();
    assert_eq!(product.unit_of_price, ProductPriceUnit::CreditsPerMinute);
    assert_eq!(product.charge_type, ChargeType::Absolute);
    assert_eq!(other.permissions.unwrap().myself.len(), 1);
    assert_eq!(read::<JobUpdate>(json!({"state": "RUNNING"})).state, Some(JobState::Running));
    assert!(decode::<OpenInteractiveSession>(br#"{"job":{"id":"1"},"rank":0,"sessionType":"SMELL"}"#).is_err());
    assert_eq!(read::<ResourcePermissions>(json!({"myself": null})), ResourcePermissions::default());
}

#[test]
fn quotes_do_not_matter() {
    let quoted: ExtendItem = read(
        json!({"job": {"id": 5, "createdAt": "17"}, "requestedTime": {"hours": "1", "minutes": 2, "seconds": null}}),
    );
    assert_eq!(quoted.job.id, "5");
    assert_eq!(quoted.job.created_at, 17);
    assert_eq!(quoted.requested_time.positive_ms("x").unwrap(), 3_720_000);
    assert!(decode::<ExtendItem>(br#"{"job":{"id":"5"},"requestedTime":{"hours":"many"}}"#).is_err());
    assert!(decode::<ExtendItem>(br#"{"job":{"id":"5"},"requestedTime":{"hours":1.5}}"#).is_err());
}

#[test]
fn tags_may_be_there_or_not() {
    let with: ComputeProduct =
        read(json!({"type": "compute", "name": "a", "category": {"name": "c", "provider": "p"}}));
    let without: ComputeProduct = read(json!({"name": "a", "category": {"name": "c", "provider": "p"}}));
    assert_eq!(with, without);
    assert_eq!(with.version, 1);
    assert_eq!(with.reference().category, "c");
    let tagged = read::<Product>(json!({"type": "compute", "name": "a", "category": {"name": "c", "provider": "p"}}));
    assert_eq!(tagged, Product::Compute(with.clone()));
    assert_eq!(serde_json::to_value(&tagged).unwrap()["type"], "compute");
    assert_eq!(serde_json::to_value(&with).unwrap().get("type"), None);
    assert!(matches!(read::<Product>(json!({"type": "network_ip", "name": "n"})), Product::NetworkIp(_)));
}

#[test]
fn unknown_kinds_are_kept_as_they_came() {
    let strange = json!({"type": "quantum", "qubits": [1, null, {"a": 2}]});
    let value: AppParameterValue = read(strange.clone());
    assert_eq!(value, AppParameterValue::Other(strange.clone()));
    assert_eq!(value.kind(), "quantum");
    assert_eq!(serde_json::to_value(&value).unwrap(), strange);
    // A known kind whose fields do not fit is as strange.
    assert!(matches!(read(json!({"type": "integer", "value": "many"})), AppParameterValue::Other(_)));
    assert!(matches!(read(json!({"type": "script", "lines": []})), InvocationParameter::Other(_)));

    let parameter: ApplicationParameter = read(json!({"type": "quantum", "name": "q", "qubits": 7}));
    assert_eq!((parameter.name.as_str(), parameter.kind.name()), ("q", "quantum"));
    let plain: ApplicationParameter = read(json!({"type": "boolean", "name": "b", "trueValue": null}));
    assert_eq!(plain.kind, ParameterKind::Boolean { true_value: "true".to_owned(), false_value: "false".to_owned() });
    let short: InvocationParameter = read(json!({"type": "var", "variableNames": ["x"], "prefixGlobal": null}));
    let variable_names = vec!["x".to_owned()];
    assert_eq!(short, InvocationParameter::Var(VariableInvocation { variable_names, ..VariableInvocation::default() }));
}

#[test]
fn bulks_have_one_to_a_thousand_items() {
    let bulk = |count: usize| BulkRequest::of(vec![Unit {}; count]).checked();
    assert!(bulk(0).unwrap_err().why.starts_with("items: "));
    assert_eq!(bulk(1).unwrap().len(), 1);
    assert_eq!(bulk(MOST_ITEMS).unwrap().len(), MOST_ITEMS);
    assert_eq!(bulk(MOST_ITEMS + 1).unwrap_err().status, 400);
    let typed: BulkRequest<FindByStringId> = read(json!({"type": "bulk", "items": [{"id": "1"}]}));
    assert_eq!(typed.items[0].id, "1");
    assert!(decode::<BulkRequest<FindByStringId>>(b"{}").is_err());
    assert!(decode::<BulkRequest<FindByStringId>>(br#"{"items":null}"#).is_err());
}

#[test]
fn nothing_to_tell_has_many_forms() {
    for body in ["", " \n", "null", "{}", r#"{"any":1}"#, "[]"] {
        assert_eq!(decode::<Unit>(body.as_bytes()), Ok(Unit {}), "{body:?}");
    }
    let units: BulkResponse<Option<Unit>> = read(json!({"responses": [{}, null]}));
    assert_eq!(units.responses, [Some(Unit {}), None]);
    assert_eq!(serde_json::to_string(&units).unwrap(), r#"{"responses":[{},null]}"#);
    assert_eq!(serde_json::to_string(&BulkResponse::units(2)).unwrap(), r#"{"responses":[{},{}]}"#);
    let page: PageV2<Unit> = read(json!({"itemsPerPage": 50, "items": null}));
    assert_eq!(page, PageV2 { items_per_page: 50, items: vec![], next: None });
}

#[test]
fn a_problem_names_the_place() {
    let body = json!({"items": [{"id": "1"}, {"id": "2", "specification": {"replicas": "x"}}]}).to_string();
    let problem = decode::<BulkRequest<Job>>(body.as_bytes()).unwrap_err();
    assert!(problem.why.starts_with("items[1].specification.replicas: "), "{problem}");
    assert_eq!(problem.status, 400);
    assert!(decode::<BulkRequest<Job>>(b"[").unwrap_err().why.starts_with("body: "));
    assert!(decode::<FindByStringId>(br#"{"id":"1"} x"#).unwrap_err().why.starts_with("body: "));
}

#[test]
fn hostile_bodies_are_refused_shortly() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(decode::<BulkRequest<Job>>(format!(r#"{{"items":{deep}}}"#).as_bytes()).is_err());
    let deep_value = format!(r#"{{"id":"1","specification":{{"parameters":{{"x":{deep}}}}}}}"#);
    assert!(decode::<Job>(deep_value.as_bytes()).is_err());
    let long = format!(r#"{{"id":"1","specification":{{"replicas":"{}"}}}}"#, "x".repeat(1_000_000));
    assert!(decode::<Job>(long.as_bytes()).unwrap_err().why.len() < 1_000);
    assert!(decode::<Job>(b"\xff\xfe").is_err());
}

#[test]
fn error_bodies_may_be_anything() {
    let read = CommonErrorMessage::from_body;
    assert_eq!(read(br#"{"why":"no","errorCode":"C"}"#).error_code.as_deref(), Some("C"));
    assert_eq!(read(br#"{"errorCode":null}"#), CommonErrorMessage::default());
    assert_eq!(read(b"<html>502\n</html>").why, "<html>502 </html>");
    assert_eq!(read(b"").why, "");
    assert!(read("æ".repeat(100_000).as_bytes()).why.len() < 3_000);
}

proptest! {
    #[test]
    fn no_body_makes_a_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode::<BulkRequest<Job>>(&body);
        let _ = CommonErrorMessage::from_body(&body);
    }

    #[test]
    fn no_change_of_a_job_makes_a_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut text = serde_json::to_vec(&job()).unwrap();
        let at = at.index(text.len());
        text[at] = byte;
        if let Ok(job) = decode::<Job>(&text) {
            let _ = crate::fixtures::catalogue().accept(&job, None);
        }
    }
}
