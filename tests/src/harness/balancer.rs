//! The load balancer that an operator puts in front of several coordinators, as small as it can be.
//!
//! It asks each one's health, passes each connection's bytes to one that is well, and keeps the client's connection when the
//! one behind it goes: the next request goes to another. A request that was not answered when its coordinator died is
//! answered with 503, by which Core tries again (reliability F2), as `error_page 502 504 =503` does in nginx.

use super::cluster::health;
use super::free_port;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

const HEALTH_EVERY: Duration = Duration::from_millis(250);
/// So many answers missing in a row, and it gets nothing any more.
const ILL_AFTER: u32 = 2;
const CONNECT_LIMIT: Duration = Duration::from_millis(500);
/// How long a request waits for a server while none is well; with what the server itself may take, less than Core's 5 s.
const QUEUE_LIMIT: Duration = Duration::from_secs(1);
const PIECE_BYTES: usize = 64 * 1024;
const UNAVAILABLE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 49\r\n\
    connection: close\r\n\r\n{\"why\":\"the coordinator that was asked is gone\"}\n";

/// One server behind it.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Where requests go.
    pub address: SocketAddr,
    /// What answers 200 while it is well.
    pub health_url: String,
}

/// The balancer. Dropping it closes its connections.
#[derive(Debug)]
pub struct Balancer {
    pool: Arc<Pool>,
    address: SocketAddr,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Pool {
    backends: Vec<Backend>,
    well: Vec<watch::Sender<bool>>,
    next: AtomicUsize,
}

impl Balancer {
    /// Listens on a new port of 127.0.0.1; the servers need not run yet.
    ///
    /// # Errors
    /// It cannot listen.
    pub async fn start(backends: Vec<Backend>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", free_port())).await?;
        let address = listener.local_addr()?;
        let client = reqwest::Client::builder().no_proxy().build()?;
        let well = backends.iter().map(|_| watch::Sender::new(true)).collect();
        let pool = Arc::new(Pool { backends, well, next: AtomicUsize::new(0) });
        let mut tasks: Vec<_> = (0..pool.backends.len())
            .map(|number| tokio::spawn(examine(Arc::clone(&pool), number, client.clone())))
            .collect();
        tasks.push(tokio::spawn(accept(listener, Arc::clone(&pool))));
        Ok(Self { pool, address, tasks })
    }

    /// Waits until it has found every server well.
    pub async fn all_are_well(&self) {
        for well in &self.pool.well {
            // Never closed while this is borrowed.
            well.subscribe().wait_for(|well| *well).await.ok();
        }
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn examine(pool: Arc<Pool>, number: usize, client: reqwest::Client) {
    let mut missing = 0;
    let mut ticks = tokio::time::interval(HEALTH_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let answered = health(&client, &pool.backends[number].health_url).await.is_some();
        missing = if answered { 0 } else { missing + 1 };
        let well = missing < ILL_AFTER;
        pool.well[number].send_if_modified(|now| std::mem::replace(now, well) != well);
    }
}

async fn accept(listener: TcpListener, pool: Arc<Pool>) {
    // Dropped with this task, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    connections.spawn(serve(client, Arc::clone(&pool)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One client, until it goes or an answer cannot be given whole.
async fn serve(mut client: TcpStream, pool: Arc<Pool>) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut first = vec![0; PIECE_BYTES];
    loop {
        let count = client.read(&mut first).await?;
        if count == 0 {
            return Ok(());
        }
        let Some((mut server, well)) = pool.connect().await else {
            return client.write_all(UNAVAILABLE).await;
        };
        let mut answer = Answer::Due;
        if server.write_all(&first[..count]).await.is_ok() {
            let gone = exchange(&mut client, &mut server, well, &mut answer).await?;
            if gone == Gone::Client {
                return Ok(());
            }
        }
        match answer {
            Answer::Whole => {}
            Answer::Due => return client.write_all(UNAVAILABLE).await,
            Answer::Begun { .. } | Answer::Endless => return Ok(()),
        }
    }
}

impl Pool {
    /// The next one that is well and takes the connection, with the news of its health; waits a little for one.
    async fn connect(&self) -> Option<(TcpStream, watch::Receiver<bool>)> {
        let found = async {
            loop {
                if let Some(found) = self.connect_now().await {
                    return found;
                }
                // By then each one's health has been asked again.
                tokio::time::sleep(HEALTH_EVERY).await;
            }
        };
        tokio::time::timeout(QUEUE_LIMIT, found).await.ok()
    }

    async fn connect_now(&self) -> Option<(TcpStream, watch::Receiver<bool>)> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        for step in 0..self.backends.len() {
            let number = (first + step) % self.backends.len();
            let well = self.well[number].subscribe();
            if !*well.borrow() {
                continue;
            }
            let connecting = TcpStream::connect(self.backends[number].address);
            if let Ok(Ok(server)) = tokio::time::timeout(CONNECT_LIMIT, connecting).await
                && server.set_nodelay(true).is_ok()
            {
                return Some((server, well));
            }
        }
        None
    }
}

#[derive(PartialEq, Eq)]
enum Gone {
    Client,
    Server,
}

/// How far the answer to the last request is.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// Nothing of it came.
    Due,
    /// So many bytes are missing.
    Begun { missing: usize },
    /// All of it came, and nothing was asked since.
    Whole,
    /// Its end cannot be told: no length, or a WebSocket.
    Endless,
}

impl Answer {
    fn on_asked(&mut self) {
        if *self == Self::Whole {
            *self = Self::Due;
        }
    }

    fn on_answered(&mut self, bytes: &[u8]) {
        *self = match self {
            Self::Due => length_of(bytes).map_or(Self::Endless, |length| Self::missing(length, bytes.len())),
            Self::Begun { missing } => Self::missing(*missing, bytes.len()),
            Self::Whole | Self::Endless => Self::Endless,
        };
    }

    fn missing(of: usize, came: usize) -> Self {
        match of.saturating_sub(came) {
            0 => Self::Whole,
            missing => Self::Begun { missing },
        }
    }
}

/// Length of an answer with its head, from its first bytes; `None` if they do not tell.
fn length_of(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).ok()?.to_ascii_lowercase();
    if head.starts_with("http/1.1 101") {
        return None;
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"))?;
    Some(end + length.trim().parse::<usize>().ok()?)
}

/// Passes bytes both ways until one side goes, or the server falls ill.
async fn exchange(
    client: &mut TcpStream,
    server: &mut TcpStream,
    mut well: watch::Receiver<bool>,
    answer: &mut Answer,
) -> io::Result<Gone> {
    let (mut asked, mut answered) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => match read {
                Ok(0) | Err(_) => return Ok(Gone::Client),
                Ok(count) => {
                    answer.on_asked();
                    if server.write_all(&asked[..count]).await.is_err() {
                        return Ok(Gone::Server);
                    }
                }
            },
            read = server.read(&mut answered) => match read {
                Ok(0) | Err(_) => return Ok(Gone::Server),
                Ok(count) => {
                    answer.on_answered(&answered[..count]);
                    client.write_all(&answered[..count]).await?;
                }
            },
            () = falls_ill(&mut well) => return Ok(Gone::Server),
        }
    }
}

async fn falls_ill(well: &mut watch::Receiver<bool>) {
    // A balancer that is gone has taken its connections along.
    well.wait_for(|well| !well).await.ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_answer_is_known() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        let mut answer = Answer::Due;
        answer.on_answered(format!("{head}ab").as_bytes());
        assert_eq!(answer, Answer::Begun { missing: 3 });
        answer.on_answered(b"cde");
        assert_eq!(answer, Answer::Whole);
        answer.on_asked();
        assert_eq!(answer, Answer::Due);
        answer.on_answered(b"HTTP/1.1 101 Switching Protocols\r\n\r\n");
        assert_eq!(answer, Answer::Endless);
    }

    #[test]
    fn what_it_answers_itself_has_the_length_it_says() {
        assert_eq!(length_of(UNAVAILABLE), Some(UNAVAILABLE.len()));
    }
}
