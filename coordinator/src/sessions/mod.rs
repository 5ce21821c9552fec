//! WebSockets: one socket carries many calls, told apart by name, not by path (`protocol.md` 5).

mod conversation;
mod follow;
mod socket;
mod utf8;

#[cfg(test)]
mod follow_tests;

use crate::http::Shared;
use crate::http::failure::Failure;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::Response;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The largest message a client may send, in bytes: an `init` carries a whole job.
const MOST_MESSAGE_BYTES: usize = 4 << 20;

/// Room for sockets.
#[derive(Clone, Debug)]
pub(crate) struct Sockets {
    room: Arc<Semaphore>,
}

impl Sockets {
    /// Room for so many.
    pub(crate) fn new(most: usize) -> Self {
        Self { room: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))) }
    }

    fn enter(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let full = |_| Failure::unavailable("too many sockets are open: try again later");
        Arc::clone(&self.room).try_acquire_owned().map_err(full)
    }
}

/// `GET /ucloud/{any}/websocket`. The token is in each frame, so the handshake needs none (`protocol.md` 5.1), and any
/// `Origin` is welcome.
pub(crate) async fn websocket(
    State(shared): State<Shared>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Failure> {
    let upgrade = upgrade.map_err(|rejection| Failure::new(rejection.status(), rejection.body_text()))?;
    let place = shared.sockets.enter()?;
    // Clients send a message as one frame, so both have the same limit.
    let upgrade = upgrade.max_message_size(MOST_MESSAGE_BYTES).max_frame_size(MOST_MESSAGE_BYTES);
    Ok(upgrade.on_upgrade(async move |socket| {
        let _place = place;
        socket::serve(socket, &shared).await;
    }))
}
