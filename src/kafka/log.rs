//! Reads a topic of one partition back, from an offset to its end. Never takes a time-out for the end.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::client::{Clients, Doing, KafkaError, Quiet, TRANSACTION_TIMEOUT_MS};
use crate::failpoint::{Sabotage, sabotaged};
use crate::logic::checkpoint::LogEnds;
use crate::tasks::{Attached, attached_blocking};

/// One committed record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Its offset.
    pub offset: i64,
    /// Its value.
    pub value: Vec<u8>,
}

/// The committed records of a checkpoint topic, oldest first, in bounded memory.
#[derive(Debug)]
pub struct CheckpointLog {
    /// Where the topic began and ended when it was opened.
    pub ends: LogEnds,
    records: mpsc::Receiver<Result<LogRecord, KafkaError>>,
    _reader: Attached<()>,
}

const PARTITION: i32 = 0;
const REQUEST: Duration = Duration::from_secs(10);
/// Somebody's open transaction ends by itself after its time-out and the broker's look at it.
const PATIENCE: Duration = Duration::from_millis(TRANSACTION_TIMEOUT_MS + 15_000);
const AHEAD: usize = 16;

impl CheckpointLog {
    /// Opens the topic at `from`, or at its beginning if that is later.
    ///
    /// The end is taken from a read_uncommitted client: brokers tell a read_committed one the last
    /// *stable* offset, and a transaction that is not decided yet would be skipped in silence.
    pub async fn open(clients: &Clients, topic: &str, from: i64) -> Result<Self, KafkaError> {
        let (clients, topic) = (clients.clone(), topic.to_owned());
        let (found, ends) = tokio::sync::oneshot::channel();
        let (sender, records) = mpsc::channel(AHEAD);
        let reader = attached_blocking(move || match ends_of(&clients, &topic) {
            Ok((ends, asked)) => {
                if found.send(Ok(ends)).is_ok() {
                    let done = read(&clients, &topic, from.max(ends.low), ends.high, &sender);
                    let readers = match done {
                        Ok(reader) => (asked, reader),
                        Err(error) => {
                            // Nobody listens any more: nothing to tell.
                            let _ = sender.blocking_send(Err(error));
                            (asked, None)
                        }
                    };
                    // Ending a client takes a tenth of a second, which nobody should wait for.
                    drop(sender);
                    drop(readers);
                }
            }
            Err(error) => drop(found.send(Err(error))),
        });
        let gone = |_| failed("the reader panicked");
        Ok(Self {
            ends: ends.await.map_err(gone)??,
            records,
            _reader: reader,
        })
    }

    /// Opens the topic at the first record that is not older than `since_ms` (milliseconds since 1970).
    pub async fn since(clients: &Clients, topic: &str, since_ms: i64) -> Result<Self, KafkaError> {
        let (at, name) = (clients.clone(), topic.to_owned());
        let found = attached_blocking(move || place_of(&at, &name, since_ms)).await;
        let from = found.map_err(|_| failed("the look-up panicked"))??;
        Self::open(clients, topic, from).await
    }

    /// The next record; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<LogRecord>, KafkaError> {
        self.records.recv().await.transpose()
    }
}

fn failed(why: &str) -> KafkaError {
    KafkaError::Failed {
        what: "reading checkpoints".to_owned(),
        why: why.to_owned(),
    }
}

fn ends_of(clients: &Clients, topic: &str) -> Result<(LogEnds, BaseConsumer<Quiet>), KafkaError> {
    let isolation = if sabotaged(Sabotage::ReadBackToStable) {
        "read_committed"
    } else {
        "read_uncommitted"
    };
    let name = |error| clients.error(Doing::Read(topic), &error);
    let consumer = clients.consumer(isolation)?;
    // Who leads the partition is known sooner if it is asked for first.
    consumer
        .fetch_metadata(Some(topic), REQUEST)
        .map_err(name)?;
    let ends = consumer.fetch_watermarks(topic, PARTITION, REQUEST);
    let (low, high) = ends.map_err(name)?;
    Ok((LogEnds { low, high }, consumer))
}

/// The end, where no record is so young.
fn place_of(clients: &Clients, topic: &str, since_ms: i64) -> Result<i64, KafkaError> {
    let name = |error| clients.error(Doing::Read(topic), &error);
    let consumer = clients.consumer("read_uncommitted")?;
    let mut asked = TopicPartitionList::new();
    asked
        .add_partition_offset(topic, PARTITION, Offset::Offset(since_ms.max(0)))
        .map_err(name)?;
    let places = consumer.offsets_for_times(asked, REQUEST).map_err(name)?;
    let place = places.find_partition(topic, PARTITION);
    let place = place.map(|place| place.error().map(|()| place.offset()));
    match place.transpose().map_err(name)? {
        Some(Offset::Offset(offset)) => Ok(offset),
        _ => Ok(i64::MAX),
    }
}

/// Ends when the position has reached `high`: it also passes the markers of transactions, so an
/// undecided transaction holds it back instead of being skipped. Gives the client that it read with.
fn read(
    clients: &Clients,
    topic: &str,
    from: i64,
    high: i64,
    sender: &mpsc::Sender<Result<LogRecord, KafkaError>>,
) -> Result<Option<BaseConsumer<Quiet>>, KafkaError> {
    if from >= high {
        return Ok(None);
    }
    let name = |error| clients.error(Doing::Read(topic), &error);
    let consumer = clients.consumer("read_committed")?;
    let mut start = TopicPartitionList::new();
    start
        .add_partition_offset(topic, PARTITION, Offset::Offset(from))
        .map_err(name)?;
    consumer.assign(&start).map_err(name)?;
    let mut progress = (Instant::now(), from);
    while position(&consumer, topic).map_err(name)?.unwrap_or(from) < high {
        match consumer.poll(Duration::from_millis(20)) {
            Some(Ok(message)) => {
                let value = message.payload().unwrap_or_default().to_vec();
                let record = LogRecord {
                    offset: message.offset(),
                    value,
                };
                if sender.blocking_send(Ok(record)).is_err() {
                    return Ok(Some(consumer));
                }
            }
            Some(Err(error)) => return Err(name(error)),
            None => {}
        }
        let at = position(&consumer, topic).map_err(name)?.unwrap_or(from);
        if at > progress.1 {
            progress = (Instant::now(), at);
        } else if progress.0.elapsed() > PATIENCE {
            let why = format!(
                "{topic} stands still at offset {at} of {high}: a transaction in it is not decided"
            );
            return Err(failed(&why));
        }
    }
    Ok(Some(consumer))
}

fn position(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
) -> Result<Option<i64>, rdkafka::error::KafkaError> {
    let position = consumer.position()?;
    let element = position.find_partition(topic, PARTITION);
    Ok(element
        .and_then(|element| element.offset().to_raw())
        .filter(|offset| *offset >= 0))
}
