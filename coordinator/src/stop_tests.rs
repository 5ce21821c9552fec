//! What callers see of a coordinator that is asked to stop.

use super::takeover::{Coordinator, pair};
use crate::auth::fixture;
use reqwest::StatusCode;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How a call on a connection of its own ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Answered(u16),
    Refused,
    /// Cut off although the connection was there.
    Reset,
}

async fn call(address: SocketAddr, request: &str) -> Call {
    let mut stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Call::Refused,
        Err(_) => return Call::Reset,
    };
    let mut answer = String::new();
    let told = async {
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_string(&mut answer).await
    };
    let status = told.await.ok().and_then(|_| answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    status.map_or(Call::Reset, Call::Answered)
}

fn terminate() -> String {
    let body = r#"{"items":[{"id":"1"}]}"#;
    format!(
        "POST /ucloud/example/jobs/terminate HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {}\r\n\
         content-length: {}\r\n\r\n{body}",
        fixture::token(),
        body.len()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_calls_all_through_a_stop_is_answered_or_refused() {
    let (_arbiter, a, b) = pair().await;
    let (address, request) = (a.running.addresses.http, terminate());
    let mut callers = JoinSet::new();
    for _ in 0..6 {
        let request = request.clone();
        callers.spawn(async move {
            let mut seen = Vec::new();
            // Some more after the first that is refused: it stays so.
            while seen.iter().filter(|(_, ended)| *ended == Call::Refused).count() < 3 {
                seen.push((Instant::now(), call(address, &request).await));
            }
            seen
        });
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let asked = Instant::now();
    a.inner.stop_token().cancel();
    let b_leads = async {
        b.running.leads().await.unwrap();
        (Instant::now(), a.operator("/ready").await, a.operator("/health").await)
    };
    let (led, ready, health) = b_leads.await;
    assert!(led - asked < Duration::from_secs(1), "{:?}", led - asked);
    assert_eq!((ready.status, health.status), (StatusCode::SERVICE_UNAVAILABLE, StatusCode::OK));
    assert!(ready.body["why"].as_str().unwrap().contains("is stopping"), "{}", ready.body);
    let refused = |a: &Coordinator| std::net::TcpStream::connect(a.running.addresses.operator).is_err();
    a.stop().await;
    assert!(refused(&a), "the operators' listener is closed in the end");
    let seen: Vec<(Instant, Call)> = callers.join_all().await.concat();
    assert!(seen.iter().any(|(at, ended)| *at > led && *ended == Call::Answered(200)), "nothing was passed on");
    let others: Vec<Call> =
        seen.iter().map(|(_, ended)| *ended).filter(|ended| *ended != Call::Answered(200)).collect();
    let resets = others.iter().filter(|ended| **ended == Call::Reset).count();
    println!("{} calls, {} not 200, {resets} reset", seen.len(), others.len());
    // Between the last look at the kernel's queue and the end of the socket is a moment that nothing can close.
    assert!(resets <= 1, "{resets} of {} were reset", seen.len());
    assert!(
        others.iter().all(|ended| matches!(ended, Call::Answered(503) | Call::Refused | Call::Reset)),
        "{others:?}"
    );
    b.stop().await;
}
