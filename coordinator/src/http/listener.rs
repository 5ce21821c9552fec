//! Serving a router: a cap on connections, and an end to those that make no progress.
//!
//! Every connection counts against one cap; above it, connections wait in the kernel's queue. A connection to which
//! nothing could be written for a while is closed: it is idle, or sends its request drop by drop, or reads nothing.
//! One rule covers slow headers, slow bodies and slow readers. WebSockets stay, because they get a ping more often.

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use axum::{Extension, Router};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

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

/// Serves `router` until `stop`, then lets requests end for at most [`Limits::drain`]. Handlers find the [`Peer`] as
/// connect info, and [`Bound`] as an extension.
///
/// # Errors
/// The listener's own.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) -> io::Result<()> {
    let router = router.layer(Extension(Bound(listener.local_addr()?)));
    let listener = Capped {
        listener,
        room: Arc::new(Semaphore::new(limits.connections.clamp(1, Semaphore::MAX_PERMITS))),
        quiet: limits.quiet,
    };
    let service = router.into_make_service_with_connect_info::<Peer>();
    let stopping = stop.clone();
    let serving =
        axum::serve(listener, service).with_graceful_shutdown(async move { stopping.cancelled().await }).into_future();
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(limits.drain).await;
    };
    tokio::select! {
        served = serving => served,
        () = overdue => Ok(()),
    }
}

/// A listener that accepts only while there is room.
#[derive(Debug)]
pub struct Capped {
    listener: TcpListener,
    room: Arc<Semaphore>,
    quiet: Duration,
}

impl Listener for Capped {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // The semaphore is never closed.
        let room = Arc::clone(&self.room).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its small writes back");
        }
        let closes = Box::pin(tokio::time::sleep(self.quiet));
        (Connection { stream, quiet: self.quiet, closes, _room: room }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends when nothing was written to it for too long.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    quiet: Duration,
    closes: Pin<Box<Sleep>>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Connection {
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
        Pin::new(&mut self.stream).poll_read(context, buffer)
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
