//! The doorbell: how a sleeping relay is woken by an insert. Rings only while it is armed, so that no writer pays for
//! a relay that is awake.

use std::time::Duration;

use super::error::OutboxError;
use super::session::Session;

/// A notification to oneself takes this long at most; behind a transaction pooler it never comes.
const PROBE: Duration = Duration::from_secs(1);

impl Session {
    /// Finds out whether this session can be rung. Not behind a transaction pooler, which accepts
    /// LISTEN and delivers nothing, and not where transactions are prepared: NOTIFY forbids it.
    pub async fn has_doorbell(&self) -> Result<bool, OutboxError> {
        if self.identity.prepares {
            return Ok(false);
        }
        self.link
            .client
            .batch_execute("listen outboxd; notify outboxd, 'probe'")
            .await?;
        Ok(tokio::time::timeout(PROBE, self.link.rung()).await.is_ok() && !self.is_closed())
    }

    /// Ends sessions of earlier leaders that still hold the doorbell.
    pub async fn evict_doorbell(&self) -> Result<(), OutboxError> {
        self.link
            .client
            .execute(&self.statements.doorbell_evict, &[])
            .await?;
        Ok(())
    }

    /// Arms the doorbell; `false` while a transaction is open that found it disarmed.
    ///
    /// Whoever inserted before has ended when this succeeds, and whoever inserts later rings: one
    /// read after it misses nothing.
    pub async fn arm(&self) -> Result<bool, OutboxError> {
        let row = self
            .link
            .client
            .query_one("select pg_try_advisory_lock(1870034018, 1)", &[]);
        Ok(row.await?.try_get(0)?)
    }

    /// Disarms it, so that inserts pay nothing while the relay is awake.
    pub async fn disarm(&self) -> Result<(), OutboxError> {
        Ok(self
            .link
            .client
            .batch_execute("select pg_advisory_unlock(1870034018, 1)")
            .await?)
    }

    /// Waits until it rings, or the connection ends.
    pub async fn rung(&self) {
        self.link.rung().await;
    }
}
