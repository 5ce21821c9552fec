//! What a coordinator does with a request while it does not lead: it passes it on to the leader, and waits for one while
//! there is none.
//!
//! Core repeats a call only on 503, and deletes the job on its side on any other error or after 5 s (reliability F1-F3). So
//! every way in which this can fail is a 503 in good time, but for the one call that must not be repeated when it may have
//! been done (`may_repeat`). A request is passed on at most once: the header `muster-forwarded` says that it was.

mod came;
mod headers;
mod relay;
mod tunnel;

#[cfg(test)]
mod tests;

use crate::election::{Identity, Standing};
use crate::http::failure::Failure;
use crate::metrics::Metrics;
use crate::standing::{Board, HOLD};
use axum::body::Body;
use axum::extract::{OriginalUri, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use came::Came;
use headers::{Arrived, FORWARDED};
use muster_domain::leadership::Role;
use relay::{Connection, Relay};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Requests that may wait for a leader or for its answer at once.
const MOST_REQUESTS: usize = 1024;
/// Before a leader that refused a connection is tried again, unless another one leads first.
const REFUSED_WAIT: Duration = Duration::from_millis(50);
/// How much longer than an answer may take one that is made here may take in all, with the arrival of its request's body, so that
/// its own last word is heard. Both are less than the 4 s that a call has (reliability F1).
const GRACE: Duration = Duration::from_millis(150);
/// How long an answer may still arrive once the leader that was asked does not lead any more.
const LAST_WORD: Duration = Duration::from_millis(250);
/// The largest answer to Core, in bytes. It is taken in whole, because half an answer is an error that Core does not repeat.
const MOST_ANSWER_BYTES: usize = 8 << 20;

/// Which listener requests come from, and go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// UCloud's calls.
    Ucloud,
    /// The operators' API.
    Operator,
}

impl Door {
    fn name(self) -> &'static str {
        match self {
            Self::Ucloud => "ucloud",
            Self::Operator => "operator",
        }
    }

    fn address(self, leader: &Identity) -> &str {
        match self {
            Self::Ucloud => &leader.http,
            Self::Operator => &leader.operator,
        }
    }

    /// How long after its arrival a request must be answered.
    fn answer_within(self) -> Duration {
        match self {
            Self::Ucloud => HOLD,
            // A view of everything may take a while, and nobody deletes a job over it.
            Self::Operator => Duration::from_secs(10),
        }
    }
}

/// Passes requests on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Forward {
    door: Door,
    board: Board,
    name: HeaderValue,
    relay: Relay,
    room: Arc<Semaphore>,
    sockets: Arc<Semaphore>,
    metrics: Metrics,
    stop: CancellationToken,
}

/// Why a request was not answered by the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    /// Nobody led in time.
    NoLeader,
    /// It came from another coordinator that takes this one for the leader.
    Looped,
    /// It was passed on by this coordinator itself: the leader's address leads back here.
    Circular,
    /// The leader's address means whatever machine uses it, and the leader need not be on this one.
    Misplaced,
    /// It was passed on, and no answer came.
    Silent,
    /// It was not answered here in time.
    Late,
    /// Too many others wait.
    Full,
    /// This coordinator stops.
    Stopping,
}

impl Lost {
    fn name(self) -> &'static str {
        match self {
            Self::NoLeader => "no_leader",
            Self::Looped => "looped",
            Self::Circular => "circular",
            Self::Misplaced => "misplaced",
            Self::Silent => "silent",
            Self::Late => "late",
            Self::Full => "full",
            Self::Stopping => "stopping",
        }
    }

    fn failure(self, may_repeat: bool) -> Failure {
        match self {
            Self::NoLeader => Failure::unavailable("no coordinator leads at the moment: try again"),
            Self::Looped => Failure::unavailable("the coordinators do not agree yet on who leads: try again"),
            Self::Circular => Failure::unavailable(
                "the address that the leading coordinator advertises leads back to this one: set advertise.http and \
                 advertise.operator at each, or ask that one itself",
            ),
            Self::Misplaced => Failure::unavailable(
                "the coordinator that leads advertises an address of its own machine only: set advertise.http and \
                 advertise.operator there",
            ),
            Self::Silent if may_repeat => Failure::unavailable("the coordinator that leads went away: try again"),
            Self::Late if may_repeat => Failure::unavailable("this took too long: try again"),
            Self::Silent | Self::Late => Failure::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "it is not known whether this was done: look at the job before asking again",
            ),
            Self::Full => Failure::unavailable("too many requests wait for the coordinator that leads: try again"),
            Self::Stopping => Failure::unavailable("this coordinator is stopping: try again"),
        }
    }
}

/// Whether another coordinator passed this request on.
pub(crate) fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key(FORWARDED)
}

/// Whether a call may be repeated although it may have been done: all but `extend`, which adds time each time
/// (`protocol.md` 16.12).
fn may_repeat(uri: &Uri) -> bool {
    !uri.path().ends_with("/jobs/extend")
}

/// Where a request goes.
enum Way {
    /// This coordinator leads.
    Here,
    /// Another one does.
    There(Identity),
}

impl Forward {
    /// Requests of this door, sent in the name of coordinator `name`; `sockets` is how many WebSockets are passed on.
    #[must_use]
    pub fn new(
        door: Door,
        board: Board,
        name: HeaderValue,
        sockets: usize,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> Self {
        Self {
            door,
            board,
            name,
            relay: Relay::default(),
            room: Arc::new(Semaphore::new(MOST_REQUESTS)),
            sockets: Arc::new(Semaphore::new(sockets.min(Semaphore::MAX_PERMITS))),
            metrics,
            stop,
        }
    }

    /// Forwards nothing: of a coordinator that has no others.
    #[must_use]
    pub fn alone(door: Door) -> Self {
        let (name, stop) = (HeaderValue::from_static("alone"), CancellationToken::new());
        Self::new(door, Board::alone(), name, 0, Metrics::new(), stop)
    }

    /// Who leads.
    #[must_use]
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Why a request cannot be passed on to whoever leads.
    fn obstacle(&self, standing: &Standing, came: &Came) -> Option<Lost> {
        let Some(leader) = standing.leader.as_ref().filter(|_| standing.role == Role::Follower) else {
            return Some(Lost::NoLeader);
        };
        match &came.passed_on_by {
            Some(name) if *name == self.name => Some(Lost::Circular),
            Some(_) => Some(Lost::Looped),
            // This coordinator itself, before it was started again.
            None if self.name == leader.name.as_str() => Some(Lost::NoLeader),
            None if came::is_of_any_machine(self.door.address(leader)) && !came.is_from_here => Some(Lost::Misplaced),
            None => None,
        }
    }

    /// Waits until it is known where a request goes. What another coordinator passed on waits until this one leads, which
    /// it may know later than the other.
    async fn way(&self, came: &Came, until: Instant) -> Result<Way, Lost> {
        let mut watch = self.board.watch();
        let settled = watch.wait_for(|standing| standing.leads() || self.obstacle(standing, came).is_none());
        let standing = tokio::select! {
            // The board's sender lives as long as `self`.
            settled = settled => settled.map_err(|_| Lost::Stopping)?,
            () = tokio::time::sleep_until(until) => {
                return Err(self.obstacle(&self.board.now(), came).unwrap_or(Lost::NoLeader));
            }
            () = self.stop.cancelled() => return Err(Lost::Stopping),
        };
        match &standing.leader {
            _ if standing.leads() => Ok(Way::Here),
            Some(leader) => Ok(Way::There(leader.clone())),
            None => Err(Lost::NoLeader),
        }
    }

    /// Resolves once somebody else than `leader` leads, or nobody.
    async fn deposed(&self, leader: &Identity) {
        let other = |standing: &Standing| standing.leader.as_ref() != Some(leader);
        // The board's sender lives as long as `self`.
        let _ = self.board.watch().wait_for(other).await;
    }

    /// A connection to the leader; `None`: look again who leads.
    async fn connection(&self, leader: &Identity, fresh: bool, until: Instant) -> Result<Option<Connection>, Lost> {
        let connecting = self.relay.connection(self.door.address(leader), fresh);
        let why = tokio::select! {
            connected = connecting => match connected {
                Ok(connection) => return Ok(Some(connection)),
                Err(why) => why,
            },
            () = self.deposed(leader) => return Ok(None),
            () = tokio::time::sleep_until(until) => return Err(Lost::NoLeader),
            () = self.stop.cancelled() => return Err(Lost::Stopping),
        };
        tracing::debug!(leader = leader.name, %why, "the leader cannot be reached");
        tokio::select! {
            () = tokio::time::sleep(REFUSED_WAIT) => {}
            () = self.deposed(leader) => {}
        }
        Ok(None)
    }

    /// Passes the request on until the leader has it, and waits for the answer. `Ok(Err(request))`: this coordinator leads.
    async fn pass_on(&self, mut request: Request) -> Result<Result<Response, Request>, Lost> {
        let now = Instant::now();
        let hold_until = now + headers::hold(request.headers(), HOLD);
        let answer_until = now + self.door.answer_within();
        let came = Came::of(&request);
        let is_socket = headers::is_websocket(&request);
        // Anybody may ask for a socket, so sockets have room of their own.
        let room = if is_socket { &self.sockets } else { &self.room };
        let place = Arc::clone(room).try_acquire_owned().map_err(|_| Lost::Full)?;
        // What of the request does not go on, once it was made ready to.
        let mut arrived_as: Option<Arrived> = None;
        for tries in 0_u32.. {
            if tries > 0 && Instant::now() >= hold_until {
                break;
            }
            let leader = match self.way(&came, hold_until).await? {
                Way::There(leader) => leader,
                Way::Here => {
                    return Ok(Err(match arrived_as {
                        Some(arrived) => arrived.restore(request),
                        None => request,
                    }));
                }
            };
            let Some(connection) = self.connection(&leader, is_socket, hold_until).await? else { continue };
            let (mut outgoing, mut arrived) = match arrived_as.take() {
                Some(arrived) => (request, arrived),
                None => headers::outgoing(request, &self.name, is_socket),
            };
            headers::set_hold(outgoing.headers_mut(), hold_until.saturating_duration_since(Instant::now()));
            let may_repeat = may_repeat(outgoing.uri());
            let sending = connection.send(outgoing, self.door.address(&leader));
            let last_word = async {
                self.deposed(&leader).await;
                // What must not be asked again is worth the whole wait.
                let patience = if may_repeat { LAST_WORD } else { HOLD };
                tokio::time::sleep(patience).await;
            };
            let answer = tokio::select! {
                answer = sending => answer,
                () = last_word => return Err(Lost::Silent),
                () = tokio::time::sleep_until(answer_until) => {
                    self.relay.forget();
                    return Err(Lost::Silent);
                }
            };
            let response = match answer {
                Ok(response) => response,
                Err(relay::Unanswered::NotSent(unsent)) => {
                    (request, arrived_as) = (*unsent, Some(arrived));
                    // A kept connection may just have been closed; a new one should not have been.
                    if tries > 0 {
                        tokio::time::sleep(REFUSED_WAIT).await;
                    }
                    continue;
                }
                Err(relay::Unanswered::Unknown(error)) => {
                    tracing::debug!(leader = leader.name, %error, "the leader's answer broke off");
                    return Err(Lost::Silent);
                }
            };
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                return self.tunnel(arrived.take_upgrade(), response, leader, place).map(Ok);
            }
            return self.answer(response, answer_until).await.map(Ok);
        }
        Err(Lost::NoLeader)
    }

    /// The leader's answer, as this coordinator gives it.
    async fn answer(&self, response: Response<hyper::body::Incoming>, until: Instant) -> Result<Response, Lost> {
        let (mut parts, body) = response.into_parts();
        headers::strip(&mut parts.headers);
        if self.door == Door::Operator {
            return Ok(Response::from_parts(parts, Body::new(body)));
        }
        let whole = axum::body::to_bytes(Body::new(body), MOST_ANSWER_BYTES);
        match tokio::time::timeout_at(until, whole).await {
            Ok(Ok(bytes)) => Ok(Response::from_parts(parts, Body::from(bytes))),
            Ok(Err(_)) | Err(_) => Err(Lost::Silent),
        }
    }
}

/// In front of a route that only a leader can answer.
pub(crate) async fn forward(State(forward): State<Forward>, request: Request, next: Next) -> Response {
    let leads = forward.board.now().leads();
    let uri =
        request.extensions().get::<OriginalUri>().map_or_else(|| request.uri().clone(), |OriginalUri(uri)| uri.clone());
    let answer_until = Instant::now() + forward.door.answer_within();
    if leads {
        return in_time(request, next, answer_until + GRACE, &uri).await;
    }
    match forward.pass_on(request).await {
        Ok(Ok(response)) => {
            forward.metrics.forwarded(forward.door.name(), "answered");
            response
        }
        Ok(Err(request)) => {
            forward.metrics.forwarded(forward.door.name(), "held");
            // What was held for long has the less time left.
            in_time(request, next, answer_until, &uri).await
        }
        Err(lost) => {
            forward.metrics.forwarded(forward.door.name(), lost.name());
            match forward.board.concern().now().filter(|_| forward.door == Door::Operator && lost == Lost::NoLeader) {
                Some(why) => Failure::unavailable(format!("no coordinator leads at the moment: {why}")).into_response(),
                None => lost.failure(may_repeat(&uri)).into_response(),
            }
        }
    }
}

/// The same in front of WebSockets. What asks for none is answered here, since anybody may ask.
pub(crate) async fn forward_socket(forward: State<Forward>, request: Request, next: Next) -> Response {
    if headers::is_websocket(&request) { self::forward(forward, request, next).await } else { next.run(request).await }
}

/// The answer of this coordinator, or word in time that there is none.
async fn in_time(request: Request, next: Next, until: Instant, uri: &Uri) -> Response {
    let answer = tokio::time::timeout_at(until, next.run(request)).await;
    answer.unwrap_or_else(|_| Lost::Late.failure(may_repeat(uri)).into_response())
}
