//! A producer is opened: it fences whoever was at work, and nobody any more once it is given up. Never what it publishes.

use std::pin::pin;
use std::thread::sleep;
use std::time::{Duration, Instant};

use outboxd::kafka::Publisher;
use outboxd::metrics::Gauge;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::saga_log::{clients, producer};
use crate::support::kafka::Kafka;
use crate::support::topics::create_topic;
use crate::support::{block_on, kafka, unique};

const PATIENCE: Duration = Duration::from_secs(90);
/// The library asks again after half a second.
const RETRIES: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(20);

/// Leads, and is in the middle of a transaction.
struct Leader(BaseProducer);

impl Leader {
    fn start(kafka: &Kafka, id: &str, topic: &str) -> Self {
        let producer = producer(kafka, &[("transactional.id", id)]);
        producer.init_transactions(PATIENCE).unwrap();
        producer.begin_transaction().unwrap();
        let leader = Self(producer);
        assert!(leader.goes_on(topic));
        leader.0.flush(PATIENCE).unwrap();
        leader
    }

    /// Sends another record of its transaction, unless it has been fenced.
    fn goes_on(&self, topic: &str) -> bool {
        let sent = self.0.send(BaseRecord::<(), str>::to(topic).payload("x"));
        self.0.poll(Duration::ZERO);
        sent.is_ok() && self.0.client().fatal_error().is_none()
    }
}

#[test]
fn a_producer_that_nobody_waits_for_any_more_fences_nobody() {
    let (kafka, id, topic) = (kafka(), unique("publisher"), unique("publisher"));
    create_topic(&kafka.bootstrap(), &topic, 1, &[]);
    let first = Leader::start(kafka, &id, &topic);
    let clients = clients(kafka, &id);
    block_on(async {
        let until = Instant::now() + PATIENCE;
        let mut opening = pin!(Publisher::open(&clients, &id, 100_000, Gauge::noop()));
        // The broker has to end the open transaction first, so that it is not opened by its first try.
        while first.goes_on(&topic) {
            assert!(Instant::now() < until, "nobody was fenced");
            if tokio::time::timeout(STEP, &mut opening).await.is_ok() {
                break;
            }
        }
    });
    let second = Leader::start(kafka, &id, &topic);
    let began = Instant::now();
    while began.elapsed() < RETRIES {
        assert!(second.goes_on(&topic), "fenced {:?}", began.elapsed());
        sleep(STEP);
    }
    second.0.commit_transaction(PATIENCE).unwrap();
}
