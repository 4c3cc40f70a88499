//! Published rows go by TRUNCATE, unpublished ones stay, and a source wakes when something is inserted.

use std::time::{Duration, Instant};

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;
use crate::support::{block_on, consumer, kafka, postgres, unique, wait_until};
use crate::world::{OUTBOXD, Service, daemon, kafka_block, topic};

const PATIENCE: Duration = Duration::from_secs(60);

fn insert(service: &Service<'_>, topic: &str, rows: i32, bytes: i32) {
    block_on(async {
        let statement = "insert into outbox.event (topic, key, event_type, payload) \
             select $1, n::text, 'E', to_json(repeat('x', $3))::text from generate_series(1, $2) n";
        let client = service.connect().await;
        client
            .execute(statement, &[&topic, &rows, &bytes])
            .await
            .unwrap();
    });
}

#[test]
fn published_slots_are_emptied_and_unpublished_ones_are_kept() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let topic = topic(kafka, "ring", 1, &[]);
    let service = Service::install_with(postgres, "shop", &["--slot", "1s"]);
    insert(&service, &topic, 50, 10);
    let rows = || service.number("select count(*) from outbox.event");
    let slots = "select (extract(epoch from clock_timestamp() - min(created_at)) > 6)::int::bigint from outbox.event";
    wait_until("the ring to come round", PATIENCE, || {
        service.number(slots) == 1
    });
    insert(&service, &topic, 50, 10);
    assert_eq!(rows(), 100, "a full ring overwrites nothing");
    let daemon = daemon(kafka, &unique("ring"), &[&service]);
    wait_until("all slots to be emptied", PATIENCE, || rows() == 0);
    assert_eq!(consumer::read_all(&kafka.bootstrap(), &[&topic]).len(), 100);
    // A writer of an old slot that is still open keeps it from being emptied, and loses nothing.
    block_on(async {
        let client = service.connect().await;
        client.batch_execute("begin").await.unwrap();
        let statement =
            "insert into outbox.event (topic, event_type, payload) values ($1, 'Late', '1')";
        client.execute(statement, &[&topic]).await.unwrap();
        let began = Instant::now();
        wait_until("the ring to come round", PATIENCE, || {
            began.elapsed() > Duration::from_secs(6)
        });
        client.execute(statement, &[&topic]).await.unwrap();
        client.batch_execute("commit").await.unwrap();
    });
    wait_until("the late ones", PATIENCE, || {
        consumer::read_all(&kafka.bootstrap(), &[&topic]).len() == 102
    });
    wait_until("their slot to be emptied", PATIENCE, || rows() == 0);
    assert_eq!(daemon.terminate(), 0, "{}", daemon.log());
}

#[test]
fn a_backlog_of_large_rows_is_not_held_in_memory() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let topic = topic(kafka, "large", 4, &[]);
    let service = Service::install(postgres, "shop");
    insert(&service, &topic, 300, 900_000);
    let daemon = daemon(kafka, &unique("large"), &[&service]);
    daemon.wait_metrics("all to be published", |metrics| {
        metrics.sum("outboxd_events_published_total") >= 300.0
    });
    // 270 MB went through; a batch is bounded by bytes, whatever its rows weigh.
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", daemon.pid().unwrap())).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak_kib < 100 * 1024, "{peak_kib} KiB");
}

#[test]
fn a_sleeping_source_is_woken_by_an_insert() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let topic = topic(kafka, "doorbell", 1, &[]);
    let service = Service::install(postgres, "shop");
    let daemon = daemon(kafka, &unique("doorbell"), &[&service]);
    let armed = "select count(*) from pg_locks where locktype = 'advisory' and classid = 1870034018 and granted \
         and database = (select oid from pg_database where datname = current_database()) and mode = 'ExclusiveLock'";
    for expected in 1..4 {
        wait_until("the doorbell to be armed", PATIENCE, || {
            service.number(armed) == 1
        });
        insert(&service, &topic, 1, 1);
        daemon.wait_metrics("the event", |metrics| {
            metrics.sum("outboxd_events_published_total") >= f64::from(expected)
        });
    }
}

#[test]
fn where_transactions_are_prepared_nothing_rings_and_all_arrives() {
    let kafka = kafka();
    let postgres = Postgres::builder(15)
        .settings(&[("max_prepared_transactions", "5")])
        .start();
    let topic = topic(kafka, "prepared", 1, &[]);
    let service = Service::install(&postgres, "shop");
    let config = kafka_block(kafka, &unique("prepared")) + &service.block("");
    let daemon = Daemon::start(OUTBOXD, &config);
    wait_until("the daemon to say so", PATIENCE, || {
        daemon.log().contains("no doorbell here")
    });
    block_on(async {
        let client = service.connect().await;
        client.batch_execute("begin").await.unwrap();
        let statement =
            "insert into outbox.event (topic, event_type, payload) values ($1, 'E', '1')";
        client.execute(statement, &[&topic]).await.unwrap();
        client
            .batch_execute("prepare transaction 'later'")
            .await
            .unwrap();
        insert_one(&service, &topic).await;
        wait_until("the second one", PATIENCE, || {
            consumer::read_all(&kafka.bootstrap(), &[&topic]).len() == 1
        });
        client
            .batch_execute("commit prepared 'later'")
            .await
            .unwrap();
    });
    wait_until("both", PATIENCE, || {
        consumer::read_all(&kafka.bootstrap(), &[&topic]).len() == 2
    });
}

async fn insert_one(service: &Service<'_>, topic: &str) {
    let statement = "insert into outbox.event (topic, event_type, payload) values ($1, 'E', '2')";
    service
        .connect()
        .await
        .execute(statement, &[&topic])
        .await
        .unwrap();
}
