//! Sessions and the sagas they watch: what each is given when it asks, and what makes up for what it missed.
//! Never looks at a token.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Given, Kept, Partition, Session, SessionId, Sight, Sink, Watcher, may_watch, of};
use crate::logic::push::frames::{self, Frame, Mode, Reply};
use crate::logic::rights::Rights;
use crate::logic::saga::SagaKey;

impl<S: Sink> Partition<S> {
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
                (Sight::Nothing, true) => {
                    watcher.show(&frames::snapshot(&key, &kept.saga), self.number)
                }
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
        let given = if let Some(Kept { saga, number, .. }) = visible {
            let changes = has.and_then(|has| self.ring.since(*number, has, saga.version));
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
                watcher.show(&frames::snapshot(key, saga), self.number);
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
                watcher.show(&frames::snapshot(key, &kept.saga), self.number);
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
    pub(super) fn show(&mut self, snapshot: &Arc<Frame>, partition: i32) {
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
