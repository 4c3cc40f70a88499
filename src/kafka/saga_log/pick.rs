//! Reads some records of the topic of sagas once more, by their offsets. Never reads what nobody asked for, but what lies between.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::super::client::{Doing, Quiet};
use super::follower::record;
use super::{KafkaError, SagaLog, SagaLogRecord, panicked};
use crate::tasks::attached_blocking;

/// All of it may take so long.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);
/// Records that are closer to each other are read together with what lies between.
const NEAR: i64 = 200;
/// What a broker gives at once.
const FETCH_BYTES: &str = "131072";

impl SagaLog {
    /// The records of a partition at these offsets, which grow; those that the topic has no longer are left out.
    ///
    /// # Errors
    /// When the cluster does not give them within 10 s.
    pub async fn pick(
        &self,
        partition: i32,
        offsets: Vec<i64>,
    ) -> Result<Vec<SagaLogRecord>, KafkaError> {
        let log = self.clone();
        let picking = attached_blocking(move || pick(&log, partition, &offsets));
        picking.await.unwrap_or_else(|_| Err(panicked()))
    }
}

fn pick(log: &SagaLog, partition: i32, offsets: &[i64]) -> Result<Vec<SagaLogRecord>, KafkaError> {
    let mut config = log.clients.reader("read_committed")?;
    config
        .set("queued.min.messages", "1")
        .set("fetch.message.max.bytes", FETCH_BYTES);
    let consumer: BaseConsumer<Quiet> = log.clients.create(&config, log.clients.quiet())?;
    let failed = |error| log.clients.error(Doing::Read(&log.topic), &error);
    let until = Instant::now() + PATIENCE;
    let (low, _) = consumer
        .fetch_watermarks(&log.topic, partition, PATIENCE)
        .map_err(failed)?;
    let there: Vec<i64> = offsets.iter().copied().filter(|it| *it >= low).collect();
    let mut found = Vec::with_capacity(there.len());
    for run in there.chunk_by(|a, b| b - a <= NEAR) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            continue;
        };
        let mut place = TopicPartitionList::with_capacity(1);
        place
            .add_partition_offset(&log.topic, partition, Offset::Offset(*first))
            .and_then(|()| consumer.assign(&place))
            .map_err(failed)?;
        let mut read = first - 1;
        while read < *last {
            if Instant::now() > until {
                return Err(KafkaError::Unreachable {
                    servers: log.clients.servers().to_owned(),
                    why: format!("partition {partition} does not give offset {last} in time"),
                });
            }
            match consumer.poll(POLL) {
                Some(Ok(message)) => {
                    read = message.offset();
                    if run.binary_search(&read).is_ok() {
                        found.push(record(&message));
                    }
                }
                // Its retention was faster than we.
                Some(Err(error))
                    if matches!(
                        error.rdkafka_error_code(),
                        Some(Code::AutoOffsetReset | Code::OffsetOutOfRange)
                    ) =>
                {
                    break;
                }
                Some(Err(error)) => match failed(error) {
                    // Another broker may have it, or the same one in a moment.
                    KafkaError::Unreachable { .. } => {}
                    other => return Err(other),
                },
                None => {}
            }
        }
    }
    Ok(found)
}
