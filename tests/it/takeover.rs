//! Take-overs that are interrupted, again and again, while late transactions commit in between.

use std::time::Duration;

use tokio_postgres::Client;

use crate::support::consumer;
use crate::support::daemon::Daemon;
use crate::support::{block_on, kafka, postgres, unique, wait_until};
use crate::world::{OUTBOXD, Service, end_sessions, kafka_block, publish_unsettled, topic};

const PATIENCE: Duration = Duration::from_secs(60);
/// So small that the position must page, and that ids published before the crash lie beyond its first page.
const BATCH: &str = "batch = { events = 20 }";

#[test]
fn two_interrupted_take_overs_with_late_commits_double_nothing() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let prefix = unique("takeover");
    let topic = topic(kafka, "takeover", 4, &[]);
    let service = Service::install(postgres, "shop");
    let config = kafka_block(kafka, &prefix) + &service.block(BATCH);
    let daemon = Daemon::start(OUTBOXD, &config);
    wait_until("the first beat to be settled", PATIENCE, || {
        service.number("select batch from outbox.relay") > 0
    });
    block_on(async {
        // Two transactions draw the lowest ids and commit late.
        let (first, second) = (
            late(&service, &topic, 1).await,
            late(&service, &topic, 2).await,
        );
        let writer = service.connect().await;
        writer.batch_execute("begin").await.unwrap();
        insert(&writer, &topic, 100..200).await;
        publish_unsettled(&service, &daemon, &writer, || {
            wait_until("a batch before its settlement", PATIENCE, || {
                seen(&topic) >= 20
            });
        })
        .await;

        let relay = service.connect_as("postgres").await;
        hold(&relay, "select from outbox.relay for update").await;
        first.batch_execute("commit").await.unwrap();
        interrupt(&daemon, &service, &relay).await;
        second.batch_execute("commit").await.unwrap();
        hold(&relay, "select from outbox.relay for update").await;
        interrupt(&daemon, &service, &relay).await;
        insert(&service.connect().await, &topic, 300..310).await;
        daemon.start_again();
    });
    wait_until("all events", PATIENCE, || seen(&topic) >= 112);
    assert!(daemon.metrics().sum("outboxd_duplicates_suppressed_total") >= 20.0);
    wait_until(
        "the position to pass what was ahead of it",
        PATIENCE,
        || service.number("select count(*) from outbox.ahead") == 0,
    );
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
    let expected: Vec<i32> = (1..=2).chain(100..200).chain(300..310).collect();
    assert_eq!(values, expected);
}

fn seen(topic: &str) -> usize {
    consumer::read_all(&kafka().bootstrap(), &[topic]).len()
}

async fn insert(client: &Client, topic: &str, values: std::ops::Range<i32>) {
    for value in values {
        client
            .execute(
                "insert into outbox.event (topic, key, event_type, payload) values ($1, $2, 'E', $3)",
                &[&topic, &format!("k-{}", value % 7), &value.to_string()],
            )
            .await
            .unwrap();
    }
}

/// A transaction that has inserted a row and is not committed.
async fn late(service: &Service<'_>, topic: &str, value: i32) -> Client {
    let client = service.connect().await;
    client.batch_execute("begin").await.unwrap();
    insert(&client, topic, value..value + 1).await;
    client
}

async fn hold(client: &Client, lock: &str) {
    client
        .batch_execute(&format!("rollback; begin; {lock}"))
        .await
        .unwrap();
}

/// Starts the daemon and kills it between two points that locks make sure of: it has read back what was published, and
/// has not read a row yet. `relay` holds the one row of outbox.relay, and gives it free.
async fn interrupt(daemon: &Daemon, service: &Service<'_>, relay: &Client) {
    daemon.start_again();
    let waits = |what: &str| {
        let query = format!(
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query ilike '%{what}%' \
             and datname = current_database()"
        );
        wait_until(&format!("the daemon to wait for {what}"), PATIENCE, || {
            service.number(&query) > 0
        });
    };
    waits("set source = $2");
    let letters = service.connect_as("postgres").await;
    hold(
        &letters,
        "lock table outbox.dead_letter in access exclusive mode",
    )
    .await;
    relay.batch_execute("commit").await.unwrap();
    waits("from outbox.dead_letter");
    assert!(
        service.number("select count(*) from outbox.ahead") >= 20,
        "read back"
    );
    daemon.kill();
    end_sessions(service).await;
    letters.batch_execute("rollback").await.unwrap();
}
