//! What a leader does now and then besides publishing: settle, renew the lease, count, empty the ring.

use std::time::{Duration, Instant};

use super::{Planned, Pump};
use crate::outbox::Standing;
use crate::relay::RelayError;

/// A position is written back after this long.
const SETTLE: Duration = Duration::from_millis(250);
/// The backlog and the dead letters are counted this often.
pub(super) const COUNT: Duration = Duration::from_secs(10);
/// The ring is looked at this often.
const ROTATE: Duration = Duration::from_secs(60);

impl Pump<'_> {
    /// When something of it is due.
    pub(super) fn next_chore(&self) -> Instant {
        let renew = self.held.renew_at(self.relay.shared.lease);
        let settle = if self.unsettled {
            self.due.settle
        } else {
            renew
        };
        renew.min(settle).min(self.due.count).min(self.due.rotate)
    }

    /// Does what is due.
    pub(super) async fn chores(&mut self) -> Result<(), RelayError> {
        let at = Instant::now();
        let lease = self.relay.shared.lease;
        if (self.unsettled && at >= self.due.settle) || at >= self.held.renew_at(lease) {
            self.session
                .settle(self.held.epoch, &self.standing, lease)
                .await?;
            self.held.renew(at, lease);
            self.unsettled = false;
            self.due.settle = at + SETTLE;
            self.relay.metrics.phase_settle.record(at.elapsed());
            if !self.ahead.is_empty() && self.standing.position.page.is_none() {
                self.session.trim_ahead(&self.standing.position).await?;
                self.ahead = self.session.ahead().await?;
            }
        }
        if at >= self.due.count {
            self.count(at).await?;
            self.due.count = at + COUNT;
        }
        if at >= self.due.rotate {
            let ring = self.relay.rotate(&mut self.session).await?;
            // Often enough that a published slot is empty before it is due again.
            self.due.rotate = at + ROTATE.min(ring.slot / 4);
        }
        Ok(())
    }

    /// What must never be done: a negative control loses events by it.
    pub(super) async fn settle_early(&self, planned: &Planned) -> Result<(), RelayError> {
        let next = !planned.batch.is_empty() || planned.beat;
        let standing = Standing {
            position: planned.position.clone(),
            batch: self.standing.batch + i64::from(next),
            checkpoint_next: self.standing.checkpoint_next,
        };
        let (epoch, lease) = (self.held.epoch, self.relay.shared.lease);
        Ok(self.session.settle(epoch, &standing, lease).await?)
    }

    pub(super) async fn count(&mut self, at: Instant) -> Result<(), RelayError> {
        self.dead_letters = self
            .relay
            .count(&self.session, &self.standing.position)
            .await?;
        let (since, published) = self.published_since;
        self.published_since = (at, 0);
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = published as f64 / at.duration_since(since).as_secs_f64().max(0.001);
        self.relay
            .status
            .send_modify(|status| status.events_per_second = rate);
        Ok(())
    }
}
