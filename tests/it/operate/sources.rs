//! Pausing, resuming and releasing one source, and another log.

use super::{PATIENCE, epoch, insert, published, wait_leads, wait_published};
use crate::site::ctl;
use crate::support::daemon::Daemon;
use crate::support::{kafka, postgres, unique, wait_until};
use crate::world::{OUTBOXD, Service, daemon, kafka_block, topic};

#[test]
fn a_paused_source_keeps_its_lease_and_publishes_nothing_until_it_is_resumed() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let topic = topic(kafka, "paused", 1, &[]);
    let [service, other] = ["paused", "other"].map(|name| Service::install(postgres, name));
    let daemon = daemon(kafka, &unique("paused"), &[&service, &other]);
    for service in [&service, &other] {
        wait_leads(&daemon, service);
    }
    insert(&service, &topic, &["1"]);
    wait_published(kafka, &topic, 1);
    let led = epoch(&service);
    let name = service.name.as_str();
    let paused = || {
        daemon
            .metrics()
            .value("outboxd_source_paused", &[("source", name)])
    };
    assert_eq!(paused(), Some(0.0));

    let ended = ctl(&daemon, &["pause", name]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.out.contains(&format!("outboxd ctl resume {name}")),
        "{ended:?}"
    );
    assert_eq!(paused(), Some(1.0));
    insert(&service, &topic, &["2", "3"]);
    insert(&other, &topic, &["4"]);
    wait_published(kafka, &topic, 2);
    // Longer than the lease lasts from one renewal, by the database's own clock.
    let renewed =
        service.number("select extract(epoch from lease_until)::bigint from outbox.relay");
    wait_until("the lease to be renewed in the pause", PATIENCE, || {
        let until = "select extract(epoch from lease_until)::bigint from outbox.relay";
        service.number(until) > renewed + 8
    });
    assert_eq!(published(kafka, &topic), 2, "nothing of it was published");
    let status = crate::site::outboxd(&["status", "--config", daemon.config().to_str().unwrap()]);
    let line = status
        .out
        .lines()
        .find(|line| line.starts_with(name))
        .unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words.get(1), Some(&"paused"), "{line}");

    let ended = ctl(&daemon, &["resume", name]);
    assert_eq!(ended.code, 0, "{ended:?}");
    wait_published(kafka, &topic, 4);
    assert_eq!(paused(), Some(0.0));
    assert_eq!(epoch(&service), led);
}

#[test]
fn a_released_source_goes_to_the_other_daemon_and_stays_there() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let topic = topic(kafka, "released", 1, &[]);
    let service = Service::install(postgres, "released");
    let prefix = unique("released");
    let name = service.name.as_str();
    let one = daemon(kafka, &prefix, &[&service]);
    wait_leads(&one, &service);
    let two = daemon(kafka, &prefix, &[&service]);
    two.wait_ready();
    insert(&service, &topic, &["1"]);
    wait_published(kafka, &topic, 1);
    let led = epoch(&service);
    let stranger = ctl(&two, &["release", name]);
    assert_eq!(stranger.code, 69, "{stranger:?}");
    assert!(stranger.err.contains("leads source"), "{stranger:?}");

    let ended = ctl(&one, &["release", name]);
    assert_eq!(ended.code, 0, "{ended:?}");
    wait_leads(&two, &service);
    insert(&service, &topic, &["2"]);
    wait_published(kafka, &topic, 2);
    assert_eq!(epoch(&service), led + 1, "handed over once");
    // The first one may lead again when the second is gone.
    two.kill();
    wait_leads(&one, &service);
    insert(&service, &topic, &["3"]);
    wait_published(kafka, &topic, 3);
}

#[test]
fn a_released_source_that_nobody_takes_is_led_again() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let topic = topic(kafka, "alone", 1, &[]);
    let service = Service::install(postgres, "alone");
    let config =
        kafka_block(kafka, &unique("alone")) + "[relay]\nlease = \"2s\"\n" + &service.block("");
    let daemon = Daemon::start(OUTBOXD, &config);
    wait_leads(&daemon, &service);
    let led = epoch(&service);
    let ended = ctl(&daemon, &["release", &service.name]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.contains("for 2 s"), "{ended:?}");
    insert(&service, &topic, &["1"]);
    wait_published(kafka, &topic, 1);
    assert_eq!(epoch(&service), led + 1);
}

#[test]
fn a_source_that_is_not_there_is_said_to_be_so() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let service = Service::install(postgres, "there");
    let daemon = daemon(kafka, &unique("there"), &[&service]);
    daemon.wait_ready();
    for command in ["pause", "resume", "release"] {
        let ended = ctl(&daemon, &[command, "elsewhere"]);
        assert_eq!(ended.code, 64, "{ended:?}");
        assert!(
            ended.err.contains(&format!("there are {}", service.name)),
            "{ended:?}"
        );
    }
}

#[test]
fn the_log_says_more_or_less_while_the_daemon_runs_and_who_asked_for_it() {
    let kafka = kafka();
    let daemon = Daemon::start(OUTBOXD, &kafka_block(kafka, &unique("log")));
    daemon.wait_ready();
    let ended = ctl(&daemon, &["log", "loud"]);
    assert_eq!(ended.code, 64, "{ended:?}");
    assert!(ended.err.contains("not a log filter"), "{ended:?}");
    let ended = ctl(&daemon, &["log", "error"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ctl(&daemon, &["log", "info"]).code, 0);
    let log = daemon.log();
    let asks: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("an operator asks"))
        .collect();
    // The third question came while only errors were logged.
    assert_eq!(asks.len(), 2, "{log}");
    let user = format!(
        "\"user\":{}",
        std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(daemon.config()).unwrap())
    );
    assert!(
        asks.iter()
            .all(|line| line.contains(&user) && line.contains("\"process\":")),
        "{asks:?}"
    );
}
