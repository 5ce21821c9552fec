//! A coordinator that says what a test wants it to say.

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use muster_domain::effect::ToWorker;
use muster_domain::id::{JobId, RankKey};
use muster_domain::job::spec::ContainerSpec;
use muster_domain::peers::{PeerFiles, RankAddress, host_name, peer_files};
use muster_domain::rank::{Assignment, Command, RankReport, RankState};
use muster_domain::resources::{GIB, Resources};
use muster_domain::worker::{Hello, Report};
use muster_proto::v1::fleet_service_server::{FleetService, FleetServiceServer};
use muster_proto::v1::{PushLogRequest, PushLogResponse, SessionRequest, SessionResponse};
use muster_proto::{AUTHORIZATION, Downlink, LogPush, Uplink};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

/// Long enough for a slow machine; no test waits that long when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// A fake coordinator.
pub(crate) struct Coordinator {
    pub(crate) address: SocketAddr,
    sessions: mpsc::Receiver<Session>,
    logs: mpsc::Receiver<Log>,
    refused: mpsc::Receiver<()>,
    server: tokio::task::JoinHandle<()>,
    dead: CancellationToken,
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.dead.cancel();
        self.server.abort();
    }
}

impl Coordinator {
    pub(crate) async fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), None).await
    }

    /// At an address that an earlier one may have had, with a join secret.
    pub(crate) async fn at(address: SocketAddr, secret: Option<&'static str>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener: TcpListener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let (session_sender, sessions) = mpsc::channel(8);
        let (log_sender, logs) = mpsc::channel(8);
        let (refused_sender, refused) = mpsc::channel(64);
        let dead = CancellationToken::new();
        let service =
            Service { sessions: session_sender, logs: log_sender, refused: refused_sender, secret, dead: dead.clone() };
        let server = tokio::spawn(async move {
            let incoming = TcpIncoming::from(listener);
            let service = FleetServiceServer::new(service);
            // Ends with the test.
            let _ = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await;
        });
        Self { address, sessions, logs, refused, server, dead }
    }

    /// A sudden death; returns once the address is free again.
    pub(crate) async fn die(self) -> SocketAddr {
        self.dead.cancel();
        self.server.abort();
        while !self.server.is_finished() {
            tokio::task::yield_now().await;
        }
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) async fn session(&mut self) -> Session {
        soon("a worker", self.sessions.recv()).await.unwrap()
    }

    /// The next stream, welcomed.
    pub(crate) async fn welcome(&mut self, term: u64) -> Session {
        let session = self.session().await;
        session.say(ToWorker::Welcome { term }).await;
        session
    }

    pub(crate) async fn log(&mut self) -> Log {
        soon("a log", self.logs.recv()).await.unwrap()
    }

    pub(crate) async fn refusal(&mut self) {
        soon("a worker to refuse", self.refused.recv()).await.unwrap();
    }

    pub(crate) fn has_session(&mut self) -> bool {
        !self.sessions.is_empty()
    }
}

/// One worker's stream.
pub(crate) struct Session {
    pub(crate) hello: Hello,
    uplink: mpsc::Receiver<Uplink>,
    downlink: mpsc::Sender<Result<SessionResponse, Status>>,
    sequence: u64,
}

impl Session {
    pub(crate) async fn say(&self, message: ToWorker) {
        self.send(Downlink::from(message).into()).await;
    }

    pub(crate) async fn send(&self, response: SessionResponse) {
        self.downlink.send(Ok(response)).await.unwrap();
    }

    pub(crate) async fn command(&mut self, term: u64, command: Command) {
        self.sequence += 1;
        self.say(ToWorker::Command { sequence: self.sequence, term, command }).await;
    }

    pub(crate) async fn command_before_welcome(&self, key: &RankKey) {
        self.say(ToWorker::Command { sequence: 1, term: 5, command: Command::Stop { key: key.clone() } }).await;
    }

    /// Whether nothing has come since the hello.
    pub(crate) fn is_silent(&self) -> bool {
        self.uplink.is_empty()
    }

    pub(crate) async fn report(&mut self) -> Report {
        match soon("a report", self.uplink.recv()).await.expect("the stream is open") {
            Uplink::Report(report) => report,
            other => panic!("expected a report: {other:?}"),
        }
    }

    /// The next news about this rank, heartbeats aside.
    pub(crate) async fn news(&mut self, key: &RankKey) -> (Report, RankState) {
        loop {
            let report = self.report().await;
            if !report.complete
                && let Some(state) = state(&report.ranks, key)
            {
                return (report, state);
            }
        }
    }

    pub(crate) async fn heartbeat(&mut self) -> Report {
        loop {
            let report = self.report().await;
            if report.complete {
                return report;
            }
        }
    }

    /// A heartbeat that has taken in this many commands.
    pub(crate) async fn heartbeat_after(&mut self, sequence: u64) -> Report {
        loop {
            let report = self.heartbeat().await;
            if report.applied_sequence >= sequence {
                return report;
            }
        }
    }

    /// Waits until the worker gives the stream up.
    pub(crate) async fn gone(mut self) {
        soon("the worker to leave", async { while self.uplink.recv().await.is_some() {} }).await;
    }

    /// Prepares, starts and awaits the run of a rank.
    pub(crate) async fn run(&mut self, term: u64, key: &RankKey, words: &[&str], time_limit_ms: Option<u64>) {
        self.command(term, prepare(key, term, words)).await;
        while !matches!(self.news(key).await.1, RankState::Prepared { .. }) {}
        self.command(term, start(key, time_limit_ms)).await;
        while !matches!(self.news(key).await.1, RankState::Running { .. }) {}
    }
}

pub(crate) fn state(ranks: &[RankReport], key: &RankKey) -> Option<RankState> {
    ranks.iter().find(|rank| rank.key == *key).map(|rank| rank.state.clone())
}

pub(crate) fn key(job: &str) -> RankKey {
    RankKey { job: JobId::new(job).unwrap(), rank: 0, attempt: 1 }
}

pub(crate) fn prepare(key: &RankKey, term: u64, words: &[&str]) -> Command {
    Command::Prepare(Box::new(Assignment {
        key: key.clone(),
        term,
        container: ContainerSpec {
            argv: std::iter::once("fake").chain(words.iter().copied()).map(str::to_owned).collect(),
            ..Default::default()
        },
        resources: Resources { cores: 1, memory_bytes: GIB, gpus: 0 },
        replicas: 1,
        host: host_name(&key.job, key.rank),
        traceparent: None,
    }))
}

pub(crate) fn start(key: &RankKey, time_limit_ms: Option<u64>) -> Command {
    let table = [RankAddress { host: host_name(&key.job, 0), address: "127.0.0.1".to_owned() }];
    let files: PeerFiles = peer_files(&key.job, key.rank, 1, &table);
    Command::Start { key: key.clone(), files, time_limit_ms, not_after_ms: u64::MAX }
}

/// One log that is being pushed.
pub(crate) struct Log {
    pub(crate) log_id: u64,
    pushes: mpsc::Receiver<LogPush>,
}

impl Log {
    /// All of it, and why it ended.
    pub(crate) async fn read(mut self) -> (Bytes, Option<String>) {
        let mut all = Vec::new();
        loop {
            match soon("a piece of log", self.pushes.recv()).await.expect("the log's end") {
                LogPush::Piece { data, .. } => all.extend_from_slice(&data),
                LogPush::End { error } => return (all.into(), error),
                LogPush::Open { .. } => panic!("open came twice"),
            }
        }
    }
}

struct Service {
    sessions: mpsc::Sender<Session>,
    logs: mpsc::Sender<Log>,
    refused: mpsc::Sender<()>,
    secret: Option<&'static str>,
    dead: CancellationToken,
}

impl Service {
    fn authorize<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let Some(secret) = self.secret else { return Ok(()) };
        let offered = request.metadata().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        if offered == Some(&format!("Bearer {secret}")) {
            return Ok(());
        }
        let _ = self.refused.try_send(());
        Err(Status::unauthenticated("the join secret is missing or wrong"))
    }
}

#[tonic::async_trait]
impl FleetService for Service {
    type SessionStream = BoxStream<'static, Result<SessionResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        self.authorize(&request)?;
        let mut incoming = request.into_inner();
        let sessions = self.sessions.clone();
        let dead = self.dead.clone();
        let (downlink, queue) = mpsc::channel(64);
        tokio::spawn(async move {
            let talk = async move {
                let Ok(Some(first)) = incoming.message().await else { return };
                let Ok(Uplink::Hello(hello)) = Uplink::try_from(first) else { panic!("expected hello first") };
                let (sender, uplink) = mpsc::channel(1024);
                let session = Session { hello: *hello, uplink, downlink, sequence: 0 };
                if sessions.send(session).await.is_err() {
                    return;
                }
                while let Ok(Some(message)) = incoming.message().await {
                    if sender.send(Uplink::try_from(message).unwrap()).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! { () = talk => {}, () = dead.cancelled() => {} }
        });
        let dead = self.dead.clone().cancelled_owned();
        Ok(Response::new(ReceiverStream::new(queue).take_until(dead).boxed()))
    }

    async fn push_log(&self, request: Request<Streaming<PushLogRequest>>) -> Result<Response<PushLogResponse>, Status> {
        self.authorize(&request)?;
        let mut incoming = request.into_inner();
        let first = incoming.message().await?.map(LogPush::try_from);
        let Some(Ok(LogPush::Open { log_id })) = first else { panic!("expected open first: {first:?}") };
        let (sender, pushes) = mpsc::channel(1);
        self.logs.send(Log { log_id, pushes }).await.map_err(|_| Status::not_found("nobody reads"))?;
        while let Some(message) = incoming.message().await? {
            if sender.send(LogPush::try_from(message).unwrap()).await.is_err() {
                break;
            }
        }
        Ok(Response::new(PushLogResponse {}))
    }
}
