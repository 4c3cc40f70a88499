//! The topic of sagas is followed: every committed record once and in order, the end of what was there, and an end with a name.

use std::time::Duration;

use outboxd::config;
use outboxd::kafka::{Clients, Fed, Owner, SagaLog, SagaLogError, SagaLogRecord, Topics};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::Consumer;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::consumer;
use crate::support::kafka::Kafka;
use crate::support::topics::{create_topic, delete_topic};
use crate::support::{block_on, kafka, unique, wait_until};

const PATIENCE: Duration = Duration::from_secs(90);

/// The prefix of a deployment whose topic of sagas exists, with record times as their producers set them.
fn prefix(kafka: &Kafka, name: &str, partitions: i32) -> String {
    let prefix = unique(name);
    create(kafka, &prefix, partitions);
    prefix
}

/// Its records are older than the broker would keep them.
fn create(kafka: &Kafka, prefix: &str, partitions: i32) {
    let config = [("retention.ms", "-1")];
    create_topic(&kafka.bootstrap(), &sagas(prefix), partitions, &config);
}

fn sagas(prefix: &str) -> String {
    format!("{prefix}.sagas")
}

/// A reader at work, and the owners that it feeds.
struct Reader {
    log: SagaLog,
    stop: CancellationToken,
    feeds: Vec<mpsc::Receiver<Fed>>,
    ended: JoinHandle<Result<(), SagaLogError>>,
    runtime: Runtime,
}

impl Reader {
    fn start(kafka: &Kafka, prefix: &str, since_ms: i64) -> Self {
        Self::with_mailboxes(1_000, kafka, prefix, since_ms)
    }

    fn with_mailboxes(size: usize, kafka: &Kafka, prefix: &str, since_ms: i64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let clients = clients(kafka, prefix);
        let topics = Topics::new(&clients).unwrap();
        let log = runtime.block_on(SagaLog::open(&clients, &topics)).unwrap();
        let (owners, feeds) = (0..log.partitions)
            .map(|_| mpsc::channel(size))
            .map(|(sink, feed)| (Owner { sink, last: None }, feed))
            .unzip();
        let stop = CancellationToken::new();
        let (reading, stopped) = (log.clone(), stop.clone());
        let ended = runtime
            .spawn(async move { reading.read::<Fed>(since_ms, owners, None, &stopped).await });
        Self {
            log,
            stop,
            feeds,
            ended,
            runtime,
        }
    }

    /// What the owner of a partition is told next; `None`: nothing any more.
    fn told(&mut self, partition: usize) -> Option<Fed> {
        let told = self.feeds[partition].recv();
        let told = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, told).await });
        told.expect("waited in vain for the reader")
    }

    /// The same without lags.
    fn next(&mut self, partition: usize) -> Option<Fed> {
        loop {
            match self.told(partition) {
                Some(Fed::Lag(_)) => {}
                other => return other,
            }
        }
    }

    /// The records up to the word that these were all.
    fn until_caught_up(&mut self, partition: usize) -> Vec<SagaLogRecord> {
        let mut records = Vec::new();
        loop {
            match self.next(partition) {
                Some(Fed::Records(more)) => {
                    assert!((1..=500).contains(&more.len()), "{}", more.len());
                    records.extend(more);
                }
                Some(Fed::CaughtUp) => return records,
                other => panic!("{other:?} after {records:?}"),
            }
        }
    }

    /// So many further records.
    fn more(&mut self, partition: usize, count: usize) -> Vec<SagaLogRecord> {
        let mut records = Vec::new();
        while records.len() < count {
            match self.next(partition) {
                Some(Fed::Records(more)) => records.extend(more),
                other => panic!("{other:?} after {} records", records.len()),
            }
        }
        records
    }

    /// How it ends when all that it says is heard.
    fn end(mut self) -> Result<(), SagaLogError> {
        for partition in 0..self.feeds.len() {
            while self.told(partition).is_some() {}
        }
        let ended = async { tokio::time::timeout(PATIENCE, self.ended).await };
        let ended = self.runtime.block_on(ended);
        ended.expect("waited in vain for the end").unwrap()
    }
}

fn texts(records: &[SagaLogRecord]) -> Vec<&str> {
    records
        .iter()
        .map(|record| std::str::from_utf8(record.value.as_deref().unwrap()).unwrap())
        .collect()
}

/// The daemon's own clients, for a deployment of this prefix.
pub(crate) fn clients(kafka: &Kafka, prefix: &str) -> Clients {
    let config = config::Kafka {
        bootstrap_servers: kafka.bootstrap(),
        prefix: prefix.to_owned(),
        create_topics: false,
        properties: Vec::new(),
    };
    Clients::new(config, "test")
}

pub(crate) fn producer(kafka: &Kafka, settings: &[(&str, &str)]) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.bootstrap());
    config.set("enable.idempotence", "true");
    config.extend(
        settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    config.create().unwrap()
}

/// One that is in its first transaction.
fn transaction(kafka: &Kafka) -> BaseProducer {
    let producer = producer(kafka, &[("transactional.id", &unique("saga_log"))]);
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    producer
}

fn send_at(producer: &BaseProducer, prefix: &str, partition: i32, time_ms: i64, text: &str) {
    let topic = sagas(prefix);
    let record = BaseRecord::<(), str>::to(&topic).partition(partition);
    let record = record.timestamp(time_ms).payload(text);
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.poll(Duration::ZERO);
}

fn send(producer: &BaseProducer, prefix: &str, partition: i32, texts: &[&str]) {
    for text in texts {
        send_at(producer, prefix, partition, 1_700_000_000_000, text);
    }
    producer.flush(PATIENCE).unwrap();
}

#[test]
fn every_record_comes_once_and_in_order() {
    let prefix = prefix(kafka(), "saga_order", 3);
    let writer = producer(kafka(), &[]);
    for number in 0..4_000 {
        send_at(
            &writer,
            &prefix,
            number % 3,
            1_700_000_000_000,
            &number.to_string(),
        );
    }
    writer.flush(PATIENCE).unwrap();
    let mut reader = Reader::start(kafka(), &prefix, 0);
    // One owner after the other, so that each is slow from the reader's point of view: they are read at the same time.
    let kept: Vec<_> = std::thread::scope(|scope| {
        let feeds = std::mem::take(&mut reader.feeds);
        let owners: Vec<_> = feeds
            .into_iter()
            .map(|mut feed| {
                scope.spawn(move || {
                    let mut records = Vec::new();
                    loop {
                        match feed.blocking_recv() {
                            Some(Fed::Start(start)) => assert_eq!(start, 0),
                            Some(Fed::Records(more)) => records.extend(more),
                            Some(Fed::CaughtUp) | None => return records,
                            Some(Fed::Lag(_)) => {}
                        }
                    }
                })
            })
            .collect();
        owners
            .into_iter()
            .map(|owner| owner.join().unwrap())
            .collect()
    });
    let all = consumer::read_all(&kafka().bootstrap(), &[&sagas(&prefix)]);
    assert_eq!(all.len(), 4_000);
    for (partition, records) in (0..).zip(&kept) {
        let expected: Vec<_> = all.iter().filter(|it| it.partition == partition).collect();
        let expected = expected
            .iter()
            .map(|it| (it.offset, it.value.clone()))
            .collect::<Vec<_>>();
        let found = records
            .iter()
            .map(|it| (it.offset, it.value.clone()))
            .collect::<Vec<_>>();
        assert_eq!(found, expected, "partition {partition}");
        assert!(
            records
                .iter()
                .all(|it| it.timestamp_ms == 1_700_000_000_000)
        );
    }
    reader.end().unwrap();
}

#[test]
fn only_what_is_committed_comes_and_an_open_transaction_holds_up_nobody() {
    let prefix = prefix(kafka(), "saga_open", 2);
    send(&producer(kafka(), &[]), &prefix, 0, &["a", "b"]);
    let aborted = transaction(kafka());
    send(&aborted, &prefix, 0, &["x"]);
    // The last thing in this partition: only the position passes it.
    send(&aborted, &prefix, 1, &["y"]);
    aborted.abort_transaction(PATIENCE).unwrap();
    let open = transaction(kafka());
    send(&open, &prefix, 0, &["o"]);
    send(&producer(kafka(), &[]), &prefix, 0, &["c"]);

    let mut reader = Reader::start(kafka(), &prefix, 0);
    assert_eq!(reader.next(0), Some(Fed::Start(0)));
    assert_eq!(texts(&reader.until_caught_up(0)), ["a", "b"]);
    assert_eq!(reader.next(1), Some(Fed::Start(0)));
    assert_eq!(texts(&reader.until_caught_up(1)), [""; 0]);
    open.commit_transaction(PATIENCE).unwrap();
    assert_eq!(texts(&reader.more(0, 2)), ["o", "c"]);
    reader.stop.cancel();
    reader.end().unwrap();
}

#[test]
fn reading_begins_at_a_time() {
    let prefix = prefix(kafka(), "saga_time", 2);
    let writer = producer(kafka(), &[]);
    let (old, young) = (1_600_000_000_000, 1_700_000_000_000);
    for (time, text) in [
        (old, "0"),
        (young - 1, "1"),
        (young, "2"),
        (young, "3"),
        (young + 1, "4"),
    ] {
        send_at(&writer, &prefix, 0, time, text);
    }
    send_at(&writer, &prefix, 1, old, "0");
    send_at(&writer, &prefix, 1, old, "1");
    writer.flush(PATIENCE).unwrap();
    let mut reader = Reader::start(kafka(), &prefix, young);
    assert_eq!(reader.next(0), Some(Fed::Start(2)));
    let records = reader.until_caught_up(0);
    assert_eq!(texts(&records), ["2", "3", "4"]);
    assert_eq!(records[2].timestamp_ms, young + 1);
    // Nothing is so young here: what comes from now on.
    assert_eq!(reader.next(1), Some(Fed::Start(2)));
    assert_eq!(reader.until_caught_up(1), []);
    send_at(&writer, &prefix, 1, young, "2");
    writer.flush(PATIENCE).unwrap();
    assert_eq!(texts(&reader.more(1, 1)), ["2"]);
    reader.stop.cancel();
    reader.end().unwrap();
}

#[test]
fn a_topic_that_is_missing_is_made_and_is_caught_up_at_once() {
    let prefix = unique("saga_made");
    let mut reader = Reader::start(kafka(), &prefix, 1_700_000_000_000);
    assert_eq!(reader.log.partitions, 12);
    let client = consumer::consumer(&kafka().bootstrap(), &[&sagas(&prefix)]);
    let cluster = client.client().fetch_cluster_id(PATIENCE);
    assert_eq!(Some(&reader.log.cluster_id), cluster.as_ref());
    for partition in 0..12 {
        assert_eq!(reader.next(partition), Some(Fed::Start(0)));
        assert_eq!(reader.until_caught_up(partition), []);
    }
    send(&producer(kafka(), &[]), &prefix, 7, &["a"]);
    assert_eq!(texts(&reader.more(7, 1)), ["a"]);
    reader.stop.cancel();
    reader.end().unwrap();
}

#[test]
fn a_slow_owner_is_told_how_far_it_is_behind() {
    let prefix = prefix(kafka(), "saga_lag", 1);
    let writer = producer(kafka(), &[]);
    for _ in 0..20_000 {
        send_at(&writer, &prefix, 0, 1_700_000_000_000, "a");
    }
    writer.flush(PATIENCE).unwrap();
    let mut reader = Reader::with_mailboxes(1, kafka(), &prefix, 0);
    let (mut read, mut behind) = (0, Vec::new());
    while behind.last() != Some(&0) {
        match reader.told(0) {
            Some(Fed::Records(records)) => read += records.len(),
            Some(Fed::Lag(lag)) => behind.push(lag),
            Some(Fed::Start(_) | Fed::CaughtUp) => {}
            None => panic!("it ended"),
        }
        if behind.is_empty() {
            // The work of a slow owner.
            std::thread::sleep(Duration::from_millis(300));
        }
    }
    assert_eq!(read, 20_000);
    assert!(behind[0] > 0 && behind[0] < 20_000, "{behind:?}");
    reader.stop.cancel();
    reader.end().unwrap();
}

#[test]
fn a_topic_that_is_made_anew_ends_reading_with_a_name() {
    let prefix = prefix(kafka(), "saga_anew", 1);
    send(&producer(kafka(), &[]), &prefix, 0, &["a", "b", "c"]);
    let mut reader = Reader::start(kafka(), &prefix, 0);
    assert_eq!(reader.next(0), Some(Fed::Start(0)));
    assert_eq!(reader.until_caught_up(0).len(), 3);
    delete_topic(&kafka().bootstrap(), &sagas(&prefix));
    create(kafka(), &prefix, 1);
    send(&producer(kafka(), &[]), &prefix, 0, &["A"]);
    let error = reader.end().unwrap_err();
    assert!(
        matches!(error, SagaLogError::Replaced { .. }),
        "{error} {error:?}"
    );
    for word in [&sagas(&prefix), "[push] epoch"] {
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn further_partitions_end_reading_with_a_name() {
    let prefix = prefix(kafka(), "saga_count", 2);
    let mut reader = Reader::start(kafka(), &prefix, 0);
    assert_eq!(reader.next(0), Some(Fed::Start(0)));
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", kafka().bootstrap())
        .create()
        .unwrap();
    let (topic, options) = (sagas(&prefix), AdminOptions::new());
    let further = NewPartitions::new(&topic, 3);
    let made = block_on(admin.create_partitions([&further], &options));
    assert!(made.unwrap()[0].is_ok());
    let error = reader.end().unwrap_err();
    assert!(
        matches!(error, SagaLogError::Repartitioned { was: 2, is: 3, .. }),
        "{error} {error:?}"
    );
}

#[test]
fn a_stop_ends_an_idle_reader_and_one_that_waits_for_its_owner() {
    let prefix = prefix(kafka(), "saga_stop", 1);
    let mut idle = Reader::start(kafka(), &prefix, 0);
    assert_eq!(idle.next(0), Some(Fed::Start(0)));
    assert_eq!(idle.until_caught_up(0), []);
    idle.stop.cancel();
    idle.end().unwrap();

    send(&producer(kafka(), &[]), &prefix, 0, &["a", "b"]);
    for wanted in [true, false] {
        let mut waiting = Reader::with_mailboxes(1, kafka(), &prefix, 0);
        // Its mailbox is full with the first word, and the records are to follow.
        wait_until("a full mailbox", PATIENCE, || waiting.feeds[0].len() == 1);
        if wanted {
            waiting.stop.cancel();
            wait_until("the end", PATIENCE, || waiting.feeds[0].is_closed());
        }
        waiting.feeds.clear();
        waiting.end().unwrap();
    }
}

#[test]
fn a_broker_that_dies_and_returns_costs_nothing() {
    let own = Kafka::start();
    let prefix = prefix(&own, "saga_broker", 2);
    let writer = producer(&own, &[("reconnect.backoff.max.ms", "100")]);
    let mut reader = Reader::start(&own, &prefix, 0);
    for partition in 0..2 {
        assert_eq!(reader.next(partition), Some(Fed::Start(0)));
        assert_eq!(reader.until_caught_up(partition), []);
    }
    let mut read = [Vec::new(), Vec::new()];
    let mut number = 0;
    for end in [Kafka::kill, Kafka::stop, |_: &Kafka| {}] {
        for _ in 0..300 {
            send_at(
                &writer,
                &prefix,
                number % 2,
                1_700_000_000_000,
                &number.to_string(),
            );
            number += 1;
        }
        writer.flush(PATIENCE).unwrap();
        // Half of it is read before the broker goes, half of it when it is back.
        read[0].extend(reader.more(0, 150));
        end(&own);
        if own.pid().is_none() {
            assert!(!reader.ended.is_finished());
            own.start_again();
        }
        read[1].extend(reader.more(1, 150));
    }
    reader.stop.cancel();
    reader.end().unwrap();
    for (partition, records) in (0..).zip(&read) {
        let expected: Vec<_> = (0..number)
            .filter(|it| it % 2 == partition)
            .map(|it| it.to_string())
            .collect();
        assert_eq!(texts(records), expected, "partition {partition}");
    }
}
