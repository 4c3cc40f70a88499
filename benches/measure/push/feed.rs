//! Records of the saga topic without a relay, so that the client-facing half is measured alone. Never waits for the broker
//! unless asked to.

use std::time::{Duration, SystemTime};

use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::SAGA_TYPE;
use crate::Bench;

const PATIENCE: Duration = Duration::from_secs(60);

/// A plain producer.
pub(super) struct Feed {
    producer: BaseProducer,
    topic: String,
}

impl Feed {
    pub(super) fn new(bench: &Bench, prefix: &str) -> Self {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", bench.kafka.bootstrap())
            .set("linger.ms", "0")
            .set("partitioner", "murmur2_random");
        Self {
            producer: config.create().expect("a producer"),
            topic: format!("{prefix}.sagas"),
        }
    }

    /// Says that a saga, whose user has its name, went on.
    pub(super) fn send(&self, saga_id: &str) {
        let now = OffsetDateTime::from(SystemTime::now());
        let value = json!({
            "v": 1, "saga_type": SAGA_TYPE, "saga_id": saga_id, "user": saga_id, "state": "APPROVAL_PENDING",
            "outcome": null, "step": null, "status": null, "event_type": "OrderCreated",
            "event_id": Uuid::new_v4(), "source": "orders", "at": now.format(&Rfc3339).expect("a year of four digits"),
        });
        let value = value.to_string();
        let record = BaseRecord::to(&self.topic).key(saga_id).payload(&value);
        let sent = self.producer.send(record);
        assert!(sent.is_ok(), "a record is refused: {:?}", sent.err());
        self.producer.poll(Duration::ZERO);
    }

    /// Waits until the broker has everything.
    pub(super) fn flush(&self) {
        let flushed = self.producer.flush(PATIENCE);
        flushed.expect("a broker that answers");
    }
}
