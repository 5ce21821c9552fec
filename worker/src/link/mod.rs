//! The worker's stream to the coordinator: dials, listens, and dials again.
//!
//! Losing it harms no rank. Coordinators are tried in [turn](search); one that does not lead says where the leader is,
//! or keeps the call until there is one.

mod coordinator;
mod search;

pub(crate) use coordinator::{Coordinator, JoinSecret};

use crate::driver::{Input, Outgoing, StreamId};
use crate::engine::Engine;
use crate::{logs, metrics};
use muster_domain::effect::ToWorker;
use muster_domain::id::Term;
use muster_proto::v1::fleet_service_client::FleetServiceClient;
use muster_proto::v1::{SessionRequest, SessionResponse};
use muster_proto::{Downlink, MAX_MESSAGE_BYTES, Uplink};
use search::{Search, Target};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Code, Status, Streaming};

/// How long a coordinator may take to accept the call, and then to welcome the worker.
const WELCOME_WITHIN: Duration = Duration::from_secs(10);
/// Messages to a coordinator that does not read.
const QUEUED_MESSAGES: usize = 512;
/// A reason that stays the same is logged again after this time.
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What the link needs to know.
pub(crate) struct Link {
    /// At least one.
    pub(crate) coordinators: Vec<Arc<Coordinator>>,
    /// A stream on which nothing is heard for this long is given up.
    pub(crate) silence: Duration,
    /// Where logs come from.
    pub(crate) engine: Arc<dyn Engine>,
    /// To the driver.
    pub(crate) inputs: mpsc::Sender<Input>,
}

/// How a stream came to its end.
struct Ended {
    welcomed: Option<Welcomed>,
    why: Why,
}

/// A leader took the worker in.
#[derive(Clone, Copy, Debug)]
struct Welcomed {
    term: Term,
    /// How long the stream went on from then.
    lasted: Duration,
}

/// Why.
#[derive(Debug, thiserror::Error)]
enum Why {
    #[error("cannot connect: {0}")]
    Unreachable(String),
    #[error("the join secret was refused; compare fleet.token_file with the coordinator's: {0}")]
    WrongSecret(String),
    #[error("refused: {0}")]
    Refused(String),
    #[error("{}", redirect_words(.address))]
    Redirected { address: String, term: Term },
    #[error("{0}")]
    Broken(String),
}

impl Why {
    fn name(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::WrongSecret(_) => "wrong_secret",
            Self::Refused(_) => "refused",
            Self::Redirected { .. } => "redirected",
            Self::Broken(_) => "broken",
        }
    }
}

fn redirect_words(address: &str) -> String {
    if address.is_empty() { "no coordinator leads yet".to_owned() } else { format!("the leader is {address}") }
}

impl From<Status> for Why {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => Self::WrongSecret(status.message().to_owned()),
            code => Self::Broken(format!("the stream broke ({code:?}): {}", status.message())),
        }
    }
}

impl Link {
    /// Keeps a stream open for ever.
    pub(crate) async fn run(self) {
        let mut search = Search::new(self.coordinators.clone());
        let mut said = Said::default();
        for stream in 1.. {
            let target = search.next();
            let Ended { welcomed, why } = self.stream(stream, &target).await;
            metrics::stream(why.name());
            let coordinator = target.coordinator.name();
            match (&why, welcomed) {
                (_, Some(Welcomed { term, .. })) => {
                    tracing::warn!(coordinator, term, reason = %why, "lost the coordinator; ranks go on, connecting again");
                    said = Said::default();
                }
                (Why::Redirected { .. }, None) => tracing::debug!(coordinator, reason = %why, "not the leader"),
                (_, None) => said.warn(coordinator, &why),
            }
            let wait = search.after(&target, &why, welcomed);
            tokio::time::sleep(wait).await;
        }
    }

    async fn stream(&self, stream: StreamId, target: &Target) -> Ended {
        let coordinator = &target.coordinator;
        let connecting =
            async { if target.quickly { coordinator.connect_quickly().await } else { coordinator.connect().await } };
        let channel = match connecting.await {
            Ok(channel) => channel,
            Err(error) => return Ended { welcomed: None, why: Why::Unreachable(error.to_string()) },
        };
        let (messages, queue) = mpsc::channel(QUEUED_MESSAGES);
        let broken = CancellationToken::new();
        let outgoing = Outgoing::new(messages, broken.clone());
        let mut talk = Talk {
            link: self,
            coordinator,
            stream,
            broken: broken.clone(),
            outgoing: outgoing.clone(),
            logs: JoinSet::new(),
            welcomed: None,
            _end: broken.clone().drop_guard(),
        };
        let talked = async {
            self.tell(Input::Opened { stream, outgoing }).await?;
            let mut client = FleetServiceClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES);
            let messages: ReceiverStream<SessionRequest> = ReceiverStream::new(queue);
            let request = coordinator.session_request(messages, target.left);
            let session = tokio::time::timeout(WELCOME_WITHIN, client.session(request));
            let incoming = session.await.map_err(|_| silent(WELCOME_WITHIN))??.into_inner();
            talk.listen(incoming).await
        };
        let why = match talked.await {
            Ok(never) => match never {},
            Err(why) => why,
        };
        let welcomed = talk.welcomed.map(|(term, at)| Welcomed { term, lasted: at.elapsed() });
        drop(talk);
        // Should the driver be gone, so is the process.
        let _ = self.tell(Input::Closed { stream }).await;
        Ended { welcomed, why }
    }

    async fn tell(&self, input: Input) -> Result<(), Why> {
        self.inputs.send(input).await.map_err(|_| Why::Broken("the worker is stopping".to_owned()))
    }
}

fn silent(within: Duration) -> Why {
    Why::Broken(format!("nothing was heard for {} s", within.as_secs()))
}

/// One stream that is open. Dropping it ends the stream and its logs.
struct Talk<'a> {
    link: &'a Link,
    coordinator: &'a Arc<Coordinator>,
    stream: StreamId,
    broken: CancellationToken,
    outgoing: Outgoing,
    logs: JoinSet<()>,
    /// By the leader of which term, and when.
    welcomed: Option<(Term, Instant)>,
    _end: DropGuard,
}

impl Talk<'_> {
    /// Takes what the coordinator says until the stream ends, which is always for a reason.
    async fn listen(&mut self, mut incoming: Streaming<SessionResponse>) -> Result<std::convert::Infallible, Why> {
        loop {
            let within = if self.welcomed.is_some() { self.link.silence } else { WELCOME_WITHIN };
            let message = tokio::select! {
                message = tokio::time::timeout(within, incoming.message()) => message.map_err(|_| silent(within))??,
                () = self.broken.cancelled() => return Err(Why::Broken("given up on our side".to_owned())),
            };
            let Some(message) = message else {
                return Err(Why::Broken("the coordinator ended the stream".to_owned()));
            };
            let message = Downlink::try_from(message).map_err(|malformed| Why::Broken(malformed.to_string()))?;
            self.take(message).await?;
        }
    }

    async fn take(&mut self, message: Downlink) -> Result<(), Why> {
        match message {
            Downlink::Say { message, traceparent } => {
                if let ToWorker::Welcome { term } = message
                    && self.welcomed.is_none()
                {
                    self.welcomed = Some((term, Instant::now()));
                    metrics::stream("welcomed");
                    tracing::info!(coordinator = self.coordinator.name(), term, "connected");
                }
                self.link.tell(Input::Received { stream: self.stream, message, traceparent }).await
            }
            Downlink::OpenLog { log_id, key } => {
                while self.logs.try_join_next().is_some() {}
                if self.logs.len() >= logs::OPEN_LOGS {
                    let reason = format!("{} logs are read from this node already; close one of them", logs::OPEN_LOGS);
                    self.outgoing.send(Uplink::LogRefused { log_id, reason }.into());
                } else {
                    let engine = Arc::clone(&self.link.engine);
                    self.logs.spawn(logs::push(Arc::clone(self.coordinator), engine, log_id, key));
                }
                Ok(())
            }
            Downlink::Refused { reason } => Err(Why::Refused(reason)),
            Downlink::Redirect { address, term } => Err(Why::Redirected { address, term }),
        }
    }
}

/// Keeps a reason that does not change from filling the log.
#[derive(Default)]
struct Said {
    last: Option<(String, Instant)>,
}

impl Said {
    fn warn(&mut self, coordinator: &str, why: &Why) {
        let reason = why.to_string();
        let known = self.last.as_ref().is_some_and(|(last, at)| *last == reason && at.elapsed() < SAY_AGAIN_AFTER);
        if known {
            tracing::debug!(coordinator, reason, "no coordinator yet");
        } else {
            tracing::warn!(coordinator, reason, "no coordinator yet, trying on");
            self.last = Some((reason, Instant::now()));
        }
    }
}
