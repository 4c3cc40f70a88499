//! Writes the saga topic as relays would, or as they never would. Never goes through a daemon.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::consumer::read_all;
use crate::support::kafka::Kafka;
use crate::support::socket::SagaSeen;

const PATIENCE: Duration = Duration::from_secs(30);

/// A producer for the saga topic of one prefix.
pub(super) struct SagaLog {
    producer: BaseProducer,
    topic: String,
}

/// What an event says of its saga; `event` makes its id.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told<'a> {
    pub(super) saga_type: &'a str,
    pub(super) saga_id: &'a str,
    pub(super) user: &'a str,
    pub(super) state: Option<&'a str>,
    pub(super) outcome: Option<&'a str>,
    pub(super) step: Option<(&'a str, &'a str)>,
    pub(super) source: &'a str,
    pub(super) event: u128,
}

/// The usual one.
pub(super) const TOLD: Told<'static> = Told {
    saga_type: "create-order",
    saga_id: "o-42",
    user: "c-7",
    state: Some("PENDING"),
    outcome: None,
    step: None,
    source: "orders",
    event: 1,
};

impl SagaLog {
    /// Without transactions.
    pub(super) fn plain(kafka: &Kafka, prefix: &str) -> Self {
        Self::new(kafka, prefix, &[("enable.idempotence", "true")])
    }

    /// With transactions.
    pub(super) fn transactional(kafka: &Kafka, prefix: &str) -> Self {
        let log = Self::new(kafka, prefix, &[("transactional.id", prefix)]);
        log.producer.init_transactions(PATIENCE).unwrap();
        log
    }

    fn new(kafka: &Kafka, prefix: &str, properties: &[(&str, &str)]) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", kafka.bootstrap());
        config.set("partitioner", "murmur2_random");
        config.set("linger.ms", "0");
        for (name, value) in properties {
            config.set(*name, *value);
        }
        Self {
            producer: config.create().unwrap(),
            topic: format!("{prefix}.sagas"),
        }
    }

    /// Writes what an event says, and waits until the broker has it.
    pub(super) fn tell(&self, told: &Told<'_>) {
        self.send(told);
        self.flush();
    }

    /// The same without waiting.
    pub(super) fn send(&self, told: &Told<'_>) {
        let value = json!({
            "v": 1, "saga_type": told.saga_type, "saga_id": told.saga_id, "user": told.user,
            "state": told.state, "outcome": told.outcome, "step": told.step.map(|(step, _)| step),
            "status": told.step.map(|(_, status)| status), "event_type": "E",
            "event_id": Uuid::from_u128(told.event), "source": told.source, "at": now(),
        });
        self.raw(told.saga_id, value.to_string().as_bytes());
    }

    /// Writes anything.
    pub(super) fn raw(&self, key: &str, value: &[u8]) {
        let mut record = BaseRecord::to(&self.topic).key(key).payload(value);
        while let Err((error, again)) = self.producer.send(record) {
            assert!(error.to_string().contains("QueueFull"), "{error}");
            self.producer.poll(Duration::from_millis(10));
            record = again;
        }
    }

    pub(super) fn flush(&self) {
        self.producer.flush(PATIENCE).unwrap();
    }

    /// Runs `act` in a transaction, and keeps it or not.
    pub(super) fn transaction(&self, keep: bool, act: impl FnOnce(&Self)) {
        self.producer.begin_transaction().unwrap();
        act(self);
        self.flush();
        if keep {
            self.producer.commit_transaction(PATIENCE).unwrap();
        } else {
            self.producer.abort_transaction(PATIENCE).unwrap();
        }
    }
}

fn now() -> String {
    time::OffsetDateTime::now_utc()
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap()
}

/// What the log says each saga has come to, folded as simply as can be: one home service, the last word counts.
pub(super) fn fold(kafka: &Kafka, prefix: &str) -> HashMap<(String, String), SagaSeen> {
    let mut sagas: HashMap<(String, String), SagaSeen> = HashMap::new();
    let mut events = std::collections::HashSet::new();
    let topic = format!("{prefix}.sagas");
    for message in read_all(&kafka.bootstrap(), &[&topic]) {
        let value: Value =
            serde_json::from_slice(&message.value.unwrap_or_default()).unwrap_or_default();
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        if text("saga_id").is_empty() || !events.insert((text("saga_id"), text("event_id"))) {
            continue;
        }
        let seen = sagas
            .entry((text("saga_type"), text("saga_id")))
            .or_default();
        seen.version = message.offset;
        for (field, said) in [
            (&mut seen.state, &value["state"]),
            (&mut seen.outcome, &value["outcome"]),
        ] {
            if !said.is_null() {
                *field = said.clone();
            }
        }
        if !value["step"].is_null() {
            seen.steps.insert(text("step"), value["status"].clone());
        }
    }
    sagas
}
