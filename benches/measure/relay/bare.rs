//! What outboxd is compared with: the least that reads the same rows, and the least that publishes the same records in
//! transactions. Never does what outboxd is for: keep a position, encode, survive.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use futures_util::TryStreamExt;
use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, Producer},
};

use crate::Bench;
use crate::sample::Record;
use crate::support::{block_on, unique};
use crate::world::Service;

/// Rows of one page, records of one transaction: outboxd's default batch.
pub(crate) const BATCH: usize = 1000;
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that a relay needs of a row.
const PAGE: &str = "select id, topic, key, event_type, kind, payload, payload_bytes, content_type, headers, event_id, \
    correlation_id, causation_id, reply_to, reply_outcome, saga_type, saga_id, saga_user, saga_state, saga_outcome, \
    saga_step, saga_step_status, traceparent, tracestate, created_at \
    from outbox.event where id > $1 order by id limit $2";

/// Pages through all rows by id and drops them.
pub(crate) fn read(service: &Service<'_>) -> usize {
    block_on(async {
        let client = service.connect_as(&format!("{}_relay", service.name)).await;
        // As outboxd's own session: the planner knows nothing of a table that has just been filled.
        client
            .batch_execute("set enable_seqscan = off; set plan_cache_mode = force_generic_plan")
            .await
            .unwrap();
        let statement = client.prepare(PAGE).await.unwrap();
        let (mut after, mut total) = (i64::MIN, 0);
        loop {
            let limit = i64::try_from(BATCH).expect("it fits");
            let mut rows = pin!(client.query_raw(&statement, [after, limit]).await.unwrap());
            let before = total;
            while let Some(row) = rows.try_next().await.unwrap() {
                after = row.get(0);
                total += 1;
            }
            if total - before < BATCH {
                return total;
            }
        }
    })
}

/// A transactional producer with outboxd's settings.
pub(crate) struct Bare {
    producer: BaseProducer,
    checkpoints: String,
}

impl Bare {
    pub(crate) fn new(bench: &Bench) -> Self {
        let checkpoints = crate::world::topic(&bench.kafka, "bare_checkpoints", 1, &[]);
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", bench.kafka.bootstrap())
            .set("transactional.id", unique("bare"))
            .set("linger.ms", "0")
            .set("batch.size", "940000")
            .set("batch.num.messages", "10000")
            .set("message.max.bytes", "1000000000")
            .set("partitioner", "murmur2_random");
        let producer: BaseProducer = config.create().expect("a producer");
        producer
            .init_transactions(PATIENCE)
            .expect("a broker that answers");
        Self {
            producer,
            checkpoints,
        }
    }

    /// Publishes records in transactions of a batch each.
    pub(crate) fn publish(&self, topic: &str, records: &[Record]) {
        for batch in records.chunks(BATCH) {
            self.transaction(topic, batch);
        }
    }

    /// One transaction of these records and what stands for a checkpoint.
    pub(crate) fn transaction(&self, topic: &str, records: &[Record]) {
        self.producer.begin_transaction().expect("none is open");
        for record in records {
            self.send(record.native(topic));
        }
        // As long as outboxd's, which names every event.
        let checkpoint = vec![b'c'; 250 + 32 * records.len()];
        self.send(
            BaseRecord::<[u8], [u8]>::to(&self.checkpoints)
                .partition(0)
                .key(b"bench")
                .payload(&checkpoint),
        );
        let until = Instant::now() + PATIENCE;
        while self.producer.in_flight_count() > 0 {
            assert!(Instant::now() < until, "records are not acknowledged");
            self.producer.poll(Duration::ZERO);
            std::thread::sleep(Duration::from_micros(100));
        }
        self.producer
            .commit_transaction(PATIENCE)
            .expect("a commit");
    }

    fn send<K: rdkafka::message::ToBytes + ?Sized, P: rdkafka::message::ToBytes + ?Sized>(
        &self,
        record: BaseRecord<'_, K, P>,
    ) {
        let mut record = record;
        while let Err((error, back)) = self.producer.send(record) {
            let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            assert!(error == full, "a record is refused: {error}");
            self.producer.poll(Duration::from_millis(1));
            record = back;
        }
    }
}
