//! HTTP/2, for requests that become no WebSocket. Never lets one connection have more than as many of HTTP/1.1 could.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use super::{Guest, HEAD_BYTES, SEND_BUFFER};
use crate::metrics::Rejected;
use crate::push::hub::{Hub, Place};
use crate::tasks::Crowd;

/// Requests that may be open at the same time.
const STREAMS: u32 = 64;
/// Bytes of requests that wait: none has a body.
const WINDOW: u32 = 64 << 10;
/// Who holds a connection's guest while no request is open: the connection and its service.
const HELD: usize = 2;

/// Requests run beside their connection.
#[derive(Clone)]
struct Beside(Crowd);

impl<F> Executor<F> for Beside
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// Serves a connection until the client goes, has been idle for too long, or the daemon ends.
pub(super) async fn serve<S>(
    stream: S,
    guest: Arc<Guest>,
    hub: Arc<Hub>,
    router: Router,
    crowd: Crowd,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let terms = hub.terms();
    let patience = terms.config.limits.handshake;
    let mut server = http2::Builder::new(Beside(crowd));
    server
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(HEAD_BYTES).unwrap_or(u32::MAX))
        .max_send_buf_size(usize::try_from(SEND_BUFFER).unwrap_or(usize::MAX))
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .keep_alive_interval(terms.config.heartbeat)
        .keep_alive_timeout(terms.config.limits.pong);
    let asked = Arc::new(AtomicBool::new(false));
    let service = {
        let (hub, guest, asked) = (Arc::clone(&hub), Arc::clone(&guest), Arc::clone(&asked));
        let router = TowerToHyperService::new(router);
        service_fn(move |mut request: Request<Incoming>| {
            asked.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(seated(&hub, &guest));
            router.call(request)
        })
    };
    let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
    let mut closing = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!(%error, "connection ended");
                }
                return;
            }
            () = hub.draining.cancelled(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            () = tokio::time::sleep(patience) => {
                // As a connection of HTTP/1.1 would, which waits for its next request's head no longer.
                let idle = !asked.swap(false, Ordering::Relaxed) && Arc::strong_count(&guest) == HELD;
                if idle && closing {
                    return;
                }
                if idle {
                    closing = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// The connection's own place for a request; one of its own for each that is open beside another, so that limits count
/// streams as they count connections.
fn seated(hub: &Arc<Hub>, connection: &Arc<Guest>) -> Arc<Guest> {
    if Arc::strong_count(connection) == HELD {
        return Arc::clone(connection);
    }
    let place = Place::take(hub);
    if let Some(full) = place.refused {
        hub.metrics.rejected(Rejected::Full(full), 1);
    }
    Arc::new(Guest {
        peer: connection.peer,
        place: Arc::new(place),
        upgraded: Mutex::default(),
        _beside: Some(Arc::clone(connection)),
    })
}
