//! Accepts connections of clients and speaks HTTP with them until they upgrade. Never lets a slow or idle one wait for free.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tracing::{debug, warn};

use super::hub::{Hub, Place};
use super::socket::{self, Accepted};
use crate::logic::health::Beat;
use crate::metrics::Rejected;
use crate::tasks::Crowd;

/// Connections that are told that there is no room; more are dropped without a word.
const TURNED_AWAY: usize = 1_000;
/// What a request's head may have: a token fits, and cookies of the same site beside it.
const HEAD_BYTES: usize = 32 << 10;
const HEADERS: usize = 100;
/// Unread bytes that the kernel keeps for a client: a stuck one otherwise takes megabytes there.
const SEND_BUFFER: u32 = 64 << 10;
const BACKLOG: u32 = 4096;
/// Longer than a session needs to give up a client by itself, and to say why.
const GIVEN_UP: Duration = Duration::from_secs(40);
/// A listener that nobody comes to still shows that it lives.
const BEAT: Duration = Duration::from_secs(5);

/// One connection, as its requests see it.
pub(super) struct Guest {
    pub(super) peer: IpAddr,
    pub(super) place: Arc<Place>,
    /// A handshake that was accepted, for when the connection has been upgraded.
    pub(super) upgraded: Mutex<Option<(OnUpgrade, Box<Accepted>)>>,
}

/// Binds the address.
pub(super) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts until the daemon ends, then waits until every connection has ended.
pub(super) async fn serve(listener: TcpListener, hub: Arc<Hub>, router: Router, beat: Beat) {
    let connections = Crowd::default();
    let turned_away = Arc::new(());
    loop {
        beat.tick(Instant::now());
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = hub.draining.cancelled() => break,
            () = tokio::time::sleep(BEAT) => continue,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: a moment later some may be free.
                warn!(%error, "cannot accept a client; is LimitNOFILE high enough?");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let place = Place::take(&hub);
        let refused = place.refused;
        if let Some(full) = refused {
            hub.metrics.rejected(Rejected::Full(full), 1);
            if Arc::strong_count(&turned_away) > TURNED_AWAY {
                continue;
            }
        }
        let guest = Arc::new(Guest {
            peer: peer.ip().to_canonical(),
            place: Arc::new(place),
            upgraded: Mutex::default(),
        });
        let held = refused.map(|_| Arc::clone(&turned_away));
        let (hub, router) = (Arc::clone(&hub), router.clone());
        connections.spawn(async move {
            connection(stream, guest, &hub, router).await;
            drop(held);
        });
    }
    drop(listener);
    connections.gone().await;
}

/// One connection: requests, and then perhaps a WebSocket.
async fn connection(stream: TcpStream, guest: Arc<Guest>, hub: &Hub, router: Router) {
    // Frames are written when they are to be sent.
    let _ = stream.set_nodelay(true);
    // A connection that takes nothing is given up, also where nobody waits for its answer.
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(GIVEN_UP));
    // In a box of its own, which is gone before the long life of a WebSocket begins.
    Box::pin(requests(stream, Arc::clone(&guest), hub, router)).await;
    if let Some((stream, accepted)) = upgraded(guest).await {
        socket::serve(stream, accepted).await;
    }
}

/// What the requests have left: a WebSocket, if one was accepted. Nothing else of them lives as long as that does.
async fn upgraded(guest: Arc<Guest>) -> Option<(TcpStream, Accepted)> {
    let upgraded = guest
        .upgraded
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    drop(guest);
    let (upgrade, accepted) = upgraded?;
    match upgrade
        .await
        .map(|upgraded| upgraded.downcast::<TokioIo<TcpStream>>())
    {
        // What came before the upgrade is part of no WebSocket: clients wait for the answer. Its buffer of 8 KiB goes here.
        Ok(Ok(parts)) => return Some((parts.io.into_inner(), *accepted)),
        Ok(Err(_)) => debug!("a connection that is no TCP stream was upgraded"),
        Err(error) => debug!(%error, "a client went away while it upgraded"),
    }
    None
}

async fn requests(stream: TcpStream, guest: Arc<Guest>, hub: &Hub, router: Router) {
    let patience = hub.config.limits.handshake;
    let keep_alive = guest.place.refused.is_none();
    let service = TowerToHyperService::new(router.layer(Extension(guest)));
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .keep_alive(keep_alive);
    let connection = server.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection.with_upgrades());
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = hub.draining.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "connection ended");
    }
}
