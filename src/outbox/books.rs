//! What the database says of its events, for whoever compares it with Kafka. Never writes, and never holds a snapshot for longer
//! than one short statement, so that vacuum is not held back.

use std::collections::{HashMap, HashSet};
use std::pin::pin;

use futures_util::TryStreamExt;
use tokio_postgres::{Row, Statement};
use uuid::Uuid;

use super::connect::{self, Link};
use super::error::OutboxError;
use super::read::Moment;
use super::session::{identify, standing_of};
use crate::config::Database;
use crate::logic::event::Timestamp;
use crate::logic::window::{Position, Snapshot};

/// A session that only reads the books of one source.
#[derive(Debug)]
pub struct Books {
    link: Link,
    page: Statement,
    find: Statement,
    named: Statement,
    topics: Statement,
}

/// Where the source stands at one moment.
#[derive(Debug, Clone)]
pub struct Look {
    /// The source that the database belongs to; `None` before its first leader.
    pub source: Option<String>,
    /// Tells a schema that was created anew.
    pub incarnation: Uuid,
    /// How far it is settled.
    pub position: Position,
    /// What this moment sees.
    pub now: Snapshot,
    /// The moment, by the database's clock.
    pub at: Timestamp,
    /// Rows whose transaction began since then are all in the table.
    pub whole_since: Timestamp,
    /// The lowest and the highest id in the table; `None` when it is empty.
    pub ids: Option<(i64, i64)>,
}

/// A row of the table without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookRow {
    /// The row's number.
    pub id: i64,
    /// The transaction that wrote it.
    pub txid: u64,
    /// The event's own id.
    pub event_id: Uuid,
    /// The topic.
    pub topic: String,
    /// The key.
    pub key: Option<String>,
    /// Time of the insert.
    pub created_at: Timestamp,
}

/// A dead letter without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookLetter {
    /// The number of the row that it was; the row may be gone.
    pub id: i64,
    /// The event's own id.
    pub event_id: Uuid,
    /// Where it should have gone.
    pub topic: String,
    /// Its key.
    pub key: Option<String>,
    /// Time of the insert.
    pub created_at: Timestamp,
    /// Why Kafka did not take it.
    pub reason: String,
    /// Who can change that: `auto` or `manual`.
    pub release: String,
}

/// Rows that are read at once.
const PAGE: i64 = 20_000;
/// Ids that are looked through at once.
const SPAN: i64 = 200_000;
/// Ids that are asked for at once.
const NAMED: usize = 5_000;

impl Books {
    /// Connects to the primary; the schema must be one that we know.
    pub async fn open(database: &Database) -> Result<Self, OutboxError> {
        let link = connect::connect(database, "outboxd verify").await?;
        // Its plans are right here, too: each statement goes by the index on `id`.
        let pin = include_str!("../../sql/pin.sql");
        link.client.batch_execute(pin).await?;
        link.client
            .batch_execute("set default_transaction_read_only = on")
            .await?;
        let (page, find, named, topics) = tokio::try_join!(
            link.client
                .prepare(include_str!("../../sql/verify_page.sql")),
            link.client
                .prepare(include_str!("../../sql/verify_find.sql")),
            link.client
                .prepare(include_str!("../../sql/verify_named.sql")),
            link.client
                .prepare(include_str!("../../sql/verify_topics.sql")),
        )?;
        Ok(Self {
            link,
            page,
            find,
            named,
            topics,
        })
    }

    /// Where the source stands. A database that its position does not belong to is an error.
    pub async fn look(&self) -> Result<Look, OutboxError> {
        let identity = identify(&self.link.client).await?;
        let query = include_str!("../../sql/verify_look.sql");
        let row = self.link.client.query_opt(query, &[]).await?;
        let row = row.ok_or_else(|| wrong("outbox.relay has no row".to_owned()))?;
        let (cluster, database): (i64, u32) = (row.try_get(7)?, row.try_get(8)?);
        if (cluster, database) != (identity.system_identifier, identity.database_oid) {
            let reason = "the position belongs to another database or cluster: this one was restored or copied; accept \
                          it with `outboxd sql rebase` first";
            return Err(wrong(reason.to_owned()));
        }
        let now: &str = row.try_get(9)?;
        let lowest: Option<i64> = row.try_get(12)?;
        Ok(Look {
            source: row.try_get(5)?,
            incarnation: row.try_get(6)?,
            position: standing_of(&row)?.position,
            now: now.parse().map_err(|error| wrong(format!("{error}")))?,
            at: row.try_get::<_, Moment>(10)?.0,
            whole_since: row.try_get::<_, Moment>(11)?.0,
            ids: lowest.zip(row.try_get(13)?),
        })
    }

    /// The rows behind `after` that `upto` sees, lowest id first, one page; an empty one is the end.
    pub async fn page(&self, after: i64, upto: &Snapshot) -> Result<Vec<BookRow>, OutboxError> {
        let upto = upto.to_string();
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&after, &upto, &PAGE];
        let rows = self.link.client.query(&self.page, &parameters).await?;
        rows.iter().map(row).collect()
    }

    /// The rows of an event among the next ids behind `after`, and the last id that was looked at.
    pub async fn find(
        &self,
        after: i64,
        event_id: Uuid,
    ) -> Result<(Vec<BookRow>, i64), OutboxError> {
        let last = after.saturating_add(SPAN);
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&after, &last, &event_id];
        let rows = self.link.client.query(&self.find, &parameters).await?;
        let rows: Result<_, _> = rows.iter().map(row).collect();
        Ok((rows?, last))
    }

    /// The topics among the next ids behind `after`, and the last id that was looked at.
    pub async fn topics(&self, after: i64) -> Result<(Vec<String>, i64), OutboxError> {
        let last = after.saturating_add(SPAN);
        let rows = self
            .link
            .client
            .query(&self.topics, &[&after, &last])
            .await?;
        let topics: Result<_, OutboxError> = rows.iter().map(|row| Ok(row.try_get(0)?)).collect();
        Ok((topics?, last))
    }

    /// Those of the rows with these ids that the table still has.
    pub async fn named(&self, ids: &[i64]) -> Result<HashMap<i64, BookRow>, OutboxError> {
        let mut named = HashMap::new();
        for ids in ids.chunks(NAMED) {
            for found in self.link.client.query(&self.named, &[&ids]).await? {
                let row = row(&found)?;
                named.insert(row.id, row);
            }
        }
        Ok(named)
    }

    /// The rows that are published, or refused, ahead of the position.
    pub async fn ahead(&self) -> Result<HashSet<i64>, OutboxError> {
        let query = include_str!("../../sql/ahead_list.sql");
        let rows = self.link.client.query(query, &[]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// The dead letters, or those of one event, in the order in which they are due.
    pub async fn letters(&self, event_id: Option<Uuid>) -> Result<Vec<BookLetter>, OutboxError> {
        let query = include_str!("../../sql/verify_letters.sql");
        let mut rows = pin!(self.link.client.query_raw(query, [&event_id]).await?);
        let mut letters = Vec::new();
        while let Some(row) = rows.try_next().await? {
            letters.push(BookLetter {
                id: row.try_get(0)?,
                event_id: row.try_get(1)?,
                topic: row.try_get(2)?,
                key: row.try_get(3)?,
                created_at: row.try_get::<_, Moment>(4)?.0,
                reason: row.try_get(5)?,
                release: row.try_get(6)?,
            });
        }
        Ok(letters)
    }
}

fn row(row: &Row) -> Result<BookRow, OutboxError> {
    let txid: i64 = row.try_get(1)?;
    Ok(BookRow {
        id: row.try_get(0)?,
        txid: u64::try_from(txid).map_err(|_| wrong("a transaction below zero".to_owned()))?,
        event_id: row.try_get(2)?,
        topic: row.try_get(3)?,
        key: row.try_get(4)?,
        created_at: row.try_get::<_, Moment>(5)?.0,
    })
}

fn wrong(reason: String) -> OutboxError {
    OutboxError::WrongShape { reason }
}
