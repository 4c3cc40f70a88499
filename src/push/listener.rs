//! Accepts connections of clients and speaks HTTP with them until they upgrade. Never lets a slow or idle one wait for free.

mod http2;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use super::hub::{Hub, Place};
use super::socket::{self, Accepted};
use super::tls::H2;
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
/// After the drain time, for the last of them.
const GOODBYE: Duration = Duration::from_secs(10);
/// What is left of the time for a handshake after TLS, at the least.
const LEAST: Duration = Duration::from_millis(100);
/// A listener that nobody comes to still shows that it lives.
const BEAT: Duration = Duration::from_secs(5);

/// One connection, as its requests see it.
pub(super) struct Guest {
    pub(super) peer: IpAddr,
    pub(super) place: Arc<Place>,
    /// A handshake that was accepted, for when the connection has been upgraded.
    pub(super) upgraded: Mutex<Option<(OnUpgrade, Box<Accepted>)>>,
    /// The connection's guest, where this one is of a request beside another.
    pub(super) _beside: Option<Arc<Guest>>,
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

/// Accepts until the daemon ends, then waits until every connection has ended, or should have.
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
            _beside: None,
        });
        let held = refused.map(|_| Arc::clone(&turned_away));
        let client = Client {
            guest,
            hub: Arc::clone(&hub),
            router: router.clone(),
            crowd: connections.clone(),
            began: Instant::now(),
        };
        let acceptor = hub.terms().tls.as_ref().map(|tls| tls.acceptor());
        connections.spawn(async move {
            client.serve(stream, acceptor).await;
            drop(held);
        });
    }
    drop(listener);
    // Who does not take even a goodbye is not waited for.
    let drain = hub.terms().config.drain;
    let _ = tokio::time::timeout(drain + GOODBYE, connections.gone()).await;
}

/// One connection: perhaps TLS, requests, and then perhaps a WebSocket.
struct Client {
    guest: Arc<Guest>,
    hub: Arc<Hub>,
    router: Router,
    crowd: Crowd,
    began: Instant,
}

impl Client {
    async fn serve(self, stream: TcpStream, acceptor: Option<TlsAcceptor>) {
        // Frames are written when they are to be sent.
        let _ = stream.set_nodelay(true);
        // A connection that takes nothing is given up, also where nobody waits for its answer.
        let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(GIVEN_UP));
        let Some(acceptor) = acceptor else {
            return self.http1(stream).await;
        };
        let Some(stream) = Box::pin(self.encrypted(stream, acceptor)).await else {
            return self.hub.metrics.rejected(Rejected::Tls, 1);
        };
        if stream.get_ref().1.alpn_protocol() == Some(H2) {
            let served = http2::serve(stream, self.guest, self.hub, self.router, self.crowd);
            Box::pin(served).await;
        } else {
            self.http1(stream).await;
        }
    }

    /// Speaks TLS on a stream; none if the client does not, or not in time.
    async fn encrypted(
        &self,
        stream: TcpStream,
        acceptor: TlsAcceptor,
    ) -> Option<Box<TlsStream<TcpStream>>> {
        let patience = self.hub.terms().config.limits.handshake;
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(patience, acceptor.accept(stream)) => shaken,
            () = self.hub.draining.cancelled() => return None,
        };
        match shaken {
            Ok(Ok(stream)) => Some(Box::new(stream)),
            Ok(Err(error)) => {
                debug!(%error, "a client does not speak TLS with us");
                None
            }
            Err(_) => {
                debug!("a client took too long for TLS");
                None
            }
        }
    }

    async fn http1<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let guest = Arc::clone(&self.guest);
        // In a box of its own, which is gone before the long life of a WebSocket begins.
        Box::pin(self.requests(stream)).await;
        if let Some((stream, accepted)) = upgraded::<S>(guest).await {
            socket::serve(stream, accepted).await;
        }
    }

    async fn requests<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // What TLS has taken of it is gone.
        let patience = self.hub.terms().config.limits.handshake;
        let patience = patience.saturating_sub(self.began.elapsed()).max(LEAST);
        let place = Arc::clone(&self.guest.place);
        let keep_alive = place.refused.is_none();
        let service = TowerToHyperService::new(self.router.layer(Extension(self.guest)));
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
            () = self.hub.draining.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(%error, "connection ended");
            // One that has shown a token has had its time before.
            if error.is_timeout() && !place.is_authenticated() {
                self.hub.metrics.rejected(Rejected::Handshake, 1);
            }
        }
    }
}

/// What the requests have left: a WebSocket, if one was accepted. Nothing else of them lives as long as that does.
async fn upgraded<S>(guest: Arc<Guest>) -> Option<(S, Accepted)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let upgraded = guest
        .upgraded
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    drop(guest);
    let (upgrade, accepted) = upgraded?;
    match upgrade
        .await
        .map(|upgraded| upgraded.downcast::<TokioIo<S>>())
    {
        // What came before the upgrade is part of no WebSocket: clients wait for the answer. Its buffer of 8 KiB goes here.
        Ok(Ok(parts)) => return Some((parts.io.into_inner(), *accepted)),
        Ok(Err(_)) => debug!("a connection that is not ours was upgraded"),
        Err(error) => debug!(%error, "a client went away while it upgraded"),
    }
    None
}
