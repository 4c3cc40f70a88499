//! One partition of the saga topic as clients see it: its sagas, their recent changes, and who watches what.
//!
//! Applying a record and answering a subscriber are calls of one object, so that a snapshot and the
//! changes after it have no gap between them by construction. Never waits for a client: what does
//! not fit a client's queue is left out, and a snapshot takes its place when there is room.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::frames::{self, Frame, Mode, Reply};
use super::ring::Ring;
use super::stalest::{Place, Stalest};
use crate::logic::rights::Rights;
use crate::logic::saga::{Change, Record, Report, Saga, SagaKey, Unreadable};

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
    sagas: HashMap<Arc<str>, BTreeMap<Arc<str>, Kept>>,
    stalest: Stalest,
    ring: Ring,
    watchers: HashMap<SagaKey, Vec<Watcher<S>>>,
    type_watchers: HashMap<Arc<str>, Vec<TypeWatcher<S>>>,
    sessions: HashMap<SessionId, Session<S>>,
    skipped: u64,
}

#[derive(Debug)]
struct Kept {
    saga: Saga,
    changed_ms: i64,
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

#[derive(Debug)]
struct TypeWatcher<S> {
    session: SessionId,
    sink: S,
    walk: Option<Walk>,
    /// Told to whoever subscribed when the first walk is over.
    tag: Option<u64>,
}

/// A walk through a type's sagas in the order of their ids; none under way means that every change is sent.
#[derive(Debug)]
struct Walk {
    /// Ids up to here have been visited.
    visited: Option<Arc<str>>,
    /// Older versions are no news.
    since: i64,
    /// A change of a visited saga was left out at this version: another walk is needed.
    again: Option<i64>,
}

/// What a record did.
#[derive(Debug)]
pub enum Applied {
    /// A saga changed.
    Changed {
        /// Its type.
        saga_type: Arc<str>,
        /// Whether it is new.
        began: bool,
        /// How.
        change: Change,
    },
    /// Its event was seen before.
    Seen,
    /// A source is published so far; no saga changed.
    PublishedUntil,
    /// Not a record of ours.
    Skipped(Unreadable),
}

/// A saga that is gone, for those who count.
#[derive(Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// Its type.
    pub saga_type: Arc<str>,
    /// Its last state.
    pub state: Option<Box<str>>,
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

/// A saga as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Where it stands among all.
    pub place: Place,
    /// Its snapshot.
    pub snapshot: String,
}

/// Which sagas a list shows.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Only this type.
    pub saga_type: Option<String>,
    /// Only this state.
    pub state: Option<String>,
    /// Only those beyond their time.
    pub stuck: bool,
    /// Only those after this place.
    pub after: Place,
    /// At most so many.
    pub limit: usize,
}

impl<S: Sink> Partition<S> {
    /// An empty one; `whole` says that the log still has its beginning.
    pub fn new(number: i32, keep: Keep, ring_bytes: usize, whole: bool) -> Self {
        Self {
            number,
            keep,
            whole,
            log_ms: i64::MIN,
            sagas: HashMap::new(),
            stalest: Stalest::default(),
            ring: Ring::new(ring_bytes),
            watchers: HashMap::new(),
            type_watchers: HashMap::new(),
            sessions: HashMap::new(),
            skipped: 0,
        }
    }

    /// Takes the record at `offset` of the log; sagas whose time is over by then are forgotten first.
    pub fn apply(
        &mut self,
        offset: i64,
        timestamp_ms: i64,
        value: &[u8],
        forgotten: impl FnMut(Forgotten),
    ) -> Applied {
        self.log_ms = self.log_ms.max(timestamp_ms);
        self.forget(forgotten);
        match Record::read(value) {
            Ok(Record::Report(report)) => self.report(report, offset),
            Ok(Record::PublishedUntil { .. }) => Applied::PublishedUntil,
            Err(unreadable) => Applied::Skipped(unreadable),
        }
    }

    /// Changes that did not fit somebody's queue since this was last asked.
    pub fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    fn forget(&mut self, mut forgotten: impl FnMut(Forgotten)) {
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
            for watcher in self.watchers.get_mut(&key).into_iter().flatten() {
                watcher.sight = Sight::Nothing;
            }
            if let Some(Kept { saga, .. }) = gone {
                forgotten(Forgotten {
                    saga_type: key.saga_type,
                    state: saga.state,
                });
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
        let mut before = None;
        let mut had_user = false;
        let change = if let Some(kept) = of_type.get_mut(&key.saga_id) {
            before = Some((kept.changed_ms, kept.saga.version));
            had_user = kept.saga.user.is_some();
            let Some(change) = kept.saga.apply(report, offset) else {
                return Applied::Seen;
            };
            kept.changed_ms = self.log_ms;
            change
        } else {
            let (saga, change) = Saga::begin(report, offset, self.whole);
            let changed_ms = self.log_ms;
            of_type.insert(Arc::clone(&key.saga_id), Kept { saga, changed_ms });
            change
        };
        let Some(kept) = of_type.get(&key.saga_id) else {
            return Applied::Seen;
        };
        let place = (self.log_ms, offset);
        let finished = kept.saga.outcome.is_some();
        self.stalest.moved(&key, before, place, finished);
        let frame = frames::change(&key, &change);
        self.ring.keep(offset, change.previous, Arc::clone(&frame));
        let began = before.is_none();
        let revealed = began || had_user != kept.saga.user.is_some();
        self.tell_watchers(&key, &frame, revealed);
        self.tell_type_watchers(&key, &frame, offset);
        Applied::Changed {
            saga_type: key.saga_type,
            began,
            change,
        }
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
                        let snapshot = snapshot.get_or_insert_with(|| snapshot_of(key, &kept.saga));
                        watcher.show(snapshot, self.number);
                    }
                }
            }
        }
    }

    fn tell_type_watchers(&mut self, key: &SagaKey, frame: &Arc<Frame>, version: i64) {
        let watchers = self.type_watchers.get_mut(&key.saga_type);
        for watcher in watchers.into_iter().flatten() {
            let again = match &mut watcher.walk {
                None => false,
                // The walk will come by.
                Some(walk) if walk.visited.as_ref().is_none_or(|id| *id < key.saga_id) => continue,
                Some(walk) if walk.again.is_some() => {
                    self.skipped += 1;
                    continue;
                }
                Some(_) => true,
            };
            if watcher.sink.offer(frame) {
                continue;
            }
            self.skipped += 1;
            watcher.sink.behind(self.number);
            match &mut watcher.walk {
                Some(walk) if again => walk.again = Some(version),
                walk => *walk = Some(Walk::since(version)),
            }
        }
    }

    /// Notes a session, or its new rights. Gives the sagas that it may not watch any more; it has been told.
    pub fn admit(&mut self, session: SessionId, sink: &S, rights: &Arc<Rights>) -> Vec<SagaKey> {
        let entry = self.sessions.entry(session).or_insert_with(|| Session {
            sink: sink.clone(),
            rights: Arc::clone(rights),
            sagas: HashSet::new(),
            types: HashSet::new(),
        });
        if Arc::ptr_eq(&entry.rights, rights) {
            return Vec::new();
        }
        entry.rights = Arc::clone(rights);
        let mut lost = Vec::new();
        for key in entry.sagas.clone() {
            let Some(kept) = of(&self.sagas, &key) else {
                continue;
            };
            let Some(watcher) = find(&mut self.watchers, &key, session) else {
                continue;
            };
            match (watcher.sight, may_watch(rights, &key, &kept.saga)) {
                (Sight::Nothing, true) => watcher.show(&snapshot_of(&key, &kept.saga), self.number),
                (Sight::Live | Sight::Behind, false) => lost.push(key),
                (Sight::Nothing, false) | (Sight::Live | Sight::Behind, true) => {}
            }
        }
        for key in &lost {
            sink.answer(frames::lost(&key.saga_type, Some(&key.saga_id)));
            self.unwatch(session, key);
        }
        lost
    }

    /// Begins to show a saga, from what the client `has` of this epoch on.
    pub fn subscribe(
        &mut self,
        session: SessionId,
        id: Option<u64>,
        key: &SagaKey,
        has: Option<i64>,
    ) -> Given {
        self.unwatch(session, key);
        let Some(entry) = self.sessions.get_mut(&session) else {
            return Given::Waiting;
        };
        entry.sagas.insert(key.clone());
        let kept = of(&self.sagas, key);
        let visible = kept.filter(|kept| may_watch(&entry.rights, key, &kept.saga));
        let mut watcher = Watcher {
            session,
            sink: entry.sink.clone(),
            sight: Sight::Nothing,
        };
        let mode = |mode| Reply::Subscribed { id, mode }.frame();
        let given = if let Some(Kept { saga, .. }) = visible {
            let changes = has.and_then(|has| self.ring.since(has, saga.version));
            let changes = match has {
                Some(has) if has == saga.version => Some(Vec::new()),
                Some(_) | None => changes,
            };
            if let Some(changes) = changes {
                entry.sink.answer(mode(Mode::Resumed));
                watcher.sight = Sight::Live;
                for change in &changes {
                    watcher.follow(change, self.number);
                }
                if changes.is_empty() {
                    Given::Current
                } else {
                    Given::Changes
                }
            } else {
                entry.sink.answer(mode(Mode::Snapshot));
                watcher.show(&snapshot_of(key, saga), self.number);
                Given::Snapshot
            }
        } else {
            entry.sink.answer(mode(Mode::Waiting));
            if kept.is_some() {
                Given::Hidden
            } else {
                Given::Waiting
            }
        };
        self.watchers.entry(key.clone()).or_default().push(watcher);
        given
    }

    /// Ends showing a saga, and says so.
    pub fn unsubscribe(&mut self, session: SessionId, id: Option<u64>, key: &SagaKey) {
        self.unwatch(session, key);
        if let Some(entry) = self.sessions.get(&session) {
            entry.sink.answer(Reply::Unsubscribed { id }.frame());
        }
    }

    /// Begins to show a whole type, its sagas first. Gives the tag when they are all in.
    pub fn subscribe_type(&mut self, session: SessionId, saga_type: &str, tag: u64) -> Option<u64> {
        self.unsubscribe_type(session, saga_type);
        let entry = self.sessions.get_mut(&session)?;
        let saga_type: Arc<str> = saga_type.into();
        entry.types.insert(Arc::clone(&saga_type));
        let mut watcher = TypeWatcher {
            session,
            sink: entry.sink.clone(),
            walk: Some(Walk::since(i64::MIN)),
            tag: Some(tag),
        };
        let done = watcher.walk(&saga_type, self.sagas.get(&saga_type), self.number);
        self.type_watchers
            .entry(saga_type)
            .or_default()
            .push(watcher);
        done
    }

    /// Ends showing a whole type.
    pub fn unsubscribe_type(&mut self, session: SessionId, saga_type: &str) {
        if let Some(entry) = self.sessions.get_mut(&session) {
            entry.types.remove(saga_type);
        }
        if let Some(watchers) = self.type_watchers.get_mut(saga_type) {
            watchers.retain(|watcher| watcher.session != session);
            if watchers.is_empty() {
                self.type_watchers.remove(saga_type);
            }
        }
    }

    /// A session has ended.
    pub fn leave(&mut self, session: SessionId) {
        let Some(entry) = self.sessions.get(&session) else {
            return;
        };
        let (sagas, types) = (entry.sagas.clone(), entry.types.clone());
        for key in &sagas {
            self.unwatch(session, key);
        }
        for saga_type in &types {
            self.unsubscribe_type(session, saga_type);
        }
        self.sessions.remove(&session);
    }

    /// Whether a session has asked for something here.
    pub fn knows(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    /// There is room in a session's queue again: makes up for what was left out. Gives its sink and
    /// the tags of first walks that are over.
    pub fn drained(&mut self, session: SessionId) -> Option<(S, Vec<u64>)> {
        let entry = self.sessions.get(&session)?;
        for key in &entry.sagas {
            let Some(kept) = of(&self.sagas, key) else {
                continue;
            };
            let watcher = find(&mut self.watchers, key, session);
            if let Some(watcher) = watcher.filter(|watcher| watcher.sight == Sight::Behind) {
                watcher.show(&snapshot_of(key, &kept.saga), self.number);
                if watcher.sight == Sight::Behind {
                    return None;
                }
            }
        }
        let mut done = Vec::new();
        for saga_type in &entry.types {
            let sagas = self.sagas.get(saga_type);
            let watchers = self.type_watchers.get_mut(saga_type).into_iter().flatten();
            for watcher in watchers.filter(|watcher| watcher.session == session) {
                done.extend(watcher.walk(saga_type, sagas, self.number));
            }
        }
        Some((entry.sink.clone(), done))
    }

    /// A saga's version and its snapshot, with the epoch; none if it is unknown to who has these rights.
    pub fn snapshot(
        &self,
        key: &SagaKey,
        rights: &Rights,
        epoch: &str,
    ) -> Result<(i64, String), Given> {
        let kept = of(&self.sagas, key).ok_or(Given::Waiting)?;
        if !may_watch(rights, key, &kept.saga) {
            return Err(Given::Hidden);
        }
        Ok((
            kept.saga.version,
            frames::snapshot(key, &kept.saga, Some(epoch)),
        ))
    }

    /// The stalest sagas that pass the filter and may be watched by grant.
    pub fn list(&self, filter: &Filter, rights: &Rights) -> Vec<Listed> {
        // Without definitions nothing is beyond its time.
        let limit = if filter.stuck { 0 } else { filter.limit };
        let wanted = self.stalest.after(filter.after).filter_map(|(place, key)| {
            let of_type = filter
                .saga_type
                .as_deref()
                .is_none_or(|wanted| *wanted == *key.saga_type);
            if !of_type || !rights.may_watch_type(&key.saga_type) {
                return None;
            }
            let saga = &of(&self.sagas, key)?.saga;
            let in_state =
                filter.state.is_none() || filter.state.as_deref() == saga.state.as_deref();
            in_state.then(|| Listed {
                place: *place,
                snapshot: frames::snapshot(key, saga, None),
            })
        });
        wanted.take(limit).collect()
    }

    /// Every saga's type and state, for those who count.
    pub fn states(&self) -> impl Iterator<Item = Forgotten> {
        self.sagas.iter().flat_map(|(saga_type, sagas)| {
            sagas.values().map(|kept| Forgotten {
                saga_type: Arc::clone(saga_type),
                state: kept.saga.state.clone(),
            })
        })
    }

    fn unwatch(&mut self, session: SessionId, key: &SagaKey) {
        if let Some(entry) = self.sessions.get_mut(&session) {
            entry.sagas.remove(key);
        }
        if let Some(watchers) = self.watchers.get_mut(key) {
            watchers.retain(|watcher| watcher.session != session);
            if watchers.is_empty() {
                self.watchers.remove(key);
            }
        }
    }
}

impl<S: Sink> Watcher<S> {
    /// Sends a snapshot, now or when there is room.
    fn show(&mut self, snapshot: &Arc<Frame>, partition: i32) {
        self.sight = Sight::Live;
        self.follow(snapshot, partition);
    }

    fn follow(&mut self, frame: &Arc<Frame>, partition: i32) {
        if self.sight == Sight::Live && !self.sink.offer(frame) {
            self.sight = Sight::Behind;
            self.sink.behind(partition);
        }
    }
}

impl<S: Sink> TypeWatcher<S> {
    /// Goes on with the walk while there is room. Gives the tag when the first one is over.
    fn walk(
        &mut self,
        saga_type: &Arc<str>,
        sagas: Option<&BTreeMap<Arc<str>, Kept>>,
        partition: i32,
    ) -> Option<u64> {
        while let Some(walk) = &mut self.walk {
            let from = walk
                .visited
                .clone()
                .map_or(Bound::Unbounded, Bound::Excluded);
            let rest = sagas.map(|sagas| sagas.range((from, Bound::Unbounded)));
            for (saga_id, kept) in rest.into_iter().flatten() {
                if kept.saga.version >= walk.since {
                    let (saga_type, saga_id) = (Arc::clone(saga_type), Arc::clone(saga_id));
                    let key = SagaKey { saga_type, saga_id };
                    if !self.sink.offer(&snapshot_of(&key, &kept.saga)) {
                        self.sink.behind(partition);
                        return None;
                    }
                }
                walk.visited = Some(Arc::clone(saga_id));
            }
            self.walk = walk.again.map(Walk::since);
        }
        self.tag.take()
    }
}

impl Walk {
    fn since(version: i64) -> Self {
        Self {
            visited: None,
            since: version,
            again: None,
        }
    }
}

fn may_watch(rights: &Rights, key: &SagaKey, saga: &Saga) -> bool {
    rights.may_watch(&key.saga_type, saga.user.as_deref())
}

fn snapshot_of(key: &SagaKey, saga: &Saga) -> Arc<Frame> {
    Frame::new(frames::snapshot(key, saga, None))
}

fn of<'a>(
    sagas: &'a HashMap<Arc<str>, BTreeMap<Arc<str>, Kept>>,
    key: &SagaKey,
) -> Option<&'a Kept> {
    sagas.get(&key.saga_type)?.get(&key.saga_id)
}

fn find<'a, S>(
    watchers: &'a mut HashMap<SagaKey, Vec<Watcher<S>>>,
    key: &SagaKey,
    session: SessionId,
) -> Option<&'a mut Watcher<S>> {
    let watchers = watchers.get_mut(key)?;
    watchers
        .iter_mut()
        .find(|watcher| watcher.session == session)
}

#[cfg(test)]
mod tests;
