//! `sql rename` and `sql rebase`: what was published under another name, or from another database, is not sent again.
//!
//! Never works beside a leader: it waits for none, and fences a producer that may be left.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::RelayError;
use super::takeover::{Hold, checkpoint_topic, incarnation, read_back};
use crate::config::{Database, Source};
use crate::host;
use crate::kafka::{CheckpointLog, Clients, KafkaError, Publisher, Topics};
use crate::logic::batch::{RowId, TopicState};
use crate::logic::checkpoint::{Checkpoint, Halt, RowIds};
use crate::logic::health::Health;
use crate::logic::lease::Holder;
use crate::metrics::Gauge;
use crate::outbox::{Known, OutboxError, Rebased, Seat, Session};

const NAME: &str = "sql";
/// Long enough for the slowest step between two renewals.
const LEASE: Duration = Duration::from_secs(60);
/// So many rows are looked for at once.
const ROWS: usize = 10_000;
/// The last checkpoints of a topic lie within so many offsets, markers included.
const TAIL: i64 = 16;

/// What a rename found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    /// The name until now; `None` if it had none, and nothing was to do.
    pub from: Option<String>,
}

/// Gives the database of `source` that source's name.
pub async fn rename(clients: &Clients, source: &Source) -> Result<Renamed, RelayError> {
    let mut session = Session::open(&source.database, NAME).await?;
    let seat = session.seat().await?;
    idle(&seat)?;
    if session.is_moved(&seat) {
        let reason = "this is another database than the one that was relayed".to_owned();
        return Err(OutboxError::OtherDatabase { reason }.into());
    }
    let Some(old) = seat.source.clone().filter(|old| *old != source.name) else {
        return Ok(Renamed { from: seat.source });
    };
    let process = host::this_process().unwrap_or_default();
    let me = Holder {
        instance: "outboxd sql rename".to_owned(),
        process,
    };
    let taken = session.take(seat.lease.epoch, &old, &me, LEASE).await?;
    let epoch = taken.ok_or(OutboxError::Fenced)?;
    let renamed = carry_over(clients, &mut session, &seat, epoch, &old, &source.name).await;
    if renamed.is_err() {
        // The first error tells more.
        let _ = session.hand_back(epoch).await;
    }
    renamed.map(|()| Renamed { from: Some(old) })
}

/// Settles what was published under the old name, and begins after what the new name's topic holds.
async fn carry_over(
    clients: &Clients,
    session: &mut Session,
    seat: &Seat,
    epoch: i64,
    old: &str,
    new: &str,
) -> Result<(), RelayError> {
    let topics = Topics::new(clients)?;
    fence(clients, &topics, old).await?;
    let standing = session.standing(epoch).await?;
    if exists(&topics, &checkpoint_topic(clients, old)).await? {
        // A command that is stuck is seen by whoever called it.
        let beat = Health::default().watch(NAME, LEASE, Instant::now());
        let hold = Hold {
            beat: &beat,
            epoch,
            lease: LEASE,
        };
        read_back(clients, old, session, &incarnation(seat), hold).await?;
    } else if standing.batch > 0 {
        return Err(Halt::Regressed {
            settled: standing.batch,
            high: 0,
        }
        .into());
    }
    let next = free_end(clients, &topics, new, seat).await?;
    Ok(session.rename(epoch, new, next).await?)
}

/// Where the next checkpoint under a name will be; the last ones there may not be another database's.
async fn free_end(
    clients: &Clients,
    topics: &Topics,
    name: &str,
    seat: &Seat,
) -> Result<i64, RelayError> {
    let topic = checkpoint_topic(clients, name);
    if !exists(topics, &topic).await? {
        return Ok(0);
    }
    let high = CheckpointLog::open(clients, &topic, i64::MAX)
        .await?
        .ends
        .high;
    let mut log = CheckpointLog::open(clients, &topic, high - TAIL).await?;
    while let Some(record) = log.next().await? {
        match Checkpoint::decode(&record.value) {
            Ok(checkpoint) if !checkpoint.is_of(seat.incarnation) => {
                let (found, ours) = (checkpoint.incarnation, incarnation(seat));
                return Err(Halt::Foreign { found, ours }.into());
            }
            Ok(_) | Err(_) => {}
        }
    }
    Ok(high)
}

/// What a rebase does, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// In the database.
    pub rows: Rebased,
    /// How many checkpoints of other databases the topic holds.
    pub strangers: usize,
    /// How many records of the topic are no checkpoints.
    pub unreadable: usize,
}

/// Accepts the database behind `database` as that of `source`; only looks unless it is meant `really`.
pub async fn rebase(
    clients: &Clients,
    source: &Source,
    database: &Database,
    really: bool,
) -> Result<Accepted, RelayError> {
    let mut session = Session::open(database, NAME).await?;
    let seat = session.seat().await?;
    idle(&seat)?;
    if let Some(theirs) = seat.source.clone().filter(|theirs| *theirs != source.name) {
        let ours = source.name.clone();
        return Err(RelayError::OtherSource { theirs, ours });
    }
    let topics = Topics::new(clients)?;
    if really {
        fence(clients, &topics, &source.name).await?;
    }
    let mut found = Found::default();
    let topic = checkpoint_topic(clients, &source.name);
    let mut next = 0;
    if exists(&topics, &topic).await? {
        let mut log = CheckpointLog::open(clients, &topic, 0).await?;
        next = log.ends.high;
        while let Some(record) = log.next().await? {
            found.take(&session, &seat, &record.value).await?;
        }
        found.look_up(&session).await?;
    }
    let rows = session.rebase(&seat, &found.known, next, really).await?;
    let Found {
        strangers,
        unreadable,
        ..
    } = found;
    Ok(Accepted {
        rows,
        strangers,
        unreadable,
    })
}

/// What the checkpoints say of rows that the database has. The rest is forgotten at once: the log is longer than memory.
#[derive(Debug, Default)]
struct Found {
    known: Known,
    pending: Vec<RowId>,
    strangers: usize,
    unreadable: usize,
}

impl Found {
    async fn take(
        &mut self,
        session: &Session,
        seat: &Seat,
        value: &[u8],
    ) -> Result<(), RelayError> {
        let checkpoint = match Checkpoint::decode(value) {
            Ok(checkpoint) if checkpoint.is_of(seat.incarnation) => checkpoint,
            Ok(_) => {
                self.strangers += 1;
                return Ok(());
            }
            Err(_) => {
                self.unreadable += 1;
                return Ok(());
            }
        };
        self.pending.extend(checkpoint.published.0);
        self.known.released.extend(checkpoint.released);
        for (refusal, rows) in checkpoint.refused {
            let rows = session.present(&rows.0).await?;
            if !rows.is_empty() {
                self.known.refused.push((refusal, RowIds(rows)));
            }
        }
        if self.pending.len() >= ROWS {
            self.look_up(session).await?;
        }
        Ok(())
    }

    async fn look_up(&mut self, session: &Session) -> Result<(), RelayError> {
        let pending = std::mem::take(&mut self.pending);
        self.known
            .published
            .extend(session.present(&pending).await?);
        Ok(())
    }
}

fn idle(seat: &Seat) -> Result<(), RelayError> {
    let Some(holder) = seat
        .lease
        .holder
        .as_ref()
        .filter(|_| !seat.lease.remaining.is_zero())
    else {
        return Ok(());
    };
    let reason = format!(
        "\"{}\" leads this source: stop it, or wait for {} s if it is gone",
        holder.instance,
        seat.lease.remaining.as_secs() + 1
    );
    Err(OutboxError::Refused { reason }.into())
}

/// Ends whatever transaction a former leader may have left, so that what is read afterwards is all there is.
async fn fence(clients: &Clients, topics: &Topics, source: &str) -> Result<(), RelayError> {
    let id = format!("{}/{source}", clients.prefix());
    Publisher::open(clients, &id, topics.batch_bytes(), Gauge::noop()).await?;
    Ok(())
}

async fn exists(topics: &Topics, name: &str) -> Result<bool, RelayError> {
    let states = topics.look(HashSet::from([name])).await?;
    match states.get(name) {
        Some(TopicState::Usable | TopicState::Keyed) => Ok(true),
        Some(TopicState::Missing) | None => Ok(false),
        Some(TopicState::Denied) => Err(KafkaError::OwnTopic {
            topic: name.to_owned(),
            why: "may not be seen: grant Describe, Read and Write on it".to_owned(),
        }
        .into()),
    }
}
