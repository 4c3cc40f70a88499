//! Whole types: a walk through their sagas as there is room, and their changes. Never keeps more of a slow client than a place to go on from.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use super::{Kept, Partition, SessionId, Sink};
use crate::logic::push::frames::{self, Frame};
use crate::logic::saga::SagaKey;

/// Ids of a type that are remembered after their sagas were forgotten.
const GONE: usize = 10_000;

/// Sagas that were forgotten while their whole type was watched: who watches may know an old version of one that begins anew.
#[derive(Debug, Default)]
pub(super) struct Gone(HashSet<Arc<str>>);

#[derive(Debug)]
pub(super) struct TypeWatcher<S> {
    pub(super) session: SessionId,
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

impl<S: Sink> Partition<S> {
    pub(super) fn tell_type_watchers(&mut self, key: &SagaKey, frame: &Arc<Frame>, version: i64) {
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

    /// A saga is forgotten.
    pub(super) fn note_gone(&mut self, key: &SagaKey) {
        if self.type_watchers.contains_key(&key.saga_type) {
            let gone = self.gone.entry(Arc::clone(&key.saga_type)).or_default();
            // Beyond that, any saga may be one of them.
            if gone.0.len() < GONE {
                gone.0.insert(Arc::clone(&key.saga_id));
            }
        }
    }

    /// Whether a saga that begins now may be known to those who watch its type, by an old version.
    pub(super) fn is_anew(&mut self, key: &SagaKey) -> bool {
        let gone = self.gone.get_mut(&key.saga_type);
        gone.is_some_and(|gone| gone.0.remove(&key.saga_id) || gone.0.len() >= GONE)
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
                self.gone.remove(saga_type);
            }
        }
    }
}

impl<S: Sink> TypeWatcher<S> {
    /// Goes on with the walk while there is room. Gives the tag when the first one is over.
    pub(super) fn walk(
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
                    if !self.sink.offer(&frames::snapshot(&key, &kept.saga)) {
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
