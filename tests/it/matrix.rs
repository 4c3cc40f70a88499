//! What differs between versions of PostgreSQL, on each of them: kills, and a fail-over to a standby that lagged.

use std::time::Duration;

use crate::kill::kills;
use crate::support::consumer;
use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;
use crate::support::{block_on, kafka, unique, wait_until};
use crate::world::{OUTBOXD, Service, kafka_block, topic};

const PATIENCE: Duration = Duration::from_secs(60);

fn a_few_kills(version: u16) {
    kills(version, 5, 1, Duration::from_secs(5));
}

#[test]
fn kills_on_postgresql_14() {
    a_few_kills(14);
}

#[test]
fn kills_on_postgresql_15() {
    a_few_kills(15);
}

// 16 has thirty of them in `kill`.

#[test]
fn kills_on_postgresql_17() {
    a_few_kills(17);
}

#[test]
fn kills_on_postgresql_18() {
    a_few_kills(18);
}

#[test]
fn fail_over_on_postgresql_14() {
    fail_over(14);
}

#[test]
fn fail_over_on_postgresql_15() {
    fail_over(15);
}

#[test]
fn fail_over_on_postgresql_16() {
    fail_over(16);
}

#[test]
fn fail_over_on_postgresql_17() {
    fail_over(17);
}

#[test]
fn fail_over_on_postgresql_18() {
    fail_over(18);
}

/// The standby never hears of the last events that were published: they stay published once, what the standby writes
/// under the same row ids is published as well, what was lost is named, and the old primary may not lead any more.
fn fail_over(version: u16) {
    let kafka = kafka();
    let prefix = unique("failover");
    let topic = topic(kafka, "failover", 3, &[]);
    let primary = Postgres::start(version);
    let service = Service::install(&primary, "shop");
    let standby = primary.standby();
    let config = kafka_block(kafka, &prefix) + "[relay]\nlease = \"2s\"\n" + &service.block("");
    let daemon = Daemon::start(OUTBOXD, &config);
    daemon.wait_ready();
    let seen = || consumer::read_all(&kafka.bootstrap(), &[&topic]).len();

    insert(&service, &topic, 0..100);
    wait_until("the first events", PATIENCE, || seen() == 100);
    settled(&service);
    wait_until("the standby to have replayed all of it", PATIENCE, || {
        let lag = "select coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 1)::bigint from pg_stat_replication";
        service.number(lag) == 0
    });
    standby.pause();
    insert(&service, &topic, 100..120);
    wait_until("what the standby will not have", PATIENCE, || seen() == 120);
    settled(&service);

    primary.kill();
    // What was frozen has received nothing: it is stopped before it can read its socket.
    standby.kill();
    standby.resume();
    standby.move_to(&primary);
    // From here on `service` talks to the standby, which has the primary's address.
    service.execute("select pg_promote()");
    wait_until("the promotion", PATIENCE, || {
        service.number("select pg_is_in_recovery()::integer::bigint") == 0
    });
    let left = service.number("select count(*) from outbox.event");
    assert!(left <= 100, "the standby knows {left} events");
    insert(&service, &topic, 200..230);
    wait_until("the standby's events", PATIENCE, || seen() >= 150);
    assert!(
        daemon
            .log()
            .contains("the database has lost events that are published"),
        "{}",
        daemon.log()
    );
    settled(&service);

    // The old primary comes back at another address, and a daemon that was not told of the fail-over finds it.
    standby.stop_fast();
    primary.start_again();
    let old = Daemon::start(OUTBOXD, &config);
    wait_until("the old primary to be refused", PATIENCE, || {
        old.log().contains("this is an old primary")
    });
    insert(&service, &topic, 300..310);
    assert_eq!(old.terminate(), 0);
    assert_eq!(daemon.terminate(), 0, "{}", daemon.log());
    let mut values: Vec<i32> = consumer::read_all(&kafka.bootstrap(), &[&topic])
        .iter()
        .map(|message| {
            String::from_utf8(message.value.clone().unwrap())
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    values.sort_unstable();
    let expected: Vec<i32> = (0..120).chain(200..230).collect();
    assert_eq!(
        values, expected,
        "each once, and nothing from the old primary"
    );
}

fn insert(service: &Service<'_>, topic: &str, values: std::ops::Range<i32>) {
    block_on(async {
        let client = service.connect().await;
        let insert =
            "insert into outbox.event (topic, key, event_type, payload) values ($1, $2, 'E', $3)";
        for value in values {
            let key = format!("k-{}", value % 7);
            client
                .execute(insert, &[&topic, &key, &value.to_string()])
                .await
                .unwrap();
        }
    });
}

/// Waits until the relay has written down how far it is.
fn settled(service: &Service<'_>) {
    let before = service.number("select batch from outbox.relay");
    wait_until("a settlement", PATIENCE, || {
        service.number("select batch from outbox.relay") > before
    });
}
