//! Connections to the leader. HTTP/1.1, kept open between requests, and careful about one thing: whether a request that
//! was not answered can have been received.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Response, header};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;

/// Idle connections that are kept.
const MOST_IDLE: usize = 64;
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

/// Connections that are free, by the address they go to.
type Idle = Vec<(String, http1::SendRequest<Body>)>;

/// Makes and keeps connections. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Relay {
    idle: Arc<Mutex<Idle>>,
}

/// A connection that is free.
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
        idle.retain(|(to, sender)| to == address && !sender.is_closed());
        let ready = idle.iter().rposition(|(_, sender)| sender.is_ready())?;
        Some(idle.swap_remove(ready).1)
    }

    fn keep(&self, address: String, sender: http1::SendRequest<Body>) {
        let mut idle = self.locked();
        if idle.len() < MOST_IDLE {
            idle.push((address, sender));
        }
    }

    fn locked(&self) -> MutexGuard<'_, Idle> {
        // Nothing panics while it holds the lock; if it ever does, the list is still whole.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn connect(address: &str) -> io::Result<http1::SendRequest<Body>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // Ends with the peer, or once nobody can send any more.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to the leader broke off");
        }
    });
    Ok(sender)
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
