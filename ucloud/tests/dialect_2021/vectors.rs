//! Every step of every example in the documentation.

use crate::fixtures::{catalogue, provider};
use muster_domain::accounting::Charge;
use muster_domain::id::JobId;
use muster_domain::job::EndCause;
use muster_domain::outbox::Notice;
use muster_ucloud::v2021::accept::offered;
use muster_ucloud::v2021::calls;
use muster_ucloud::v2021::control::{JobIncludeFlags, Paging, ResourceChargeCredits, ResourceChargeCreditsResponse};
use muster_ucloud::v2021::envelope::{BulkRequest, BulkResponse, FindByStringId, PageV2, Unit};
use muster_ucloud::v2021::job::{Job, JobState, JobUpdate};
use muster_ucloud::v2021::problem::decode;
use muster_ucloud::v2021::product::ProductReference;
use muster_ucloud::v2021::query::pairs;
use muster_ucloud::v2021::resource::{ResourceOwner, ResourcePermissions, ResourceUpdateAndId};
use muster_ucloud::v2021::support::ComputeSupport;
use muster_ucloud::v2021::words::Words;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const FILES: [(&str, &str); 10] = [
    ("jobs-dec-create-simple", include_str!("../vectors/jobs-dec-create-simple.json")),
    ("jobs-oct-accounting", include_str!("../vectors/jobs-oct-accounting.json")),
    ("jobs-oct-create-simple", include_str!("../vectors/jobs-oct-create-simple.json")),
    ("jobs-oct-support-full", include_str!("../vectors/jobs-oct-support-full.json")),
    ("jobs-oct-support-minimal-vm", include_str!("../vectors/jobs-oct-support-minimal-vm.json")),
    ("jobs-oct-verify", include_str!("../vectors/jobs-oct-verify.json")),
    ("resources-create", include_str!("../vectors/resources-create.json")),
    ("resources-create-failure", include_str!("../vectors/resources-create-failure.json")),
    ("resources-create-partial-failure", include_str!("../vectors/resources-create-partial-failure.json")),
    ("resources-provider-generated-id", include_str!("../vectors/resources-provider-generated-id.json")),
];

/// The fictitious resource of the page about resources: only what every resource has is ours.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Counter {
    id: String,
    specification: CounterSpecification,
    created_at: i64,
    status: Value,
    updates: Vec<Value>,
    owner: ResourceOwner,
    permissions: ResourcePermissions,
}

#[derive(Debug, Serialize, Deserialize)]
struct CounterSpecification {
    start: i64,
    target: i64,
    product: ProductReference,
}

fn read<T: DeserializeOwned>(value: &Value) -> T {
    decode(value.to_string().as_bytes()).unwrap()
}

fn write(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap()
}

fn words() -> Words {
    Words { provider: provider() }
}

/// Asserts that `ours` says all that `theirs` says, and beyond that only what another page documents.
fn says_all(theirs: &Value, ours: &Value, place: &str) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for (key, value) in theirs {
                says_all(
                    value,
                    ours.get(key).unwrap_or_else(|| panic!("{place}.{key} is missing")),
                    &format!("{place}.{key}"),
                );
            }
            for key in ours.keys().filter(|key| !theirs.contains_key(*key)) {
                assert!(["newTimeAllocation", "periods"].contains(&key.as_str()), "{place}.{key} is not documented");
            }
        }
        (Value::Array(theirs), Value::Array(ours)) => {
            assert_eq!(theirs.len(), ours.len(), "{place}");
            for (index, (theirs, ours)) in theirs.iter().zip(ours).enumerate() {
                says_all(theirs, ours, &format!("{place}[{index}]"));
            }
        }
        _ => assert_eq!(theirs, ours, "{place}"),
    }
}

#[test]
fn every_step_goes_through_the_types() {
    let mut steps_seen = 0;
    for (file, text) in FILES {
        for step in serde_json::from_str::<Vec<Value>>(text).unwrap() {
            steps_seen += 1;
            // Both documented pages post to a provider "ucloud" for products of "example" (protocol 16.9).
            let path = step["path"].as_str().unwrap();
            let path = path.replace("/ucloud/ucloud/", "/ucloud/example/").replace("PROVIDERID", "example");
            let (path, query) = path.split_once('?').unwrap_or((&path, ""));
            let jobs = calls::jobs(&provider());
            match (step["actor"].as_str().unwrap(), step["method"].as_str().unwrap(), path) {
                ("ucloud", "POST", path) if path == jobs => create(&step),
                ("ucloud", "POST", path) if path == format!("{jobs}/verify") => verify(&step),
                ("ucloud", "GET", path) if path == format!("{jobs}/retrieveProducts") => support(&step),
                ("provider", "POST", calls::CONTROL_UPDATE) => update(&step),
                ("provider", "POST", calls::CONTROL_CHARGE) => charge(&step),
                ("ucloud", "POST", "/ucloud/example/example") => counter_create(&step),
                ("provider", "GET", "/api/example/control/retrieve") => counter_retrieve(query, &step),
                ("provider", "GET", "/api/example/control/browse") => counter_browse(query, &step),
                other => panic!("{file}: nothing takes {other:?}"),
            }
        }
    }
    assert_eq!(steps_seen, 19, "a step was added or lost");
}

fn create(step: &Value) {
    let request: BulkRequest<Job> = read(&step["request"]);
    let mut theirs = step["request"].clone();
    for item in theirs["items"].as_array_mut().unwrap() {
        // Of October alone; ignored on input and never written (protocol 14).
        item.as_object_mut().unwrap().remove("acl");
        item.as_object_mut().unwrap().remove("billing");
    }
    assert_eq!(write(&request), theirs);
    let jobs = request.checked().unwrap();
    for job in &jobs {
        let spec = catalogue().accept(job, None).unwrap();
        assert_eq!(spec.container.argv, ["acme-batch", "--debug", "true", "Hello, World!"]);
        assert_eq!(spec.container.image, "acme/batch:1.0.0");
        assert_eq!(spec.application, "acme-batch 1.0.0");
        assert_eq!(spec.time_limit_ms, Some(3_600_000));
    }
    assert_eq!(write(&BulkResponse::no_ids(jobs.len())), step["response"]);
}

fn verify(step: &Value) {
    let request: BulkRequest<Job> = read(&step["request"]);
    assert_eq!(request.items[0].id, "54112");
    assert_eq!(request.items[0].status.state, Some(JobState::Running));
    assert_eq!(write(&Unit {}), step["response"]);
}

fn support(step: &Value) {
    let response: BulkResponse<ComputeSupport> = read(&step["response"]);
    assert_eq!(write(&response), step["response"]);
    let ours = catalogue().support();
    assert_eq!(ours.responses[0].product, response.responses[0].product);
    assert_eq!(ours.responses[1].product, response.responses[1].product);
    assert_eq!(ours.responses[0].docker, offered());
    assert_eq!(write(&ours.responses[0].virtual_machine)["enabled"], Value::Null);
}

fn update(step: &Value) {
    let request: BulkRequest<ResourceUpdateAndId<JobUpdate>> = read(&step["request"]);
    says_all(&step["request"], &write(&request), "update");
    let _: Unit = read(&step["response"]);
    for item in request.items {
        let job = JobId::new(item.id.as_str()).unwrap();
        let said = item.update.status.as_deref().unwrap();
        let ours = match (item.update.state.unwrap(), said) {
            (JobState::Running, _) => words().update(&job, &Notice::Running { nodes: vec!["node-1".to_owned()] }),
            (JobState::Success, "The job was terminated (No credits)") => {
                words().update(&job, &Notice::Ended { cause: EndCause::NoCredit })
            }
            (JobState::Success, _) => {
                words().update(&job, &Notice::Ended { cause: EndCause::Exited { rank: 0, code: 0 } })
            }
            (JobState::Failure, _) => words().unknown_job_update(&job),
            other => panic!("no words for {other:?}"),
        };
        // Ours is the same but for the guard, and for words that tell more.
        let mut expected = write(&item);
        expected["update"]["expectedDifferentState"] = json!(true);
        if !said.contains("No credits") {
            expected["update"]["status"] = json!(ours.update.status);
        }
        assert_eq!(write(&ours), expected);
    }
}

fn charge(step: &Value) {
    let request: BulkRequest<ResourceChargeCredits> = read(&step["request"]);
    says_all(&step["request"], &write(&request), "charge");
    let response: ResourceChargeCreditsResponse = read(&step["response"]);
    assert_eq!(write(&response), step["response"]);
    for item in request.items {
        let charge = Charge {
            job: JobId::new(item.id.as_str()).unwrap(),
            window: 7,
            periods: item.units as u32,
            units_per_period: 1,
            ranks: item.number_of_products as u32,
        };
        let mut expected = write(&item);
        expected["chargeId"] = json!(format!("{}-example-7", item.id));
        expected["periods"] = json!(item.number_of_products);
        assert_eq!(write(&words().charge(&charge)), expected);
    }
}

fn counter_create(step: &Value) {
    let request: BulkRequest<Counter> = read(&step["request"]);
    assert_eq!(write(&request), step["request"]);
    if let Some(response) = step.get("response") {
        let response: BulkResponse<Option<FindByStringId>> = read(response);
        assert_eq!(write(&response), step["response"]);
        assert_eq!(response.responses.len(), request.items.len());
    } else {
        assert_eq!(step["error"]["status"], 500);
    }
}

fn sorted(mut pairs: Vec<(String, String)>) -> Vec<(String, String)> {
    pairs.sort();
    pairs
}

fn counter_retrieve(query: &str, step: &Value) {
    let ours = JobIncludeFlags::from_query(query).retrieve_query("1234");
    assert_eq!(sorted(pairs(&ours)), sorted(pairs(query)));
    assert_eq!(write(&read::<Counter>(&step["response"])), step["response"]);
}

fn counter_browse(query: &str, step: &Value) {
    let flags = JobIncludeFlags::from_query(query);
    assert_eq!(flags.filter_provider_ids.as_deref(), Some("mhxas1"));
    assert_eq!(sorted(pairs(&flags.browse_query(&Paging::default()))), sorted(pairs(query)));
    assert_eq!(write(&read::<PageV2<Counter>>(&step["response"])), step["response"]);
}
