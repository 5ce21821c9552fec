//! The gRPC service that workers dial.
//!
//! A worker may send anything: whatever does not make sense is refused with a reason to the worker, logged and
//! counted, and ends its stream. The two halves of a stream share an [`Ending`].
//!
//! Only a leader keeps streams. A follower answers with the leader's address; while there is none it waits for one, so
//! that a fleet that lost its leader is with the next one as soon as it leads.

use super::logs::{LogRelay, LogRequest, LogSource};
use super::sessions::{Direction, Ending, MAX_SESSIONS, NotOpened, Opened, Sessions};
use crate::election::{Standing, Validity};
use crate::handle::{Handle, NotAnswered};
use crate::metrics::Metrics;
use crate::secret;
use futures_util::stream::{BoxStream, StreamExt};
use muster_domain::event::Event;
use muster_domain::id::{SessionId, Term};
use muster_domain::leadership::Role;
use muster_proto::v1::fleet_service_server::{FleetService, FleetServiceServer};
use muster_proto::v1::{PushLogRequest, PushLogResponse, SessionRequest, SessionResponse};
use muster_proto::{AUTHORIZATION, Downlink, LEFT_TERM, LogPush, MAX_MESSAGE_BYTES, Uplink};
use muster_runtime::clock::now;
use muster_runtime::secret::Secret;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

/// How long a worker may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a silent connection is asked whether it lives, and how long it may take to answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long streams may take to end on shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// Requests for logs that wait for one worker's stream.
const QUEUED_LOG_REQUESTS: usize = 64;
/// How long a worker's call waits for a leader.
const LEADER_WITHIN: Duration = Duration::from_secs(4);

/// Everything the service works with.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// The driver.
    pub handle: Handle,
    /// The open streams.
    pub sessions: Sessions,
    /// Followers of logs.
    pub logs: LogRelay,
    /// Who leads.
    pub standing: watch::Receiver<Standing>,
    /// What workers must present; `None` only in tests.
    pub join_secret: Option<Arc<Secret>>,
    /// Counters.
    pub metrics: Metrics,
    /// Room for workers that wait for a leader.
    pub waiting: Arc<Semaphore>,
    /// Ends every stream.
    pub stop: CancellationToken,
}

/// Serves workers on `listener` until `fleet.stop`, then ends every stream and returns.
pub async fn serve(fleet: Fleet, listener: TcpListener) -> Result<(), tonic::transport::Error> {
    let stop = fleet.stop.clone();
    let service = FleetServiceServer::new(fleet)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let serving = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    tokio::pin!(serving);
    tokio::select! {
        result = &mut serving => return result,
        () = stop.cancelled() => {}
    }
    // Graceful shutdown waits for streams for as long as their peers like.
    tokio::time::timeout(DRAIN_TIMEOUT, serving).await.unwrap_or(Ok(()))
}

#[tonic::async_trait]
impl FleetService for Fleet {
    type SessionStream = BoxStream<'static, Result<SessionResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        self.authorize(&request)?;
        let left = request.metadata().get(LEFT_TERM).and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(direction) = self.elsewhere(left).await {
            return Ok(self.redirect(direction));
        }
        let Opened { session, messages, ending, validity } = match self.sessions.open() {
            Ok(opened) => opened,
            // Leadership ended just now.
            Err(NotOpened::Resting) => return Ok(self.redirect(Direction::default())),
            Err(NotOpened::TooMany) => {
                self.metrics.refused("too_many_sessions");
                return Err(Status::resource_exhausted("too many workers are connected; try again later"));
            }
        };
        self.metrics.session_opened();
        let outgoing = outgoing(messages, ending.clone(), validity);
        let fleet = self.clone();
        let peer = request.remote_addr();
        tokio::spawn(async move {
            let result = tokio::select! {
                result = fleet.listen(session, request.into_inner()) => result,
                () = ending.now.cancelled() => Ok(()),
                () = fleet.stop.cancelled() => Err(Refused::Elsewhere),
            };
            match result {
                Ok(()) => {}
                Err(Refused::Elsewhere) => ending.redirect(fleet.farewell()),
                Err(Refused::Because(refusal)) => {
                    tracing::warn!(session, ?peer, reason = refusal.why, "worker refused");
                    fleet.metrics.refused(refusal.kind);
                    ending.because(refusal.why);
                }
            }
            fleet.logs.detach(session);
            fleet.sessions.forget(session);
            ending.now.cancel();
            fleet.metrics.session_ended();
            // Without a driver there is nobody to mind.
            let _ = fleet.handle.tell(Event::WorkerGone { session }).await;
        });
        Ok(Response::new(outgoing))
    }

    async fn push_log(&self, request: Request<Streaming<PushLogRequest>>) -> Result<Response<PushLogResponse>, Status> {
        self.authorize(&request)?;
        let mut incoming = request.into_inner();
        tokio::select! {
            result = self.take_log(&mut incoming) => result.map(|()| Response::new(PushLogResponse {})),
            () = self.stop.cancelled() => Err(Status::unavailable("the coordinator is stopping")),
        }
    }
}

/// How a stream ends before the worker ends it.
enum Refused {
    /// This coordinator leads no more or stops: the worker should look for another.
    Elsewhere,
    /// The worker is at fault.
    Because(Refusal),
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::Because(refusal)
    }
}

/// Why a worker is refused.
struct Refusal {
    /// For the counter.
    kind: &'static str,
    /// For the worker's operator.
    why: String,
}

impl Refusal {
    fn new(kind: &'static str, why: impl Into<String>) -> Self {
        Self { kind, why: why.into() }
    }
}

impl Fleet {
    /// Room for as many waiting workers as there may be streams.
    #[must_use]
    pub fn waiting_room() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(MAX_SESSIONS))
    }

    fn authorize<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let Some(secret) = &self.join_secret else { return Ok(()) };
        let offered = request.metadata().get(AUTHORIZATION).map(|value| value.as_bytes());
        if offered.and_then(|value| value.strip_prefix(b"Bearer ")).is_some_and(|value| secret::same(secret, value)) {
            return Ok(());
        }
        tracing::warn!(peer = ?request.remote_addr(), "worker without the right join secret");
        self.metrics.refused("unauthenticated");
        Err(Status::unauthenticated("the join secret is missing or wrong; compare the worker's with fleet.token_file"))
    }

    /// Where a worker belongs that is not to stay here; waits for a leader. `left` is a term whose leader the worker
    /// found gone, so that another one is waited for.
    async fn elsewhere(&self, left: Option<Term>) -> Option<Direction> {
        if self.standing.borrow().leads() {
            return None;
        }
        // Whoever finds no room tries again soon.
        let Ok(_place) = self.waiting.try_acquire() else { return Some(Direction::default()) };
        let mut standing = self.standing.clone();
        let settled = standing.wait_for(|standing| {
            standing.leads() || (known_elsewhere(standing).is_some() && (left.is_none() || standing.term != left))
        });
        tokio::select! {
            // An election that has ended says nothing new.
            _ = tokio::time::timeout(LEADER_WITHIN, settled) => {}
            () = self.stop.cancelled() => return Some(self.farewell()),
        }
        let standing = self.standing.borrow();
        if standing.leads() { None } else { Some(known_elsewhere(&standing).unwrap_or_default()) }
    }

    /// The whole answer to a worker that is not to stay here.
    fn redirect(&self, direction: Direction) -> Response<<Self as FleetService>::SessionStream> {
        self.metrics.redirected();
        let word = SessionResponse::from(Downlink::from(direction));
        Response::new(futures_util::stream::iter([Ok(word)]).boxed())
    }

    /// Where workers should go when this coordinator stops.
    fn farewell(&self) -> Direction {
        let standing = self.standing.borrow();
        let ended = standing.leads().then_some(standing.term).flatten();
        known_elsewhere(&standing).unwrap_or(Direction { address: String::new(), term: ended.unwrap_or_default() })
    }

    /// Takes what a worker says, in order, until its stream ends.
    async fn listen(&self, session: SessionId, mut incoming: Streaming<SessionRequest>) -> Result<(), Refused> {
        let first = tokio::time::timeout(HELLO_TIMEOUT, receive(&mut incoming))
            .await
            .map_err(|_| Refusal::new("no_hello", "no hello within 10 s"))??;
        match first {
            None => return Ok(()),
            Some(Uplink::Hello(hello)) => {
                tracing::info!(session, node = %hello.node, engine = hello.engine, version = hello.version, "worker connected");
                self.pass_on(Event::WorkerHello { session, hello }).await?;
            }
            Some(_) => return Err(Refusal::new("wrong_order", "the first message of a stream must be hello").into()),
        }
        let (requests, mut wanted) = mpsc::channel(QUEUED_LOG_REQUESTS);
        self.logs.attach(session, requests);
        loop {
            tokio::select! {
                message = receive(&mut incoming) => match message? {
                    None => return Ok(()),
                    Some(Uplink::Report(report)) => self.pass_on(Event::WorkerReport { session, report }).await?,
                    Some(Uplink::LogRefused { log_id, reason }) => self.logs.refuse(session, log_id, &reason),
                    Some(Uplink::Hello(_)) => {
                        return Err(Refusal::new("wrong_order", "hello came twice on one stream").into());
                    }
                },
                Some(LogRequest { log_id, key }) = wanted.recv() => {
                    self.sessions.push(session, Downlink::OpenLog { log_id, key });
                }
            }
        }
    }

    async fn pass_on(&self, event: Event) -> Result<(), Refused> {
        self.handle.tell(event).await.map_err(|NotAnswered| Refused::Elsewhere)
    }

    async fn take_log(&self, incoming: &mut Streaming<PushLogRequest>) -> Result<(), Status> {
        let refuse = |why: String| {
            tracing::warn!(why, "log of a worker refused");
            self.metrics.refused("log");
            Status::invalid_argument(why)
        };
        let first = tokio::time::timeout(HELLO_TIMEOUT, incoming.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no log_id within 10 s"))??;
        let log_id = match first.map(LogPush::try_from) {
            Some(Ok(LogPush::Open { log_id })) => log_id,
            Some(Err(malformed)) => return Err(refuse(malformed.to_string())),
            Some(Ok(_)) | None => return Err(refuse("the first message of a log must be open".to_owned())),
        };
        let Some(sink) = self.logs.begin(log_id) else {
            // Whoever asked has left: nothing is wrong.
            return Err(Status::not_found("nobody reads this log"));
        };
        loop {
            let message = tokio::select! {
                message = incoming.message() => message,
                () = sink.abandoned() => return Ok(()),
            };
            let push = match message {
                Ok(Some(request)) => LogPush::try_from(request),
                Ok(None) => {
                    sink.fail("the rank's node ended the log early").await;
                    return Ok(());
                }
                Err(status) => {
                    sink.fail("the rank's node went away").await;
                    return Err(status);
                }
            };
            match push {
                Ok(LogPush::Piece { source, data }) => {
                    let source = match source {
                        muster_proto::LogSource::Stdout => LogSource::Stdout,
                        muster_proto::LogSource::Stderr => LogSource::Stderr,
                    };
                    if !sink.push(source, data).await {
                        return Ok(());
                    }
                }
                Ok(LogPush::End { error }) => {
                    if let Some(error) = error {
                        sink.fail(error).await;
                    }
                    return Ok(());
                }
                Ok(LogPush::Open { .. }) => return Err(refuse("open came twice in one log".to_owned())),
                Err(malformed) => {
                    let why = malformed.to_string();
                    sink.fail("the rank's node sent a log that makes no sense").await;
                    return Err(refuse(why));
                }
            }
        }
    }
}

/// The next message that makes sense; `None` when the worker has ended its side or is gone.
async fn receive(incoming: &mut Streaming<SessionRequest>) -> Result<Option<Uplink>, Refusal> {
    match incoming.message().await {
        Ok(Some(request)) => {
            Uplink::try_from(request).map(Some).map_err(|malformed| Refusal::new("malformed", malformed.to_string()))
        }
        Ok(None) => Ok(None),
        Err(status) => match status.code() {
            // A message that does not decode or is too large; anything else is the connection's end.
            tonic::Code::OutOfRange | tonic::Code::ResourceExhausted | tonic::Code::Internal
                if !status.message().contains("h2 protocol error") =>
            {
                Err(Refusal::new("undecodable", format!("message refused: {}", status.message())))
            }
            code => {
                tracing::debug!(?code, "worker stream broke");
                Ok(None)
            }
        },
    }
}

/// Where the leader's listener is, if another coordinator leads.
fn known_elsewhere(standing: &Standing) -> Option<Direction> {
    let leader = standing.leader.as_ref().filter(|_| standing.role == Role::Follower)?;
    Some(Direction { address: leader.fleet.clone(), term: standing.term.unwrap_or_default() })
}

/// What goes to the worker: the queue; when the stream is to end, what is left of it, and a farewell as last message.
/// Once leadership is in doubt nothing of the queue leaves.
fn outgoing(
    messages: mpsc::Receiver<Downlink>,
    ending: Ending,
    validity: Validity,
) -> BoxStream<'static, Result<SessionResponse, Status>> {
    let state = (messages, ending, validity, false);
    futures_util::stream::unfold(state, |(mut messages, ending, validity, over)| async move {
        if over {
            return None;
        }
        let next = tokio::select! {
            biased;
            next = messages.recv() => next,
            () = ending.now.cancelled() => messages.try_recv().ok(),
        };
        let may_leave = || !ending.is_at_once() && validity.holds(now().moment);
        if let Some(message) = next.filter(|_| may_leave()) {
            return Some((message, (messages, ending, validity, false)));
        }
        if !validity.holds(now().moment) {
            // A message was dropped: should a late keepalive renew the leadership, the stream must not go on without it.
            ending.redirect(Direction::default());
        }
        // The sender is dropped just before or after the token is cancelled; the token comes with the farewell.
        ending.now.cancelled().await;
        let word = ending.word()?;
        Some((word, (messages, ending, validity, true)))
    })
    .map(|message| Ok(SessionResponse::from(message)))
    .boxed()
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
