//! Reading request bodies: bounded in size, in time and in what all of them hold together; content types are not
//! looked at (`protocol.md` 1.2, 16.8).

use super::failure::Failure;
use axum::body::{Body, BodyDataStream};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use futures_util::StreamExt;
use muster_ucloud::v2021::envelope::BulkRequest;
use muster_ucloud::v2021::problem;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The largest body of `create`, in bytes.
pub(crate) const MOST_CREATE_BYTES: usize = 32 << 20;
/// The largest body of every other call, in bytes.
pub(crate) const MOST_BYTES: usize = 4 << 20;
/// How long a body may take to arrive.
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);
/// How long a body may wait until others have made room. Core repeats a call that is turned away in time.
const ROOM_WITHIN: Duration = Duration::from_secs(2);
/// How long, and how much of it, a body that is refused for its size is read on and thrown away: whoever is sending hears the
/// answer only if the connection is not cut off under the body.
const DRAINED_WITHIN: Duration = Duration::from_secs(1);
const MOST_DRAINED_BYTES: usize = 128 << 20;
/// What all bodies that are being read may hold together, in KiB.
const BUDGET_KIB: usize = 256 << 10;

/// Reads bodies; shared by all handlers.
#[derive(Clone, Debug)]
pub(crate) struct Bodies {
    budget: Arc<Semaphore>,
    arrive_within: Duration,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { arrive_within: ARRIVES_WITHIN, budget: Arc::new(Semaphore::new(BUDGET_KIB)) }
    }
}

impl Bodies {
    /// The items of a bulk call: 1 to 1000, or an error that names the item at fault.
    pub(crate) async fn bulk<T: DeserializeOwned>(
        &self,
        request: Request,
        most_bytes: usize,
    ) -> Result<Vec<T>, Failure> {
        let (_held, bytes) = self.read(request, most_bytes).await?;
        Ok(problem::decode::<BulkRequest<T>>(&bytes)?.checked()?)
    }

    /// Reads a body for its size only: what it says does not matter.
    pub(crate) async fn ignore(&self, request: Request) -> Result<(), Failure> {
        self.read(request, MOST_BYTES).await.map(drop)
    }

    /// The bytes, and their share of the budget.
    async fn read(
        &self,
        request: Request,
        most_bytes: usize,
    ) -> Result<(Option<OwnedSemaphorePermit>, Vec<u8>), Failure> {
        let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let announced = announced.and_then(|text| text.parse::<usize>().ok());
        if announced.is_some_and(|bytes| bytes > most_bytes) {
            drain(&mut request.into_body().into_data_stream()).await;
            return Err(too_large(most_bytes));
        }
        let kib = u32::try_from(announced.unwrap_or(most_bytes) / 1024 + 1).unwrap_or(u32::MAX);
        let making_room = Arc::clone(&self.budget).acquire_many_owned(kib);
        let held = tokio::time::timeout(ROOM_WITHIN, making_room).await.map_err(|_| too_many())?;
        let bytes = tokio::time::timeout(self.arrive_within, collect(request.into_body(), most_bytes)).await;
        let bytes = bytes.map_err(|_| {
            let seconds = self.arrive_within.as_secs();
            Failure::new(StatusCode::REQUEST_TIMEOUT, format!("the body did not arrive within {seconds} s"))
        })??;
        // The semaphore is never closed.
        Ok((held.ok(), bytes))
    }
}

async fn collect(body: Body, most_bytes: usize) -> Result<Vec<u8>, Failure> {
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            tracing::debug!(%error, "a body broke off");
            Failure::invalid("the body broke off")
        })?;
        if bytes.len() + chunk.len() > most_bytes {
            drop(bytes);
            drain(&mut chunks).await;
            return Err(too_large(most_bytes));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

async fn drain(chunks: &mut BodyDataStream) {
    let draining = async {
        let mut drained = 0;
        while let Some(Ok(chunk)) = chunks.next().await {
            drained += chunk.len();
            if drained > MOST_DRAINED_BYTES {
                break;
            }
        }
    };
    // What comes later is cut off.
    let _ = tokio::time::timeout(DRAINED_WITHIN, draining).await;
}

fn too_many() -> Failure {
    Failure::unavailable("too many large requests are being read: try again")
}

fn too_large(most_bytes: usize) -> Failure {
    let mib = most_bytes >> 20;
    Failure::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is too large: expected at most {mib} MiB"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_ucloud::v2021::envelope::FindByStringId;

    async fn read(body: impl Into<Body>) -> Result<Vec<FindByStringId>, Failure> {
        Bodies::default().bulk(Request::new(body.into()), 1 << 20).await
    }

    #[tokio::test]
    async fn a_bulk_is_read_and_its_faults_are_located() {
        let items = read(r#"{"type":"bulk","items":[{"id":"1","more":2}]}"#).await.unwrap();
        assert_eq!(items, [FindByStringId { id: "1".to_owned() }]);
        let many = format!(r#"{{"items":[{}]}}"#, [r#"{"id":"1"}"#; 1001].join(","));
        for (body, part) in [
            ("{", "line 1 column 1"),
            ("", "expected"),
            ("{}", "missing field `items`"),
            (r#"{"items":[]}"#, "expected 1 to 1000 items, found 0"),
            ("{\"items\":[{\"id\":\"1\"},\n{\"id\":[]}]}", "items[1]"),
            ("{\"items\":[{\"id\":\"1\"},\n{\"id\":[]}]}", "line 2 column"),
            (&many, "expected 1 to 1000 items, found 1001"),
        ] {
            let failure = read(body.to_owned()).await.unwrap_err();
            assert_eq!(failure.status, StatusCode::BAD_REQUEST);
            assert!(failure.why.contains(part), "{}", failure.why);
        }
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_announced_or_not() {
        let large = "x".repeat((1 << 20) + 1);
        assert_eq!(read(large.clone()).await.unwrap_err().status, StatusCode::PAYLOAD_TOO_LARGE);
        let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>(large)]);
        let failure = read(Body::from_stream(chunks)).await.unwrap_err();
        assert_eq!(failure.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(failure.why, "the body is too large: expected at most 1 MiB");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_for_which_there_is_no_room_may_come_again() {
        let bodies = Bodies { budget: Arc::new(Semaphore::new(0)), ..Bodies::default() };
        let read = bodies.bulk::<FindByStringId>(Request::new(Body::from("{}")), 1 << 20);
        assert_eq!(read.await.unwrap_err().status, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn a_body_that_does_not_arrive_is_given_up() {
        let never = Body::from_stream(futures_util::stream::pending::<Result<String, std::io::Error>>());
        let bodies = Bodies { arrive_within: Duration::from_millis(20), ..Bodies::default() };
        let read = bodies.bulk::<FindByStringId>(Request::new(never), 1 << 20);
        assert_eq!(read.await.unwrap_err().status, StatusCode::REQUEST_TIMEOUT);
    }
}
