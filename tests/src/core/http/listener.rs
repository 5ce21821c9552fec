//! A listener whose connections can be cut in mid-call, and which can stop to listen for a while.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::core::fault::Faults;

/// Listens on one address, except while `refuse_connections` is on.
pub(in crate::core) struct CutListener {
    address: SocketAddr,
    listener: Option<TcpListener>,
    faults: watch::Receiver<Faults>,
}

impl CutListener {
    pub(in crate::core) fn new(listener: TcpListener, address: SocketAddr, faults: watch::Receiver<Faults>) -> Self {
        Self { address, listener: Some(listener), faults }
    }

    async fn refusal(&mut self, wanted: bool) {
        if self.faults.wait_for(|faults| faults.refuse_connections == wanted).await.is_err() {
            // Nobody can change the faults any more; the server is about to end.
            std::future::pending::<()>().await;
        }
    }
}

impl Listener for CutListener {
    type Io = CutStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (CutStream, SocketAddr) {
        loop {
            let Some(listener) = self.listener.take() else {
                self.refusal(false).await;
                match TcpListener::bind(self.address).await {
                    Ok(listener) => self.listener = Some(listener),
                    Err(error) => {
                        tracing::warn!(%error, address = %self.address, "cannot listen again yet");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
                continue;
            };
            let accepted = tokio::select! {
                biased;
                () = self.refusal(true) => None,
                accepted = listener.accept() => Some(accepted),
            };
            match accepted {
                // The listener is dropped here, so that the kernel refuses.
                None => continue,
                Some(Ok((stream, address))) => {
                    self.listener = Some(listener);
                    let _ = stream.set_nodelay(true);
                    return (CutStream { stream, cut: Arc::default() }, address);
                }
                Some(Err(error)) => {
                    self.listener = Some(listener);
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// The other end of a call, and the knife for its connection.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    cut: Arc<AtomicBool>,
}

impl Peer {
    /// From now on nothing more is written: the peer sees the connection close without an answer.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Release);
    }
}

impl Connected<IncomingStream<'_, CutListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, CutListener>) -> Self {
        Self { address: *stream.remote_addr(), cut: stream.io().cut.clone() }
    }
}

/// A TCP stream that fails as soon as it was cut.
pub(in crate::core) struct CutStream {
    stream: TcpStream,
    cut: Arc<AtomicBool>,
}

impl CutStream {
    fn check(&self) -> io::Result<()> {
        if self.cut.load(Ordering::Acquire) { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl AsyncRead for CutStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for CutStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
