//! One partition of the saga topic as clients see it: its sagas, their recent changes, and who watches what.
//!
//! Applying a record and answering a subscriber are calls of one object, so that a snapshot and the
//! changes after it have no gap between them by construction. Never waits for a client: what does
//! not fit a client's queue is left out, and a snapshot takes its place when there is room.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::frames::{self, Frame};
use super::ring::Ring;
use super::stalest::{Place, Stalest};
use crate::logic::event::Timestamp;
use crate::logic::rights::Rights;
use crate::logic::saga::overdue::{Deadline, Overdue};
use crate::logic::saga::{Change, Definitions, Record, Report, Saga, SagaKey};

mod image;
mod look;
mod news;
mod overview;
mod sessions;
mod walk;

pub use image::{Base, FORMAT, Mark, Part, Unfit};
pub use look::{Filter, Listed};
pub use news::{Applied, Changed, Standing};
pub use overview::Overview;
use walk::{Gone, TypeWatcher};

/// Where a session's frames go.
pub trait Sink: Clone {
    /// Takes a frame, unless the queue is full.
    fn offer(&self, frame: &Arc<Frame>) -> bool;
    /// Takes the answer to a request, which is bounded by the number of requests.
    fn answer(&self, frame: Arc<Frame>);
    /// Something was left out: wants [`Partition::drained`] of `partition` when there is room.
    fn behind(&self, partition: i32);
}

/// Names a session; never used twice in a process.
pub type SessionId = u64;

/// How long sagas are kept, by the log's time.
#[derive(Debug, Clone, Copy)]
pub struct Keep {
    /// Without a change and unfinished.
    pub history: Duration,
    /// And finished.
    pub finished: Duration,
}

/// The state of one partition, for sessions with sinks of type `S`.
#[derive(Debug)]
pub struct Partition<S> {
    number: i32,
    keep: Keep,
    /// No record before the first one read can have been missed.
    whole: bool,
    /// The log's time: the latest record's.
    log_ms: i64,
    last: Option<Mark>,
    /// The last record of an event that had been seen.
    repeated: i64,
    /// No saga that is forgotten had a record after this one.
    forgotten: i64,
    sagas: HashMap<Arc<str>, BTreeMap<Arc<str>, Kept>>,
    /// Sagas that were ever new here.
    begun: u64,
    definitions: Arc<Definitions>,
    stalest: Stalest,
    overdue: Overdue,
    ring: Ring,
    watchers: HashMap<SagaKey, Vec<Watcher<S>>>,
    type_watchers: HashMap<Arc<str>, Vec<TypeWatcher<S>>>,
    /// Of the types that are watched whole.
    gone: HashMap<Arc<str>, Gone>,
    sessions: HashMap<SessionId, Session<S>>,
    skipped: u64,
}

#[derive(Debug)]
struct Kept {
    saga: Saga,
    /// No other saga of this partition ever has it.
    number: u64,
    place: Place,
    deadline: Option<Deadline>,
}

#[derive(Debug)]
struct Session<S> {
    sink: S,
    rights: Arc<Rights>,
    sagas: HashSet<SagaKey>,
    types: HashSet<Arc<str>>,
}

#[derive(Debug)]
struct Watcher<S> {
    session: SessionId,
    sink: S,
    sight: Sight,
}

/// What a watcher sees of its saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    /// Nothing: unknown, or somebody else's.
    Nothing,
    /// Every change.
    Live,
    /// It missed a change and needs a snapshot before the next one.
    Behind,
}

/// What a subscriber is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// Nothing: it has the current version.
    Current,
    /// The changes that it lacks.
    Changes,
    /// A snapshot.
    Snapshot,
    /// The promise of a snapshot.
    Waiting,
    /// The same promise, though the saga is known: it is somebody else's.
    Hidden,
}

impl<S: Sink> Partition<S> {
    /// An empty one; `whole` says that the log still has its beginning.
    pub fn new(number: i32, keep: Keep, ring_bytes: usize, whole: bool) -> Self {
        Self {
            number,
            keep,
            whole,
            log_ms: i64::MIN,
            last: None,
            repeated: i64::MIN,
            forgotten: i64::MIN,
            sagas: HashMap::new(),
            begun: 0,
            definitions: Arc::default(),
            stalest: Stalest::default(),
            overdue: Overdue::default(),
            ring: Ring::new(ring_bytes),
            watchers: HashMap::new(),
            type_watchers: HashMap::new(),
            gone: HashMap::new(),
            sessions: HashMap::new(),
            skipped: 0,
        }
    }

    /// From now on sagas begin with these definitions; those that have begun keep theirs.
    pub fn define(&mut self, definitions: &Arc<Definitions>) {
        self.definitions = Arc::clone(definitions);
    }

    /// Takes the record at `offset` of the log; sagas whose time is over by then are forgotten first.
    pub fn apply(
        &mut self,
        offset: i64,
        timestamp_ms: i64,
        value: &[u8],
        forgotten: impl FnMut(Standing),
    ) -> Applied {
        self.log_ms = self.log_ms.max(timestamp_ms);
        self.last = Some(Mark {
            offset,
            timestamp_ms,
        });
        self.forget(forgotten);
        match Record::read(value) {
            Ok(Record::Report(report)) => self.report(report, offset),
            Ok(Record::PublishedUntil { source, until }) => {
                Applied::PublishedUntil(self.published_until(&source, until, offset))
            }
            Err(unreadable) => Applied::Skipped(unreadable),
        }
    }

    /// Changes that did not fit somebody's queue since this was last asked.
    pub fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    fn forget(&mut self, mut forgotten: impl FnMut(Standing)) {
        let before = |keep: Duration| {
            let keep_ms = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
            self.log_ms.saturating_sub(keep_ms)
        };
        let (unfinished, finished) = (before(self.keep.history), before(self.keep.finished));
        while let Some(key) = self.stalest.expired(unfinished, finished) {
            let Some(of_type) = self.sagas.get_mut(&key.saga_type) else {
                continue;
            };
            let gone = of_type.remove(&key.saga_id);
            if of_type.is_empty() {
                self.sagas.remove(&key.saga_type);
            }
            // If it begins anew, it begins with a snapshot.
            self.note_gone(&key);
            for watcher in self.watchers.get_mut(&key).into_iter().flatten() {
                watcher.sight = Sight::Nothing;
            }
            if let Some(kept) = gone {
                self.forgotten = self.forgotten.max(kept.saga.version).max(self.repeated);
                if let Some(deadline) = kept.deadline {
                    self.overdue.leave(&key.saga_type, deadline);
                }
                forgotten(Standing::of(&key.saga_type, &kept.saga));
            }
        }
    }

    fn report(&mut self, report: Report, offset: i64) -> Applied {
        let known_type = self.sagas.get_key_value(report.saga_type.as_str());
        let saga_type = match known_type {
            Some((saga_type, _)) => Arc::clone(saga_type),
            None => Arc::from(report.saga_type.as_str()),
        };
        let of_type = self.sagas.entry(Arc::clone(&saga_type)).or_default();
        let known = of_type.get_key_value(report.saga_id.as_str());
        let saga_id = match known {
            Some((saga_id, _)) => Arc::clone(saga_id),
            None => Arc::from(report.saga_id.as_str()),
        };
        let key = SagaKey { saga_type, saga_id };
        let place = (self.log_ms, offset);
        let mut before = None;
        let mut had_user = false;
        let change = if let Some(kept) = of_type.get_mut(&key.saga_id) {
            let definition = kept.saga.definition();
            self.overdue
                .reported(&key.saga_type, definition, &report.source, self.log_ms);
            if offset <= kept.saga.version {
                return Applied::Held;
            }
            had_user = kept.saga.user.is_some();
            let Some(change) = kept.saga.apply(report, offset) else {
                self.repeated = offset;
                return Applied::Seen;
            };
            before = Some(std::mem::replace(&mut kept.place, place));
            change
        } else {
            let definition = self.definitions.of(&key.saga_type, report.at);
            self.overdue
                .reported(&key.saga_type, definition, &report.source, self.log_ms);
            let (saga, change) = Saga::begin(report, offset, self.whole, definition);
            self.begun += 1;
            let kept = Kept {
                saga,
                number: self.begun,
                place,
                deadline: None,
            };
            of_type.insert(Arc::clone(&key.saga_id), kept);
            change
        };
        let Some(kept) = of_type.get_mut(&key.saga_id) else {
            return Applied::Seen;
        };
        kept.watch_time(&mut self.overdue, &key, &change, self.log_ms);
        let finished = kept.saga.outcome.is_some();
        self.stalest.moved(&key, before, place, finished);
        let began = before.is_none();
        let revealed = began || had_user != kept.saga.user.is_some();
        let (number, standing) = (kept.number, Standing::of(&key.saga_type, &kept.saga));
        self.tell(&key, number, &change, revealed);
        Applied::Changed(Box::new(Changed {
            standing,
            began,
            change,
        }))
    }

    /// A source is published so far: sagas that are late then are stuck, all at this one offset.
    fn published_until(&mut self, source: &str, until: Timestamp, offset: i64) -> Vec<Changed> {
        let memory_ms = i64::try_from(self.keep.history.as_millis()).unwrap_or(i64::MAX);
        let late = self
            .overdue
            .published_until(source, until, self.log_ms, memory_ms);
        let mut stuck = Vec::with_capacity(late.len());
        for late in late {
            let key = late.key;
            let of_type = self.sagas.get_mut(&key.saga_type);
            let Some(kept) = of_type.and_then(|of_type| of_type.get_mut(&key.saga_id)) else {
                continue;
            };
            if offset <= kept.saga.version {
                // The image that this was made of is younger, and its deadline, too.
                self.overdue.resume(&key, late.deadline);
                continue;
            }
            kept.deadline = None;
            let change = kept.saga.stick(late.since, until, offset);
            let (number, standing) = (kept.number, Standing::of(&key.saga_type, &kept.saga));
            self.tell(&key, number, &change, false);
            stuck.push(Changed {
                standing,
                began: false,
                change,
            });
        }
        stuck
    }

    /// Keeps a change and sends it to everybody who watches.
    fn tell(&mut self, key: &SagaKey, number: u64, change: &Change, revealed: bool) {
        let frame = frames::change(key, change);
        let (version, previous) = (change.version, change.previous);
        self.ring
            .keep(number, version, previous, Arc::clone(&frame));
        self.tell_watchers(key, &frame, revealed);
        let anew = previous.is_none() && self.is_anew(key);
        let frame = match of(&self.sagas, key) {
            Some(kept) if anew => frames::snapshot(key, &kept.saga),
            Some(_) | None => frame,
        };
        self.tell_type_watchers(key, &frame, version);
    }

    /// Sends a change to those who see the saga; who sees it for the first time gets a snapshot.
    fn tell_watchers(&mut self, key: &SagaKey, frame: &Arc<Frame>, revealed: bool) {
        let Some(watchers) = self.watchers.get_mut(key) else {
            return;
        };
        let Some(kept) = of(&self.sagas, key) else {
            return;
        };
        let mut snapshot = None;
        for watcher in watchers {
            match watcher.sight {
                Sight::Live if watcher.sink.offer(frame) => {}
                Sight::Live => {
                    watcher.sight = Sight::Behind;
                    watcher.sink.behind(self.number);
                    self.skipped += 1;
                }
                Sight::Behind => self.skipped += 1,
                Sight::Nothing => {
                    let rights = self.sessions.get(&watcher.session).map(|s| &s.rights);
                    if revealed && rights.is_some_and(|rights| may_watch(rights, key, &kept.saga)) {
                        let snapshot =
                            snapshot.get_or_insert_with(|| frames::snapshot(key, &kept.saga));
                        watcher.show(snapshot, self.number);
                    }
                }
            }
        }
    }

    /// How every saga stands, for those who count.
    pub fn states(&self) -> impl Iterator<Item = Standing> {
        self.sagas.iter().flat_map(|(saga_type, sagas)| {
            sagas
                .values()
                .map(|kept| Standing::of(saga_type, &kept.saga))
        })
    }
}

impl Kept {
    /// Notes until when the saga may stay as it is: the limit begins with a state, and anew when it was stuck.
    fn watch_time(&mut self, overdue: &mut Overdue, key: &SagaKey, change: &Change, log_ms: i64) {
        let moved = change
            .state
            .as_ref()
            .is_some_and(|(state, before)| Some(state) != before.as_ref());
        if !(moved || change.stuck_since.is_some() || change.outcome.is_some()) {
            return;
        }
        if let Some(deadline) = self.deadline.take() {
            overdue.leave(&key.saga_type, deadline);
        }
        let limit = self.saga.limit();
        self.deadline = limit.and_then(|limit| overdue.enter(key, self.number, limit, log_ms));
    }
}

fn may_watch(rights: &Rights, key: &SagaKey, saga: &Saga) -> bool {
    rights.may_watch(&key.saga_type, saga.user.as_deref())
}

fn of<'a>(
    sagas: &'a HashMap<Arc<str>, BTreeMap<Arc<str>, Kept>>,
    key: &SagaKey,
) -> Option<&'a Kept> {
    sagas.get(&key.saga_type)?.get(&key.saga_id)
}

#[cfg(test)]
mod tests;
