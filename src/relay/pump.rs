//! Leading a source: read, plan, publish, settle, and again. Of a backlog the next batch is read while a transaction is on its way.
//!
//! Ends at the first doubt; what it had not settled is found again by the next take-over.

mod chores;
mod letters;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{Left, Relay, RelayError, Replace};
use crate::clock::now;
use crate::config::OnRefused;
use crate::failpoint::{Sabotage, sabotaged};
use crate::kafka::{ALONE, Committed, Outcome, Pending, Publisher, Transaction};
use crate::logic::batch::{Batch, Blocked, Plan, Row, TopicState};
use crate::logic::checkpoint::{self, Checkpoint, RowIds};
use crate::logic::event::{Event, Timestamp};
use crate::logic::lease::Held;
use crate::logic::pace::{Next, Pace};
use crate::logic::record::{self, Record};
use crate::logic::refusal::Refusal;
use crate::logic::status::Phase;
use crate::logic::window::Position;
use crate::metrics::Recreated;
use crate::outbox::{Effort, Letters, Limits, Lsn, Read, Session, Standing};

/// Every partition of the saga topic hears this often how far the source is published.
const BEAT: Duration = Duration::from_secs(10);
/// A doorbell that cannot be armed is tried again after this long.
const ARM_AGAIN: Duration = Duration::from_millis(20);
/// WAL that is not flushed after this long by others is flushed by us.
const FLUSH: Duration = Duration::from_millis(2);

/// One source while this daemon leads it.
pub(super) struct Pump<'a> {
    relay: &'a mut Relay,
    session: Session,
    publisher: Publisher,
    held: Held,
    incarnation: String,
    saga_topic: String,
    saga_partitions: i32,
    checkpoint_topic: String,
    /// What is committed in Kafka; written back by the next settlement.
    standing: Standing,
    unsettled: bool,
    /// How far the source has been read, which is one batch further.
    position: Position,
    /// When the window that is being read was opened.
    opened: Option<Timestamp>,
    /// Everything committed before this moment is published.
    until: Option<Timestamp>,
    ahead: HashSet<i64>,
    blocked: Blocked,
    dead_letters: u64,
    pace: Pace,
    armed: bool,
    due: Due,
    published_since: (Instant, u64),
}

/// When what is done now and then is to be done next.
struct Due {
    settle: Instant,
    beat: Instant,
    count: Instant,
    rotate: Instant,
    release: Instant,
}

/// The next transaction, read and encoded.
struct Planned {
    batch: Batch,
    /// The dead letters in it, by their `seq`.
    released: Vec<i64>,
    beat: bool,
    position: Position,
    until: Option<Timestamp>,
}

/// A transaction that Kafka is working on.
struct InFlight {
    pending: Pending,
    rows: Vec<Row>,
    refused: Vec<(Refusal, RowIds)>,
    released: Vec<i64>,
    standing: Standing,
    until: Option<Timestamp>,
    bytes: usize,
}

impl<'a> Pump<'a> {
    pub(super) async fn new(
        relay: &'a mut Relay,
        session: Session,
        publisher: Publisher,
        epoch: i64,
        incarnation: String,
        standing: Standing,
        until: Option<Timestamp>,
    ) -> Result<Self, RelayError> {
        let asked = Instant::now();
        session.renew(epoch, relay.shared.lease).await?;
        session.evict_doorbell().await?;
        let doorbell = session.has_doorbell().await?;
        let ahead = session.ahead().await?;
        let dead_letters = session.dead_letters().await?.total();
        let keys_too = relay.source.on_refused == OnRefused::BlockKey;
        let blocked = session.blocked(keys_too).await?;
        let saga_topic = relay.shared.clients.saga_topic();
        let saga_partitions = relay.shared.topics.partitions(&saga_topic).await?;
        let at = Instant::now();
        if !doorbell {
            info!(source = %relay.source.name, "no doorbell here; reading every 50 ms when idle");
        }
        Ok(Self {
            held: Held::new(epoch, asked, relay.shared.lease),
            incarnation,
            saga_topic,
            saga_partitions,
            checkpoint_topic: relay.checkpoint_topic(),
            position: standing.position.clone(),
            standing,
            unsettled: false,
            opened: None,
            until,
            ahead,
            blocked,
            dead_letters,
            pace: Pace::new(relay.source.batch.linger, doorbell, at),
            armed: false,
            due: Due {
                settle: at,
                beat: at,
                count: at + chores::COUNT,
                rotate: at,
                release: relay.release_after,
            },
            published_since: (at, 0),
            relay,
            session,
            publisher,
        })
    }

    /// Pumps until `stop`, an operator's release or an error. What is committed is settled in any case, if the database still listens.
    pub(super) async fn run(mut self, stop: &CancellationToken) -> Result<Left, RelayError> {
        self.relay.status.send_modify(|status| {
            status.phase = Phase::Leading;
            status.last_error = None;
        });
        let ended = self.pump(stop).await;
        if self.unsettled && !self.session.is_closed() {
            let lease = self.relay.shared.lease;
            if let Err(error) = self
                .session
                .settle(self.held.epoch, &self.standing, lease)
                .await
            {
                debug!(%error, "the last settlement failed; the next take-over reads it back");
            }
        }
        if ended.is_ok() {
            self.session.hand_back(self.held.epoch).await?;
            info!(source = %self.relay.source.name, "handed the lease back");
        }
        ended
    }

    async fn pump(&mut self, stop: &CancellationToken) -> Result<Left, RelayError> {
        // Also known of a source that stops at its first read.
        self.count(Instant::now()).await?;
        let mut in_flight = None;
        loop {
            self.rest(&mut in_flight, stop).await?;
            let left = self.left(stop);
            if (left.is_some() || self.relay.wishes.paused())
                && let Some(in_flight) = in_flight.take()
            {
                self.finish(in_flight).await?;
            }
            if let Some(left) = left {
                return Ok(left);
            }
            if self.relay.wishes.paused() {
                self.pause(stop).await?;
                continue;
            }
            if self.dead_letters > 0 && Instant::now() >= self.due.release {
                if let Some(in_flight) = in_flight.take() {
                    self.finish(in_flight).await?;
                }
                self.release().await?;
            }
            self.relay.beat.tick(Instant::now());
            let planned = self.plan().await?;
            if let Some(in_flight) = in_flight.take() {
                self.finish(in_flight).await?;
            }
            self.fit_publisher().await?;
            if sabotaged(Sabotage::SettleBeforeCommit) {
                self.settle_early(&planned).await?;
            }
            in_flight = self.start(planned);
            self.chores().await?;
        }
    }

    /// Whether it is time to hand the lease back.
    fn left(&mut self, stop: &CancellationToken) -> Option<Left> {
        if stop.is_cancelled() {
            return Some(Left::Stopped);
        }
        let released = self.relay.wishes.released();
        released.then(|| {
            // Before what may still fail: even then the lease is somebody else's.
            self.relay.yield_lease();
            Left::Released
        })
    }

    /// Keeps the lease and publishes nothing, until the operator has another wish. Sagas still hear how far the source is
    /// published, or it would no longer count for those that are stuck.
    async fn pause(&mut self, stop: &CancellationToken) -> Result<(), RelayError> {
        if self.armed {
            // Nobody listens; whoever inserts need not ring.
            self.session.disarm().await?;
            self.armed = false;
        }
        self.relay.heed_pause();
        info!(source = %self.relay.source.name, "paused");
        while self.relay.wishes.paused() && !stop.is_cancelled() {
            self.relay.beat.tick(Instant::now());
            if let Some(sagas) = self.beat(self.until, Instant::now()) {
                self.publish_beat(sagas).await?;
            }
            let beat = self.until.map(|_| self.due.beat);
            let until = beat.into_iter().fold(self.next_chore(), Instant::min);
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {}
                () = self.relay.wishes.changed() => break,
                () = stop.cancelled() => {}
            }
            self.chores().await?;
        }
        self.relay.heed_pause();
        if !self.relay.wishes.paused() {
            info!(source = %self.relay.source.name, "resumed");
        }
        Ok(())
    }

    async fn publish_beat(&mut self, sagas: Vec<Record>) -> Result<(), RelayError> {
        let planned = Planned {
            batch: Batch {
                sagas,
                ..Batch::default()
            },
            released: Vec::new(),
            beat: true,
            position: self.standing.position.clone(),
            until: self.until,
        };
        match self.start(planned) {
            Some(in_flight) => self.finish(in_flight).await,
            None => Ok(()),
        }
    }

    /// Waits until it is time to read; a transaction that ends meanwhile is taken in.
    async fn rest(
        &mut self,
        in_flight: &mut Option<InFlight>,
        stop: &CancellationToken,
    ) -> Result<(), RelayError> {
        loop {
            self.relay.beat.tick(Instant::now());
            let (until, asleep) = match self.pace.next(Instant::now()) {
                // What is read now would wait for the transaction on its way, and whoever inserts meanwhile for one more.
                _ if in_flight.is_some() && !self.pace.is_behind() => (self.next_chore(), false),
                Next::Now => break,
                Next::At(due) => (due, false),
                Next::Sleep(due) => (due, true),
            };
            if asleep && !self.armed && in_flight.is_none() {
                self.armed = self.session.arm().await?;
                if self.armed {
                    // One more read sees whoever inserted before.
                    break;
                }
                // A writer is at work: it will not ring, so look again soon.
                tokio::time::sleep(ARM_AGAIN).await;
                break;
            }
            let until = until.min(self.next_chore());
            tokio::select! {
                outcome = outcome(in_flight) => {
                    if let Some(in_flight) = in_flight.take() {
                        self.take_in(in_flight, outcome).await?;
                    }
                }
                () = tokio::time::sleep_until(until.into()) => {
                    if Instant::now() < self.next_chore() || asleep { break }
                    self.chores().await?;
                }
                () = self.session.rung(), if self.armed => {
                    self.session.disarm().await?;
                    self.armed = false;
                    break;
                }
                () = self.relay.wishes.changed() => break,
                () = stop.cancelled() => break,
            }
        }
        Ok(())
    }

    /// Reads the next rows, and makes a transaction of them.
    async fn plan(&mut self) -> Result<Planned, RelayError> {
        let began = Instant::now();
        let read = self
            .session
            .read(&self.position, self.limits(), Effort::USUAL)
            .await?;
        let metrics = &self.relay.metrics;
        metrics.phase_read.record(began.elapsed());
        metrics.last_poll_timestamp.set(now().as_seconds());
        metrics.events_read.increment(read.events.len() as u64);
        self.pace.read(began, read.events.len(), read.more);
        if !read.events.is_empty() && self.armed {
            // Awake: whoever inserts from now on need not ring.
            self.session.disarm().await?;
            self.armed = false;
        }
        let Read {
            events,
            position,
            unflushed,
            at,
            ..
        } = read;
        self.position = position.clone();
        self.opened = at.or(self.opened);
        let until = if position.page.is_none() {
            self.opened
        } else {
            self.until
        };
        let names: HashSet<&str> = events.iter().map(|event| event.topic.as_str()).collect();
        let topics = self.relay.shared.topics.look(names).await?;
        let mut blocked = std::mem::take(&mut self.blocked);
        let mut batch = self.plan_batch(&self.ahead, &topics, events, &mut blocked);
        self.blocked = blocked;
        self.relay
            .metrics
            .duplicates_suppressed
            .increment(batch.suppressed as u64);
        self.check_dead_letter_limit(batch.refused.len())?;
        let told = self.beat(until, began);
        let beat = told.is_some();
        batch.sagas.extend(told.into_iter().flatten());
        if let Some(lsn) = unflushed {
            self.make_durable(&lsn, began).await?;
        }
        Ok(Planned {
            batch,
            released: Vec::new(),
            beat,
            position,
            until,
        })
    }

    /// What every partition of the saga topic is to hear about `until`, if it is time to say it.
    fn beat(&self, until: Option<Timestamp>, at: Instant) -> Option<Vec<Record>> {
        let until = until.filter(|_| at >= self.due.beat)?;
        let (topic, source) = (&self.saga_topic, &self.relay.source.name);
        let (partitions, now_ms) = (self.saga_partitions, now().as_ms());
        Some(record::published_until(
            topic, partitions, source, until, now_ms,
        ))
    }

    /// Waits until no crash of the database can undo what was read: an event of a transaction that
    /// then never was could not be called back.
    async fn make_durable(&self, lsn: &Lsn, read: Instant) -> Result<(), RelayError> {
        if sabotaged(Sabotage::NoFlushGate) || self.session.is_flushed(lsn).await? {
            return Ok(());
        }
        tokio::time::sleep_until((read + FLUSH).into()).await;
        if !self.session.is_flushed(lsn).await? {
            self.session.flush().await?;
        }
        Ok(())
    }

    fn check_dead_letter_limit(&self, more: usize) -> Result<(), RelayError> {
        let rows = self.dead_letters.saturating_add(more as u64);
        let limit = self.relay.source.dead_letter_limit;
        if more > 0 && rows > limit {
            return Err(RelayError::DeadLetterLimit { rows, limit });
        }
        Ok(())
    }

    /// Hands a transaction to Kafka, or notes that there was nothing to say.
    fn start(&mut self, planned: Planned) -> Option<InFlight> {
        let Planned {
            batch,
            released,
            beat,
            position,
            until,
        } = planned;
        if batch.is_empty() && !beat {
            // Not worth a write of its own, which would move the snapshot again; the next renewal takes it along.
            self.standing.position = position;
            self.until = self.until.max(until);
            return None;
        }
        if beat {
            self.due.beat = Instant::now() + BEAT;
        }
        let refused = checkpoint::group(&batch.refused);
        for (_, refusal) in &batch.refused {
            self.relay.metrics.refused(refusal.reason);
        }
        // A letter's row has been passed long ago; its number among the letters tells it.
        let rows = if released.is_empty() {
            batch.rows.as_slice()
        } else {
            &[]
        };
        let checkpoint = Checkpoint {
            v: checkpoint::VERSION,
            incarnation: self.incarnation.clone(),
            timeline: self.session.identity.timeline,
            epoch: self.held.epoch,
            batch: self.standing.batch + 1,
            until: until.max(self.until).unwrap_or_default(),
            published: RowIds(rows.iter().map(|row| row.id).collect()),
            refused: refused.clone(),
            released: released.clone(),
        };
        let bytes = batch.records.iter().map(Record::size_bytes).sum();
        let standing = Standing {
            position,
            batch: checkpoint.batch,
            checkpoint_next: self.standing.checkpoint_next,
        };
        let record = Record {
            topic: self.checkpoint_topic.clone(),
            partition: Some(0),
            key: Some(self.relay.source.name.clone().into_bytes()),
            value: Some(checkpoint.encode()),
            timestamp_ms: now().as_ms(),
            headers: Vec::new(),
        };
        let pending = self.publisher.start(Transaction {
            records: batch.records,
            sagas: batch.sagas,
            checkpoint: record,
            deadline: self.held.until,
        });
        Some(InFlight {
            pending,
            rows: batch.rows,
            refused,
            released,
            standing,
            until,
            bytes,
        })
    }

    async fn finish(&mut self, mut in_flight: InFlight) -> Result<(), RelayError> {
        let outcome = in_flight.pending.outcome().await;
        self.take_in(in_flight, outcome).await
    }

    async fn take_in(&mut self, in_flight: InFlight, outcome: Outcome) -> Result<(), RelayError> {
        match outcome {
            Outcome::Committed(committed) => self.committed(in_flight, committed).await,
            Outcome::Refused {
                records,
                topics,
                crowded,
            } => {
                self.relay.alone = crowded;
                self.relay.metrics.batch_aborted.increment(1);
                if !in_flight.released.is_empty() {
                    self.relay.released_again();
                }
                let rows = &in_flight.rows;
                let known = records
                    .into_iter()
                    .filter_map(|(index, refusal)| rows.get(index).map(|row| (row.id, refusal)));
                self.relay.refused.extend(known);
                for (topic, state) in topics {
                    self.relay.shared.topics.learn(&topic, state);
                }
                Err(RelayError::Replace(Replace::Refused))
            }
            Outcome::Lost(error) => {
                self.relay.metrics.batch_unknown.increment(1);
                Err(error.into())
            }
        }
    }

    async fn committed(
        &mut self,
        in_flight: InFlight,
        committed: Committed,
    ) -> Result<(), RelayError> {
        let InFlight {
            rows,
            refused,
            released,
            mut standing,
            until,
            bytes,
            ..
        } = in_flight;
        standing.checkpoint_next = committed.checkpoint_offset + checkpoint::OFFSETS;
        self.standing = standing;
        self.until = self.until.max(until);
        self.unsettled = true;
        let metrics = &self.relay.metrics;
        metrics.batch_committed.increment(1);
        metrics.phase_send.record(committed.sent_in);
        metrics.phase_commit.record(committed.committed_in);
        self.pace.committed(Instant::now(), committed.sent_in);
        metrics.published_bytes.increment(bytes as u64);
        metrics.events_published.increment(rows.len() as u64);
        if !rows.is_empty() {
            #[expect(clippy::cast_precision_loss, reason = "batches are small")]
            metrics.batch_events.record(rows.len() as f64);
        }
        self.published_since.1 += rows.len() as u64;
        if released.is_empty() {
            let at = now().as_seconds();
            for row in &rows {
                metrics
                    .insert_to_publish
                    .record((at - row.created_at.as_seconds()).max(0.0));
            }
        }
        if !refused.is_empty() || !released.is_empty() {
            self.settle_letters(Letters {
                refused: &refused,
                released: &released,
            })
            .await?;
        }
        self.relay.works();
        self.relay.alone = false;
        if committed.keep {
            Ok(())
        } else {
            self.replace_publisher(Recreated::SlowCommit).await
        }
    }

    /// Keeps batches below what every topic takes, as far as it is known by now: a broker would refuse all of a batch.
    pub(super) async fn fit_publisher(&mut self) -> Result<(), RelayError> {
        let (fits, is) = (self.relay.batch_bytes(), self.publisher.batch_bytes);
        if fits < is || (is == ALONE && fits > is) {
            self.replace_publisher(Recreated::TopicLimit).await?;
        }
        Ok(())
    }

    /// Goes on with another producer. Nothing may be on its way: what this one committed is known, and settled first.
    async fn replace_publisher(&mut self, reason: Recreated) -> Result<(), RelayError> {
        let (epoch, lease) = (self.held.epoch, self.relay.shared.lease);
        self.relay.metrics.recreated(reason);
        if self.unsettled {
            self.session.settle(epoch, &self.standing, lease).await?;
            self.unsettled = false;
        }
        let asked = Instant::now();
        let batch = self.standing.batch;
        let (session, incarnation) = (&mut self.session, &self.incarnation);
        let publisher = self
            .relay
            .replace_publisher(session, epoch, incarnation, batch);
        let publisher = publisher.await?;
        self.held.renew(asked, lease);
        self.publisher = publisher;
        Ok(())
    }

    fn plan_batch(
        &self,
        ahead: &HashSet<i64>,
        topics: &HashMap<String, TopicState>,
        events: Vec<Event>,
        blocked: &mut Blocked,
    ) -> Batch {
        let plan = Plan {
            source: &self.relay.source.name,
            prefix: self.relay.shared.clients.prefix(),
            sagas: &self.saga_topic,
            block_keys: self.relay.source.on_refused == OnRefused::BlockKey,
            ahead,
            known: &self.relay.refused,
            topics,
        };
        plan.batch(events, blocked, now().as_ms())
    }

    fn limits(&self) -> Limits {
        let batch = self.relay.source.batch;
        Limits {
            events: batch.events,
            bytes: batch.bytes,
        }
    }
}

/// The end of the transaction on its way; never, if there is none.
async fn outcome(in_flight: &mut Option<InFlight>) -> Outcome {
    match in_flight {
        Some(in_flight) => in_flight.pending.outcome().await,
        None => std::future::pending().await,
    }
}
