//! Reads as they must not be, for negative controls alone. Never compiled into what is shipped.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};

use super::error::OutboxError;
use super::read::Read;
use super::session::Session;
use crate::failpoint::{Sabotage, sabotaged};

/// The highest id that was read, for a cursor that believes in ids.
static CURSOR: AtomicI64 = AtomicI64::new(i64::MIN);

impl Session {
    /// Makes of a window what a relay with a simpler idea of order would have read.
    pub(super) async fn sabotage(&self, mut read: Read) -> Result<Read, OutboxError> {
        let events = &mut read.events;
        if sabotaged(Sabotage::OrderByCreatedAt) {
            events.sort_by_key(|event| event.created_at);
        }
        if sabotaged(Sabotage::OrderByXid) {
            let ids: Vec<i64> = events.iter().map(|event| event.id).collect();
            let query = "select id, txid::text::bigint from outbox.event where id = any ($1)";
            let rows = self.link.client.query(query, &[&ids]).await?;
            let xids: HashMap<i64, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
            events.sort_by_key(|event| (xids.get(&event.id).copied(), event.id));
        }
        if sabotaged(Sabotage::CursorById) {
            let cursor = CURSOR.load(Ordering::Relaxed);
            events.retain(|event| event.id > cursor);
            let highest = events.iter().map(|event| event.id).max();
            CURSOR.fetch_max(highest.unwrap_or(cursor), Ordering::Relaxed);
        }
        Ok(read)
    }
}
