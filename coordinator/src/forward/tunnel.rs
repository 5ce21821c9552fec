//! WebSockets: the leader speaks with the client, and this coordinator copies bytes until either side has enough.

use super::{Forward, Lost};
use crate::election::Identity;
use axum::body::Body;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::sync::OwnedSemaphorePermit;

impl Forward {
    /// Passes on the leader's consent, and copies from then on. A silent socket is closed by the listener's rule, since
    /// the leader says something at least once a minute. `place` is held as long as the socket is open.
    pub(super) fn tunnel(
        &self,
        client: Option<OnUpgrade>,
        mut response: Response<Incoming>,
        leader: Identity,
        place: OwnedSemaphorePermit,
    ) -> Result<Response, Lost> {
        let client = client.ok_or(Lost::Silent)?;
        let upgrade = hyper::upgrade::on(&mut response);
        let (parts, _) = response.into_parts();
        let forward = self.clone();
        tokio::spawn(async move {
            let copying = async {
                let (client, leader) = tokio::try_join!(client, upgrade).map_err(std::io::Error::other)?;
                copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(leader)).await
            };
            // Another leader knows nothing of this socket; the client connects again and is passed on to that one.
            tokio::select! {
                ended = copying => if let Err(error) = ended {
                    tracing::debug!(%error, "a forwarded socket broke off");
                },
                () = forward.deposed(&leader) => {}
                () = forward.stop.cancelled() => {}
            }
            drop(place);
        });
        Ok(Response::from_parts(parts, Body::empty()))
    }
}
