//! The consumer service: it knows who may order, and up to what total; and it files receipts. Never changes anything for an
//! order, so that there is nothing to undo.

use std::convert::Infallible;

use tokio_postgres::Transaction;

use crate::{
    Failure,
    message::{Kind, Message},
    messages::{
        CHOREOGRAPHED, CONSUMER_COMMANDS, CONSUMER_DOCUMENTS, CONSUMER_EVENTS, ORDER_EVENTS,
        OfOrder, OfTotal, Order, Receipt, Refused, status, step,
    },
    outbox::Outbox,
    service::{self, Options},
};

/// What it reads.
const CHANNELS: [&str; 3] = [ORDER_EVENTS, CONSUMER_COMMANDS, CONSUMER_DOCUMENTS];

/// Runs it.
pub(crate) async fn run(options: &Options) -> Result<Infallible, Failure> {
    service::migrate(options, include_str!("tables.sql")).await?;
    service::run("consumer", &CHANNELS, options, handle).await
}

async fn handle(transaction: &Transaction<'_>, message: &Message) -> Result<(), Failure> {
    match message.kind {
        Kind::Event if message.is_of(CHOREOGRAPHED) => hear(transaction, message).await,
        Kind::Command => obey(transaction, message).await,
        Kind::Document => file(transaction, message).await,
        Kind::Event | Kind::Reply => Ok(()),
    }
}

/// Choreography: it hears of an order, and tells whether its consumer may place it.
async fn hear(transaction: &Transaction<'_>, message: &Message) -> Result<(), Failure> {
    if message.name != "OrderCreated" {
        return Ok(());
    }
    let order: Order = message.read()?;
    let order_id = order.order_id;
    let key = order_id.clone();
    match verify(transaction, &order.consumer_id, order.order_total).await? {
        Ok(()) => {
            let name = "ConsumerVerified";
            Outbox::event(CONSUMER_EVENTS, &key, name, &OfOrder { order_id })
                .step(step::VERIFY_CONSUMER, status::DONE)
        }
        Err(reason) => {
            let (name, refused) = ("ConsumerVerificationFailed", Refused { order_id, reason });
            Outbox::event(CONSUMER_EVENTS, &key, name, &refused)
                .step(step::VERIFY_CONSUMER, status::FAILED)
        }
    }
    .because_of(&message.origin)
    .insert(transaction)
    .await?;
    Ok(())
}

/// Orchestration: it is asked, and replies.
async fn obey(transaction: &Transaction<'_>, command: &Message) -> Result<(), Failure> {
    if command.name != "ValidateOrderByConsumer" {
        return Ok(());
    }
    let order: OfTotal = command.read()?;
    let order_id = order.order_id;
    match verify(transaction, &order.consumer_id, order.order_total).await? {
        Ok(()) => Outbox::reply(&command.origin, true, "Success", &OfOrder { order_id })?
            .step(step::VERIFY_CONSUMER, status::DONE),
        Err(reason) => {
            let (name, refused) = ("ConsumerVerificationFailed", Refused { order_id, reason });
            Outbox::reply(&command.origin, false, name, &refused)?
                .step(step::VERIFY_CONSUMER, status::FAILED)
        }
    }
    .insert(transaction)
    .await?;
    Ok(())
}

/// Files a receipt; nobody awaits an answer.
async fn file(transaction: &Transaction<'_>, document: &Message) -> Result<(), Failure> {
    let receipt: Receipt = document.read()?;
    let insert = "insert into receipts (order_id, consumer_id, total) values ($1, $2, $3)";
    transaction
        .execute(
            insert,
            &[&receipt.order_id, &receipt.consumer_id, &receipt.total],
        )
        .await?;
    Ok(())
}

/// Whether a consumer may place an order with this total, or why not.
async fn verify(
    transaction: &Transaction<'_>,
    consumer_id: &str,
    total: i64,
) -> Result<Result<(), String>, Failure> {
    let query = "select order_limit from consumers where consumer_id = $1";
    let row = transaction.query_opt(query, &[&consumer_id]).await?;
    let limit = row.map(|row| row.try_get(0)).transpose()?;
    Ok(may_order(limit, total))
}

/// The rule alone: nobody who is unknown (without a limit), and nothing above the limit.
fn may_order(limit: Option<i64>, total: i64) -> Result<(), String> {
    match limit {
        None => Err("the consumer is unknown".into()),
        Some(limit) if total > limit => {
            Err("the order costs more than the consumer may spend".into())
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::may_order;

    #[test]
    fn known_consumers_may_order_up_to_their_limit() {
        assert!(may_order(Some(100), 100).is_ok());
        assert!(may_order(Some(100), 101).is_err());
        assert!(may_order(None, 1).is_err());
    }
}
