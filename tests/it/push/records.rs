//! What must never reach a client: records of aborted transactions, events told twice, nonsense.

use super::log::{SagaLog, TOLD, Told};
use super::site::Site;
use crate::support::socket::{Known, Socket};
use crate::support::{block_on, kafka, unique};

#[test]
fn aborted_records_duplicates_and_nonsense_never_reach_a_client() {
    let kafka = kafka();
    let prefix = unique("records");
    let site = Site::start(kafka, &prefix, &[], "");
    site.daemon.wait_ready();
    let log = SagaLog::transactional(kafka, &prefix);
    let told = |event, state: &'static str| Told {
        event,
        state: Some(state),
        ..TOLD
    };
    log.transaction(true, |log| log.send(&told(1, "A")));
    block_on(async {
        let token = site.token("c-7", &[]);
        let (mut socket, ready) = Socket::authenticated(site.address(), &token).await.unwrap();
        let mut known = Known::default();
        known.ready(&ready);
        site.wait_state("o-42", "A");
        socket
            .send(&known.subscribe(2, "create-order", "o-42"))
            .await
            .unwrap();
        assert_eq!(socket.news().await.unwrap()["mode"], "snapshot");
        known.take(&socket.news().await.unwrap()).unwrap();
        log.transaction(false, |log| log.send(&told(2, "ABORTED")));
        log.transaction(true, |log| {
            log.send(&told(1, "TWICE"));
            log.raw("o-42", b"{nonsense");
            log.raw(
                "o-42",
                br#"{"v":7,"saga_type":"create-order","saga_id":"o-42","state":"LATER"}"#,
            );
            log.raw(
                "o-42",
                br#"{"v":1,"source":"orders","published_until":"2026-11-21T10:00:00Z"}"#,
            );
        });
        log.transaction(false, |log| log.send(&told(3, "ABORTED")));
        log.transaction(true, |log| log.send(&told(4, "B")));
        let change = socket.news().await.unwrap();
        assert_eq!(change["state"], "B", "{change}");
        known.take(&change).unwrap();
        log.transaction(true, |log| {
            log.send(&told(4, "TWICE"));
            log.send(&told(5, "C"));
        });
        let change = socket.news().await.unwrap();
        assert_eq!(
            (&change["state"], &change["previous_state"]),
            (&"C".into(), &"B".into())
        );
        known.take(&change).unwrap();
    });
    let metrics = site.daemon.metrics();
    let skipped =
        |reason| metrics.value("outboxd_push_records_skipped_total", &[("reason", reason)]);
    assert_eq!(skipped("duplicate"), Some(2.0));
    assert_eq!(skipped("malformed"), Some(1.0));
    assert_eq!(skipped("unknown"), Some(1.0));
}
