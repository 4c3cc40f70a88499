//! What operators do to a running daemon: reload it, pause, resume and release its sources, change its log.

mod reload;
mod sources;

use std::time::Duration;

use crate::support::daemon::Daemon;
use crate::support::kafka::Kafka;
use crate::support::{block_on, consumer, wait_until};
use crate::world::Service;

const PATIENCE: Duration = Duration::from_secs(60);

fn insert(service: &Service<'_>, topic: &str, values: &[&str]) {
    block_on(async {
        let client = service.connect().await;
        let statement =
            "insert into outbox.event (topic, key, event_type, payload) values ($1, 'k', 'E', $2)";
        for value in values {
            client.execute(statement, &[&topic, value]).await.unwrap();
        }
    });
}

fn published(kafka: &Kafka, topic: &str) -> usize {
    consumer::read_all(&kafka.bootstrap(), &[topic]).len()
}

fn wait_published(kafka: &Kafka, topic: &str, events: usize) {
    wait_until(&format!("{events} events in {topic}"), PATIENCE, || {
        published(kafka, topic) >= events
    });
    assert_eq!(published(kafka, topic), events);
}

/// Rises with each take-over.
fn epoch(service: &Service<'_>) -> i64 {
    service.number("select epoch from outbox.relay")
}

fn wait_leads(daemon: &Daemon, service: &Service<'_>) {
    let name = service.name.as_str();
    daemon.wait_metrics(&format!("to lead {name}"), |metrics| {
        metrics.value("outboxd_source_leader", &[("source", name)]) == Some(1.0)
    });
}
