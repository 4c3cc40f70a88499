//! The inbox: what makes a message take effect once, however often it comes. Never decides what that effect is.

use tokio_postgres::{Client, Transaction};

use crate::{Failure, message::Message};

/// The table, in every service's database. A row is needed for as long as Kafka may deliver its message again.
pub(crate) const TABLE: &str = "
    create table if not exists inbox (
        reader      text        not null,
        message_id  uuid        not null,
        received_at timestamptz not null default now(),
        primary key (reader, message_id)
    );
    create index if not exists inbox_received_at on inbox (received_at)";

/// Longer than any of the topics is kept.
const KEPT: &str = "delete from inbox where received_at < now() - interval '8 days'";

/// Lets a message take effect unless it already has: its id and its effects are committed together, or none of them is.
pub(crate) async fn once(
    database: &mut Client,
    reader: &str,
    message: &Message,
    effect: impl AsyncFnOnce(&Transaction<'_>, &Message) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let transaction = database.transaction().await?;
    let insert = "insert into inbox (reader, message_id) values ($1, $2) on conflict do nothing";
    // A second instance with the same message waits here for the first one's end.
    let inserted = transaction
        .execute(insert, &[&reader, &message.origin.id])
        .await?;
    if inserted == 1 {
        effect(&transaction, message).await?;
    } else {
        tracing::info!(id = %message.origin.id, name = message.name, "again");
    }
    Ok(transaction.commit().await?)
}

/// Forgets what cannot come again.
pub(crate) async fn forget(database: &Client) -> Result<(), Failure> {
    Ok(database.batch_execute(KEPT).await?)
}
