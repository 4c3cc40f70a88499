//! The dead letters as an operator sees them. Never sends or deletes one: a wish is noted, and the leader carries it out.

use serde::Serialize;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::connect::Link;
use super::error::OutboxError;

/// A dead letter without its payload.
#[derive(Debug, Clone, Serialize)]
pub struct Letter {
    /// The source.
    pub source: String,
    /// The event's own id.
    pub event_id: Uuid,
    /// Where it should have gone.
    pub topic: String,
    /// Its key.
    pub key: Option<String>,
    /// Why it did not.
    pub reason: String,
    /// Who can change that: `auto` or `manual`.
    pub release: String,
    /// What Kafka or outboxd said.
    pub error: String,
    /// When, in RFC 3339.
    pub at: String,
}

/// What an operator wants done with a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Sent after all.
    Retry,
    /// Forgotten.
    Drop,
}

/// The dead letters of a source, oldest first.
pub async fn list(link: &Link, source: &str, limit: u32) -> Result<Vec<Letter>, OutboxError> {
    let query = include_str!("../../sql/dead_letter_list.sql");
    let rows = link.client.query(query, &[&i64::from(limit)]).await?;
    let letter = |row: &tokio_postgres::Row| {
        Ok(Letter {
            source: source.to_owned(),
            event_id: row.try_get(0)?,
            topic: row.try_get(1)?,
            key: row.try_get(2)?,
            reason: row.try_get(3)?,
            release: row.try_get(4)?,
            error: row.try_get(5)?,
            at: row.try_get(6)?,
        })
    };
    rows.iter().map(letter).collect()
}

/// The dead letters of one event id, whole.
pub async fn show(link: &Link, event_id: Uuid) -> Result<Vec<serde_json::Value>, OutboxError> {
    let rows = link
        .client
        .query(include_str!("../../sql/dead_letter_show.sql"), &[&event_id])
        .await?;
    let whole = |row: &tokio_postgres::Row| Ok(row.try_get::<_, Json<serde_json::Value>>(0)?.0);
    rows.iter().map(whole).collect()
}

/// Notes a wish for these events, or for all; gives how many letters it concerns.
pub async fn wish(link: &Link, wish: Wish, event_ids: Option<&[Uuid]>) -> Result<u64, OutboxError> {
    let word = match wish {
        Wish::Retry => "retry",
        Wish::Drop => "drop",
    };
    let statement = include_str!("../../sql/dead_letter_wish.sql");
    Ok(link.client.execute(statement, &[&word, &event_ids]).await?)
}
