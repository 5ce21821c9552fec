//! Proof that a coordinator's process is gone: its address refuses connections.
//!
//! A successor may end a leader's lease early only if nobody runs where the leader said it listens, since a lease that is
//! ended early breaks the leader's own arithmetic of validity. So only a refused connection counts, twice, and only for
//! an address that means the same machine here as there. Silence, and a network that says "unreachable", prove nothing.
//!
//! Firewalls and mistaken advertised addresses refuse too. On one machine the bound address is asked as well, which nothing
//! stands in front of; between machines a proof may be wrong, and [`super::thread`] believes none about the same process again.

use super::leader::Entry;
use super::machine;
use muster_domain::commit::Revision;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

/// Between the two refusals.
const BETWEEN: Duration = Duration::from_millis(50);
/// Longest time for one connection.
const DIAL_WITHIN: Duration = Duration::from_secs(1);
/// After an attempt that proved nothing.
const PAUSE: Duration = Duration::from_millis(500);
/// A connection that ended sooner is not opened again at once.
const BRIEF: Duration = Duration::from_millis(500);

/// A leader to be watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Create-revision of its key.
    pub(super) revision: Revision,
    pub(super) entry: Entry,
}

enum Dialed {
    Open(TcpStream),
    Refused,
    Unclear,
}

/// Whether a process of this machine is gone whose entry was just read. Nothing is concluded about another machine's: what
/// is taken from a process that lives cannot be given back to it.
pub(super) async fn is_gone(entry: &Entry, me: &Entry) -> bool {
    machine::same(&entry.machine, &me.machine) && (is_predecessor(entry, me) || refuses(entry, me).await)
}

/// Holds a connection to the leader that is to be watched, and reports the revision of one that is gone, again and again
/// while it is to be watched.
pub(super) async fn watch(
    me: Entry,
    mut target: watch::Receiver<Option<Target>>,
    gone: mpsc::UnboundedSender<Revision>,
) {
    loop {
        let current = target.borrow_and_update().clone();
        let watching = async {
            let Some(target) = current else { return std::future::pending().await };
            loop {
                until_gone(&target.entry, &me).await;
                if gone.send(target.revision).is_err() {
                    return;
                }
                sleep(PAUSE).await;
            }
        };
        tokio::select! {
            changed = target.changed() => if changed.is_err() { return },
            () = watching => return,
        }
    }
}

async fn until_gone(entry: &Entry, me: &Entry) {
    if is_predecessor(entry, me) {
        return;
    }
    let mut brief_pause = BETWEEN;
    loop {
        let begun = Instant::now();
        match dial(entry, me).await {
            Dialed::Open(connection) => {
                until_closed(connection).await;
                if begun.elapsed() < BRIEF {
                    // A dying process may close its connections before its listener, which takes one more then.
                    sleep(brief_pause).await;
                    brief_pause = (brief_pause * 2).min(BRIEF);
                } else {
                    brief_pause = BETWEEN;
                }
            }
            Dialed::Refused => {
                sleep(BETWEEN).await;
                if matches!(dial(entry, me).await, Dialed::Refused) {
                    return;
                }
            }
            Dialed::Unclear => sleep(PAUSE).await,
        }
    }
}

async fn refuses(entry: &Entry, me: &Entry) -> bool {
    if !matches!(dial(entry, me).await, Dialed::Refused) {
        return false;
    }
    sleep(BETWEEN).await;
    matches!(dial(entry, me).await, Dialed::Refused)
}

/// Whether it listened where we listen: what we hold, nobody else does.
fn is_predecessor(entry: &Entry, me: &Entry) -> bool {
    entry.instance != me.instance
        && machine::same(&entry.machine, &me.machine)
        && entry.listens == me.listens
        && entry.identity.name == me.identity.name
}

async fn until_closed(mut connection: TcpStream) {
    let mut ignored = [0; 256];
    // It has nothing to say to us; its own limits end an idle connection now and then.
    while matches!(connection.read(&mut ignored).await, Ok(1..)) {}
}

async fn dial(entry: &Entry, me: &Entry) -> Dialed {
    let Ok(Ok(addresses)) = timeout(DIAL_WITHIN, lookup_host(&entry.identity.http)).await else {
        return Dialed::Unclear;
    };
    let mut addresses: Vec<SocketAddr> = addresses.collect();
    let here = machine::same(&entry.machine, &me.machine);
    let mean_the_same = addresses.iter().all(|address| {
        let ip = address.ip();
        !ip.is_unspecified() && (here || !ip.is_loopback())
    });
    if addresses.is_empty() || !mean_the_same {
        return Dialed::Unclear;
    }
    if here {
        addresses.push(reachable(entry.listens));
    }
    for address in addresses {
        match timeout(DIAL_WITHIN, TcpStream::connect(address)).await {
            Ok(Ok(connection)) => return Dialed::Open(connection),
            Ok(Err(error)) if is_refusal(&error) => {}
            _ => return Dialed::Unclear,
        }
    }
    Dialed::Refused
}

/// A bound address as this machine itself reaches it.
fn reachable(mut bound: SocketAddr) -> SocketAddr {
    match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => bound.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => bound.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    bound
}

fn is_refusal(error: &io::Error) -> bool {
    error.kind() == ErrorKind::ConnectionRefused
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::Identity;
    use tokio::net::TcpListener;

    fn entry(instance: &str, machine: &str, http: &str) -> Entry {
        let text = String::new;
        let identity =
            Identity { name: "a".to_owned(), http: http.to_owned(), operator: text(), fleet: text(), version: text() };
        let listens = http.parse().unwrap_or_else(|_| "127.0.0.1:9".parse().unwrap());
        Entry { instance: instance.to_owned(), machine: machine.to_owned(), identity, listens }
    }

    #[tokio::test]
    async fn on_one_machine_an_advertised_address_that_refuses_proves_nothing_while_the_bound_one_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (me, mut other) = (entry("1", "m", "127.0.0.1:2"), entry("2", "m", "127.0.0.1:1"));
        other.listens = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
        assert!(!is_gone(&other, &me).await);
        // Two processes behind one advertised address are not each other's predecessors.
        let mut twin = entry("1", "m", "127.0.0.1:1");
        twin.listens = me.listens;
        assert!(!is_gone(&other, &twin).await);
        drop(listener);
        assert!(is_gone(&other, &me).await);
        // Of another machine nothing is concluded at all.
        other.machine = "another".to_owned();
        assert!(!is_gone(&other, &me).await);
    }

    #[tokio::test]
    async fn a_listener_is_there_and_a_closed_one_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (me, other) = (entry("1", "m", "127.0.0.1:1"), entry("2", "m", &address));
        assert!(!is_gone(&other, &me).await);
        drop(listener);
        assert!(is_gone(&other, &me).await);
    }

    #[tokio::test]
    async fn an_address_that_means_another_machine_there_proves_nothing() {
        let me = entry("1", "m", "127.0.0.1:2");
        assert!(!is_gone(&entry("2", "other", "127.0.0.1:1"), &me).await);
        assert!(!is_gone(&entry("2", "m", "0.0.0.0:1"), &me).await);
        assert!(!is_gone(&entry("2", "m", "no address"), &me).await);
        assert!(!is_gone(&entry("2", "", "127.0.0.1:1"), &entry("1", "", "127.0.0.1:2")).await);
    }

    #[tokio::test]
    async fn a_predecessor_cannot_listen_where_we_listen() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let me = entry("2", "m", &address);
        assert!(is_gone(&entry("1", "m", &address), &me).await);
        assert!(!is_gone(&me, &me).await);
        assert!(!is_gone(&entry("1", "other", &address), &me).await);
    }

    #[tokio::test]
    async fn a_watched_leader_is_reported_when_its_listener_closes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let entry_of_leader = entry("2", "m", &listener.local_addr().unwrap().to_string());
        let (reports, mut gone) = mpsc::unbounded_channel();
        let (targets, target) = watch::channel(Some(Target { revision: 7, entry: entry_of_leader }));
        let watching = tokio::spawn(watch(entry("1", "m", "127.0.0.1:1"), target, reports));
        let (held, _) = listener.accept().await.unwrap();
        assert!(gone.try_recv().is_err());
        drop((held, listener));
        assert_eq!(gone.recv().await, Some(7));
        drop(targets);
        watching.await.unwrap();
    }
}
