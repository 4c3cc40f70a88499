//! Writing down what was published. Every write carries the epoch; one that touches no row means somebody else leads.

use std::collections::HashSet;
use std::time::Duration;

use tokio_postgres::Transaction;
use tokio_postgres::types::ToSql;

use super::error::OutboxError;
use super::read::{Limits, Moment, SEQ, event};
use super::session::{Session, Standing, Statements, as_ms};
use crate::failpoint::{self, Point};
use crate::logic::batch::{Blocked, RowId};
use crate::logic::checkpoint::{Checkpoint, RowIds};
use crate::logic::event::{Event, Timestamp};
use crate::logic::refusal::{Reason, Refusal, Release};
use crate::logic::window::Position;

/// What is not published yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// How many events; counted to a million.
    pub events: i64,
    /// When the oldest of them was inserted.
    pub oldest: Option<Timestamp>,
}

/// How many dead letters there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeadLetters {
    /// Waiting for their topic.
    pub auto: i64,
    /// Waiting for an operator.
    pub manual: i64,
}

impl DeadLetters {
    /// All of them.
    pub fn total(&self) -> u64 {
        u64::try_from(self.auto.saturating_add(self.manual)).unwrap_or(0)
    }
}

/// Which dead letters a batch made and which it published after all.
#[derive(Debug, Clone, Copy)]
pub struct Letters<'a> {
    /// The rows that were refused, also those that were letters already.
    pub refused: &'a [(Refusal, RowIds)],
    /// The letters that were published, by their `seq`.
    pub released: &'a [i64],
}

/// Dead letters whose turn has come.
#[derive(Debug, Default)]
pub struct DueLetters {
    /// Their numbers, rising.
    pub seqs: Vec<i64>,
    /// What they hold, in the same order.
    pub events: Vec<Event>,
}

impl Session {
    /// Writes the position back and renews the lease.
    pub async fn settle(
        &self,
        epoch: i64,
        standing: &Standing,
        lease: Duration,
    ) -> Result<(), OutboxError> {
        let (client, process) = (&self.link.client, self.link.server.process);
        let written = settle(client, &self.statements, process, epoch, standing, lease).await?;
        fenced_unless(written == 1)?;
        failpoint::pass(Point::AfterSettle);
        Ok(())
    }

    /// The same, together with the dead letters that came and went on the way there.
    pub async fn settle_letters(
        &mut self,
        epoch: i64,
        standing: &Standing,
        letters: Letters<'_>,
        lease: Duration,
    ) -> Result<(), OutboxError> {
        let (statements, process) = (&self.statements, self.link.server.process);
        let transaction = self.link.client.transaction().await?;
        keep_letters(&transaction, statements, letters).await?;
        failpoint::pass(Point::LettersKept);
        let written = settle(&transaction, statements, process, epoch, standing, lease).await?;
        fenced_unless(written == 1)?;
        transaction.commit().await?;
        failpoint::pass(Point::AfterSettle);
        Ok(())
    }

    /// Includes a checkpoint that an earlier leader could not settle. Gives how many of its rows
    /// the database has lost since.
    pub async fn absorb(
        &mut self,
        epoch: i64,
        checkpoint: &Checkpoint,
        checkpoint_next: i64,
    ) -> Result<usize, OutboxError> {
        let transaction = self.link.client.transaction().await?;
        let parameters: [&(dyn ToSql + Sync); 3] = [&epoch, &checkpoint.batch, &checkpoint_next];
        let written = transaction
            .execute(&self.statements.absorb, &parameters)
            .await?;
        fenced_unless(written == 1)?;
        let letters = Letters {
            refused: &checkpoint.refused,
            released: &checkpoint.released,
        };
        keep_letters(&transaction, &self.statements, letters).await?;
        let published = &checkpoint.published.0;
        let found = ahead(&transaction, &self.statements, published).await?;
        // A letter that was refused again may have left the ring long ago: nothing is lost by that.
        for (_, refused) in &checkpoint.refused {
            ahead(&transaction, &self.statements, &refused.0).await?;
        }
        failpoint::pass(Point::Ahead);
        transaction.commit().await?;
        Ok(published.len().saturating_sub(found))
    }

    /// The rows that are published ahead of the position.
    pub async fn ahead(&self) -> Result<HashSet<i64>, OutboxError> {
        let rows = self
            .link
            .client
            .query(&self.statements.ahead_list, &[])
            .await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Forgets those of them that the position has passed.
    pub async fn trim_ahead(&self, position: &Position) -> Result<(), OutboxError> {
        let seen = position.seen.to_string();
        self.link
            .client
            .execute(&self.statements.ahead_trim, &[&seen])
            .await?;
        Ok(())
    }

    /// Whose later events have to queue behind a dead letter.
    pub async fn blocked(&self, keys_too: bool) -> Result<Blocked, OutboxError> {
        let mut blocked = Blocked::default();
        for row in self
            .link
            .client
            .query(&self.statements.dead_letter_blocked, &[])
            .await?
        {
            let (topic, key): (String, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
            let release: Release = parsed(row.try_get(2)?)?;
            let reason: Reason = parsed(row.try_get(3)?)?;
            match (release, key) {
                (Release::Auto, _) => drop(blocked.topics.insert(topic, reason)),
                (Release::Manual, Some(key)) if keys_too => blocked.block_key(&topic, &key),
                (Release::Manual, _) => {}
            }
        }
        Ok(blocked)
    }

    /// The dead letters whose turn has come, and an end to those that were given up.
    pub async fn due_letters(
        &self,
        usable: &[String],
        in_order: bool,
        limits: Limits,
    ) -> Result<DueLetters, OutboxError> {
        let client = &self.link.client;
        client
            .execute(&self.statements.dead_letter_drop, &[])
            .await?;
        if in_order {
            client
                .execute(&self.statements.dead_letter_queue, &[])
                .await?;
        }
        let rows = i64::try_from(limits.events).unwrap_or(i64::MAX);
        let bytes = i64::try_from(limits.bytes).unwrap_or(i64::MAX);
        let parameters: [&(dyn ToSql + Sync); 4] = [&usable, &in_order, &rows, &bytes];
        let mut due = DueLetters::default();
        for row in client
            .query(&self.statements.dead_letter_due, &parameters)
            .await?
        {
            due.seqs.push(row.try_get(SEQ)?);
            due.events.push(event(&row)?);
        }
        failpoint::pass(Point::LettersDue);
        Ok(due)
    }

    /// How many dead letters there are.
    pub async fn dead_letters(&self) -> Result<DeadLetters, OutboxError> {
        let row = self
            .link
            .client
            .query_one(&self.statements.dead_letter_count, &[])
            .await?;
        Ok(DeadLetters {
            auto: row.try_get(0)?,
            manual: row.try_get(1)?,
        })
    }

    /// What is not published yet.
    pub async fn backlog(&self, position: &Position) -> Result<Backlog, OutboxError> {
        let xmax = position.seen.xmax().to_string();
        let open: Vec<String> = position
            .seen
            .in_progress()
            .iter()
            .map(u64::to_string)
            .collect();
        let upto = position.page.as_ref().map(|page| page.upto.to_string());
        let after = position.page.as_ref().map(|page| page.after);
        let parameters: [&(dyn ToSql + Sync); 4] = [&xmax, &open, &upto, &after];
        let row = self
            .link
            .client
            .query_one(&self.statements.backlog, &parameters)
            .await?;
        let oldest: Option<Moment> = row.try_get(1)?;
        Ok(Backlog {
            events: row.try_get(0)?,
            oldest: oldest.map(|moment| moment.0),
        })
    }
}

async fn settle(
    client: &impl tokio_postgres::GenericClient,
    statements: &Statements,
    process: i32,
    epoch: i64,
    standing: &Standing,
    lease: Duration,
) -> Result<u64, OutboxError> {
    let position = &standing.position;
    let seen = position.seen.to_string();
    let upto = position.page.as_ref().map(|page| page.upto.to_string());
    let after = position.page.as_ref().map(|page| page.after);
    let lease_ms = as_ms(lease);
    failpoint::pass(Point::BeforeSettle);
    let parameters: [&(dyn ToSql + Sync); 8] = [
        &epoch,
        &seen,
        &upto,
        &after,
        &standing.batch,
        &standing.checkpoint_next,
        &lease_ms,
        &process,
    ];
    Ok(client.execute(&statements.settle, &parameters).await?)
}

/// Notes rows as published ahead of the position, and gives how many of them the table has.
async fn ahead(
    transaction: &Transaction<'_>,
    statements: &Statements,
    rows: &[RowId],
) -> Result<usize, OutboxError> {
    let (ids, event_ids) = columns(rows);
    let found = transaction
        .query_one(&statements.ahead_add, &[&ids, &event_ids])
        .await?;
    let found: i64 = found.try_get(0)?;
    Ok(usize::try_from(found).unwrap_or(0))
}

/// Writes down which letters came and went; doing it twice does no harm.
pub(super) async fn keep_letters(
    transaction: &Transaction<'_>,
    statements: &Statements,
    letters: Letters<'_>,
) -> Result<(), OutboxError> {
    if !letters.released.is_empty() {
        transaction
            .execute(&statements.dead_letter_remove, &[&letters.released])
            .await?;
    }
    for (refusal, rows) in letters.refused {
        let (ids, event_ids) = columns(&rows.0);
        let (reason, release) = (refusal.reason.as_str(), refusal.release.as_str());
        let parameters: [&(dyn ToSql + Sync); 5] =
            [&ids, &event_ids, &reason, &release, &refusal.error];
        transaction
            .execute(&statements.dead_letter_judge, &parameters)
            .await?;
        transaction
            .execute(&statements.dead_letter_add, &parameters)
            .await?;
    }
    Ok(())
}

pub(super) fn columns(rows: &[RowId]) -> (Vec<i64>, Vec<uuid::Uuid>) {
    rows.iter().copied().unzip()
}

fn fenced_unless(written: bool) -> Result<(), OutboxError> {
    if written {
        Ok(())
    } else {
        Err(OutboxError::Fenced)
    }
}

fn parsed<T: std::str::FromStr<Err = String>>(text: &str) -> Result<T, OutboxError> {
    text.parse().map_err(|error| OutboxError::WrongShape {
        reason: format!("outbox.dead_letter: {error}"),
    })
}
