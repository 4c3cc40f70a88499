//! Ten thousand clients come back at once, as after a restart, to a daemon with default limits. Never more patient than clients that were
//! told when to come again.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use super::log::{SagaLog, TOLD};
use super::site::Site;
use crate::support::light::Client;
use crate::support::{block_on, kafka, unique};

const CLIENTS: usize = 10_000;
/// On a quiet machine it is a few seconds; `make bench` tells.
const PATIENCE: Duration = Duration::from_secs(150);

#[test]
fn ten_thousand_clients_that_come_back_at_once_are_all_let_in() {
    raise_limit();
    let kafka = kafka();
    let prefix = unique("storm");
    let site = Site::start(kafka, &prefix, &[], "");
    site.daemon.wait_ready();
    SagaLog::plain(kafka, &prefix).tell(&TOLD);
    site.wait_state("o-42", "PENDING");
    let tokens = site.tokens(CLIENTS);
    let turned_away = Arc::new(AtomicUsize::new(0));
    let sent_away = Arc::clone(&turned_away);
    let (address, daemon) = (site.address(), &site.daemon);
    block_on(async move {
        let mut connecting = JoinSet::new();
        for (number, token) in tokens.into_iter().enumerate() {
            connecting.spawn(come(address, number, token, Arc::clone(&sent_away)));
        }
        let clients = tokio::time::timeout(PATIENCE, connecting.join_all()).await;
        let clients = clients.expect("all of them should have been let in");
        assert_eq!(clients.len(), CLIENTS);
        let metrics = daemon.metrics();
        let open = metrics.value("outboxd_push_connections", &[("transport", "websocket")]);
        assert_eq!(open, Some(10_000.0));
        assert_eq!(metrics.sum("outboxd_push_subscriptions"), 10_000.0);
    });
    let rejected = site.daemon.metrics();
    let reason = [("reason", "unauthenticated")];
    let rejected = rejected.value("outboxd_push_rejected_total", &reason);
    assert!(
        rejected.unwrap_or_default() >= turned_away.load(Ordering::Relaxed) as f64,
        "who was told to come again was counted"
    );
}

/// Connects, shows a token and sees a saga, as often as it takes.
async fn come(
    address: SocketAddr,
    number: usize,
    token: String,
    turned_away: Arc<AtomicUsize>,
) -> Client {
    let mut attempt = 0;
    loop {
        match visit(address, number, &token).await {
            Ok(Ok(client)) => return client,
            Ok(Err(seconds)) => {
                turned_away.fetch_add(1, Ordering::Relaxed);
                pause(number, attempt, Duration::from_secs(seconds), 2).await;
            }
            // Dropped without a word: back off, with full jitter.
            Err(_) => {
                let longest = Duration::from_millis(500 << attempt.min(5));
                pause(number, attempt, Duration::ZERO, 1).await;
                tokio::time::sleep(longest.mul_f64(fraction(number, attempt))).await;
            }
        }
        attempt += 1;
    }
}

/// Waits as told, and a little longer, each a little else.
async fn pause(number: usize, attempt: usize, told: Duration, seconds: u64) {
    let more = Duration::from_secs(seconds).mul_f64(fraction(number, attempt));
    tokio::time::sleep(told + more).await;
}

/// From 0 to 1, evenly spread over all clients.
fn fraction(number: usize, attempt: usize) -> f64 {
    ((number + 7_919 * attempt) as f64 * 0.618_033_988_749_895).fract()
}

async fn visit(
    address: SocketAddr,
    number: usize,
    token: &str,
) -> std::io::Result<Result<Client, u64>> {
    let mut client = Client::connect(address, number).await?;
    if let Some(seconds) = client.upgrade().await? {
        return Ok(Err(seconds));
    }
    client.send(&json!({"type": "auth", "id": 1, "token": token}))?;
    until(&mut client, "ready").await?;
    client.send(
        &json!({"type": "subscribe", "id": 2, "saga_type": "create-order", "saga_id": "o-42"}),
    )?;
    until(&mut client, "snapshot").await?;
    Ok(Ok(client))
}

/// Listens until a frame of this type has come.
async fn until(client: &mut Client, kind: &str) -> std::io::Result<()> {
    let wanted = format!("{{\"type\":\"{kind}\"");
    let mut seen = false;
    let deadline = Instant::now() + PATIENCE;
    while !seen {
        client
            .receive(|line| seen |= line.starts_with(wanted.as_bytes()))
            .await?;
        assert!(Instant::now() < deadline, "no {kind} came");
    }
    Ok(())
}

/// The daemon inherits it.
fn raise_limit() {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let open = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let mut numbers = open.unwrap().split_whitespace().skip(3);
    let (soft, hard) = (numbers.next().unwrap(), numbers.next().unwrap());
    let number = |text: &str| text.parse::<usize>().unwrap_or(usize::MAX);
    assert!(
        number(hard) >= CLIENTS + 2_000,
        "this user may open {hard} files: too few for {CLIENTS} clients"
    );
    if number(soft) < CLIENTS + 2_000 {
        let raised = Command::new("prlimit")
            .args([
                "--pid",
                &std::process::id().to_string(),
                &format!("--nofile={hard}:{hard}"),
            ])
            .status();
        assert!(raised.unwrap().success());
    }
}
