//! Reads topics the way a careful consumer does: only what is committed, everything, in order. Never joins a group and never
//! takes an undecided transaction for the end.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{BorrowedMessage, Headers},
};

use super::process;

/// How long a read may take before it fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// Whether all is read is asked after so many messages, and whenever none comes.
const LOOK: usize = 64;

/// A record as Kafka holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Where it was read.
    pub(crate) topic: String,
    /// Its partition.
    pub(crate) partition: i32,
    /// Its offset in the partition; those between belong to other transactions' marks and aborted records.
    pub(crate) offset: i64,
    /// Milliseconds since 1970, of the kind that the topic is configured for.
    pub(crate) timestamp_ms: Option<i64>,
    /// Its key.
    pub(crate) key: Option<Vec<u8>>,
    /// Its value; `None` is a tombstone.
    pub(crate) value: Option<Vec<u8>>,
    /// Its headers in their order.
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Everything committed in these topics up to now, each partition in its order, partitions one after another.
///
/// Fails, naming the partition, when a transaction stays undecided.
pub(crate) fn read_all(bootstrap: &str, topics: &[&str]) -> Vec<Message> {
    read_all_within(PATIENCE, bootstrap, topics)
}

/// The same with another patience.
pub(crate) fn read_all_within(
    patience: Duration,
    bootstrap: &str,
    topics: &[&str],
) -> Vec<Message> {
    let reading = read_within(patience, bootstrap, topics);
    assert!(
        reading.behind.is_empty(),
        "not read to the end after {patience:?}, an undecided transaction? {}; last error: {:?}",
        reading.behind.join(", "),
        reading.last_error
    );
    reading.messages
}

/// What could be read.
pub(crate) struct Reading<T = Message> {
    /// What was kept of everything committed, each partition in its order.
    pub(crate) messages: Vec<T>,
    /// The partitions whose high watermark was not reached.
    pub(crate) behind: Vec<String>,
    last_error: Option<KafkaError>,
}

/// Reads up to the high watermarks of the beginning, or until nothing comes any more for `patience`.
pub(crate) fn read_within(patience: Duration, bootstrap: &str, topics: &[&str]) -> Reading {
    read_keeping(patience, bootstrap, topics, Some)
}

/// The same, and of each message keeps only what `keep` makes of it: a long history does not fit into memory.
pub(crate) fn read_keeping<T>(
    patience: Duration,
    bootstrap: &str,
    topics: &[&str],
    keep: impl Fn(Message) -> Option<T>,
) -> Reading<T> {
    let targets = high_watermarks(bootstrap, topics);
    let consumer = consumer(bootstrap, topics);
    let mut deadline = Instant::now() + patience;
    let mut messages: BTreeMap<(String, i32), Vec<T>> = BTreeMap::new();
    let mut count: usize = 0;
    // A broker that is just coming back is no reason to give up, but worth telling when time runs out.
    let mut last_error = None;
    loop {
        match consumer.poll(Duration::from_millis(20)) {
            Some(Ok(message)) => {
                let place = (message.topic().to_owned(), message.partition());
                // Offsets rise in each partition.
                messages
                    .entry(place)
                    .or_default()
                    .extend(keep(owned(&message)));
                deadline = Instant::now() + patience;
                count += 1;
                if !count.is_multiple_of(LOOK) {
                    continue;
                }
            }
            Some(Err(error)) => last_error = Some(error),
            None => {}
        }
        // The position passes the marks of transactions, too, once the poll has.
        if behind(&consumer, &targets).is_empty() || Instant::now() >= deadline {
            break;
        }
    }
    let behind = behind(&consumer, &targets);
    Reading {
        messages: messages.into_values().flatten().collect(),
        behind,
        last_error,
    }
}

/// A consumer that only sees what is committed and stands at the beginning of all partitions of these topics.
pub(crate) fn consumer(bootstrap: &str, topics: &[&str]) -> BaseConsumer {
    let consumer = client(bootstrap, "read_committed");
    let mut assignment = TopicPartitionList::new();
    for (topic, partition) in partitions(&consumer, topics) {
        assignment
            .add_partition_offset(&topic, partition, Offset::Beginning)
            .expect("a valid offset");
    }
    consumer.assign(&assignment).expect("partitions that exist");
    consumer
}

/// A copy of a message that outlives the consumer's buffers.
pub(crate) fn owned(message: &BorrowedMessage<'_>) -> Message {
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    Message {
        topic: message.topic().into(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers
            .map(|header| (header.key.into(), header.value.map(<[u8]>::to_vec)))
            .collect(),
    }
}

/// The end of each partition that holds anything, open transactions included.
///
/// Asked by a client that reads uncommitted: one that does not is told the last stable offset instead, and would stop before an
/// undecided transaction as if nothing came behind it.
fn high_watermarks(bootstrap: &str, topics: &[&str]) -> BTreeMap<(String, i32), i64> {
    let client = client(bootstrap, "read_uncommitted");
    let watermarks = partitions(&client, topics)
        .into_iter()
        .map(|(topic, partition)| {
            let deadline = Instant::now() + PATIENCE;
            let watermarks = loop {
                match client.fetch_watermarks(&topic, partition, PATIENCE) {
                    Ok(watermarks) => break watermarks,
                    // Its leader is about to be elected.
                    Err(_) if Instant::now() < deadline => thread::sleep(process::POLL),
                    Err(error) => panic!("{topic}/{partition}: {error}"),
                }
            };
            ((topic, partition), watermarks)
        });
    watermarks
        .filter(|(_, (low, high))| low < high)
        .map(|(place, (_, high))| (place, high))
        .collect()
}

/// The partitions that are not read up to their target.
fn behind(consumer: &BaseConsumer, targets: &BTreeMap<(String, i32), i64>) -> Vec<String> {
    let positions = consumer.position().expect("assigned");
    let reached =
        |topic: &str, partition| match positions.find_partition(topic, partition)?.offset() {
            Offset::Offset(offset) => Some(offset),
            Offset::Beginning
            | Offset::End
            | Offset::Stored
            | Offset::Invalid
            | Offset::OffsetTail(_) => None,
        };
    let behind = targets.iter().filter(|((topic, partition), target)| {
        reached(topic, *partition).is_none_or(|position| position < **target)
    });
    behind
        .map(|((topic, partition), target)| {
            format!(
                "{topic}/{partition}: {:?} of {target}",
                reached(topic, *partition)
            )
        })
        .collect()
}

fn partitions(client: &BaseConsumer, topics: &[&str]) -> Vec<(String, i32)> {
    let described = topics.iter().flat_map(|topic| {
        let metadata = client.fetch_metadata(Some(topic), PATIENCE);
        let metadata = metadata.unwrap_or_else(|error| panic!("no metadata of {topic}: {error}"));
        let ids = metadata
            .topics()
            .iter()
            .flat_map(|topic| topic.partitions());
        let places: Vec<_> = ids
            .map(|partition| ((*topic).to_owned(), partition.id()))
            .collect();
        assert!(!places.is_empty(), "there is no topic {topic}");
        places
    });
    described.collect()
}

fn client(bootstrap: &str, isolation: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("isolation.level", isolation);
    // Never joined, but librdkafka wants a name; and without commits nothing is kept under it.
    config
        .set("group.id", "outboxd-tests")
        .set("enable.auto.commit", "false");
    config
        .set("enable.partition.eof", "false")
        .set("auto.offset.reset", "error");
    config
        .set("fetch.wait.max.ms", "20")
        .set("fetch.message.max.bytes", "10485760");
    config.create().expect("a client")
}
