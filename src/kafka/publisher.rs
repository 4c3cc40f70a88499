//! One transactional producer on its own thread, because every call of it blocks.
//!
//! Runs one transaction at a time, in the order that keeps shared partitions open for one round trip only. Never
//! lives on after a doubt: a commit that was slow, failed or saw an error ends the thread, and with it the producer.

mod deliveries;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError as Inner, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, PurgeConfig};
use tokio::sync::oneshot;
use tracing::{debug, warn};

use self::deliveries::{CHECKPOINT, Deliveries};
use super::client::{Clients, Doing, KafkaError, TRANSACTION_TIMEOUT_MS};
use crate::failpoint::{self, Point, Sabotage, sabotaged};
use crate::logic::batch::TopicState;
use crate::logic::record::{self, Record};
use crate::logic::refusal::{Reason, Refusal};
use crate::metrics::Gauge;

/// One Kafka transaction.
#[derive(Debug)]
pub struct Transaction {
    /// The events, in order.
    pub records: Vec<Record>,
    /// What goes to the saga topic, once every event is acknowledged.
    pub sagas: Vec<Record>,
    /// What is remembered of it, last.
    pub checkpoint: Record,
    /// Not committed after this moment: the lease may be somebody else's by then.
    pub deadline: Instant,
}

/// What became of a transaction.
#[derive(Debug)]
pub enum Outcome {
    /// It is committed.
    Committed(Committed),
    /// It was aborted because of some of its records; the producer is gone.
    Refused {
        /// Which records of it, and why.
        records: Vec<(usize, Refusal)>,
        /// Topics that turned out not to be usable.
        topics: HashMap<String, TopicState>,
        /// Whether there are more that share a batch with good ones: the broker said that something in it is invalid,
        /// and the library does not pass on what. Alone in their batches, they would be known.
        crowded: bool,
    },
    /// It was aborted, or nobody knows; the producer is gone.
    Lost(KafkaError),
}

/// A committed transaction.
#[derive(Debug, Clone, Copy)]
pub struct Committed {
    /// Offset of its checkpoint.
    pub checkpoint_offset: i64,
    /// Whether the producer can be used again.
    pub keep: bool,
    /// From the first record to the last acknowledgement.
    pub sent_in: Duration,
    /// The commit itself.
    pub committed_in: Duration,
}

/// Above this a commit may have been retried inside the library, and a late first try could still
/// commit the next transaction. Retries wait for at least 400 ms (`retry.backoff.ms` less 20 %).
const SLOW_COMMIT: Duration = Duration::from_millis(300);
/// How often acknowledgements are looked for.
const GLANCE: Duration = Duration::from_micros(100);
/// How often an idle producer is looked after.
const IDLE: Duration = Duration::from_secs(1);
const INIT_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a producer that is being initialized is looked at: whether somebody still waits for it, and whether the transaction
/// that it fenced has ended by now. The library by itself would look again after half a second only.
const INIT_GLANCE: Duration = Duration::from_millis(100);
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);
/// A batch and its saga records; the batch is capped below that.
const QUEUE_MESSAGES: &str = "100000";

/// So many bytes in a batch let each record be alone in its own.
pub const ALONE: usize = 1;

/// Hands transactions to the producer's thread. Dropping it ends the thread and the producer.
#[derive(Debug)]
pub struct Publisher {
    commands: SyncSender<(Transaction, oneshot::Sender<Outcome>)>,
    /// What it was opened with.
    pub batch_bytes: usize,
}

impl Publisher {
    /// Starts a producer and fences every other one of the same `transactional_id`.
    ///
    /// `batch_bytes` must be below the smallest record limit of the topics: a broker applies it to
    /// the whole produce batch, and refuses all of its records together.
    pub async fn open(
        clients: &Clients,
        transactional_id: &str,
        batch_bytes: usize,
        queue_messages: Gauge,
    ) -> Result<Self, KafkaError> {
        let mut config = clients.base("relay")?;
        config
            .set("transactional.id", transactional_id)
            .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS.to_string())
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "0")
            .set("batch.size", batch_bytes.to_string())
            .set("batch.num.messages", "10000")
            .set("message.max.bytes", "1000000000")
            .set("queue.buffering.max.messages", QUEUE_MESSAGES)
            .set("partitioner", "murmur2_random")
            .set("retry.backoff.ms", "500")
            .set("retry.backoff.max.ms", "1000")
            .set("topic.metadata.propagation.max.ms", "2000")
            .set("statistics.interval.ms", "10000");
        let (commands, receiver) = sync_channel(1);
        let (ready, opened) = oneshot::channel();
        let (clients, id) = (clients.clone(), transactional_id.to_owned());
        let thread = move || {
            let waited_for = || !ready.is_closed();
            let producer = match start(&clients, &config, queue_messages, waited_for) {
                Ok(producer) => producer,
                Err(error) => return drop(ready.send(Err(error))),
            };
            if ready.send(Ok(())).is_ok() {
                Worker {
                    producer,
                    clients,
                    batch_bytes,
                }
                .run(&receiver);
            }
            debug!(transactional_id = %id, "producer ended");
        };
        let spawned = std::thread::Builder::new()
            .name("producer".to_owned())
            .spawn(thread);
        let failed = |why: String| KafkaError::Failed {
            what: "starting a producer".to_owned(),
            why,
        };
        spawned.map_err(|error| failed(error.to_string()))?;
        opened
            .await
            .map_err(|_| failed("its thread panicked".to_owned()))??;
        Ok(Self {
            commands,
            batch_bytes,
        })
    }

    /// Begins one transaction. After anything but [`Committed::keep`] no other one can follow.
    pub fn start(&self, transaction: Transaction) -> Pending {
        let (answer, outcome) = oneshot::channel();
        // A thread that has ended drops the answer, which the receiver notices.
        drop(self.commands.try_send((transaction, answer)));
        Pending(outcome)
    }
}

/// A transaction on its way.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Outcome>);

impl Pending {
    /// Waits for its end; can be awaited again if it was given up before.
    pub async fn outcome(&mut self) -> Outcome {
        match (&mut self.0).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Lost(KafkaError::Failed {
                what: "publishing".to_owned(),
                why: "the producer has ended".to_owned(),
            }),
        }
    }
}

type Transactional = BaseProducer<Deliveries>;

fn start(
    clients: &Clients,
    config: &ClientConfig,
    queue_messages: Gauge,
    waited_for: impl Fn() -> bool,
) -> Result<Transactional, KafkaError> {
    let producer: Transactional = clients.create(
        config,
        Deliveries::new(queue_messages, clients.failures().clone()),
    )?;
    // Without a connection the library would ask for the coordinator in vain, and again after half a second only.
    let failed = |error| clients.error(Doing::Other("starting a producer"), &error);
    let topic = clients.saga_topic();
    let connected = producer.client().fetch_metadata(Some(&topic), INIT_TIMEOUT);
    connected.map_err(failed)?;
    init(&producer, waited_for).map_err(failed)?;
    failpoint::pass(Point::Init);
    Ok(producer)
}

/// Fences every other producer of the same `transactional.id`. Each try of the library fences whoever is at work by then: when
/// nobody waits for this one any more, such as after the lease was found to be somebody else's, it has to end.
fn init(producer: &Transactional, waited_for: impl Fn() -> bool) -> Result<(), Inner> {
    let deadline = Instant::now() + INIT_TIMEOUT;
    loop {
        match producer.init_transactions(INIT_GLANCE) {
            Err(Inner::Transaction(error))
                if error.is_retriable() && waited_for() && Instant::now() < deadline => {}
            ended => return ended,
        }
    }
}

/// The producer's thread.
struct Worker {
    producer: Transactional,
    clients: Clients,
    batch_bytes: usize,
}

/// Why a transaction has to be aborted.
enum Abort {
    Records(Vec<(usize, Code)>),
    Error(KafkaError),
}

impl Worker {
    fn deliveries(&self) -> &Deliveries {
        self.producer.context()
    }

    fn run(&self, commands: &Receiver<(Transaction, oneshot::Sender<Outcome>)>) {
        loop {
            match commands.recv_timeout(IDLE) {
                Ok((transaction, answer)) => {
                    let outcome = self.transact(&transaction);
                    let keep = matches!(&outcome, Outcome::Committed(committed) if committed.keep);
                    if answer.send(outcome).is_err() || !keep {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.producer.poll(Duration::ZERO),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn transact(&self, transaction: &Transaction) -> Outcome {
        self.deliveries().begin();
        let began = Instant::now();
        if let Err(abort) = self.send_all(transaction) {
            return self.abort(abort, transaction);
        }
        let Some(checkpoint_offset) = *self.deliveries().checkpoint_offset() else {
            let why = "the checkpoint was not acknowledged".to_owned();
            let what = "publishing".to_owned();
            return self.abort(Abort::Error(KafkaError::Failed { what, why }), transaction);
        };
        let sent_in = began.elapsed();
        if Instant::now() >= transaction.deadline {
            return self.abort(Abort::Error(KafkaError::LeaseExpired), transaction);
        }
        failpoint::pass(Point::BeforeCommit);
        let asked = Instant::now();
        match self
            .producer
            .commit_transaction(Duration::from_millis(TRANSACTION_TIMEOUT_MS))
        {
            Ok(()) => {
                failpoint::pass(Point::AfterCommit);
                self.producer.poll(Duration::ZERO);
                let committed_in = asked.elapsed();
                let trouble = self.deliveries().trouble.load(Ordering::Relaxed);
                let keep = (committed_in < SLOW_COMMIT && !trouble)
                    || sabotaged(Sabotage::KeepAfterSlowCommit);
                Outcome::Committed(Committed {
                    checkpoint_offset,
                    keep,
                    sent_in,
                    committed_in,
                })
            }
            // Whether it was committed is for the next leader to find out.
            Err(error) => Outcome::Lost(self.clients.error(Doing::Other("committing"), &error)),
        }
    }

    fn send_all(&self, transaction: &Transaction) -> Result<(), Abort> {
        let begun = self.producer.begin_transaction();
        begun
            .map_err(|error| Abort::Error(self.clients.error(Doing::Other("beginning"), &error)))?;
        let until = transaction.deadline;
        let events = transaction.records.len();
        self.send(&transaction.records, 0)?;
        if !transaction.sagas.is_empty() {
            self.acknowledged(until)?;
            self.send(&transaction.sagas, events)?;
            failpoint::pass(Point::Sagas);
        }
        self.send(std::slice::from_ref(&transaction.checkpoint), CHECKPOINT)?;
        self.acknowledged(until)
    }

    fn send(&self, records: &[Record], first: usize) -> Result<(), Abort> {
        for (index, record) in (first..=usize::MAX).zip(records) {
            loop {
                match self.producer.send(native(record, index)) {
                    Ok(()) => {
                        failpoint::pass(Point::Send);
                        break;
                    }
                    Err((Inner::MessageProduction(Code::QueueFull), _)) => self.glance(),
                    Err((error, _)) => {
                        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                        return Err(Abort::Records(vec![(index, code)]));
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits until nothing is on its way any more. A commit with records on their way would take
    /// 100 ms, the granularity of the binding's flush.
    fn acknowledged(&self, until: Instant) -> Result<(), Abort> {
        loop {
            self.producer.poll(Duration::ZERO);
            let failed = std::mem::take(&mut *self.deliveries().failed());
            if !failed.is_empty() {
                return Err(Abort::Records(failed));
            }
            if self.producer.in_flight_count() == 0 {
                failpoint::pass(Point::Acknowledge);
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(Abort::Error(KafkaError::LeaseExpired));
            }
            std::thread::sleep(GLANCE);
        }
    }

    fn glance(&self) {
        self.producer.poll(Duration::ZERO);
        std::thread::sleep(GLANCE);
    }

    /// Ends a transaction that must not be committed, and says which records are to blame.
    fn abort(&self, abort: Abort, transaction: &Transaction) -> Outcome {
        self.producer
            .purge(PurgeConfig::default().queue().inflight());
        let until = Instant::now() + ABORT_TIMEOUT;
        while self.producer.in_flight_count() > 0 && Instant::now() < until {
            self.glance();
        }
        // Failing here is normal: the next producer's start aborts it as well.
        if let Err(error) = self.producer.abort_transaction(ABORT_TIMEOUT) {
            debug!(%error, "abort failed");
        }
        match abort {
            Abort::Error(error) => Outcome::Lost(error),
            Abort::Records(mut failed) => {
                failed.extend(std::mem::take(&mut *self.deliveries().failed()));
                self.blame(&failed, transaction)
            }
        }
    }

    fn blame(&self, failed: &[(usize, Code)], transaction: &Transaction) -> Outcome {
        let mut records = Vec::new();
        let mut topics = std::mem::take(&mut *self.deliveries().shut());
        let mut other = None;
        // What is invalid, and whether the library tells it from its company.
        let (mut invalid, mut told) = (Vec::new(), self.batch_bytes == ALONE);
        topics.retain(|topic, _| {
            let events = &transaction.records;
            let theirs = events.iter().any(|event| event.topic == *topic);
            if !theirs {
                other = Some(self.own_topic(topic, Code::TopicAuthorizationFailed));
            }
            theirs
        });
        for (index, code) in failed {
            // A consequence of another's failure, or of the producer's.
            if matches!(code, Code::PurgeQueue | Code::PurgeInflight) {
                continue;
            }
            if *code == Code::InvalidDifferentRecord {
                told = true;
                continue;
            }
            let Some(event) = transaction.records.get(*index) else {
                let own = transaction.sagas.first().filter(|_| *index != CHECKPOINT);
                let own = own.unwrap_or(&transaction.checkpoint);
                other = other.or_else(|| Some(self.own_topic(&own.topic, *code)));
                continue;
            };
            let refuse =
                |reason| Refusal::new(reason, &Inner::MessageProduction(*code).to_string());
            match code {
                // Smaller ones may have been refused for the company they were in.
                Code::MessageSizeTooLarge if event.size_bytes() > self.batch_bytes => {
                    records.push((*index, refuse(Reason::TooLarge)));
                }
                Code::MessageSizeTooLarge => {
                    topics.insert(event.topic.clone(), TopicState::Usable);
                }
                Code::InvalidRecord | Code::InvalidTimestamp | Code::PolicyViolation => {
                    invalid.push((*index, refuse(Reason::Invalid)));
                }
                Code::InvalidTopic => records.push((*index, refuse(Reason::Invalid))),
                Code::TopicAuthorizationFailed => {
                    topics.insert(event.topic.clone(), TopicState::Denied);
                }
                Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
                    topics.insert(event.topic.clone(), TopicState::Missing);
                }
                code => {
                    let error = Inner::MessageProduction(*code);
                    other = other
                        .or_else(|| Some(self.clients.error(Doing::Other("publishing"), &error)));
                }
            }
        }
        let crowded = invalid.len() > 1 && !told;
        if !crowded {
            records.append(&mut invalid);
        }
        if records.is_empty() && topics.is_empty() && !crowded {
            return Outcome::Lost(other.unwrap_or_else(|| self.fatal()));
        }
        warn!(records = records.len(), topics = ?topics.keys(), crowded, "Kafka refused records; the transaction was aborted");
        Outcome::Refused {
            records,
            topics,
            crowded,
        }
    }

    /// Why the producer is of no use any more, where no record tells.
    fn fatal(&self) -> KafkaError {
        let what = "publishing";
        match self.producer.client().fatal_error() {
            Some((code, _)) => self
                .clients
                .error(Doing::Other(what), &Inner::MessageProduction(code)),
            None => KafkaError::Failed {
                what: what.to_owned(),
                why: "records were purged without a reason".to_owned(),
            },
        }
    }

    /// An error of a saga record or of the checkpoint: never an event's fault.
    fn own_topic(&self, topic: &str, code: Code) -> KafkaError {
        match code {
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
                KafkaError::OwnTopic {
                    topic: topic.to_owned(),
                    why: "does not exist".to_owned(),
                }
            }
            code => {
                let error = Inner::MessageProduction(code);
                self.clients.error(Doing::Write(topic), &error)
            }
        }
    }
}

fn native(record: &Record, index: usize) -> BaseRecord<'_, [u8], [u8], usize> {
    let mut native =
        BaseRecord::with_opaque_to(&record.topic, index).timestamp(record.timestamp_ms);
    native.key = record.key.as_deref();
    native.payload = record.value.as_deref();
    native.partition = record.partition;
    if !record.headers.is_empty() {
        let headers = OwnedHeaders::new_with_capacity(record.headers.len());
        let add = |headers: OwnedHeaders, (name, value): &record::Header| {
            headers.insert(Header {
                key: name,
                value: Some(value),
            })
        };
        native.headers = Some(record.headers.iter().fold(headers, add));
    }
    native
}
