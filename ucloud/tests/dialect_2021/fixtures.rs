//! A job and a catalogue that fit each other.

use muster_domain::id::ProviderId;
use muster_domain::product::{Period, Product};
use muster_ucloud::v2021::accept::Catalogue;
use muster_ucloud::v2021::job::Job;
use serde_json::{Value, json};

pub(crate) const DECEMBER: &str = include_str!("../vectors/jobs-dec-create-simple.json");

pub(crate) fn provider() -> ProviderId {
    ProviderId::new("example").unwrap()
}

pub(crate) fn catalogue() -> Catalogue {
    let product = |id: &str, cores, period, charge_per_core| Product {
        id: id.to_owned(),
        category: "example-compute".to_owned(),
        cores,
        memory_gib: 2,
        gpus: 0,
        period,
        charge_per_core,
    };
    Catalogue {
        provider: provider(),
        products: vec![
            product("example-compute-1", 1, Period::Minute, true),
            product("example-compute-2", 4, Period::Hour, true),
            product("example-compute-3", 4, Period::Minute, false),
        ],
        max_replicas: 64,
        window_ms: 300_000,
    }
}

/// The create of the December page, as JSON.
pub(crate) fn job_json() -> Value {
    let steps: Value = serde_json::from_str(DECEMBER).unwrap();
    steps[0]["request"]["items"][0].clone()
}

pub(crate) fn job() -> Job {
    serde_json::from_value(job_json()).unwrap()
}

/// The December job with one place of it replaced. `pointer` is a JSON pointer; a missing last key is added.
pub(crate) fn job_with(pointer: &str, value: Value) -> Job {
    serde_json::from_value(json_with(pointer, value)).unwrap()
}

pub(crate) fn json_with(pointer: &str, value: Value) -> Value {
    let mut job = job_json();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match job.pointer_mut(parent).unwrap() {
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        Value::Object(fields) => {
            fields.insert(key.to_owned(), value);
        }
        other => panic!("{other} has no places"),
    }
    job
}

/// An application with these parts of its invocation, around the December tool.
pub(crate) fn job_running(parameters: Value, invocation: Value, given: Value) -> Job {
    let mut job = job_json();
    job["status"]["resolvedApplication"]["invocation"]["parameters"] = parameters;
    job["status"]["resolvedApplication"]["invocation"]["invocation"] = invocation;
    job["specification"]["parameters"] = given;
    serde_json::from_value(job).unwrap()
}

pub(crate) fn parameter(kind: &str, name: &str) -> Value {
    json!({"type": kind, "name": name, "optional": true, "defaultValue": null, "title": "", "description": ""})
}
