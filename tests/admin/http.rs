//! `/metrics`, `/healthz`, `/readyz`, and clients that mean no good.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use outboxd::admin::HttpListener;
use outboxd::logic::status::Phase;
use outboxd::tasks::{Attached, attached};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::world::World;

/// More than one connection can be kept by a client that does nothing.
const LONGEST: Duration = Duration::from_secs(20);

async fn serve(world: &World) -> (SocketAddr, Attached<()>) {
    let http = HttpListener::bind(([127, 0, 0, 1], 0).into())
        .await
        .unwrap();
    let address = http.address().unwrap();
    (
        address,
        attached(http.serve(world.view.clone(), world.stop.clone())),
    )
}

/// Status line and headers, and the body.
async fn send(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // The daemon closes after each answer; it may also reset what it did not read.
    let _ = stream.read_to_string(&mut answer).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (head.to_owned(), body.to_owned())
}

async fn get(address: SocketAddr, path: &str) -> (String, String) {
    send(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
}

#[tokio::test]
async fn metrics_are_rendered_in_prometheus_text_format() {
    let (address, _http) = serve(&World::with(&[])).await;
    let (head, body) = get(address, "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert!(
        body.contains("\noutboxd_events_published_total{source=\"orders\"} 0\n"),
        "{body}"
    );
    assert!(body.contains("\nprocess_resident_memory_bytes "), "{body}");
}

#[tokio::test]
async fn a_hung_loop_is_named_and_the_daemon_is_ill() {
    let world = World::with(&[]);
    let (address, _http) = serve(&world).await;
    let (head, body) = get(address, "/healthz").await;
    assert!(
        head.starts_with("HTTP/1.1 200") && body == "ok\n",
        "{head}\n{body}"
    );
    let hung = world.hung("source orders");
    let (head, body) = get(address, "/healthz").await;
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    assert_eq!(body, "source orders has not turned for 61 s\n");
    hung.tick(Instant::now());
    let (head, _) = get(address, "/healthz").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

#[tokio::test]
async fn readiness_waits_for_every_source_once_and_then_for_any() {
    let world = World::with(&[("orders", Phase::Leading), ("kitchen", Phase::Connecting)]);
    let (address, _http) = serve(&world).await;
    world.sources[1].send_modify(|status| {
        status.last_error = Some((1.0, "connection refused".into()));
    });
    let (head, body) = get(address, "/readyz").await;
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    assert_eq!(body, "source kitchen: connecting: connection refused\n");
    for (phase, status) in [(Phase::Standby, "200"), (Phase::Retrying, "200")] {
        world.phase(1, phase);
        let (head, _) = get(address, "/readyz").await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}")),
            "{phase:?}: {head}"
        );
    }
    world.phase(0, Phase::Stopped);
    let (head, body) = get(address, "/readyz").await;
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    assert_eq!(body.lines().count(), 2, "{body}");
    world.phase(0, Phase::Leading);
    let (head, _) = get(address, "/readyz").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    world.draining.cancel();
    let (head, body) = get(address, "/readyz").await;
    assert!(
        head.starts_with("HTTP/1.1 503") && body == "draining\n",
        "{head}\n{body}"
    );
}

#[tokio::test]
async fn what_is_not_there_or_not_allowed_is_said_so() {
    let (address, _http) = serve(&World::with(&[])).await;
    let (head, _) = get(address, "/").await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    let post = "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n";
    let (head, _) = send(address, post).await;
    assert!(head.starts_with("HTTP/1.1 405"), "{head}");
    let long = format!(
        "GET /metrics HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
        "x".repeat(64 << 10)
    );
    let (head, _) = send(address, &long).await;
    assert!(!head.starts_with("HTTP/1.1 200"), "{head}");
}

#[tokio::test]
async fn silent_clients_keep_nobody_else_waiting_for_long() {
    let (address, _http) = serve(&World::with(&[])).await;
    let began = Instant::now();
    let mut silent = Vec::new();
    for number in 0..80 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if number % 2 == 0 {
            stream
                .write_all(b"GET /metrics HTTP/1.1\r\nHost")
                .await
                .unwrap();
        }
        silent.push(stream);
    }
    let answered = tokio::time::timeout(LONGEST, get(address, "/healthz")).await;
    let (head, _) = answered.expect("silent clients took every connection");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(
        began.elapsed() > Duration::from_secs(3),
        "80 connections at once are more than there are"
    );
}

#[tokio::test]
async fn it_ends_when_told_to_even_while_connections_are_open() {
    let world = World::with(&[]);
    let (address, http) = serve(&world).await;
    let mut silent = Vec::new();
    for _ in 0..70 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    world.stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(2), http).await;
    assert!(matches!(ended, Ok(Ok(()))), "{ended:?}");
}
