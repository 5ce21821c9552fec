//! Frames of the WebSocket (protocol 5).

use muster_ucloud::v2021::follow::{FollowRequest, LogChunk};
use muster_ucloud::v2021::frame::{KEEP_ALIVE, RequestFrame, ServerFrame};
use muster_ucloud::v2021::problem::Problem;
use muster_ucloud::v2021::shell::{ShellRequest, ShellResponse};
use proptest::prelude::*;
use serde_json::{Value, json};

#[test]
fn the_example_conversation() {
    let asked = r#"{"call":"jobs.provider.example.follow","streamId":"7","bearer":"eyJ","payload":{"type":"init","job":{"id":"812"}}}"#;
    let mut request = RequestFrame::parse(asked).unwrap();
    assert_eq!((request.call.as_str(), request.stream_id.as_str()), ("jobs.provider.example.follow", "7"));
    assert_eq!(request.bearer.as_ref().unwrap().expose(), "eyJ");
    assert!(!format!("{request:?}").contains("eyJ"));
    assert!(matches!(request.payload().unwrap(), FollowRequest::Init { job } if job.id == "812"));

    let said = |frame: ServerFrame| serde_json::from_str::<Value>(&frame.encode()).unwrap();
    assert_eq!(
        said(ServerFrame::message("7", &LogChunk::empty("5f0c"))),
        json!({"type": "message", "streamId": "7",
            "payload": {"streamId": "5f0c", "rank": -1, "stdout": null, "stderr": null}})
    );
    assert_eq!(
        said(ServerFrame::response("7", &LogChunk::empty("5f0c"))),
        json!({"type": "response", "streamId": "7", "status": 200,
            "payload": {"streamId": "5f0c", "rank": -1, "stdout": null, "stderr": null}})
    );
    assert_eq!(
        said(ServerFrame::error("7", &Problem::invalid("no"))),
        json!({"type": "response", "streamId": "7", "status": 400, "payload": {"why": "no", "errorCode": null}})
    );
    assert_eq!(said(ServerFrame::unknown_call("7"))["payload"], json!({}));
    assert_eq!(said(ServerFrame::unknown_call("7"))["status"], 404);
    // A payload must be an object.
    assert_eq!(said(ServerFrame::response("7", &"text"))["payload"], json!({}));
}

#[test]
fn what_is_no_request_is_ignored() {
    for text in [
        "",
        "{",
        "null",
        "[]",
        KEEP_ALIVE,
        r#"{"call":"x","streamId":"0"}"#,
        r#"{"call":"x","payload":{}}"#,
        r#"{"streamId":"0","payload":{}}"#,
        r#"{"call":"x","streamId":"0","payload":null}"#,
        r#"{"call":"x","streamId":"0","payload":[]}"#,
        r#"{"call":"x","streamId":"0","payload":"{}"}"#,
    ] {
        assert_eq!(RequestFrame::parse(text), None, "{text}");
    }
    let bare = RequestFrame::parse(r#"{"call":"x","streamId":"0","payload":{},"other":1}"#).unwrap();
    assert_eq!((bare.bearer, bare.caused_by, bare.project), (None, None, None));
}

#[test]
fn a_bad_payload_is_named() {
    let text = r#"{"call":"x","streamId":"0","payload":{"type":"resize","cols":"wide","rows":1}}"#;
    let problem = RequestFrame::parse(text).unwrap().payload::<ShellRequest>().unwrap_err();
    assert_eq!(problem.status, 400);
    assert!(problem.why.starts_with("payload"), "{problem}");
}

#[test]
fn answers_are_read_as_core_does() {
    let message = ServerFrame::parse(r#"{"streamId":"1","payload":{"a":1}}"#).unwrap();
    assert!(matches!(message, ServerFrame::Message { .. }));
    let response = ServerFrame::parse(r#"{"type":"response","streamId":"1","payload":{}}"#).unwrap();
    assert!(matches!(response, ServerFrame::Response { status: 500, .. }));
    for text in [
        KEEP_ALIVE,
        r#"{"type":"message","payload":{}}"#,
        r#"{"type":"response","streamId":"1","status":200}"#,
        r#"{"type":"message","streamId":"1","payload":1}"#,
        r#"{"type":"odd","streamId":"1","payload":{}}"#,
    ] {
        assert_eq!(ServerFrame::parse(text), None, "{text}");
    }
}

#[test]
fn terminals_have_defaults_and_their_own_tags() {
    let opened: ShellRequest =
        serde_json::from_value(json!({"type": "initialize", "sessionIdentifier": "s3cret"})).unwrap();
    assert!(matches!(&opened, ShellRequest::Initialize { cols: 80, rows: 24, .. }));
    assert!(!format!("{opened:?}").contains("s3cret"));
    let wire = |response: ShellResponse| serde_json::to_string(&response).unwrap();
    assert_eq!(wire(ShellResponse::Initialize {}), r#"{"type":"initialize"}"#);
    assert_eq!(wire(ShellResponse::Ack {}), r#"{"type":"ack"}"#);
    assert_eq!(wire(ShellResponse::Data { data: "x".to_owned() }), r#"{"type":"data","data":"x"}"#);
}

proptest! {
    #[test]
    fn what_we_send_is_what_is_read(stream in ".*", text in ".*", rank in -1i64..100) {
        let chunk = LogChunk { stream_id: stream.clone(), rank, stdout: Some(text), stderr: None };
        for frame in [ServerFrame::message(stream.clone(), &chunk), ServerFrame::response(stream, &chunk)] {
            prop_assert_eq!(ServerFrame::parse(&frame.encode()), Some(frame));
        }
    }

    #[test]
    fn no_frame_makes_a_panic(text in ".*") {
        let _ = RequestFrame::parse(&text);
        let _ = ServerFrame::parse(&text);
    }
}
