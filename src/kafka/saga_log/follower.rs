//! The thread that reads the saga log. Never goes on at another place than the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as Inner, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::super::client::{Doing, KafkaError, is_away};
use super::watch::{Seen, Watch};
use super::{Fed, Owner, SagaLog, SagaLogError, SagaLogRecord};
use crate::logic::health::{Beat, Health};
use crate::logic::push::partition::Mark;

const REQUEST: Duration = Duration::from_secs(10);
/// Why what an owner knows cannot be gone on from.
const STRANGE: &str = "is not the one that these sagas came from";
const GONE: &str = "no longer has the records after the last that these sagas know";
/// Leaders are asked again after this long.
const ELECTION: Duration = Duration::from_millis(50);
/// A round of reading ends at the first of these.
const ROUND_RECORDS: usize = 500;
const ROUND_BYTES: usize = 1 << 20;
/// Whatever arrives wakes the reader; it looks up now and then all the same.
const DOZE: Duration = Duration::from_secs(1);
/// A reader that does not turn for so long hangs.
const BUDGET: Duration = Duration::from_secs(60);

/// Reads all partitions with one consumer and hands over what it reads.
pub(super) struct Follower<T> {
    log: SagaLog,
    consumer: BaseConsumer<Watch>,
    woken: Arc<Notify>,
    partitions: Vec<Partition<T>>,
    away: bool,
    stop: CancellationToken,
    runtime: Handle,
}

struct Partition<T> {
    sink: mpsc::Sender<T>,
    start: i64,
    /// The record that the owner knows, until it has been read once more.
    known: Option<Mark>,
    /// The last stable offset of the moment when reading began, until that is reached.
    target: Option<i64>,
    lag: Option<u64>,
}

/// Why the thread ends.
enum End {
    /// Nobody wants more.
    Stopped,
    Failed(SagaLogError),
}

impl From<SagaLogError> for End {
    fn from(error: SagaLogError) -> Self {
        Self::Failed(error)
    }
}

impl From<KafkaError> for End {
    fn from(error: KafkaError) -> Self {
        Self::Failed(error.into())
    }
}

impl<T: From<Fed>> Follower<T> {
    /// Reads until it is stopped or cannot go on. Blocks.
    pub(super) fn follow(
        log: SagaLog,
        owners: Vec<Owner<T>>,
        since_ms: i64,
        health: Option<Health>,
        stop: CancellationToken,
        runtime: Handle,
    ) -> Result<(), SagaLogError> {
        let woken = Arc::new(Notify::new());
        let mut consumer = consumer(&log)?;
        let wake = Arc::clone(&woken);
        consumer.set_nonempty_callback(move || wake.notify_one());
        let partitions = begin(&log, &consumer, owners, since_ms)?;
        let mut follower = Self {
            log,
            consumer,
            woken,
            partitions,
            away: false,
            stop,
            runtime,
        };
        let beat = health.map(|health| health.watch("reader of sagas", BUDGET, Instant::now()));
        match follower.run(beat.as_ref()) {
            Ok(()) | Err(End::Stopped) => Ok(()),
            Err(End::Failed(error)) => Err(error),
        }
    }

    fn run(&mut self, beat: Option<&Beat>) -> Result<(), End> {
        for partition in self.partitions.iter().filter(|it| it.known.is_none()) {
            self.feed(partition, Fed::Start(partition.start))?;
        }
        loop {
            if let Some(beat) = beat {
                beat.tick(Instant::now());
            }
            let round = self.round()?;
            let idle = round.is_empty();
            for (number, mut records) in round {
                self.recognise(number, &mut records)?;
                if let Some(partition) = self.partitions.get(number)
                    && !records.is_empty()
                {
                    self.feed(partition, Fed::Records(records))?;
                }
            }
            self.tell_caught_up()?;
            if let Some(seen) = self.consumer.context().seen() {
                self.tell_away(&seen);
                self.tell_lag(&seen)?;
            }
            if idle {
                self.wait()?;
            }
        }
    }

    /// What has arrived, without waiting, by partition.
    fn round(&self) -> Result<BTreeMap<usize, Vec<SagaLogRecord>>, End> {
        let mut round: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let (mut records, mut bytes) = (0, 0);
        while records < ROUND_RECORDS && bytes < ROUND_BYTES {
            match self.consumer.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    records += 1;
                    bytes += message.payload_len();
                    let number = usize::try_from(message.partition()).unwrap_or(usize::MAX);
                    round.entry(number).or_default().push(record(&message));
                }
                Some(Err(error)) => self.judge(&error)?,
                // A poll that served something else says nothing about what is behind it.
                None if self.consumer.context().served() => {}
                None => break,
            }
        }
        Ok(round)
    }

    /// Takes out the record that the owner knows, which has to be the first.
    fn recognise(&mut self, number: usize, records: &mut Vec<SagaLogRecord>) -> Result<(), End> {
        let partition = self.partitions.get_mut(number);
        let Some(known) = partition.and_then(|partition| partition.known.take()) else {
            return Ok(());
        };
        let first = records.first().map(|record| Mark {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
        });
        if first != Some(known) {
            return Err(self.log.unknown(STRANGE).into());
        }
        records.remove(0);
        Ok(())
    }

    /// Whether reading can go on after an error. Brokers that are away come back by themselves.
    fn judge(&self, error: &Inner) -> Result<(), End> {
        let why = match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation) => {
                "no longer has the offset that is to be read next: it was created again, or lost its end, or its retention \
                 overtook a slow reader"
            }
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
                "is gone"
            }
            // What lasts shows as brokers that are away.
            _ if is_away(error) => return Ok(()),
            _ => {
                let doing = Doing::Read(&self.log.topic);
                return Err(self.log.clients.error(doing, error).into());
            }
        };
        debug!(topic = self.log.topic, %error, "cannot read on");
        if self.partitions.iter().any(|it| it.known.is_some()) {
            return Err(self.log.unknown(GONE).into());
        }
        Err(self.log.replaced(why).into())
    }

    /// The position decides: it also passes the markers of transactions, and records that were aborted.
    fn tell_caught_up(&mut self) -> Result<(), End> {
        if self.partitions.iter().all(|it| it.target.is_none()) {
            return Ok(());
        }
        let read = self.consumer.position();
        let read =
            read.map_err(|error| self.log.clients.error(Doing::Read(&self.log.topic), &error))?;
        let mut reached = Vec::new();
        for (number, partition) in (0..).zip(&mut self.partitions) {
            let element = read.find_partition(&self.log.topic, number);
            let position = element.and_then(|it| offset(it.offset()));
            let position = position.unwrap_or(partition.start);
            if partition.target.is_some_and(|target| position >= target) {
                if partition.known.is_some() {
                    return Err(self.log.unknown(STRANGE).into());
                }
                partition.target = None;
                reached.push(partition.sink.clone());
            }
        }
        reached
            .iter()
            .try_for_each(|sink| self.send(sink, Fed::CaughtUp))
    }

    fn tell_lag(&mut self, seen: &Seen) -> Result<(), End> {
        let mut changed = Vec::new();
        for (number, partition) in (0..).zip(&mut self.partitions) {
            let Some((read, end)) = seen.partitions.get(&number) else {
                continue;
            };
            let lag = end.saturating_sub(*read.max(&partition.start)).max(0);
            let lag = u64::try_from(lag).ok();
            if lag != partition.lag {
                partition.lag = lag;
                changed.extend(lag.map(|lag| (partition.sink.clone(), lag)));
            }
        }
        changed
            .into_iter()
            .try_for_each(|(sink, lag)| self.send(&sink, Fed::Lag(lag)))
    }

    fn tell_away(&mut self, seen: &Seen) {
        if seen.away == self.away {
            return;
        }
        self.away = seen.away;
        let (topic, servers) = (&self.log.topic, self.log.clients.servers());
        if seen.away {
            warn!(%topic, %servers, "brokers that have sagas are away; reading goes on when they are back");
        } else {
            info!(%topic, "all brokers that have sagas are there again");
        }
    }

    fn feed(&self, partition: &Partition<T>, fed: Fed) -> Result<(), End> {
        self.send(&partition.sink, fed)
    }

    /// Waits while the owner is busy; that holds up reading.
    fn send(&self, sink: &mpsc::Sender<T>, fed: Fed) -> Result<(), End> {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => Err(End::Stopped),
                sent = sink.send(fed.into()) => sent.map_err(|_| End::Stopped),
            }
        })
    }

    fn wait(&self) -> Result<(), End> {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => Err(End::Stopped),
                () = self.woken.notified() => Ok(()),
                () = tokio::time::sleep(DOZE) => Ok(()),
            }
        })
    }
}

fn consumer(log: &SagaLog) -> Result<BaseConsumer<Watch>, KafkaError> {
    let mut config = log.clients.reader("read_committed")?;
    config
        // A broker answers at once when there is something; this is what an idle reader costs.
        .set("fetch.wait.max.ms", "500")
        // What is fetched ahead: at most so many records or so much of them, and one answer of each broker.
        .set("queued.min.messages", "20000")
        .set("queued.max.messages.kbytes", "8192")
        .set("fetch.max.bytes", "8388608")
        .set("fetch.message.max.bytes", "1048576")
        // The usual second would hold up reading whenever enough is fetched ahead.
        .set("fetch.queue.backoff.ms", "10")
        .set("statistics.interval.ms", "5000");
    let context = Watch::new(log.clients.failures().clone());
    log.clients.create(&config, context)
}

/// Finds where to begin and where that leads to, and sends the consumer there.
///
/// The ends come before the places of the time: a record that is appended in between is behind both.
fn begin<T>(
    log: &SagaLog,
    consumer: &BaseConsumer<Watch>,
    owners: Vec<Owner<T>>,
    since_ms: i64,
) -> Result<Vec<Partition<T>>, SagaLogError> {
    let ends = offsets(log, consumer, Offset::End)?;
    let young = offsets(log, consumer, Offset::Offset(since_ms.max(0)))?;
    let mut places = TopicPartitionList::with_capacity(owners.len());
    let mut partitions = Vec::with_capacity(owners.len());
    for (number, ((owner, end), young)) in (0..).zip(owners.into_iter().zip(ends).zip(young)) {
        let target = end.ok_or_else(|| KafkaError::Failed {
            what: Doing::Read(&log.topic).to_string(),
            why: format!("partition {number} has no end"),
        })?;
        let Owner { sink, last } = owner;
        if last.is_some_and(|last| last.offset >= target) {
            return Err(log.unknown(STRANGE));
        }
        let start = last.map_or_else(|| young.unwrap_or(target), |last| last.offset);
        places
            .add_partition_offset(&log.topic, number, Offset::Offset(start))
            .map_err(|error| log.clients.error(Doing::Read(&log.topic), &error))?;
        partitions.push(Partition {
            sink,
            start,
            known: last,
            target: Some(target),
            lag: None,
        });
    }
    let assigned = consumer.assign(&places);
    assigned.map_err(|error| log.clients.error(Doing::Read(&log.topic), &error))?;
    Ok(partitions)
}

/// What the leaders answer for each partition to one question: a time in milliseconds, or the last stable offset.
///
/// Leaders of a topic that was made a moment ago do not know of it for another one.
fn offsets(
    log: &SagaLog,
    consumer: &BaseConsumer<Watch>,
    asked: Offset,
) -> Result<Vec<Option<i64>>, KafkaError> {
    let until = Instant::now() + REQUEST;
    loop {
        match try_offsets(log, consumer, asked) {
            Ok(offsets) => return Ok(offsets),
            Err(error) if Instant::now() < until && is_election(&error) => {
                debug!(topic = log.topic, %error, "waiting for leaders");
                std::thread::sleep(ELECTION);
            }
            Err(error) => return Err(log.clients.error(Doing::Read(&log.topic), &error)),
        }
    }
}

fn try_offsets(
    log: &SagaLog,
    consumer: &BaseConsumer<Watch>,
    asked: Offset,
) -> Result<Vec<Option<i64>>, Inner> {
    let mut list = TopicPartitionList::with_capacity(log.partitions);
    for (number, _) in (0..).zip(0..log.partitions) {
        list.add_partition_offset(&log.topic, number, asked)?;
    }
    let found = consumer.offsets_for_times(list, REQUEST)?;
    let found = found.elements().into_iter().map(|element| {
        element.error()?;
        Ok(offset(element.offset()))
    });
    found.collect()
}

fn is_election(error: &Inner) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::UnknownTopicOrPartition
                | Code::UnknownPartition
        )
    )
}

fn offset(offset: Offset) -> Option<i64> {
    match offset {
        Offset::Offset(offset) => Some(offset),
        Offset::Beginning
        | Offset::End
        | Offset::Stored
        | Offset::Invalid
        | Offset::OffsetTail(_) => None,
    }
}

pub(super) fn record(message: &BorrowedMessage<'_>) -> SagaLogRecord {
    SagaLogRecord {
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
        value: message.payload().map(<[u8]>::to_vec),
    }
}
