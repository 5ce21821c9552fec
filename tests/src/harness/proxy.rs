//! A network that can be broken: a TCP proxy in front of one server.
//!
//! A partition holds bytes and lets them go when it ends, as TCP's repetition would: no stream ever has a gap.

use super::free_port;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// Bytes that are read at once.
const PIECE_BYTES: usize = 16 * 1024;
/// Pieces that are on their way, one way, before the proxy stops reading: 1 MiB, about what kernels would hold.
const PIECES_IN_FLIGHT: usize = 64;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the clients to the server.
    ToTarget,
    /// From the server to the clients.
    FromTarget,
    /// Both ways.
    Both,
}

#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    /// How often connections were cut; one that saw a lower number must end.
    cuts: u64,
    refused: bool,
    held: Option<Direction>,
    delay: Duration,
}

impl Faults {
    fn holds(&self, way: Direction) -> bool {
        self.held.is_some_and(|held| held == way || held == Direction::Both)
    }
}

/// The proxy. Dropping it closes its connections.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    faults: watch::Sender<Faults>,
    accepting: JoinHandle<()>,
}

impl FaultProxy {
    /// Listens on a new port of 127.0.0.1 and passes everything on to `target`, which need not listen yet.
    ///
    /// # Errors
    /// It cannot listen.
    pub async fn start(target: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", free_port())).await?;
        let address = listener.local_addr()?;
        let (faults, receiver) = watch::channel(Faults::default());
        let accepting = tokio::spawn(accept(listener, target, receiver));
        Ok(Self { address, faults, accepting })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes all connections, and closes new ones as soon as they are made, until [`Self::heal`].
    pub fn cut(&self) {
        self.faults.send_modify(|faults| {
            faults.cuts += 1;
            faults.refused = true;
        });
    }

    /// Lets no byte through in this direction, and every byte in the other, until [`Self::heal`]; connections stay open,
    /// and nobody hears of an end. New connections open for the client, since the kernel answers, and get nowhere:
    /// opening one takes both directions.
    pub fn blackhole(&self, direction: Direction) {
        self.faults.send_modify(|faults| faults.held = Some(direction));
    }

    /// Delays all bytes by so many milliseconds each way, from now on.
    pub fn delay_ms(&self, delay_ms: u64) {
        self.faults.send_modify(|faults| faults.delay = Duration::from_millis(delay_ms));
    }

    /// Ends every fault. Bytes that a black hole held arrive now; connections that were cut stay closed.
    pub fn heal(&self) {
        self.faults.send_modify(|faults| *faults = Faults { cuts: faults.cuts, ..Faults::default() });
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, faults: watch::Receiver<Faults>) {
    // Dropped with this task, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let state = *faults.borrow();
                if let (Ok((client, _)), false) = (accepted, state.refused) {
                    connections.spawn(carry(client, target, faults.clone(), state.cuts));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(client: TcpStream, target: SocketAddr, faults: watch::Receiver<Faults>, cuts: u64) {
    tokio::select! {
        () = until(faults.clone(), |faults| faults.cuts != cuts) => {}
        _ = exchange(client, target, faults) => {}
    }
}

async fn exchange(client: TcpStream, target: SocketAddr, faults: watch::Receiver<Faults>) -> io::Result<()> {
    until(faults.clone(), |faults| faults.held.is_none()).await;
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::try_join!(
        pass(from_client, to_server, &faults, Direction::ToTarget),
        pass(from_server, to_client, &faults, Direction::FromTarget),
    )?;
    Ok(())
}

/// One direction of one connection, until its end has been passed on too.
async fn pass(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    faults: &watch::Receiver<Faults>,
    way: Direction,
) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel(PIECES_IN_FLIGHT);
    let ((), result) = tokio::join!(read(from, sender, faults), write(receiver, to, faults, way));
    result
}

/// What was read and when it is to arrive. No bytes are the stream's end.
type Piece = (Instant, Vec<u8>);

async fn read(mut from: OwnedReadHalf, pieces: mpsc::Sender<Piece>, faults: &watch::Receiver<Faults>) {
    loop {
        let mut bytes = vec![0; PIECE_BYTES];
        // A reset is passed on as an end, and no faster than bytes are.
        let count = from.read(&mut bytes).await.unwrap_or(0);
        bytes.truncate(count);
        let due = Instant::now() + faults.borrow().delay;
        if pieces.send((due, bytes)).await.is_err() || count == 0 {
            return;
        }
    }
}

async fn write(
    mut pieces: mpsc::Receiver<Piece>,
    mut to: OwnedWriteHalf,
    faults: &watch::Receiver<Faults>,
    way: Direction,
) -> io::Result<()> {
    while let Some((due, bytes)) = pieces.recv().await {
        sleep_until(due).await;
        until(faults.clone(), |faults| !faults.holds(way)).await;
        let result = if bytes.is_empty() { to.shutdown().await } else { to.write_all(&bytes).await };
        if result.is_err() {
            // The receiver is gone; its answer to that has to travel the other way.
            until(faults.clone(), |faults| faults.held.is_none()).await;
            return result;
        }
    }
    Ok(())
}

/// Waits until the faults are so. A proxy that is gone has taken its connections along, so that nobody waits for it.
async fn until(mut faults: watch::Receiver<Faults>, so: impl FnMut(&Faults) -> bool) {
    faults.wait_for(so).await.ok();
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
