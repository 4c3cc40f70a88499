//! One client of the log, from its first question until it is gone, however it goes. Never outlives what it watches.

use std::sync::Arc;

use super::feed::{Mail, Who};
use super::hub::{Hub, Log};
use super::queue::Queue;
use crate::logic::rights::Rights;
use crate::metrics::Transport;

/// Counts a client while it is there, and takes its leave of every partition when it is dropped.
pub(super) struct Visit {
    pub(super) hub: Arc<Hub>,
    pub(super) log: Arc<Log>,
    pub(super) who: Who,
    transport: Transport,
    subscriptions: usize,
}

impl Visit {
    /// A client that has just come; its queue takes so many bytes.
    pub(super) fn begin(
        hub: &Arc<Hub>,
        log: &Arc<Log>,
        transport: Transport,
        queue_bytes: usize,
    ) -> Self {
        hub.metrics.connections(transport).increment(1.0);
        hub.metrics.accepted(transport, 1);
        Self {
            hub: Arc::clone(hub),
            log: Arc::clone(log),
            who: Who {
                session: hub.next_session(),
                queue: Queue::new(queue_bytes),
                rights: Arc::new(Rights::new(None, None)),
            },
            transport,
            subscriptions: 0,
        }
    }

    /// It has shown a token.
    pub(super) fn identify(&mut self, rights: Arc<Rights>, token_id: Option<&Arc<str>>) {
        self.who.rights = rights;
        self.hub.register.note(&self.who, token_id, self.transport);
    }

    /// It has so many subscriptions now.
    pub(super) fn count_subscriptions(&mut self, count: usize) {
        if count != self.subscriptions {
            #[expect(clippy::cast_precision_loss, reason = "a gauge")]
            let change = count as f64 - self.subscriptions as f64;
            self.hub.metrics.subscriptions.increment(change);
            self.subscriptions = count;
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.count_subscriptions(0);
        self.hub.metrics.connections(self.transport).decrement(1.0);
        let (log, session) = (Arc::clone(&self.log), self.who.session);
        self.hub.register.leave(session);
        // Whoever drops it may not be able to wait.
        self.hub.farewells.spawn(async move {
            log.send_all(|| Mail::Left(session)).await;
        });
    }
}
