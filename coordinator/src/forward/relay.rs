//! Connections to the leader. HTTP/1.1, kept open between requests, and careful about one thing: whether a request that
//! was not answered can have been received.
//!
//! A firewall between coordinators may forget a connection that is idle, and say nothing when it is used again. So connections are
//! kept for a short while only, the kernel asks an idle one whether its other end is there, and one that did not answer is taken
//! for a sign about all that are kept.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Response, header};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Idle connections that are kept.
const MOST_IDLE: usize = 64;
/// How long an idle connection is kept.
const IDLE_LIFE: Duration = Duration::from_secs(30);
/// After how long without a word the kernel asks the other end, how often then, and how many times before it gives up.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVES: u32 = 3;
/// For how long, in milliseconds, what was sent may stay unconfirmed (reliability B.5).
const USER_TIMEOUT_MS: u32 = 15_000;
/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// The request was not sent, and is here again.
    NotSent(Box<Request>),
    /// It may have been received.
    Unknown(hyper::Error),
}

/// A connection that is free.
#[derive(Debug)]
struct Idle {
    address: String,
    since: Instant,
    sender: http1::SendRequest<Body>,
}

/// Makes and keeps connections. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Relay {
    idle: Arc<Mutex<Vec<Idle>>>,
}

/// A connection for one request.
pub(super) struct Connection {
    sender: http1::SendRequest<Body>,
    /// Where it goes back to once its answer was read.
    relay: Relay,
    address: String,
    /// Whether it goes back at all.
    is_kept: bool,
}

impl Relay {
    /// A connection to `address`; a `fresh` one is for what may not give it back as it was, and is not kept.
    pub(super) async fn connection(&self, address: &str, fresh: bool) -> io::Result<Connection> {
        let kept = if fresh { None } else { self.take(address) };
        let sender = match kept {
            Some(sender) => sender,
            None => tokio::time::timeout(CONNECT_WITHIN, connect(address))
                .await
                .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer to the attempt to connect"))??,
        };
        Ok(Connection { sender, relay: self.clone(), address: address.to_owned(), is_kept: !fresh })
    }

    fn take(&self, address: &str) -> Option<http1::SendRequest<Body>> {
        let mut idle = self.locked();
        // Those to an earlier leader are of no use any more.
        idle.retain(|kept| kept.address == address && !kept.sender.is_closed() && kept.since.elapsed() < IDLE_LIFE);
        let ready = idle.iter().rposition(|kept| kept.sender.is_ready())?;
        Some(idle.swap_remove(ready).sender)
    }

    /// Keeps none of those that are free: one of their kind did not answer.
    pub(super) fn forget(&self) {
        self.locked().clear();
    }

    fn keep(&self, address: String, sender: http1::SendRequest<Body>) {
        let mut idle = self.locked();
        if idle.len() < MOST_IDLE {
            idle.push(Idle { address, since: Instant::now(), sender });
        }
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Idle>> {
        // Nothing panics while it holds the lock; if it ever does, the list is still whole.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn connect(address: &str) -> io::Result<http1::SendRequest<Body>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    be_watchful(&stream)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // Ends with the peer, or once nobody can send any more.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to the leader broke off");
        }
    });
    Ok(sender)
}

/// Lets the kernel find out that the other end is gone.
fn be_watchful(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_EVERY)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVES)?;
    sockopt::set_tcp_user_timeout(stream, USER_TIMEOUT_MS)?;
    Ok(sockopt::set_socket_keepalive(stream, true)?)
}

impl Connection {
    /// Sends the request and waits for the head of the answer. The connection is kept for others once the answer was read.
    pub(super) async fn send(mut self, mut request: Request, host: &str) -> Result<Response<Incoming>, Unanswered> {
        if let Ok(host) = HeaderValue::from_str(host) {
            request.headers_mut().insert(header::HOST, host);
        }
        let response = match self.sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => {
                return Err(match error.take_message() {
                    Some(request) => Unanswered::NotSent(Box::new(request)),
                    None => Unanswered::Unknown(error.into_error()),
                });
            }
        };
        if self.is_kept {
            tokio::spawn(async move {
                let Self { mut sender, relay, address, .. } = self;
                if sender.ready().await.is_ok() {
                    relay.keep(address, sender);
                }
            });
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_watches_over_connections_to_the_leader() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        be_watchful(&stream).unwrap();
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), KEEPALIVE_AFTER);
        assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), USER_TIMEOUT_MS);
    }
}
