//! Serving a router: a cap on connections, and an end to those that make no progress.
//!
//! Every connection counts against one cap; above it, connections wait in the kernel's queue. A connection to which
//! nothing could be written for a while is closed: it is idle, or sends its request drop by drop, or reads nothing.
//! One rule covers slow headers, slow bodies and slow readers. WebSockets stay, because they get a ping more often.
//!
//! A stop resets nobody who has sent a request, as far as that can be: connections that the kernel has completed are taken, the
//! socket is closed at once, so that later ones are refused, and none is ended before its request could be read.

use axum::extract::Request;
use axum::extract::connect_info::Connected;
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::middleware::{Next, from_fn};
use axum::serve::{IncomingStream, Listener};
use axum::{Extension, Router};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

/// How long a connection that was made before a stop may take to send the beginning of its request.
const FIRST_BYTES_WITHIN: Duration = Duration::from_millis(500);

/// Bounds of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most connections at a time.
    pub connections: usize,
    /// How long nothing may be written to a connection before it is closed.
    pub quiet: Duration,
    /// How long requests may take to end once a stop was asked for.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: Self::CONNECTIONS, quiet: Duration::from_secs(150), drain: Duration::from_secs(5) }
    }
}

impl Limits {
    /// The default of `connections`.
    pub const CONNECTIONS: usize = 1024;
}

/// The address of the listener that a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound(pub SocketAddr);

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

impl Connected<IncomingStream<'_, Capped>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Capped>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// From `stopping` on, every answer asks the caller to make a new connection for the next request, since this one will be closed.
pub fn parting(router: Router, stopping: CancellationToken) -> Router {
    router.layer(from_fn(move |request: Request, next: Next| {
        let stopping = stopping.clone();
        async move {
            let has_header = request.version() <= Version::HTTP_11;
            let mut response = next.run(request).await;
            if has_header && stopping.is_cancelled() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
    }))
}

/// Serves `router` until `stop`, then lets requests end for at most [`Limits::drain`]. Handlers find the [`Peer`] as
/// connect info, and [`Bound`] as an extension.
///
/// # Errors
/// The listener's own.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) -> io::Result<()> {
    let router = router.layer(Extension(Bound(listener.local_addr()?)));
    let (closed, fresh) = (CancellationToken::new(), watch::Sender::new(0));
    let listener = Capped {
        address: listener.local_addr()?,
        listener: Some(listener),
        last: VecDeque::new(),
        room: Arc::new(Semaphore::new(limits.connections.clamp(1, Semaphore::MAX_PERMITS))),
        quiet: limits.quiet,
        stop: stop.clone(),
        closed: closed.clone(),
        fresh: fresh.clone(),
    };
    let service = router.into_make_service_with_connect_info::<Peer>();
    let parted = async move {
        closed.cancelled().await;
        // A connection of which nothing was read would be closed under its request. Whoever sends nothing does not hold the stop.
        let mut fresh = fresh.subscribe();
        let _ = tokio::time::timeout(FIRST_BYTES_WITHIN, fresh.wait_for(|count| *count == 0)).await;
    };
    let serving = axum::serve(listener, service).with_graceful_shutdown(parted).into_future();
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(limits.drain).await;
    };
    tokio::select! {
        served = serving => served,
        () = overdue => Ok(()),
    }
}

/// A listener that accepts only while there is room. Once asked to stop, it takes what the kernel has accepted, and closes.
#[derive(Debug)]
pub struct Capped {
    address: SocketAddr,
    listener: Option<TcpListener>,
    /// What was there when the socket was closed.
    last: VecDeque<(TcpStream, SocketAddr)>,
    room: Arc<Semaphore>,
    quiet: Duration,
    stop: CancellationToken,
    /// Cancelled when nothing more will come.
    closed: CancellationToken,
    /// Connections of which nothing was read yet.
    fresh: watch::Sender<usize>,
}

impl Capped {
    /// The next connection, or `None` once the stop was asked for.
    async fn next(&mut self) -> Option<Connection> {
        let listener = self.listener.as_mut()?;
        let accepting = async {
            // The semaphore is never closed.
            let room = Arc::clone(&self.room).acquire_owned().await.ok();
            (Listener::accept(listener).await, room)
        };
        let ((stream, address), room) = self.stop.run_until_cancelled(accepting).await?;
        Some(Connection::new(stream, address, self.quiet, room, &self.fresh))
    }

    /// Takes what the kernel has accepted, and closes the socket in the next moment.
    fn close(&mut self) {
        let Some(Ok(listener)) = self.listener.take().map(TcpListener::into_std) else { return };
        loop {
            match listener.accept() {
                Ok((stream, address)) => {
                    if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
                        self.last.push_back((stream, address));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(_) => return,
            }
        }
    }
}

impl Listener for Capped {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        if let Some(connection) = self.next().await {
            let address = connection.address;
            return (connection, address);
        }
        self.close();
        if let Some((stream, address)) = self.last.pop_front() {
            // Room is for those that may stay; these are few, and were let in by the kernel.
            return (Connection::new(stream, address, self.quiet, None, &self.fresh), address);
        }
        self.closed.cancel();
        std::future::pending().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// A connection that ends when nothing was written to it for too long.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    quiet: Duration,
    closes: Pin<Box<Sleep>>,
    /// Until something was read.
    fresh: Option<Fresh>,
    _room: Option<OwnedSemaphorePermit>,
}

/// One of the connections of which nothing was read.
#[derive(Debug)]
struct Fresh(watch::Sender<usize>);

impl Fresh {
    fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Connection {
    fn new(
        stream: TcpStream,
        address: SocketAddr,
        quiet: Duration,
        room: Option<OwnedSemaphorePermit>,
        fresh: &watch::Sender<usize>,
    ) -> Self {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its small writes back");
        }
        let closes = Box::pin(tokio::time::sleep(quiet));
        Self { stream, address, quiet, closes, fresh: Some(Fresh::new(fresh)), _room: room }
    }

    fn wrote(&mut self, written: &Poll<io::Result<usize>>) {
        if matches!(written, Poll::Ready(Ok(count)) if *count > 0) {
            let at = Instant::now() + self.quiet;
            self.closes.as_mut().reset(at);
        }
    }

    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.closes.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was written for too long")),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.fresh = None;
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(&written);
        if written.is_pending() {
            self.check(context)?;
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(&written);
        if written.is_pending() {
            self.check(context)?;
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn start(limits: Limits) -> (SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let router = Router::new().route("/", get(|| async { "hello" }));
        tokio::spawn(serve(listener, router, limits, stop.clone()));
        (address, stop)
    }

    #[tokio::test]
    async fn a_request_that_comes_drop_by_drop_is_ended() {
        let (address, _stop) = start(Limits { quiet: Duration::from_millis(200), ..Limits::default() }).await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        let (mut reads, mut writes) = slow.split();
        let dripping = async {
            while writes.write_all(b"G").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let mut rest = Vec::new();
        tokio::select! {
            () = dripping => {}
            _ = reads.read_to_end(&mut rest) => {}
            () = tokio::time::sleep(Duration::from_secs(10)) => panic!("still open"),
        }
    }

    #[tokio::test]
    async fn a_stop_answers_what_the_kernel_has_accepted_and_refuses_the_rest() {
        const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let (address, stop) = start(Limits { connections: 1, ..Limits::default() }).await;
        // It is let in, and has sent nothing; the others wait in the kernel.
        let mut slow = TcpStream::connect(address).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut waiting = TcpStream::connect(address).await.unwrap();
        waiting.write_all(GET).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        stop.cancel();
        let mut answer = String::new();
        waiting.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("hello"), "{answer}");
        assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        slow.write_all(GET).await.unwrap();
        let mut answer = String::new();
        slow.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("hello"), "{answer}");
    }

    #[tokio::test]
    async fn a_last_answer_says_that_it_is_the_last_of_its_connection() {
        let stopping = CancellationToken::new();
        let router = parting(Router::new().route("/", get(|| async { "hello" })), stopping.clone());
        let says = |router: Router| async move {
            use tower::ServiceExt;
            let request = Request::new(axum::body::Body::empty());
            router.oneshot(request).await.unwrap().headers().get(header::CONNECTION).cloned()
        };
        assert_eq!(says(router.clone()).await, None);
        stopping.cancel();
        assert_eq!(says(router).await.unwrap(), "close");
    }

    #[tokio::test]
    async fn above_the_cap_a_connection_waits_its_turn() {
        let (address, stop) = start(Limits { connections: 1, ..Limits::default() }).await;
        let first = TcpStream::connect(address).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        let early = tokio::time::timeout(Duration::from_millis(100), second.read_to_string(&mut answer)).await;
        assert!(early.is_err());
        drop(first);
        tokio::time::timeout(Duration::from_secs(5), second.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.ends_with("hello"), "{answer}");
        stop.cancel();
    }
}
