//! Reading what is new. Never waits for a writer, never reads more bytes than it was told, and never looks at more rows than
//! the lease has time for.

use std::pin::{Pin, pin};

use futures_util::TryStreamExt;
use tokio_postgres::types::{FromSql, Json, ToSql, Type};
use tokio_postgres::{Row, RowStream};
use uuid::Uuid;

use super::error::OutboxError;
use super::session::Session;
use crate::failpoint::{self, Point};
use crate::logic::event::{BadHeaders, Event, Payload, Saga, Timestamp};
use crate::logic::window::{Page, Position, Snapshot};

/// What one read gave.
#[derive(Debug)]
pub struct Read {
    /// The rows, lowest id first.
    pub events: Vec<Event>,
    /// How far the source has been read with them.
    pub position: Position,
    /// Whether the read ended at a limit instead of at the window's end.
    pub more: bool,
    /// What has to be flushed before the rows may leave the database; `None` if it is already.
    pub unflushed: Option<Lsn>,
    /// When the window was opened; `None` for a later page of it.
    pub at: Option<Timestamp>,
}

/// A place in the write-ahead log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lsn(String);

/// How much one read may give.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Rows at most.
    pub events: usize,
    /// Bytes at most, except that one row always comes.
    pub bytes: usize,
}

/// How many rows the database may look at for one read, whatever it gives: the lease has to be renewed in between.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// A window of more rows is not sorted, but found among all rows by their ids. A sort looks at the window alone, and
    /// at all of it at once; the ids lead past what is published and not emptied yet, a little at a time.
    pub sorted: i64,
    /// Rows that are passed at a time on the way by ids.
    pub passed: i64,
}

impl Effort {
    /// About a second of a sort with all in memory, and some ten milliseconds of passing.
    pub const USUAL: Self = Self {
        sorted: 500_000,
        passed: 50_000,
    };
}

impl Limits {
    fn as_parameters(self) -> (i64, i64) {
        let parameter = |limit| i64::try_from(limit).unwrap_or(i64::MAX);
        (parameter(self.events), parameter(self.bytes))
    }
}

/// The header of a poll.
struct Header {
    snapshot: Snapshot,
    unflushed: Option<Lsn>,
    at: Timestamp,
}

/// A position as its statements take it.
struct Seen {
    xmax: String,
    open: Vec<String>,
}

impl Session {
    /// Reads on from `position`.
    pub async fn read(
        &self,
        position: &Position,
        limits: Limits,
        effort: Effort,
    ) -> Result<Read, OutboxError> {
        let seen = Seen {
            xmax: position.seen.xmax().to_string(),
            open: position
                .seen
                .in_progress()
                .iter()
                .map(u64::to_string)
                .collect(),
        };
        let read = match &position.page {
            None => self.poll(position, &seen, limits, effort).await?,
            Some(page) => self.page(position, page, &seen, limits, effort).await?,
        };
        #[cfg(feature = "failpoints")]
        let read = self.sabotage(read).await?;
        failpoint::pass(Point::Read);
        Ok(read)
    }

    /// Opens the window behind `position`, and reads its first rows.
    async fn poll(
        &self,
        position: &Position,
        seen: &Seen,
        limits: Limits,
        effort: Effort,
    ) -> Result<Read, OutboxError> {
        let Seen { xmax, open } = seen;
        let (events_max, bytes_max) = limits.as_parameters();
        let parameters: [&(dyn ToSql + Sync); 5] =
            [xmax, open, &events_max, &bytes_max, &effort.sorted];
        let poll = &self.statements.poll;
        let mut rows = pin!(self.link.client.query_raw(poll, parameters).await?);
        let Some(row) = rows.try_next().await? else {
            return Err(OutboxError::WrongShape {
                reason: "a poll without a header".to_owned(),
            });
        };
        let Header {
            snapshot,
            unflushed,
            at,
        } = header(&row, self.link.server.process)?;
        let (events, full) = collect(rows, i64::MIN, limits).await?;
        if full && self.is_large(seen, effort).await? {
            // These may not be the lowest of it.
            return Ok(Read {
                events: Vec::new(),
                position: position.after(snapshot, Some(i64::MIN), true),
                more: true,
                unflushed,
                at: Some(at),
            });
        }
        Ok(Read {
            position: position.after(snapshot, events.last().map(|event| event.id), full),
            more: full,
            unflushed: unflushed.filter(|_| !events.is_empty()),
            at: Some(at),
            events,
        })
    }

    async fn is_large(&self, seen: &Seen, effort: Effort) -> Result<bool, OutboxError> {
        let large = &self.statements.large;
        let parameters: [&(dyn ToSql + Sync); 3] = [&seen.xmax, &seen.open, &effort.sorted];
        let row = self.link.client.query_one(large, &parameters).await?;
        Ok(row.try_get(0)?)
    }

    /// Reads on in a window that is open.
    async fn page(
        &self,
        position: &Position,
        page: &Page,
        seen: &Seen,
        limits: Limits,
        effort: Effort,
    ) -> Result<Read, OutboxError> {
        let Seen { xmax, open } = seen;
        let (upto, after) = (page.upto.to_string(), page.after);
        let (events_max, bytes_max) = limits.as_parameters();
        let parameters: [&(dyn ToSql + Sync); 7] = [
            xmax,
            open,
            &upto,
            &after,
            &events_max,
            &bytes_max,
            &effort.passed,
        ];
        let statement = &self.statements.page;
        let client = &self.link.client;
        let rows = pin!(client.query_raw(statement, parameters).await?);
        let (events, full) = collect(rows, after, limits).await?;
        let mut last = events.last().map(|event| event.id);
        let mut more = full;
        if !full {
            let scanned = &self.statements.scanned;
            let row = client.query_opt(scanned, &[&after, &effort.passed]).await?;
            let scanned: Option<i64> = row.map(|row| row.try_get(0)).transpose()?;
            // Rows that have come meanwhile can only make it end earlier, so that nothing is passed unread.
            last = last.max(scanned);
            more = scanned.is_some();
        }
        Ok(Read {
            position: position.after(page.upto.clone(), last, more),
            more,
            unflushed: None,
            at: None,
            events,
        })
    }

    /// Whether a crash of the database could still undo what was visible at `lsn`.
    pub async fn is_flushed(&self, lsn: &Lsn) -> Result<bool, OutboxError> {
        Ok(self
            .link
            .client
            .query_one(&self.statements.flushed, &[&lsn.0])
            .await?
            .try_get(0)?)
    }

    /// Makes everything visible outlive a crash.
    pub async fn flush(&self) -> Result<(), OutboxError> {
        Ok(self
            .link
            .client
            .batch_execute(include_str!("../../sql/flush.sql"))
            .await?)
    }
}

/// The rows behind the id `after`, and whether a limit ended them.
async fn collect(
    mut rows: Pin<&mut RowStream>,
    after: i64,
    limits: Limits,
) -> Result<(Vec<Event>, bool), OutboxError> {
    let mut events = Vec::new();
    let (mut last, mut total_bytes) = (after, 0i64);
    while let Some(row) = rows.try_next().await? {
        let event = event(&row)?;
        if event.id <= last {
            // The order of a union's branches is custom, not law.
            return Err(OutboxError::WrongShape {
                reason: "rows came out of order".to_owned(),
            });
        }
        last = event.id;
        total_bytes = row.try_get(TOTAL_BYTES)?;
        events.push(event);
    }
    let full = events.len() >= limits.events || total_bytes >= limits.as_parameters().1;
    Ok((events, full))
}

// The columns of poll.sql and page.sql.
const TOTAL_BYTES: usize = 24;
const SNAPSHOT: usize = 25;
/// The same place in dead_letter_due.sql.
pub(super) const SEQ: usize = 25;

fn header(row: &Row, process: i32) -> Result<Header, OutboxError> {
    if row.try_get(SNAPSHOT + 1)? {
        return Err(OutboxError::Standby {
            server: "the server that answered".to_owned(),
        });
    }
    let answered: i32 = row.try_get(SNAPSHOT + 5)?;
    if answered != process {
        let reason = format!("process {answered} answered instead of {process}");
        return Err(OutboxError::Pooled { reason });
    }
    let snapshot: &str = row.try_get(SNAPSHOT)?;
    let snapshot = snapshot.parse().map_err(|error| OutboxError::WrongShape {
        reason: format!("{error}"),
    })?;
    let inserted_upto: Option<String> = row.try_get(SNAPSHOT + 2)?;
    let flushed: Option<bool> = row.try_get(SNAPSHOT + 3)?;
    let unflushed = inserted_upto.filter(|_| flushed != Some(true)).map(Lsn);
    Ok(Header {
        snapshot,
        unflushed,
        at: row.try_get::<_, Moment>(SNAPSHOT + 4)?.0,
    })
}

pub(super) fn event(row: &Row) -> Result<Event, OutboxError> {
    let payload = match row.try_get(5)? {
        Some(text) => Some(Payload::Text(text)),
        None => row.try_get::<_, Option<_>>(6)?.map(Payload::Bytes),
    };
    let saga: Option<(String, String)> = row.try_get::<_, Option<_>>(14)?.zip(row.try_get(15)?);
    let saga = match saga {
        Some((saga_type, saga_id)) => Some(Saga {
            saga_type,
            saga_id,
            user: row.try_get(16)?,
            state: row.try_get(17)?,
            outcome: row.try_get(18)?,
            step: row.try_get(19)?,
            status: row.try_get(20)?,
        }),
        None => None,
    };
    Ok(Event {
        id: row.try_get(0)?,
        topic: row.try_get(1)?,
        key: row.try_get(2)?,
        event_type: row.try_get(3)?,
        kind: row.try_get(4)?,
        payload,
        content_type: row.try_get(7)?,
        headers: headers(row.try_get(8)?),
        event_id: row.try_get::<_, Uuid>(9)?,
        correlation_id: row.try_get(10)?,
        causation_id: row.try_get(11)?,
        reply_to: row.try_get(12)?,
        reply_outcome: row.try_get(13)?,
        saga,
        traceparent: row.try_get(21)?,
        tracestate: row.try_get(22)?,
        created_at: row.try_get::<_, Moment>(23)?.0,
    })
}

fn headers(column: Option<Json<serde_json::Value>>) -> Result<Vec<(String, String)>, BadHeaders> {
    let Some(Json(value)) = column else {
        return Ok(Vec::new());
    };
    let serde_json::Value::Object(fields) = value else {
        return Err(BadHeaders);
    };
    let text = |(name, value)| match value {
        serde_json::Value::String(text) => Ok((name, text)),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::Array(_)
        | serde_json::Value::Object(_) => Err(BadHeaders),
    };
    fields.into_iter().map(text).collect()
}

/// A `timestamptz`, infinities included.
pub(super) struct Moment(pub(super) Timestamp);

/// Microseconds from 1970 to 2000, where PostgreSQL counts from.
const EPOCH_2000: i64 = 946_684_800_000_000;

impl<'a> FromSql<'a> for Moment {
    fn from_sql(
        kind: &Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(Timestamp(
            i64::from_sql(kind, raw)?.saturating_add(EPOCH_2000),
        )))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TIMESTAMPTZ
    }
}
