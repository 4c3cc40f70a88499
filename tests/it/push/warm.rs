//! A daemon that comes back knows its sagas from a file, exactly as if it had read the log from its beginning. Never believes a file that is not of this log.

use std::fs;

use serde_json::{Value, json};

use super::log::{SagaLog, TOLD, Told, fold};
use super::site::Site;
use crate::support::kafka::Kafka;
use crate::support::socket::{Known, Socket};
use crate::support::topics::{create_topic, delete_records, delete_topic};
use crate::support::{block_on, kafka, unique};

const KEPT: &str = "state_directory = \"state\"";
const SAGAS: usize = 300;
const FROM_FILE: &str = "sagas are known from before";
const USELESS: &str = "sagas from before are of no use";

/// All that a site knows, by saga.
fn all(site: &Site) -> Vec<Value> {
    let token = site.token("ops", &["create-order"]);
    let mut sagas = Vec::new();
    let mut after = String::new();
    loop {
        let (status, page) = site.ask(&format!("/v1/sagas?limit=1000&after={after}"), &token);
        assert_eq!(status, 200);
        sagas.extend(page["sagas"].as_array().unwrap().iter().cloned());
        match page["after"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => break,
        }
    }
    sagas.sort_by_key(|saga| saga["saga_id"].to_string());
    sagas
}

/// One round of news of every saga: states, steps, ends, repetitions and what should not be.
fn tell_round(log: &SagaLog, round: u128) {
    for number in 0..SAGAS {
        let id = format!("o-{number}");
        let event = round * 10_000 + number as u128;
        let state = format!("S{round}");
        let told = Told {
            saga_id: &id,
            event,
            ..TOLD
        };
        match (number as u128 + round) % 5 {
            0 => log.send(&Told {
                state: None,
                step: Some(("ticket", "done")),
                source: "kitchen",
                ..told
            }),
            1 => log.send(&Told {
                state: Some(&state),
                outcome: Some("completed"),
                ..told
            }),
            2 => log.send(&Told {
                state: Some(&state),
                source: "kitchen",
                ..told
            }),
            _ => log.send(&Told {
                state: Some(&state),
                ..told
            }),
        }
        if number % 7 == 0 {
            log.send(&Told {
                state: Some("TWICE"),
                ..told
            });
        }
    }
    log.flush();
}

/// Waits until a site has read what was told up to now.
fn wait_told(site: &Site, log: &SagaLog, event: u128) {
    let state = format!("E{event}");
    log.tell(&Told {
        saga_id: "last",
        event: 900_000 + event,
        state: Some(&state),
        ..TOLD
    });
    site.wait_state("last", &state);
}

fn begun(kafka: &Kafka, name: &str) -> (String, Site, SagaLog) {
    let prefix = unique(name);
    let site = Site::start(kafka, &prefix, &[], KEPT);
    site.daemon.wait_ready();
    let log = SagaLog::plain(kafka, &prefix);
    for round in 1..=3 {
        tell_round(&log, round);
    }
    wait_told(&site, &log, 1);
    (prefix, site, log)
}

#[test]
fn a_daemon_that_comes_back_knows_what_the_log_no_longer_has() {
    let kafka = kafka();
    let (prefix, site, log) = begun(kafka, "warm");
    let before = all(&site);
    let token = site.token("c-7", &[]);
    // Two clients: one saw sagas at the end, the other long ago.
    let (mut current, mut old) = (Known::default(), Known::default());
    let ids = ["o-1", "o-2"];
    let epoch = site.ask("/v1/sagas/create-order/o-1", &token).1["epoch"].clone();
    for saga in &before {
        current.take(saga).unwrap();
        let mut stale = saga.clone();
        stale["version"] = json!(0);
        old.take(&stale).unwrap();
    }
    for known in [&mut current, &mut old] {
        epoch.as_str().unwrap().clone_into(&mut known.epoch);
    }
    assert_eq!(site.daemon.terminate(), 0);
    // One of them goes on while nobody is there.
    log.tell(&Told {
        saga_id: "o-2",
        event: 77,
        state: Some("NEWS"),
        ..TOLD
    });
    let expected = fold(kafka, &prefix);
    // The last record that the file knows is the last but one of its partition at the most.
    delete_records(&kafka.bootstrap(), &format!("{prefix}.sagas"), 2);
    site.daemon.start_again();
    site.daemon.wait_ready();
    assert!(
        site.daemon.log().contains(FROM_FILE),
        "{}",
        site.daemon.log()
    );
    let after = all(&site);
    let untouched = |sagas: &[Value]| -> Vec<Value> {
        sagas
            .iter()
            .filter(|saga| saga["saga_id"] != "o-2")
            .cloned()
            .collect()
    };
    assert_eq!(untouched(&after), untouched(&before));
    assert_eq!(after.len(), SAGAS + 1);
    let went_on = after.iter().find(|saga| saga["saga_id"] == "o-2").unwrap();
    let expected = &expected[&("create-order".to_owned(), "o-2".to_owned())];
    assert_eq!(
        (&went_on["state"], &went_on["version"]),
        (&json!("NEWS"), &json!(expected.version))
    );
    block_on(async {
        for (known, modes) in [
            (&mut current, ["resumed", "resumed"]),
            (&mut old, ["snapshot", "snapshot"]),
        ] {
            let (mut socket, ready) = Socket::authenticated(site.address(), &token).await.unwrap();
            assert_eq!(ready["epoch"], known.epoch.as_str());
            for (id, mode) in ids.iter().zip(modes) {
                socket
                    .send(&known.subscribe(2, "create-order", id))
                    .await
                    .unwrap();
                assert_eq!(socket.news().await.unwrap()["mode"], mode);
                if mode == "snapshot" || *id == "o-2" {
                    known.take(&socket.news().await.unwrap()).unwrap();
                }
            }
        }
    });
    for known in [&current, &old] {
        assert_eq!(
            &known.sagas[&("create-order".to_owned(), "o-2".to_owned())].version,
            &expected.version
        );
    }
    assert_eq!((current.changes, old.changes), (1, 0));
    // It knows which events it has seen: a repetition is none.
    log.tell(&Told {
        saga_id: "o-2",
        event: 77,
        state: Some("AGAIN"),
        ..TOLD
    });
    wait_told(&site, &log, 2);
    site.wait_state("o-2", "NEWS");
}

#[test]
fn a_killed_daemon_comes_back_as_if_it_had_read_everything() {
    let kafka = kafka();
    let (prefix, site, log) = begun(kafka, "killed");
    // The file of the end is older than what follows, and so is the one of the next start.
    assert_eq!(site.daemon.terminate(), 0);
    tell_round(&log, 4);
    site.daemon.start_again();
    site.daemon.wait_ready();
    tell_round(&log, 5);
    wait_told(&site, &log, 2);
    site.daemon.kill();
    tell_round(&log, 6);
    site.daemon.start_again();
    site.daemon.wait_ready();
    wait_told(&site, &log, 3);
    assert_eq!(
        site.daemon.log().matches(FROM_FILE).count(),
        2,
        "{}",
        site.daemon.log()
    );
    let cold = Site::start(kafka, &prefix, &[], "");
    cold.daemon.wait_ready();
    assert_eq!(all(&site), all(&cold));
    let gauges = |site: &Site| site.daemon.metrics().sum("outboxd_sagas");
    assert_eq!(gauges(&site), gauges(&cold));
}

#[test]
fn a_file_that_is_damaged_or_of_another_log_is_ignored_with_a_line() {
    let kafka = kafka();
    let (prefix, site, log) = begun(kafka, "useless");
    let (topic, file) = (
        format!("{prefix}.sagas"),
        site.daemon.directory().join("state/sagas"),
    );
    let lines = |site: &Site| site.daemon.log().matches(USELESS).count();
    let expected = all(&site);
    assert_eq!(site.daemon.terminate(), 0);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    site.daemon.start_again();
    site.daemon.wait_ready();
    assert!(
        site.daemon.log().contains("it is damaged"),
        "{}",
        site.daemon.log()
    );
    assert_eq!(all(&site), expected);
    // The log loses the records that the file would be followed by.
    assert_eq!(site.daemon.terminate(), 0);
    tell_round(&log, 4);
    delete_records(&kafka.bootstrap(), &topic, 1);
    site.daemon.start_again();
    site.daemon.wait_ready();
    assert_eq!(lines(&site), 2, "{}", site.daemon.log());
    assert!(
        site.daemon.log().contains("no longer has the records"),
        "{}",
        site.daemon.log()
    );
    assert!(
        all(&site).len() <= 12,
        "no more than the log has, one record a partition"
    );
    // Another topic of the same name, with as many records.
    assert_eq!(site.daemon.terminate(), 0);
    delete_topic(&kafka.bootstrap(), &topic);
    create_topic(
        &kafka.bootstrap(),
        &topic,
        12,
        &[("message.timestamp.type", "LogAppendTime")],
    );
    let log = SagaLog::plain(kafka, &prefix);
    for round in 1..=5 {
        tell_round(&log, round);
    }
    site.daemon.start_again();
    site.daemon.wait_ready();
    assert_eq!(lines(&site), 3, "{}", site.daemon.log());
    assert!(
        site.daemon
            .log()
            .contains("is not the one that these sagas came from"),
        "{}",
        site.daemon.log()
    );
    let cold = Site::start(kafka, &prefix, &[], "");
    cold.daemon.wait_ready();
    assert_eq!(all(&site), all(&cold));
    assert_eq!(all(&site).len(), SAGAS);
}
