//! Emptying published slots of the ring. Never waits for a writer: a slot that is in use is left for the next time.

use std::time::Duration;

use tokio_postgres::error::SqlState;
use tracing::{debug, info};

use super::error::OutboxError;
use super::session::Session;
use crate::failpoint::{self, Point};
use crate::logic::window::Snapshot;

/// How the ring is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ring {
    /// Slots that hold rows.
    pub used: [bool; 4],
    /// The slot that is being written.
    pub present: usize,
    /// How long a slot is written.
    pub slot: Duration,
}

impl Ring {
    /// How many slots hold rows.
    pub fn slots_used(&self) -> usize {
        self.used.iter().filter(|used| **used).count()
    }

    /// The slots that hold rows and are neither written now nor were before: their rows are due to go.
    fn due(&self) -> impl Iterator<Item = usize> + '_ {
        let before = (self.present + self.used.len() - 1) % self.used.len();
        let used = self
            .used
            .iter()
            .enumerate()
            .filter(|(_, used)| **used)
            .map(|(slot, _)| slot);
        used.filter(move |slot| *slot != self.present && *slot != before)
    }
}

impl Session {
    /// Looks at the ring and empties the slots that are due and published.
    pub async fn rotate(&mut self) -> Result<Ring, OutboxError> {
        let mut ring = self.ring().await?;
        let due: Vec<usize> = ring.due().collect();
        for slot in due {
            if self.empty(slot).await? {
                info!(slot, "emptied a slot of published rows");
                if let Some(used) = ring.used.get_mut(slot) {
                    *used = false;
                }
            }
        }
        Ok(ring)
    }

    async fn ring(&self) -> Result<Ring, OutboxError> {
        let row = self
            .link
            .client
            .query_one(&self.statements.ring, &[])
            .await?;
        let mut used = [false; 4];
        for (index, used) in used.iter_mut().enumerate() {
            *used = row.try_get(index)?;
        }
        let (present, slot_seconds): (i32, i32) = (row.try_get(4)?, row.try_get(5)?);
        Ok(Ring {
            used,
            present: usize::try_from(present).unwrap_or(0),
            slot: Duration::from_secs(slot_seconds.try_into().unwrap_or(1)),
        })
    }

    /// Truncates one slot unless somebody uses it or a row of it is not settled. The position is
    /// read under the slot's lock: what a writer committed there before is then in its snapshot, or
    /// keeps the slot.
    async fn empty(&mut self, slot: usize) -> Result<bool, OutboxError> {
        let transaction = self.link.client.transaction().await?;
        let lock = format!("lock table only outbox.event_{slot} in access exclusive mode nowait");
        match transaction.batch_execute(&lock).await {
            Ok(()) => {}
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                debug!(slot, "a slot is in use; trying again later");
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
        let seen = transaction
            .query_one("select seen::text from outbox.relay", &[])
            .await?;
        let seen: Snapshot =
            seen.try_get::<_, &str>(0)?
                .parse()
                .map_err(|error| OutboxError::WrongShape {
                    reason: format!("outbox.relay: {error}"),
                })?;
        let check = include_str!("../../sql/rotate_check.sql").replace("{slot}", &slot.to_string());
        let open: Vec<String> = seen.in_progress().iter().map(u64::to_string).collect();
        let unsettled = transaction
            .query_one(&check, &[&seen.xmax().to_string(), &open])
            .await?;
        if unsettled.try_get(0)? {
            return Ok(false);
        }
        transaction
            .batch_execute(&format!("truncate only outbox.event_{slot}"))
            .await?;
        failpoint::pass(Point::Rotate);
        transaction.commit().await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_present_slot_and_the_one_before_stay() {
        let slot = Duration::from_secs(1800);
        let ring = |present| Ring {
            used: [true; 4],
            present,
            slot,
        };
        assert_eq!(ring(0).due().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(ring(2).due().collect::<Vec<_>>(), [0, 3]);
        let half = Ring {
            used: [true, false, true, false],
            present: 3,
            slot,
        };
        assert_eq!(
            (half.due().collect::<Vec<_>>(), half.slots_used()),
            (vec![0], 2)
        );
    }
}
