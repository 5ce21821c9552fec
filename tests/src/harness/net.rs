//! Ports for servers under test.

use std::net::TcpStream;
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 21_000;
const COUNT: u16 = 8_000;

/// A port of 127.0.0.1 that nothing listens on, below the kernel's ephemeral range: a client that redials a closed
/// ephemeral port could connect to itself and hold it.
///
/// # Panics
/// No port of the range is free.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test binaries run one after the other, but their threads at once: each process begins elsewhere and counts up.
    let offset = (std::process::id().wrapping_mul(97) % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (offset + step) % COUNT;
        // Asked by connecting: a listener, however short-lived, would be inherited by whatever another thread starts just
        // now, and be in the way of the server that is to have the port.
        if TcpStream::connect(("127.0.0.1", port)).is_err() {
            return port;
        }
    }
    panic!("no port between {FIRST} and {} is free", FIRST + COUNT);
}
