//! Reads a topic of events from some time to its end, all partitions, without the payloads. Never takes a time-out for the end,
//! and never passes a transaction that is not decided.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::client::{Clients, Doing, KafkaError, Quiet, TRANSACTION_TIMEOUT_MS};
use super::topics::Topics;
use crate::logic::event::Timestamp;
use crate::logic::verify::Sighting;
use crate::tasks::{Attached, attached_blocking};

/// What outboxds wrote to a topic, in bounded memory.
#[derive(Debug)]
pub struct TopicLog {
    /// Whether a partition has removed records, and has none left that is older than the time it was opened at.
    pub may_be_cut: bool,
    /// How many offsets will be read.
    pub offsets: u64,
    rounds: mpsc::Receiver<Result<Round, KafkaError>>,
    _reader: Attached<()>,
}

/// Some records, each partition's in its order.
#[derive(Debug, Default)]
pub struct Round {
    /// Those that some outboxd wrote.
    pub sightings: Vec<Sighting>,
    /// How many there were.
    pub records: u64,
}

const REQUEST: Duration = Duration::from_secs(10);
/// Somebody's open transaction ends by itself after its time-out and the broker's look at it.
const PATIENCE: Duration = Duration::from_millis(TRANSACTION_TIMEOUT_MS + 15_000);
/// A round ends at the first of these.
const ROUND_RECORDS: u64 = 500;
const ROUND_WAIT: Duration = Duration::from_millis(50);
/// Rounds that may wait.
const AHEAD: usize = 8;

/// Where a partition is read.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    low: i64,
    from: i64,
    /// The high watermark of the moment when it was opened.
    to: i64,
}

impl TopicLog {
    /// Opens a topic at the first record that is not older than `since_ms` (milliseconds since 1970), or at its beginning, to be
    /// read to the end that it has now. `None`: there is no such topic.
    pub async fn open(
        clients: &Clients,
        topics: &Topics,
        topic: &str,
        source: &str,
        since_ms: Option<i64>,
    ) -> Result<Option<Self>, KafkaError> {
        let Some(partitions) = topics.count(topic).await? else {
            return Ok(None);
        };
        let (clients, topic, source) = (clients.clone(), topic.to_owned(), source.to_owned());
        let (found, stretches) = tokio::sync::oneshot::channel();
        let (sender, rounds) = mpsc::channel(AHEAD);
        let reader = attached_blocking(move || {
            match stretches_of(&clients, &topic, partitions, since_ms) {
                Ok(stretches) => {
                    if found.send(Ok(stretches.clone())).is_ok()
                        && let Err(error) = read(&clients, &topic, &source, stretches, &sender)
                    {
                        // Nobody listens any more: nothing to tell.
                        let _ = sender.blocking_send(Err(error));
                    }
                }
                Err(error) => drop(found.send(Err(error))),
            }
        });
        let gone = |_| failed("the reader panicked");
        let stretches: HashMap<i32, Stretch> = stretches.await.map_err(gone)??;
        let offsets: i64 = stretches.values().map(|it| it.to - it.from).sum();
        Ok(Some(Self {
            may_be_cut: stretches.values().any(|it| it.low > 0 && it.from <= it.low),
            offsets: u64::try_from(offsets).unwrap_or(0),
            rounds,
            _reader: reader,
        }))
    }

    /// The next records; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Round>, KafkaError> {
        self.rounds.recv().await.transpose()
    }
}

fn failed(why: &str) -> KafkaError {
    KafkaError::Failed {
        what: "reading events".to_owned(),
        why: why.to_owned(),
    }
}

/// The ends come from a read_uncommitted client: brokers tell a read_committed one the last *stable* offset, and a transaction
/// that is not decided yet would be left out in silence.
fn stretches_of(
    clients: &Clients,
    topic: &str,
    partitions: i32,
    since_ms: Option<i64>,
) -> Result<HashMap<i32, Stretch>, KafkaError> {
    let name = |error| clients.error(Doing::Read(topic), &error);
    let consumer = clients.consumer("read_uncommitted")?;
    let mut stretches = HashMap::new();
    for partition in 0..partitions {
        let ends = consumer.fetch_watermarks(topic, partition, REQUEST);
        let (low, to) = ends.map_err(name)?;
        stretches.insert(partition, Stretch { low, from: low, to });
    }
    let Some(since_ms) = since_ms else {
        return Ok(stretches);
    };
    let mut asked = TopicPartitionList::new();
    for partition in 0..partitions {
        asked
            .add_partition_offset(topic, partition, Offset::Offset(since_ms.max(0)))
            .map_err(name)?;
    }
    let places = consumer.offsets_for_times(asked, REQUEST).map_err(name)?;
    for element in places.elements() {
        element.error().map_err(name)?;
        if let Some(stretch) = stretches.get_mut(&element.partition()) {
            // No record is so young: nothing is to be read.
            let from = match element.offset() {
                Offset::Offset(from) => from,
                Offset::Beginning
                | Offset::End
                | Offset::Stored
                | Offset::Invalid
                | Offset::OffsetTail(_) => stretch.to,
            };
            stretch.from = from.clamp(stretch.low, stretch.to);
        }
    }
    Ok(stretches)
}

fn read(
    clients: &Clients,
    topic: &str,
    source: &str,
    mut stretches: HashMap<i32, Stretch>,
    sender: &mpsc::Sender<Result<Round, KafkaError>>,
) -> Result<(), KafkaError> {
    let name = |error| clients.error(Doing::Read(topic), &error);
    stretches.retain(|_, stretch| stretch.from < stretch.to);
    let mut config = clients.reader("read_committed")?;
    config
        // What is fetched ahead: at most so many records or so much of them, and one answer of each broker.
        .set("queued.min.messages", "20000")
        .set("queued.max.messages.kbytes", "8192")
        .set("fetch.max.bytes", "8388608")
        .set("fetch.message.max.bytes", "1048576")
        .set("fetch.queue.backoff.ms", "10");
    let consumer: BaseConsumer<Quiet> = clients.create(&config, clients.quiet())?;
    let mut start = TopicPartitionList::new();
    for (partition, stretch) in &stretches {
        start
            .add_partition_offset(topic, *partition, Offset::Offset(stretch.from))
            .map_err(name)?;
    }
    consumer.assign(&start).map_err(name)?;
    let topic: Arc<str> = topic.into();
    let mut progress = (Instant::now(), 0);
    while !stretches.is_empty() && !sender.is_closed() {
        let round = round(&consumer, &topic, source, &stretches).map_err(name)?;
        if round.records > 0 && sender.blocking_send(Ok(round)).is_err() {
            return Ok(());
        }
        let at = consumer.position().map_err(name)?;
        let mut sum = 0;
        // A partition has ended when its position has reached the end: that also passes the marks of transactions.
        stretches.retain(|partition, stretch| {
            let element = at.find_partition(&topic, *partition);
            let position = element.and_then(|element| element.offset().to_raw());
            let position = position.filter(|at| *at >= 0).unwrap_or(stretch.from);
            sum += position - stretch.from + 1;
            position < stretch.to
        });
        if sum != progress.1 {
            progress = (Instant::now(), sum);
        } else if progress.0.elapsed() > PATIENCE {
            let why = format!(
                "{topic} stands still in {} partitions: a transaction in it is not decided",
                stretches.len()
            );
            return Err(failed(&why));
        }
    }
    Ok(())
}

fn round(
    consumer: &BaseConsumer<Quiet>,
    topic: &Arc<str>,
    source: &str,
    stretches: &HashMap<i32, Stretch>,
) -> Result<Round, rdkafka::error::KafkaError> {
    let until = Instant::now() + ROUND_WAIT;
    let mut round = Round::default();
    while round.records < ROUND_RECORDS {
        let wait = until.saturating_duration_since(Instant::now());
        let Some(message) = consumer.poll(wait) else {
            if wait.is_zero() {
                break;
            }
            continue;
        };
        let message = message?;
        round.records += 1;
        let stretch = stretches.get(&message.partition());
        if stretch.is_some_and(|stretch| message.offset() < stretch.to) {
            round.sightings.extend(sighting(&message, topic, source));
        }
    }
    Ok(round)
}

/// A record as one of some outboxd, if it is.
fn sighting(message: &BorrowedMessage<'_>, topic: &Arc<str>, source: &str) -> Option<Sighting> {
    let headers = message.headers()?;
    let first = |name: &str| {
        let found = headers.iter().find(|header| header.key == name);
        found.and_then(|header| header.value)
    };
    let text = |name: &str| std::str::from_utf8(first(name)?).ok();
    let event_id = Uuid::try_parse(text("ce_id")?).ok()?;
    Some(Sighting {
        topic: Arc::clone(topic),
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        event_id,
        at: text("ce_time")
            .and_then(Timestamp::from_rfc3339)
            .unwrap_or_default(),
        is_ours: first("ce_source")? == source.as_bytes(),
    })
}
