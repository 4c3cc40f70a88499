//! Somebody else's saga and one that does not exist are one answer, byte for byte.

use super::log::{SagaLog, TOLD, Told};
use super::site::Site;
use crate::support::socket::{Known, Socket};
use crate::support::{block_on, kafka, unique};

#[test]
fn somebody_elses_saga_and_an_unknown_one_are_answered_alike() {
    let kafka = kafka();
    let prefix = unique("hidden");
    let site = Site::start(kafka, &prefix, &[], "");
    site.daemon.wait_ready();
    let log = SagaLog::plain(kafka, &prefix);
    log.tell(&Told {
        user: "c-8",
        saga_id: "theirs",
        ..TOLD
    });
    log.tell(&Told {
        saga_id: "mine",
        event: 2,
        ..TOLD
    });
    site.wait_state("theirs", "PENDING");
    site.wait_state("mine", "PENDING");
    let token = site.token("c-7", &[]);
    let bearer = format!("Bearer {token}");
    let get = |path: &str| site.get(path, &[("Authorization", &bearer)]);

    let theirs = get("/v1/sagas/create-order/theirs");
    let nobodys = get("/v1/sagas/create-order/nobody");
    assert!(theirs.starts_with("HTTP/1.1 404"), "{theirs}");
    assert_eq!(without_date(&theirs), without_date(&nobodys));
    let waiting = "?version=1&wait=1";
    let theirs = get(&format!("/v1/sagas/create-order/theirs{waiting}"));
    let nobodys = get(&format!("/v1/sagas/create-order/nobody{waiting}"));
    assert_eq!(without_date(&theirs), without_date(&nobodys));
    assert!(get("/v1/sagas/create-order/mine").starts_with("HTTP/1.1 200"));

    block_on(async {
        let known = Known::default();
        let mut answers = Vec::new();
        for saga in ["theirs", "nobody"] {
            let (mut socket, _) = Socket::authenticated(site.address(), &token).await.unwrap();
            socket
                .send(&known.subscribe(2, "create-order", saga))
                .await
                .unwrap();
            answers.push(socket.news().await.unwrap().to_string());
            // What becomes of it stays hidden, too: the next thing that is heard is of another saga.
            log.tell(&Told {
                user: "c-8",
                saga_id: saga,
                event: 10,
                ..TOLD
            });
            socket
                .send(&known.subscribe(3, "create-order", "mine"))
                .await
                .unwrap();
            assert_eq!(socket.news().await.unwrap()["id"], 3);
        }
        assert_eq!(answers[0], answers[1]);
    });
    let hidden = site.daemon.metrics().sum("outboxd_push_hidden_total");
    assert!(hidden >= 3.0, "{hidden}");
    let log = site.daemon.log();
    assert!(
        log.contains("somebody asked for a saga that is not theirs"),
        "{log}"
    );
}

fn without_date(answer: &str) -> String {
    let lines = answer.lines().filter(|line| !line.starts_with("date:"));
    lines.collect::<Vec<_>>().join("\n")
}
