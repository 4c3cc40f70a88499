//! `/metrics`, `/healthz` and `/readyz`. Never keeps a slow scraper for long, nor more than a few of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{BEAT, BUDGET, View};
use crate::tasks::{attached, attached_blocking};

/// More connections than this wait.
const CONNECTIONS: usize = 64;
/// A request's head has to be in by then.
const HEAD: Duration = Duration::from_secs(5);
/// And its answer out by then: so long can a hostile client keep one of the connections.
const WHOLE: Duration = Duration::from_secs(15);
/// What a request's head may have. Bodies are not read at all.
const HEAD_BYTES: usize = 16 << 10;
const HEADERS: usize = 64;

/// A bound listener.
#[derive(Debug)]
pub struct HttpListener {
    listener: TcpListener,
}

impl HttpListener {
    /// Binds the address.
    pub async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(address).await?,
        })
    }

    /// Where it listens; tells which port was free when port 0 was asked for.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop`.
    pub async fn serve(self, view: View, stop: CancellationToken) {
        let beat = view.health.watch("admin listener", BUDGET, Instant::now());
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(alive))
            .route("/readyz", get(ready))
            .with_state(view);
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = Vec::new();
        loop {
            beat.tick(Instant::now());
            let accepted = tokio::select! {
                accepted = accept(&self.listener, &slots) => accepted,
                () = tokio::time::sleep(BEAT) => continue,
                () = stop.cancelled() => return,
            };
            let (stream, slot) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: a moment later some may be free.
                    debug!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let service = TowerToHyperService::new(router.clone());
            let connection = attached(async move {
                let _slot = slot;
                let mut server = hyper::server::conn::http1::Builder::new();
                server
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD)
                    .max_buf_size(HEAD_BYTES)
                    .max_headers(HEADERS)
                    .keep_alive(false);
                let served = server.serve_connection(TokioIo::new(stream), service);
                if let Ok(Err(error)) = tokio::time::timeout(WHOLE, served).await {
                    debug!(%error, "connection ended");
                }
            });
            connections.retain(|connection: &crate::tasks::Attached<()>| !connection.is_finished());
            connections.push(connection);
        }
    }
}

/// The next connection, once there is room for it.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await;
    let slot = slot.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, slot))
}

async fn metrics(State(view): State<View>) -> impl IntoResponse {
    let content_type = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    match attached_blocking(move || view.metrics.render()).await {
        Ok(text) => (StatusCode::OK, content_type, text),
        Err(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            content_type,
            "rendering failed\n".to_owned(),
        ),
    }
}

/// That this is answered at all says that the process lives; the loops have to say so themselves.
async fn alive(State(view): State<View>) -> (StatusCode, String) {
    let stuck = view.stuck();
    if stuck.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let lines: String = stuck.iter().map(|stuck| format!("{stuck}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines)
}

async fn ready(State(view): State<View>) -> (StatusCode, String) {
    let away = view.away();
    if away.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, away.join("\n") + "\n")
}
