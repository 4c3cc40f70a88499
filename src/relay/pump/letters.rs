//! Dead letters of a source that is led: sending those whose turn has come, and writing down which came and went.
//!
//! Never lets an event of the ring pass one that waits.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::{Planned, Pump};
use crate::config::OnRefused;
use crate::logic::batch::{Blocked, RowId};
use crate::outbox::Letters;
use crate::relay::RelayError;

/// Dead letters are looked at this often, and the topics that some of them wait for.
const RELEASE: Duration = Duration::from_secs(3);

impl Pump<'_> {
    /// Settles at once which letters came and went, so that they and the position agree.
    pub(super) async fn settle_letters(&mut self, letters: Letters<'_>) -> Result<(), RelayError> {
        let (epoch, lease) = (self.held.epoch, self.relay.shared.lease);
        self.session
            .settle_letters(epoch, &self.standing, letters, lease)
            .await?;
        self.unsettled = false;
        for row in letters.refused.iter().flat_map(|(_, rows)| &rows.0) {
            self.relay.refused.remove(row);
        }
        let letters = self.session.dead_letters().await?;
        self.dead_letters = letters.total();
        self.relay.count_letters(letters);
        Ok(())
    }

    /// Sends dead letters whose turn has come, one transaction's worth. Those that wait behind them
    /// wait until none is left, so that nothing from the ring overtakes them.
    pub(super) async fn release(&mut self) -> Result<(), RelayError> {
        let names = self.blocked.topics.keys().map(String::as_str).collect();
        let mut topics = self.relay.shared.topics.look(names).await?;
        let in_order = self.relay.source.on_refused == OnRefused::BlockKey;
        let usable: Vec<String> = topics
            .iter()
            .filter(|(_, state)| state.is_usable())
            .map(|(name, _)| name.clone())
            .collect();
        let due = self
            .session
            .due_letters(&usable, in_order, self.limits())
            .await?;
        if due.events.is_empty() {
            self.blocked = self.session.blocked(in_order).await?;
            self.due.release = Instant::now().max(self.relay.release_after) + RELEASE;
            return Ok(());
        }
        let names = due
            .events
            .iter()
            .map(|event| event.topic.as_str())
            .collect();
        topics.extend(self.relay.shared.topics.look(names).await?);
        let ids = due.events.iter().map(|event| (event.id, event.event_id));
        let seqs: HashMap<RowId, i64> = ids.zip(due.seqs.iter().copied()).collect();
        let mut batch = self.plan_batch(
            &HashSet::new(),
            &topics,
            due.events,
            &mut Blocked::default(),
        );
        // Their sagas heard of them when their turn came first.
        batch.sagas.clear();
        let released = batch
            .rows
            .iter()
            .filter_map(|row| seqs.get(&row.id).copied())
            .collect();
        let (position, until) = (self.standing.position.clone(), self.until);
        self.fit_publisher().await?;
        if let Some(in_flight) = self.start(Planned {
            batch,
            released,
            beat: false,
            position,
            until,
        }) {
            self.finish(in_flight).await?;
            self.relay.release_backoff.reset();
        }
        Ok(())
    }
}
