//! Another name for a source, and another database for a position: what an operator does while nobody leads.
//!
//! Never decides what was published: the caller has read that from the checkpoints.

use tokio_postgres::Transaction;
use tokio_postgres::types::ToSql;

use super::error::OutboxError;
use super::session::{Seat, Session, standing_of};
use super::settle::{Letters, columns, keep_letters};
use crate::logic::batch::RowId;
use crate::logic::checkpoint::RowIds;
use crate::logic::refusal::Refusal;
use crate::logic::window::{Position, Snapshot};

/// What the checkpoints know of rows that the database has.
#[derive(Debug, Default)]
pub struct Known {
    /// Published.
    pub published: Vec<RowId>,
    /// Sent to the dead letters.
    pub refused: Vec<(Refusal, RowIds)>,
    /// Dead letters that were published after all, by their `seq`.
    pub released: Vec<i64>,
}

/// What a rebase does, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rebased {
    /// Whether the rows come from another cluster or database, so that each has to be rewritten.
    pub moved: bool,
    /// How many rows will be sent.
    pub waiting: i64,
    /// How many rows beyond the position are known to be published and will not be sent.
    pub published: i64,
}

impl Session {
    /// Gives the source that `epoch` leads another name, whose checkpoints begin at `checkpoint_next`.
    pub async fn rename(
        &mut self,
        epoch: i64,
        name: &str,
        checkpoint_next: i64,
    ) -> Result<(), OutboxError> {
        let statement = include_str!("../../sql/rename.sql");
        let transaction = self.link.client.transaction().await?;
        let durable = "set local synchronous_commit = on";
        transaction.batch_execute(durable).await?;
        let parameters: [&(dyn ToSql + Sync); 3] = [&epoch, &name, &checkpoint_next];
        if transaction.execute(statement, &parameters).await? != 1 {
            return Err(OutboxError::Fenced);
        }
        Ok(transaction.commit().await?)
    }

    /// Which of `rows` the database has.
    pub async fn present(&self, rows: &[RowId]) -> Result<Vec<RowId>, OutboxError> {
        let (ids, event_ids) = columns(rows);
        let query = include_str!("../../sql/rebase_known.sql");
        let found = self.link.client.query(query, &[&ids, &event_ids]).await?;
        let row = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?));
        found.iter().map(row).collect()
    }

    /// Whether the database is another one than the position belongs to.
    pub fn is_moved(&self, seat: &Seat) -> bool {
        let here = (self.identity.system_identifier, self.identity.database_oid);
        here != (seat.system_identifier, seat.database_oid)
    }

    /// Accepts this database as the source's: what the checkpoints know is published, and new ones begin at
    /// `checkpoint_next`. Counts only, and changes nothing, unless it is meant `really`.
    ///
    /// In a database that was moved the position means nothing. Its rows are rewritten then, which needs the owner and
    /// makes writers wait: were the old transactions' numbers kept, a high one would look new again at every read, and
    /// a row that the service inserted here could bear a number that the position calls published.
    pub async fn rebase(
        &mut self,
        seat: &Seat,
        known: &Known,
        checkpoint_next: i64,
        really: bool,
    ) -> Result<Rebased, OutboxError> {
        let moved = self.is_moved(seat);
        let Self {
            link, statements, ..
        } = self;
        let transaction = link.client.transaction().await?;
        transaction.batch_execute(CAREFUL).await?;
        let begin = match moved && really {
            true => Some(lock_out_writers(&transaction).await?),
            false => None,
        };
        let query = include_str!("../../sql/rebase_position.sql");
        let position = standing_of(&transaction.query_one(query, &[]).await?)?.position;
        let letters = Letters {
            refused: &known.refused,
            released: &known.released,
        };
        keep_letters(&transaction, statements, letters).await?;
        let refused = known.refused.iter().flat_map(|(_, rows)| &rows.0);
        let rows: Vec<RowId> = known.published.iter().chain(refused).copied().collect();
        let (ids, event_ids) = columns(&rows);
        transaction
            .query_one(&statements.ahead_add, &[&ids, &event_ids])
            .await?;
        let (waiting, published) = count(&transaction, (!moved).then_some(&position)).await?;
        let rebased = Rebased {
            moved,
            waiting,
            published,
        };
        if !really {
            return Ok(rebased);
        }
        match &begin {
            Some(_) => {
                transaction
                    .execute(include_str!("../../sql/rebase_rewrite.sql"), &[])
                    .await?;
                transaction.execute("delete from outbox.ahead", &[]).await?;
            }
            None => {
                let seen = position.seen.to_string();
                transaction
                    .execute(&statements.ahead_trim, &[&seen])
                    .await?;
            }
        }
        let parameters: [&(dyn ToSql + Sync); 3] = [&seat.lease.epoch, &begin, &checkpoint_next];
        let statement = include_str!("../../sql/rebase.sql");
        if transaction.execute(statement, &parameters).await? != 1 {
            return Err(OutboxError::Fenced);
        }
        transaction.commit().await?;
        Ok(rebased)
    }
}

/// Rewriting a full ring takes longer than a statement of the relay may.
const CAREFUL: &str = "set local synchronous_commit = on; set local lock_timeout = '2s'; \
                       set local statement_timeout = '30min'; set local enable_seqscan = on";

/// From now on nobody inserts until the transaction ends. Gives the snapshot of this moment: it does not see this
/// transaction, which has no number yet, nor those that already have one and wait to insert.
async fn lock_out_writers(transaction: &Transaction<'_>) -> Result<String, OutboxError> {
    let lock = "lock table outbox.event in share row exclusive mode";
    let locked = transaction.batch_execute(lock).await;
    locked.map_err(|error| OutboxError::from(error).for_owner())?;
    let query = "select pg_current_snapshot()::text";
    Ok(transaction.query_one(query, &[]).await?.try_get(0)?)
}

/// Rows that wait and rows that are known to be published, beyond a position or of the whole table.
async fn count(
    transaction: &Transaction<'_>,
    position: Option<&Position>,
) -> Result<(i64, i64), OutboxError> {
    let everything = Position {
        seen: Snapshot::nothing(),
        page: None,
    };
    let position = position.unwrap_or(&everything);
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
    let query = include_str!("../../sql/rebase_count.sql");
    let row = transaction.query_one(query, &parameters).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}
