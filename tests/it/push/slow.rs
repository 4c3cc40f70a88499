//! A client that stops reading costs memory for its queue, and nobody else anything.

use std::time::Duration;

use serde_json::json;
use tokio::net::TcpSocket;

use super::log::{SagaLog, TOLD, Told};
use super::site::Site;
use crate::support::socket::{Known, Socket};
use crate::support::{block_on, kafka, unique};

const CHANGES: u128 = 10_000;
const MEGABYTE: f64 = 1024.0 * 1024.0;

#[test]
fn a_client_that_does_not_read_gets_snapshots_later_and_slows_nobody() {
    let kafka = kafka();
    let prefix = unique("slow");
    let site = Site::start(kafka, &prefix, &[], "");
    site.daemon.wait_ready();
    let log = SagaLog::plain(kafka, &prefix);
    // The ring is filled before anything is measured: it is there with and without slow clients.
    for event in 1..=CHANGES {
        log.send(&Told {
            saga_id: if event % 2 == 0 { "a" } else { "b" },
            event,
            ..TOLD
        });
    }
    log.flush();
    log.tell(&Told {
        saga_id: "a",
        event: 7 * CHANGES,
        state: Some("FILLED"),
        ..TOLD
    });
    log.tell(&Told {
        saga_id: "b",
        event: 8 * CHANGES,
        state: Some("FILLED"),
        ..TOLD
    });
    site.wait_state("a", "FILLED");
    site.wait_state("b", "FILLED");
    let token = site.token("c-7", &[]);
    block_on(async {
        let mut known = Known::default();
        let tcp = TcpSocket::new_v4().unwrap();
        // Otherwise the kernel would read for it.
        tcp.set_recv_buffer_size(4096).unwrap();
        let tcp = tcp.connect(site.address()).await.unwrap();
        let mut slow = Socket::over(tcp, site.address(), &[]).await.unwrap();
        slow.send(&json!({"type": "auth", "id": 1, "token": token}))
            .await
            .unwrap();
        known.ready(&slow.news().await.unwrap());
        let (mut quick, ready) = Socket::authenticated(site.address(), &token).await.unwrap();
        let mut quick_known = Known::default();
        quick_known.ready(&ready);
        for saga in ["a", "b"] {
            slow.send(&known.subscribe(2, "create-order", saga))
                .await
                .unwrap();
            known.take(&slow.news().await.unwrap()).unwrap();
            known.take(&slow.news().await.unwrap()).unwrap();
            quick
                .send(&quick_known.subscribe(2, "create-order", saga))
                .await
                .unwrap();
            quick_known.take(&quick.news().await.unwrap()).unwrap();
            quick_known.take(&quick.news().await.unwrap()).unwrap();
        }
        let before = site.resident();
        for event in CHANGES + 1..=2 * CHANGES {
            let state = format!("S{event}");
            log.send(&Told {
                saga_id: if event % 2 == 0 { "a" } else { "b" },
                event,
                state: Some(&state),
                ..TOLD
            });
            if event % 100 == 0 {
                log.flush();
                // The other one is served meanwhile.
                while quick_known.changes < u64::try_from(event - CHANGES).unwrap() {
                    quick_known.take(&quick.news().await.unwrap()).unwrap();
                }
            }
        }
        let grown = (site.resident() - before) / MEGABYTE;
        assert!(grown < 5.0, "resident memory grew by {grown:.1} MB");
        assert_eq!(quick_known.snapshots, 2, "the quick one missed nothing");
        let skipped = site.daemon.metrics().sum("outboxd_push_skipped_total");
        assert!(skipped > 1000.0, "the slow one was hardly slow: {skipped}");
        let last = |saga: &str| known_state(&quick_known, saga);
        while known_state(&known, "a") != last("a") || known_state(&known, "b") != last("b") {
            known.take(&slow.news().await.unwrap()).unwrap();
        }
        assert!(
            known.snapshots > 2,
            "it was brought up to date by snapshots"
        );
        assert!(known.changes < u64::try_from(CHANGES).unwrap());
        // And from there on by changes again.
        let changes = known.changes;
        log.tell(&Told {
            saga_id: "a",
            event: 3 * CHANGES,
            ..TOLD
        });
        known.take(&slow.news().await.unwrap()).unwrap();
        assert_eq!(known.changes, changes + 1);
    });
}

fn known_state(known: &Known, saga: &str) -> Option<serde_json::Value> {
    let seen = known
        .sagas
        .get(&("create-order".to_owned(), saga.to_owned()));
    seen.map(|seen| seen.state.clone())
}

#[test]
fn a_client_that_takes_nothing_for_half_a_minute_is_let_go() {
    let kafka = kafka();
    let prefix = unique("stuck");
    let site = Site::start(kafka, &prefix, &[], "heartbeat = \"1s\"");
    site.daemon.wait_ready();
    let log = SagaLog::plain(kafka, &prefix);
    let token = site.token("c-7", &[]);
    block_on(async {
        let tcp = TcpSocket::new_v4().unwrap();
        tcp.set_recv_buffer_size(4096).unwrap();
        let tcp = tcp.connect(site.address()).await.unwrap();
        let mut stuck = Socket::over(tcp, site.address(), &[]).await.unwrap();
        stuck
            .send(&json!({"type": "auth", "id": 1, "token": token}))
            .await
            .unwrap();
        stuck.news().await.unwrap();
        stuck
            .send(&Known::default().subscribe(2, "create-order", "o-42"))
            .await
            .unwrap();
        stuck.news().await.unwrap();
        for event in 1..4000 {
            log.send(&Told { event, ..TOLD });
        }
        log.flush();
        site.daemon
            .wait_metrics("the stuck client to be closed as slow", |metrics| {
                metrics.value("outboxd_push_closed_total", &[("code", "4008")]) == Some(1.0)
            });
        tokio::time::timeout(Duration::from_secs(30), stuck.rest())
            .await
            .unwrap();
    });
    site.daemon
        .wait_metrics("its memory to be free", |metrics| {
            metrics.value("outboxd_push_connections", &[("transport", "websocket")]) == Some(0.0)
        });
}
