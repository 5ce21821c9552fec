//! A follower before leaders that misbehave.

use super::*;
use crate::http::Bound;
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

/// A leader of this term at this address.
fn led_from(address: SocketAddr, term: u64) -> Standing {
    let leader = Identity {
        name: format!("leader-{term}"),
        http: address.to_string(),
        operator: address.to_string(),
        fleet: String::new(),
        version: String::new(),
    };
    Standing { role: Role::Follower, term: Some(term), leader: Some(leader) }
}

/// A listener that only this machine reaches.
const HERE: &str = "127.0.0.1:1";

struct Stage {
    said: tokio::sync::watch::Sender<Standing>,
    router: Router,
}

impl Stage {
    fn new(standing: Standing) -> Self {
        let board = Board::new(standing.clone());
        let said = tokio::sync::watch::Sender::new(standing);
        let (follows, heard) = (board.clone(), said.subscribe());
        tokio::spawn(async move { follows.follow(heard, &Metrics::new()).await });
        let (name, stop) = (HeaderValue::from_static("b"), CancellationToken::new());
        let forward = Forward::new(Door::Ucloud, board, name, 4, Metrics::new(), stop);
        let here = |body: String| async move { format!("here: {body}") };
        let router = Router::new()
            .route("/jobs", post(here))
            .route("/jobs/extend", post(here))
            .route("/websocket", get(here))
            .layer(from_fn_with_state(forward, super::forward));
        Self { said, router }
    }

    /// Status, body and duration of a call.
    async fn post(&self, path: &str) -> (StatusCode, String, Duration) {
        self.send(Request::builder().method("POST").uri(path).extension(Bound(HERE.parse().unwrap()))).await
    }

    async fn send(&self, request: axum::http::request::Builder) -> (StatusCode, String, Duration) {
        let begun = Instant::now();
        let request = request.body(Body::from("a body")).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap(), begun.elapsed())
    }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Reads a whole request; its head.
async fn take(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"a body") {
        let mut piece = [0; 1024];
        let count = stream.read(&mut piece).await.unwrap();
        assert!(count > 0, "the request is not whole");
        text.extend_from_slice(&piece[..count]);
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn a_connection_is_used_again_and_one_that_was_closed_meanwhile_is_replaced() {
    let (listener, address) = listener().await;
    let stage = Stage::new(led_from(address, 1));
    let leads = async {
        let (mut first, _) = listener.accept().await.unwrap();
        for _ in 0..2 {
            let head = take(&mut first).await;
            assert!(head.starts_with("POST /jobs HTTP/1.1\r\n") && head.contains("muster-forwarded: b\r\n"), "{head}");
            first.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        }
        drop(first);
        let (mut second, _) = listener.accept().await.unwrap();
        take(&mut second).await;
        second.write_all(b"HTTP/1.1 409 Conflict\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
        second
    };
    let calls = async {
        for _ in 0..2 {
            let (status, body, _) = stage.post("/jobs").await;
            assert_eq!((status, body.as_str()), (StatusCode::OK, "ok"));
            // The connection goes back once its task has seen the end of the answer.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (status, body, _) = stage.post("/jobs").await;
        assert_eq!((status, body.as_str()), (StatusCode::CONFLICT, "no"));
    };
    tokio::join!(leads, calls);
}

#[tokio::test]
async fn a_connection_that_was_idle_for_long_is_not_used_again() {
    let (listener, address) = listener().await;
    let stage = Stage::new(led_from(address, 1));
    let leads = async {
        let mut held = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            take(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            held.push(stream);
        }
    };
    let calls = async {
        assert_eq!(stage.post("/jobs").await.0, StatusCode::OK);
        tokio::time::sleep(Duration::from_millis(50)).await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(31)).await;
        tokio::time::resume();
        assert_eq!(stage.post("/jobs").await.0, StatusCode::OK);
    };
    tokio::join!(leads, calls);
}

#[tokio::test(start_paused = true)]
async fn a_leader_answers_in_time_although_a_body_never_arrives() {
    let (_, address) = listener().await;
    let stage = Stage::new(Standing { role: Role::Leader, ..led_from(address, 1) });
    let never = Body::from_stream(futures_util::stream::pending::<Result<String, std::io::Error>>());
    let begun = Instant::now();
    let request = Request::builder().method("POST").uri("/jobs").body(never).unwrap();
    assert_eq!(stage.router.clone().oneshot(request).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!((HOLD..Duration::from_secs(4)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_503_but_for_what_must_not_be_repeated() {
    let (listener, address) = listener().await;
    let stage = Stage::new(led_from(address, 1));
    let leads = async {
        for half in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            take(&mut stream).await;
            stream.write_all(half.as_bytes()).await.unwrap();
        }
        let (mut stream, _) = listener.accept().await.unwrap();
        take(&mut stream).await;
    };
    let calls = async {
        for _ in 0..3 {
            assert_eq!(stage.post("/jobs").await.0, StatusCode::SERVICE_UNAVAILABLE);
        }
        let (status, body, _) = stage.post("/jobs/extend").await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(body.contains("look at the job before asking again"), "{body}");
    };
    tokio::join!(leads, calls);
}

#[tokio::test]
async fn a_leader_that_is_not_there_is_waited_for_until_there_is_another() {
    let (gone, address) = listener().await;
    drop(gone);
    let stage = Stage::new(led_from(address, 1));
    let elects = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut here = led_from(address, 2);
        here.role = Role::Leader;
        stage.said.send_replace(here);
    };
    let ((status, body, took), ()) = tokio::join!(stage.post("/jobs"), elects);
    assert_eq!(
        (status, body.as_str()),
        (StatusCode::OK, "here: a body"),
        "the request is whole although it was on its way"
    );
    assert!(took < Duration::from_secs(2), "{took:?}");
    // Nobody else: in the end it is 503, also for what must not be repeated, since nothing was sent.
    stage.said.send_replace(led_from(address, 3));
    tokio::task::yield_now().await;
    let (create, extend) = tokio::join!(stage.post("/jobs"), stage.post("/jobs/extend"));
    for (status, _, took) in [create, extend] {
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!((HOLD..Duration::from_millis(4500)).contains(&took), "{took:?}");
    }
}

#[tokio::test]
async fn a_leader_that_says_nothing_is_given_up_in_time_and_sooner_when_another_one_leads() {
    let (listener, address) = listener().await;
    let stage = Stage::new(led_from(address, 1));
    let silent = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let (status, _, took) = stage.post("/jobs").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!((HOLD..Duration::from_millis(4500)).contains(&took), "{took:?}");
    let elects = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        stage.said.send_replace(led_from(address, 2));
    };
    // The same address, another term: a leader that was restarted, and knows nothing of the call.
    let ((status, _, took), ()) = tokio::join!(stage.post("/jobs"), elects);
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(took < Duration::from_secs(2), "{took:?}");
    silent.abort();
}

#[tokio::test]
async fn what_another_coordinator_passed_on_waits_until_this_one_leads() {
    let (_listener, address) = listener().await;
    let stage = Stage::new(led_from(address, 1));
    let passed_on = |by: &str| Request::builder().method("POST").uri("/jobs").header(FORWARDED, by);
    let elects = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        stage.said.send_replace(Standing { role: Role::Leader, ..led_from(address, 2) });
    };
    let ((status, body, _), ()) = tokio::join!(stage.send(passed_on("c")), elects);
    assert_eq!((status, body.as_str()), (StatusCode::OK, "here: a body"));
    // It never does: nothing is passed on twice, and a circle is called one.
    stage.said.send_replace(led_from(address, 3));
    tokio::task::yield_now().await;
    for (by, part) in [("c", "do not agree yet"), ("b", "leads back to this one")] {
        let (status, body, took) = stage.send(passed_on(by).header("muster-hold-ms", "200")).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains(part), "{body}");
        assert!((Duration::from_millis(200)..Duration::from_secs(2)).contains(&took), "{took:?}");
    }
}

#[tokio::test]
async fn no_token_goes_to_an_address_that_every_machine_has() {
    let (listener, address) = listener().await;
    let stage = Stage::new(led_from(address, 1));
    for bound in [None, Some("192.0.2.1:80"), Some("0.0.0.0:80")] {
        let mut request = Request::builder().method("POST").uri("/jobs").header("muster-hold-ms", "100");
        if let Some(bound) = bound {
            request = request.extension(Bound(bound.parse().unwrap()));
        }
        let (status, body, _) = stage.send(request).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{bound:?}");
        assert!(body.contains("set advertise.http"), "{body}");
    }
    let nobody = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(nobody.is_err(), "nothing was sent there");
}

#[tokio::test]
async fn the_connection_of_a_refused_websocket_serves_nobody_else() {
    let (listener, address) = listener().await;
    let stage = Stage::new(led_from(address, 1));
    let leads = async {
        let (mut first, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(first.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.contains("upgrade: websocket\r\n") && !head.contains("content-length"), "{head}");
        first.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nfull").await.unwrap();
        let (mut second, _) = listener.accept().await.unwrap();
        take(&mut second).await;
        second.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        (first, second)
    };
    let calls = async {
        let handshake = Request::builder().uri("/websocket").extension(Bound(HERE.parse().unwrap()));
        let handshake = handshake.header("upgrade", "websocket").header("sec-websocket-key", "x");
        let (status, body, _) = stage.send(handshake.header("content-length", "6")).await;
        assert_eq!((status, body.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "full"));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(stage.post("/jobs").await.0, StatusCode::OK);
    };
    tokio::join!(leads, calls);
}

#[tokio::test(start_paused = true)]
async fn operators_hear_why_nobody_leads_and_users_do_not() {
    for (door, why) in [
        (Door::Ucloud, "no coordinator leads at the moment: try again"),
        (Door::Operator, "no coordinator leads at the moment: etcd is away"),
    ] {
        let board = Board::new(Standing::default());
        board.concern().of_election(Some("etcd is away".to_owned()));
        let (name, stop) = (HeaderValue::from_static("b"), CancellationToken::new());
        let forward = Forward::new(door, board, name, 4, Metrics::new(), stop);
        let router =
            Router::new().route("/v1/jobs", get(|| async {})).layer(from_fn_with_state(forward, super::forward));
        let request = Request::builder().uri("/v1/jobs").body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let body = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(body.contains(why), "{body}");
    }
}
