//! Every type decodes to what was encoded, and what is encoded has every field of the documented shape.

use crate::fixtures::{job, job_json};
use muster_ucloud::v2021::application::InvocationParameter;
use muster_ucloud::v2021::auth::{AccessToken, RefreshToken};
use muster_ucloud::v2021::control::{
    JobIncludeFlags, Paging, RegisterItem, ResourceChargeCredits, ResourceChargeCreditsResponse,
};
use muster_ucloud::v2021::deposit::DepositNotification;
use muster_ucloud::v2021::envelope::{BulkRequest, BulkResponse, FindByStringId, PageV2};
use muster_ucloud::v2021::follow::{FollowRequest, LogChunk};
use muster_ucloud::v2021::frame::RequestFrame;
use muster_ucloud::v2021::ingoing::ExtendItem;
use muster_ucloud::v2021::integration::*;
use muster_ucloud::v2021::job::{Job, JobOutput, JobSpecification, JobState, JobUpdate};
use muster_ucloud::v2021::parameter::ApplicationParameter;
use muster_ucloud::v2021::problem::CommonErrorMessage;
use muster_ucloud::v2021::product::{ComputeProduct, Product, ProductFlags, ProductType};
use muster_ucloud::v2021::query::{Query, pairs};
use muster_ucloud::v2021::resource::{ResourceInitializationRequest, ResourcePermissions, UpdatedAclWithResource};
use muster_ucloud::v2021::session::{OpenInteractiveSession, OpenSession};
use muster_ucloud::v2021::shell::{ShellRequest, ShellResponse};
use muster_ucloud::v2021::support::ComputeSupport;
use muster_ucloud::v2021::tool::ToolBackend;
use muster_ucloud::v2021::utilization::JobsUtilization;
use muster_ucloud::v2021::value::AppParameterValue;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Asserts that `wire`, which has every documented field, is exactly what its own decoding encodes to.
fn exact<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(wire: Value) {
    let value: T = serde_json::from_value(wire.clone()).unwrap_or_else(|error| panic!("{wire}: {error}"));
    assert_eq!(serde_json::to_value(&value).unwrap(), wire);
    let text = serde_json::to_string(&value).unwrap();
    assert_eq!(serde_json::from_str::<T>(&text).unwrap(), value);
}

#[test]
fn ingoing_calls() {
    let job = job_json();
    exact::<BulkRequest<Job>>(json!({"items": [job]}));
    exact::<BulkRequest<ExtendItem>>(
        json!({"items": [{"job": job, "requestedTime": {"hours": 1, "minutes": 2, "seconds": 3}}]}),
    );
    exact::<BulkRequest<UpdatedAclWithResource<Job>>>(json!({"items": [{"resource": job,
        "added": [{"entity": {"type": "user", "username": "u"}, "permissions": ["READ", "EDIT"]}],
        "deleted": [{"type": "project_group", "projectId": "p", "group": "g"}]}]}));
    for kind in ["WEB", "VNC", "SHELL"] {
        exact::<BulkRequest<OpenInteractiveSession>>(json!({"items": [{"job": job, "rank": 2, "sessionType": kind}]}));
    }
    exact::<BulkResponse<Option<OpenSession>>>(json!({"responses": [
        {"type": "shell", "jobId": "1", "rank": 0, "sessionIdentifier": "s"},
        {"type": "web", "jobId": "1", "rank": 1, "redirectClientTo": "/x"},
        {"type": "vnc", "jobId": "1", "rank": 2, "url": "https://x", "password": null},
        {"type": "vnc", "jobId": "1", "rank": 2, "url": "https://x", "password": "p"},
        null
    ]}));
    exact::<ResourceInitializationRequest>(json!({"principal": {"createdBy": "u", "project": null}}));
    exact::<JobsUtilization>(json!({"capacity": {"cpu": 1.5, "memory": 7}, "usedCapacity": {"cpu": 0.0, "memory": 0},
        "queueStatus": {"running": 1, "pending": 2}}));
    exact::<BulkResponse<ComputeSupport>>(json!({"responses": []}));
    exact::<CommonErrorMessage>(json!({"why": "w", "errorCode": null}));
}

#[test]
fn integration_and_tokens() {
    exact::<IntegrationManifest>(json!({"enabled": true}));
    exact::<FindByUsername>(json!({"username": "u"}));
    exact::<ConnectResponse>(json!({"redirectTo": "/x"}));
    exact::<WelcomeRequest>(json!({"token": "t", "createdProvider": {"refreshToken": "r", "publicKey": "k"}}));
    exact::<RequestApproval>(
        json!({"type": "information", "specification": {"id": "p", "domain": "d", "https": true, "port": null}}),
    );
    exact::<RequestApproval>(json!({"type": "sign", "token": "t"}));
    exact::<RequestApprovalResponse>(json!({"type": "requires_signature", "token": "t"}));
    exact::<RequestApprovalResponse>(json!({"type": "awaiting_admin_approval", "token": "t"}));
    exact::<BulkRequest<RefreshToken>>(json!({"items": [{"refreshToken": "r"}]}));
    exact::<BulkResponse<AccessToken>>(json!({"responses": [{"accessToken": "a"}]}));
    exact::<BulkResponse<DepositNotification>>(json!({"responses": [
        {"id": "1", "owner": {"type": "user", "username": "u"}, "category": {"name": "c", "provider": "p"}, "balance": 5},
        {"id": "2", "owner": {"type": "project", "projectId": "p"}, "category": {"name": "c", "provider": "p"}, "balance": -5}
    ]}));
}

#[test]
fn websocket_payloads() {
    exact::<RequestFrame>(
        json!({"call": "c", "streamId": "0", "payload": {"a": [1]}, "bearer": null, "causedBy": null,
        "project": "p"}),
    );
    exact::<FollowRequest>(json!({"type": "init", "job": job_json()}));
    exact::<FollowRequest>(json!({"type": "cancel", "streamId": "s"}));
    exact::<LogChunk>(json!({"streamId": "s", "rank": 1, "stdout": "o", "stderr": null}));
    exact::<ShellRequest>(json!({"type": "initialize", "sessionIdentifier": "s", "cols": 100, "rows": 50}));
    exact::<ShellRequest>(json!({"type": "input", "data": "ls\r"}));
    exact::<ShellRequest>(json!({"type": "resize", "cols": 1, "rows": 2}));
    exact::<ShellResponse>(json!({"type": "initialize"}));
    exact::<ShellResponse>(json!({"type": "data", "data": "x"}));
    exact::<ShellResponse>(json!({"type": "ack"}));
}

#[test]
fn control_calls() {
    exact::<ResourceChargeCredits>(json!({"id": "1", "chargeId": "c", "units": 1, "numberOfProducts": 2, "periods": 2,
        "performedBy": "u", "description": "d"}));
    exact::<ResourceChargeCreditsResponse>(json!({"insufficientFunds": [{"id": "1"}], "duplicateCharges": []}));
    exact::<BulkRequest<RegisterItem>>(json!({"items": [{"spec": job_json()["specification"],
        "providerGeneratedId": null, "createdBy": "u", "project": null}]}));
    exact::<JobUpdate>(json!({"state": "EXPIRED", "outputFolder": "/1/x", "status": "s", "expectedState": "RUNNING",
        "expectedDifferentState": false, "newTimeAllocation": 9, "timestamp": 7}));
    exact::<PageV2<FindByStringId>>(json!({"itemsPerPage": 100, "items": [{"id": "1"}], "next": "100-"}));
}

#[test]
fn products() {
    let mut product = job_json()["status"]["resolvedProduct"].clone();
    exact::<ComputeProduct>(product.clone());
    product["type"] = json!("compute");
    exact::<Product>(product.clone());
    for kind in ["storage", "ingress", "network_ip", "license"] {
        for extra in ["cpu", "memoryInGigs", "gpu"] {
            product.as_object_mut().unwrap().remove(extra);
        }
        product["type"] = json!(kind);
        product["productType"] = json!(kind.to_uppercase());
        if kind == "license" {
            product["tags"] = json!(["t"]);
        }
        exact::<Product>(product.clone());
    }
    let flags = ProductFlags {
        filter_name: Some("n".to_owned()),
        filter_area: Some(ProductType::NetworkIp),
        ..ProductFlags::default()
    };
    let mut query = Query::default();
    flags.add_to(&mut query);
    assert_eq!(query.finish(), "filterName=n&filterArea=NETWORK_IP&showAllVersions=false&includeBalance=false");
}

#[test]
fn jobs_and_their_parts() {
    let mut full = job_json();
    full["output"] = json!({"outputFolder": null});
    full["updates"] = json!([{"state": "IN_QUEUE", "outputFolder": null, "status": null, "expectedState": null,
        "expectedDifferentState": null, "newTimeAllocation": null, "timestamp": 1}]);
    full["permissions"] = json!({"myself": ["PROVIDER", "ADMIN"], "others": [
        {"entity": {"type": "user", "username": "u"}, "permissions": ["READ"]}]});
    full["status"]["jobParametersJson"] = json!({"siteVersion": 3, "request": {"x": null}});
    full["status"]["startedAt"] = json!(5);
    full["status"]["expiresAt"] = json!(6);
    let invocation = &mut full["status"]["resolvedApplication"]["invocation"];
    invocation["vnc"] = json!({"password": null, "port": 5901});
    invocation["web"] = json!({"port": 8080});
    invocation["container"] = json!({"changeWorkingDirectory": false, "runAsRoot": false, "runAsRealUser": true});
    invocation["environment"] = json!({"A": {"type": "env", "variable": "B"}, "B": {"type": "word", "word": "w"}});
    invocation["allowAdditionalMounts"] = json!(true);
    invocation["applicationType"] = json!("WEB");
    exact::<Job>(full);
    exact::<JobOutput>(json!({"outputFolder": "/x"}));
    exact::<ResourcePermissions>(json!({"myself": [], "others": null}));
    for state in ["IN_QUEUE", "RUNNING", "CANCELING", "SUCCESS", "FAILURE", "EXPIRED"] {
        exact::<JobState>(json!(state));
        let known: JobState = serde_json::from_value(json!(state)).unwrap();
        assert_eq!(known.name(), state);
        assert_eq!(known.is_final(), ["SUCCESS", "FAILURE", "EXPIRED"].contains(&state));
    }
    for backend in ["SINGULARITY", "DOCKER", "VIRTUAL_MACHINE", "NATIVE", "SOMETHING"] {
        exact::<ToolBackend>(json!(backend));
    }
    let bare: JobSpecification = serde_json::from_value(json!({})).unwrap();
    assert_eq!(bare, JobSpecification::default());
    assert_eq!(job(), serde_json::from_value(serde_json::to_value(job()).unwrap()).unwrap());
}

#[test]
fn values_parameters_and_elements() {
    for value in [
        json!({"type": "file", "path": "/1/a", "readOnly": true}),
        json!({"type": "boolean", "value": true}),
        json!({"type": "text", "value": "x"}),
        json!({"type": "textarea", "value": "x"}),
        json!({"type": "integer", "value": i64::MIN}),
        json!({"type": "floating_point", "value": 0.1}),
        json!({"type": "peer", "hostname": "h", "jobId": "1"}),
        json!({"type": "license_server", "id": "1"}),
        json!({"type": "network", "id": "1"}),
        json!({"type": "block_storage", "id": "1"}),
        json!({"type": "ingress", "id": "1"}),
    ] {
        let known: AppParameterValue = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(known.kind(), value["type"].as_str().unwrap());
        assert!(!matches!(known, AppParameterValue::Other(_)), "{value}");
        exact::<AppParameterValue>(value);
    }
    let bounds = json!({"min": null, "max": 9, "step": null, "unitName": "u"});
    let float_bounds = json!({"min": null, "max": 9.5, "step": null, "unitName": "u"});
    for (kind, extra) in [
        ("input_file", json!({})),
        ("input_directory", json!({})),
        ("text", json!({})),
        ("textarea", json!({})),
        ("integer", bounds),
        ("floating_point", float_bounds),
        ("boolean", json!({"trueValue": "y", "falseValue": "n"})),
        ("enumeration", json!({"options": [{"name": "n", "value": "v"}]})),
        ("peer", json!({"suggestedApplication": null})),
        ("ingress", json!({})),
        ("license_server", json!({"tagged": ["t"]})),
        ("network_ip", json!({})),
        ("quantum", json!({"qubits": 3})),
    ] {
        let mut parameter = crate::fixtures::parameter(kind, "p");
        parameter.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let known: ApplicationParameter = serde_json::from_value(parameter.clone()).unwrap();
        assert_eq!(known.kind.name(), kind);
        exact::<ApplicationParameter>(parameter);
    }
    exact::<InvocationParameter>(json!({"type": "word", "word": "w"}));
    exact::<InvocationParameter>(json!({"type": "env", "variable": "V"}));
    exact::<InvocationParameter>(json!({"type": "bool_flag", "variableName": "b", "flag": "-v"}));
    let old: InvocationParameter =
        serde_json::from_value(json!({"type": "flag", "variableName": "b", "flag": "-v"})).unwrap();
    assert_eq!(serde_json::to_value(&old).unwrap()["type"], "bool_flag");
}

#[test]
fn queries() {
    let flags = JobIncludeFlags {
        include_others: true,
        include_product: true,
        include_parameters: Some(true),
        filter_application: Some("a b&c".to_owned()),
        filter_state: Some(JobState::InQueue),
        filter_created_after: Some(5),
        filter_ids: Some("1,2".to_owned()),
        hide_provider: Some("æ".to_owned()),
        ..JobIncludeFlags::default()
    };
    let paging = Paging {
        items_per_page: Some(250),
        next: Some("250-".to_owned()),
        sort_direction: Some("ascending".to_owned()),
        ..Paging::default()
    };
    let query = flags.browse_query(&paging);
    assert_eq!(JobIncludeFlags::from_query(&query), flags);
    let pairs = pairs(&query);
    assert!(pairs.contains(&("itemsPerPage".to_owned(), "250".to_owned())));
    assert!(pairs.contains(&("filterState".to_owned(), "IN_QUEUE".to_owned())));
    assert!(JobIncludeFlags::default().retrieve_query("5 4").ends_with("&id=5+4"));
    let loose = JobIncludeFlags::from_query("?includeUpdates=TRUE&includeSupport=true&filterState=running&x");
    assert!(!loose.include_updates && loose.include_support);
    assert_eq!(loose.filter_state, Some(JobState::Running));
}
