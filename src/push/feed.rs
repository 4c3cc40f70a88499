//! One actor per partition of the saga topic: what the log says and what clients ask for meet in its mailbox. Never waits for a client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, info, warn};

use super::queue::{Note, Queue};
use crate::kafka::Fed;
use crate::logic::health::Health;
use crate::logic::push::partition::{
    Applied, Filter, Given, Keep, Listed, Overview, Part, Partition, SessionId,
};
use crate::logic::rights::Rights;
use crate::logic::saga::{Definitions, SagaKey, Trail, Unreadable};
use crate::metrics::{PartitionMetrics, PushMetrics, SagaMetrics, Skipped};

/// Bytes of recent changes that one partition keeps for clients that come back.
pub(super) const RING_BYTES: usize = 2 << 20;
/// Messages that may wait for an actor; the reader and the connections wait beyond.
pub(super) const MAILBOX: usize = 256;
/// A mailbox that nothing comes into still shows that its actor lives.
const BEAT: Duration = Duration::from_secs(5);
/// A loop that does not turn for so long hangs.
const BUDGET: Duration = Duration::from_secs(60);

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Who {
    pub(super) session: SessionId,
    pub(super) queue: Arc<Queue>,
    pub(super) rights: Arc<Rights>,
}

/// What comes into a partition's mailbox.
#[derive(Debug)]
pub(super) enum Mail {
    Fed(Fed),
    Session(Who, Ask),
    /// There is room in its queue again.
    Drained(SessionId),
    Left(SessionId),
    Snapshot {
        key: SagaKey,
        rights: Arc<Rights>,
        reply: oneshot::Sender<Option<(i64, String)>>,
    },
    /// The sagas after this one, for the next start.
    Part {
        after: Option<SagaKey>,
        reply: oneshot::Sender<Part>,
    },
    List {
        filter: Filter,
        rights: Arc<Rights>,
        reply: oneshot::Sender<Vec<Listed>>,
    },
    Count {
        reply: oneshot::Sender<Overview>,
    },
    Trail {
        key: SagaKey,
        reply: oneshot::Sender<Option<Trail>>,
    },
}

/// What a session asks for.
#[derive(Debug)]
pub(super) enum Ask {
    Subscribe {
        id: Option<u64>,
        key: SagaKey,
        has: Option<i64>,
    },
    Unsubscribe {
        id: Option<u64>,
        key: SagaKey,
    },
    SubscribeType {
        saga_type: Arc<str>,
        tag: u64,
    },
    UnsubscribeType {
        saga_type: Arc<str>,
        tag: u64,
    },
    /// Its rights are others now.
    Renew,
}

impl From<Fed> for Mail {
    fn from(fed: Fed) -> Self {
        Self::Fed(fed)
    }
}

/// What every actor of a log is given.
#[derive(Debug, Clone)]
pub(super) struct Actors {
    pub(super) epoch: Arc<str>,
    pub(super) keep: Keep,
    /// What sagas should look like; may change at any time.
    pub(super) definitions: watch::Receiver<Arc<Definitions>>,
    pub(super) metrics: PushMetrics,
    pub(super) sagas: SagaMetrics,
    pub(super) health: Health,
    /// Hears of each partition that has caught up.
    pub(super) caught_up: mpsc::Sender<()>,
}

struct Actor {
    number: i32,
    actors: Actors,
    metrics: PartitionMetrics,
    partition: Partition<Arc<Queue>>,
    live: bool,
}

/// Runs one partition until nobody can write to it any more; `known` is what it begins with, if anything is known from before.
pub(super) async fn run(
    number: i32,
    known: Option<Partition<Arc<Queue>>>,
    actors: Actors,
    mut mailbox: mpsc::Receiver<Mail>,
) {
    let beat = actors.health.watch(
        format!("sagas of partition {number}"),
        BUDGET,
        Instant::now(),
    );
    let metrics = PartitionMetrics::new(number);
    let mut actor = Actor::new(number, known, actors, metrics);
    loop {
        let mail = tokio::time::timeout(BEAT, mailbox.recv()).await;
        beat.tick(Instant::now());
        match mail {
            Ok(Some(mail)) => actor.take(mail).await,
            Ok(None) => break,
            Err(_) => {}
        }
    }
}

impl Drop for Actor {
    /// Whoever reads the log next counts its sagas anew.
    fn drop(&mut self) {
        for gone in self.partition.states() {
            self.actors.sagas.forgotten(&gone);
        }
    }
}

impl Actor {
    fn new(
        number: i32,
        known: Option<Partition<Arc<Queue>>>,
        actors: Actors,
        metrics: PartitionMetrics,
    ) -> Self {
        let new = || Partition::new(number, actors.keep, RING_BYTES, true);
        let mut partition = known.unwrap_or_else(new);
        for known in partition.states() {
            actors.sagas.known(&known);
        }
        partition.define(&actors.definitions.borrow());
        Self {
            number,
            partition,
            metrics,
            actors,
            live: false,
        }
    }

    /// Forgets all, to take the log from this offset on.
    fn start(&mut self, offset: i64) {
        let whole = offset == 0;
        self.partition = Partition::new(self.number, self.actors.keep, RING_BYTES, whole);
        self.partition.define(&self.actors.definitions.borrow());
    }

    async fn take(&mut self, mail: Mail) {
        match mail {
            Mail::Fed(fed) => self.fed(fed).await,
            Mail::Session(who, ask) => self.asked(&who, ask),
            Mail::Drained(session) => {
                if let Some((queue, tags)) = self.partition.drained(session) {
                    for tag in tags {
                        queue.note(Note::Done(tag));
                    }
                }
            }
            Mail::Left(session) => self.partition.leave(session),
            Mail::Snapshot { key, rights, reply } => {
                let found = self.partition.snapshot(&key, &rights, &self.actors.epoch);
                if found == Err(Given::Hidden) {
                    self.hidden(&key);
                }
                // Whoever asked may have gone.
                let _ = reply.send(found.ok());
            }
            Mail::Part { after, reply } => {
                let _ = reply.send(self.partition.part(after.as_ref()));
            }
            Mail::List {
                filter,
                rights,
                reply,
            } => {
                let _ = reply.send(self.partition.list(&filter, &rights));
            }
            Mail::Count { reply } => {
                let _ = reply.send(self.partition.overview());
            }
            Mail::Trail { key, reply } => {
                let _ = reply.send(self.partition.trail(&key));
            }
        }
    }

    async fn fed(&mut self, fed: Fed) {
        match fed {
            Fed::Start(offset) => self.start(offset),
            Fed::Records(records) => {
                let definitions = self.actors.definitions.borrow_and_update();
                if definitions.has_changed() {
                    self.partition.define(&definitions);
                    self.actors.sagas.define(&definitions);
                }
                drop(definitions);
                let mut unreadable = None;
                if let Some(newest) = records.last() {
                    let at = Duration::from_millis(u64::try_from(newest.timestamp_ms).unwrap_or(0));
                    self.metrics.last_record_timestamp.set(at.as_secs_f64());
                }
                for record in records {
                    let value = record.value.as_deref().unwrap_or_default();
                    if !self.apply(record.offset, record.timestamp_ms, value) {
                        unreadable = Some(record.offset);
                    }
                }
                if let Some(offset) = unreadable {
                    let partition = self.number;
                    warn!(
                        partition,
                        offset,
                        "the saga topic has records that no relay of this version wrote; they are skipped"
                    );
                }
                self.actors
                    .metrics
                    .skipped
                    .increment(self.partition.take_skipped());
            }
            Fed::CaughtUp => {
                self.live = true;
                debug!(partition = self.number, "caught up");
                // Nobody waits any more when the daemon ends.
                let _ = self.actors.caught_up.send(()).await;
            }
            #[expect(clippy::cast_precision_loss, reason = "a gauge")]
            Fed::Lag(records) => self.metrics.lag.set(records as f64),
        }
    }

    /// False if the record could not be read.
    fn apply(&mut self, offset: i64, timestamp_ms: i64, value: &[u8]) -> bool {
        let sagas = &self.actors.sagas;
        let applied = self.partition.apply(offset, timestamp_ms, value, |gone| {
            sagas.forgotten(&gone);
        });
        match applied {
            Applied::Changed(changed) => sagas.changed(&changed, self.live),
            Applied::Seen => self.actors.metrics.not_applied(Skipped::Duplicate, 1),
            Applied::PublishedUntil(stuck) => {
                for changed in stuck {
                    sagas.changed(&changed, self.live);
                }
            }
            Applied::Held => {}
            Applied::Skipped(unreadable) => {
                let skipped = match unreadable {
                    Unreadable::Malformed => Skipped::Malformed,
                    Unreadable::Unknown => Skipped::Unknown,
                };
                self.actors.metrics.not_applied(skipped, 1);
                return false;
            }
        }
        true
    }

    fn asked(&mut self, who: &Who, ask: Ask) {
        let session = who.session;
        if matches!(ask, Ask::Renew) && !self.partition.knows(session) {
            return;
        }
        for lost in self.partition.admit(session, &who.queue, &who.rights) {
            who.queue.note(Note::Lost(lost));
        }
        match ask {
            Ask::Subscribe { id, key, has } => {
                let given = self.partition.subscribe(session, id, &key, has);
                self.actors.metrics.given(given);
                if given == Given::Hidden {
                    self.hidden(&key);
                }
            }
            Ask::Unsubscribe { id, key } => self.partition.unsubscribe(session, id, &key),
            Ask::SubscribeType { saga_type, tag } => {
                if let Some(tag) = self.partition.subscribe_type(session, &saga_type, tag) {
                    who.queue.note(Note::Done(tag));
                }
            }
            Ask::UnsubscribeType { saga_type, tag } => {
                self.partition.unsubscribe_type(session, &saga_type);
                who.queue.note(Note::Done(tag));
            }
            Ask::Renew => {}
        }
    }

    fn hidden(&self, key: &SagaKey) {
        self.actors.metrics.hidden.increment(1);
        info!(saga_type = %key.saga_type, saga_id = %key.saga_id, "somebody asked for a saga that is not theirs");
    }
}
