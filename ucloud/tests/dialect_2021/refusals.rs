//! Every reason to refuse a job, with the field it names.

use crate::fixtures::{catalogue, job, job_running, job_with, parameter};
use muster_domain::product::Period;
use muster_ucloud::v2021::accept::MOST_SPEC_BYTES;
use muster_ucloud::v2021::problem::{CommonErrorMessage, FEATURE_NOT_SUPPORTED};
use serde_json::{Value, json};

const TOOL: &str = "/status/resolvedApplication/invocation/tool/tool";

fn why(pointer: &str, value: Value) -> String {
    let problem = catalogue().accept(&job_with(pointer, value), None).unwrap_err();
    assert_eq!(problem.status, 400, "{problem}");
    problem.why
}

#[test]
fn each_problem_names_its_field() {
    let specification = "/specification";
    let cases = [
        ("/id", json!("../etc"), "id: job id"),
        ("/id", json!(""), "id: job id"),
        (
            "/specification/product/provider",
            json!("other"),
            "specification.product.provider: expected \"example\", found \"other\"",
        ),
        ("/specification/product/id", json!("no-such"), "specification.product.id: "),
        ("/specification/product/category", json!("no-such"), "specification.product.id: "),
        ("/specification/product", Value::Null, "specification.product.provider: "),
        (specification, Value::Null, "specification.product.provider: "),
        ("/specification/replicas", json!(0), "specification.replicas: expected 1 to 64, found 0"),
        ("/specification/replicas", json!(-1), "specification.replicas: "),
        ("/specification/replicas", json!(65), "specification.replicas: expected 1 to 64, found 65"),
        ("/specification/replicas", json!(i64::MAX), "specification.replicas: "),
        (
            "/specification/timeAllocation",
            json!({"hours": 0, "minutes": 0, "seconds": 0}),
            "specification.timeAllocation: expected more",
        ),
        ("/specification/timeAllocation", json!({}), "specification.timeAllocation: expected more"),
        ("/specification/timeAllocation", json!({"hours": -1}), "specification.timeAllocation.hours: "),
        ("/specification/timeAllocation", json!({"hours": i64::MAX}), "specification.timeAllocation.hours: "),
        (
            "/specification/timeAllocation",
            json!({"minutes": 60}),
            "specification.timeAllocation.minutes: expected 0 to 59",
        ),
        ("/specification/timeAllocation", json!({"seconds": -1}), "specification.timeAllocation.seconds: "),
        ("/specification/application", json!({"name": "", "version": "1"}), "specification.application.name: "),
        ("/specification/application/name", json!("x".repeat(2000)), "specification.application.name: "),
        ("/specification/name", json!("\u{1b}[2J"), "specification.name: "),
        ("/owner/createdBy", json!("x".repeat(2000)), "owner.createdBy: "),
        ("/owner/project", json!("a\nb"), "owner.project: "),
        ("/status/resolvedApplication", Value::Null, "status.resolvedApplication: "),
        (TOOL, Value::Null, "status.resolvedApplication.invocation.tool.tool: "),
        (
            "/status/resolvedApplication/invocation/invocation",
            json!([]),
            "status.resolvedApplication.invocation.invocation: ",
        ),
        (
            "/status/resolvedApplication/invocation/invocation/0",
            json!({"type": "script"}),
            "status.resolvedApplication.invocation.invocation[0]: expected a complete word, env, bool_flag or var, found type \"script\"",
        ),
        (
            "/status/resolvedApplication/invocation/invocation/0",
            json!({"type": "word", "word": "a\u{0}b"}),
            "status.resolvedApplication.invocation.invocation[0]: expected no NUL",
        ),
        (
            "/status/resolvedApplication/invocation/invocation/0",
            json!({"type": "bool_flag", "variableName": "value", "flag": "-v"}),
            "status.resolvedApplication.invocation.invocation[0]: expected parameter \"value\" to be a boolean",
        ),
        (
            "/specification/parameters/debug",
            json!({"type": "quantum"}),
            "specification.parameters.debug: expected a value of type \"boolean\"",
        ),
        (
            "/specification/parameters/debug",
            json!({"type": "text", "value": "true"}),
            "specification.parameters.debug: expected a value of type \"boolean\", found \"text\"",
        ),
        ("/specification/parameters/stray", json!({"type": "quantum"}), "specification.parameters.stray: "),
        (
            "/specification/parameters/value",
            json!({"type": "text", "value": "a\u{0}"}),
            "status.resolvedApplication.invocation.invocation[2]: expected no NUL",
        ),
        ("/specification/resources", json!([{"type": "quantum"}]), "specification.resources[0]: "),
        (
            "/status/resolvedApplication/invocation/parameters/1/type",
            json!("quantum"),
            "specification.parameters.value: the application's parameter has the unknown type",
        ),
    ];
    for (pointer, value, expected) in cases {
        let why = why(pointer, value);
        assert!(why.starts_with(expected), "{pointer}: {why}");
    }
}

#[test]
fn backends_and_images_are_checked() {
    for backend in ["SINGULARITY", "NATIVE", "VIRTUAL_MACHINE", "KUBERNETES"] {
        let job = job_with(&format!("{TOOL}/description/backend"), json!(backend));
        let problem = catalogue().accept(&job, None).unwrap_err();
        assert!(problem.why.contains("backend: expected DOCKER"), "{problem}");
        assert_eq!(problem.error_code, Some(FEATURE_NOT_SUPPORTED));
    }
    for image in [Value::Null, json!(""), json!("  "), json!("-v"), json!("a b"), json!("a\nb"), json!("x".repeat(600))]
    {
        let why = why(&format!("{TOOL}/description/image"), image);
        assert!(why.starts_with("status.resolvedApplication.invocation.tool.tool.description.image: "), "{why}");
    }
    let mut old = job_with(&format!("{TOOL}/description/image"), Value::Null);
    let tool = old.status.resolved_application.as_mut().unwrap().invocation.tool.tool.as_mut().unwrap();
    tool.description.container = Some("acme/old".to_owned());
    assert_eq!(catalogue().accept(&old, None).unwrap().container.image, "acme/old");
}

#[test]
fn what_cannot_be_bound_is_refused_wherever_it_stands() {
    let values = [
        ("input_file", json!({"type": "file", "path": "/1/a"})),
        ("peer", json!({"type": "peer", "hostname": "h", "jobId": "1"})),
        ("ingress", json!({"type": "ingress", "id": "1"})),
        ("network_ip", json!({"type": "network", "id": "1"})),
        ("license_server", json!({"type": "license_server", "id": "1"})),
    ];
    for (kind, value) in values {
        let as_resource = job_with("/specification/resources", json!([{"type": "text", "value": "x"}, value]));
        let word = json!([{"type": "word", "word": "run"}]);
        let as_parameter = job_running(json!([parameter(kind, "x")]), word.clone(), json!({"x": value}));
        let undefined = job_running(json!([]), word.clone(), json!({"x": value}));
        let mut defined = parameter(kind, "x");
        defined["defaultValue"] = value.clone();
        let as_default = job_running(json!([defined]), word, json!({}));
        for (job, field) in [
            (as_resource, "specification.resources[1]: "),
            (as_parameter, "specification.parameters.x: "),
            (undefined, "specification.parameters.x: "),
            (as_default, "specification.parameters.x: "),
        ] {
            let problem = catalogue().accept(&job, None).unwrap_err();
            assert!(problem.why.starts_with(field) && problem.why.contains("cannot"), "{problem}");
            assert_eq!((problem.status, problem.error_code), (400, Some(FEATURE_NOT_SUPPORTED)));
        }
    }
}

#[test]
fn an_item_is_named_by_its_index() {
    let problem = catalogue().accept(&job_with("/specification/product/id", json!("x")), None).unwrap_err().at(3);
    assert!(problem.why.starts_with("items[3].specification.product.id: "), "{problem}");
    let body = serde_json::to_value(CommonErrorMessage::from(&problem)).unwrap();
    assert_eq!(body, json!({"why": problem.why, "errorCode": null}));
    assert_eq!(problem.clone().within("job").why, format!("job.{}", problem.why));
}

#[test]
fn long_texts_are_refused_before_they_are_stored() {
    let value = "/specification/parameters/value/value";
    assert!(catalogue().accept(&job_with(value, json!("x".repeat(130_000))), None).is_ok());
    assert!(why(value, json!("x".repeat(140_000))).contains("131072 bytes"));
    // As JSON a control character takes six bytes.
    assert!(why(value, json!("\u{1}".repeat(100_000))).contains(&MOST_SPEC_BYTES.to_string()));
    assert!(why("/specification/product/id", json!("x".repeat(1_000_000))).len() < 1_000);
}

#[test]
fn a_good_job_is_taken_as_it_is() {
    let mut good = job_with("/specification/replicas", json!(4));
    good.specification.product.id = "example-compute-2".to_owned();
    good.specification.name = Some("my job".to_owned());
    good.owner.project = Some("project".to_owned());
    let spec = catalogue().accept(&good, Some("00-1-2-01".to_owned())).unwrap();
    assert_eq!(spec.id.as_str(), "54112");
    assert_eq!((spec.owner.created_by.as_str(), spec.owner.project.as_deref()), ("user", Some("project")));
    assert_eq!((spec.replicas, spec.name.as_deref()), (4, Some("my job")));
    assert_eq!(spec.product.to_string(), "example-compute/example-compute-2");
    assert_eq!((spec.per_rank.cores, spec.per_rank.memory_bytes), (4, 2 << 30));
    // A window shorter than the period is one period.
    assert_eq!((spec.price.period, spec.price.units_per_period, spec.price.window_periods), (Period::Hour, 4, 1));
    assert!(spec.container.in_work_directory && !spec.container.as_root);
    assert_eq!(spec.traceparent.as_deref(), Some("00-1-2-01"));
    good.specification.product.id = "example-compute-3".to_owned();
    let spec = catalogue().accept(&good, Some("x".repeat(1_000))).unwrap();
    assert_eq!((spec.price.period, spec.price.units_per_period, spec.price.window_periods), (Period::Minute, 1, 5));
    assert_eq!(spec.traceparent, None);
}

#[test]
fn no_allocation_runs_without_limit_and_the_container_is_as_asked() {
    let mut free = job();
    free.specification.time_allocation = None;
    free.specification.replicas = 1;
    let container = json!({"changeWorkingDirectory": false, "runAsRoot": true, "runAsRealUser": false});
    free.status.resolved_application.as_mut().unwrap().invocation.container =
        serde_json::from_value(container).unwrap();
    let spec = catalogue().accept(&free, None).unwrap();
    assert_eq!(spec.time_limit_ms, None);
    assert!(!spec.container.in_work_directory && spec.container.as_root);
}
