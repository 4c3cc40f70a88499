//! Who is connected, and by which token, so that they can be sent away. Never holds up a connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::feed::Who;
use super::queue::{Note, Queue};
use crate::logic::push::kick::Kick;
use crate::logic::push::partition::SessionId;
use crate::logic::rights::Rights;
use crate::metrics::Transport;

/// Every session that has shown a token.
#[derive(Debug, Default)]
pub(super) struct Register(Mutex<HashMap<SessionId, Entry>>);

#[derive(Debug)]
struct Entry {
    queue: Arc<Queue>,
    rights: Arc<Rights>,
    token_id: Option<Arc<str>>,
    transport: Transport,
}

/// A stream that takes nothing for so long is let go. A WebSocket looks to that itself; a stream is not asked for more then.
const STALLED: Duration = Duration::from_secs(30);

impl Register {
    /// Notes by which token somebody is here, in place of what was noted before.
    pub(super) fn note(&self, who: &Who, token_id: Option<&Arc<str>>, transport: Transport) {
        let entry = Entry {
            queue: Arc::clone(&who.queue),
            rights: Arc::clone(&who.rights),
            token_id: token_id.cloned(),
            transport,
        };
        self.entries().insert(who.session, entry);
    }

    /// A session has ended.
    pub(super) fn leave(&self, session: SessionId) {
        self.entries().remove(&session);
    }

    /// Tells all who are meant that they have to go; how many they are.
    pub(super) fn kick(&self, kick: &Kick) -> usize {
        let entries = self.entries();
        let meant = entries
            .values()
            .filter(|entry| kick.means(&entry.rights, entry.token_id.as_deref()));
        meant.map(|entry| entry.queue.note(Note::Kicked)).count()
    }

    /// Gives up the queues of streams that take nothing; whose they are.
    pub(super) fn give_up(&self) -> Vec<SessionId> {
        let mut entries = self.entries();
        let is_stuck = |_: &SessionId, entry: &mut Entry| {
            entry.transport == Transport::Sse && entry.queue.is_stuck(STALLED)
        };
        let given_up = entries.extract_if(is_stuck);
        given_up
            .map(|(session, entry)| {
                entry.queue.give_up();
                session
            })
            .collect()
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<SessionId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
