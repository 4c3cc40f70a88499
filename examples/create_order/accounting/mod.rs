//! The accounting service: it has an order's card authorized, once everything else about the order is known. Never holds a
//! transaction open while it waits for the card company: what it is to ask is a row of its own (`charge.rs`).

mod authorization;
mod breaker;
mod charge;

use std::{convert::Infallible, net::SocketAddr};

use tokio::sync::Notify;
use tokio_postgres::{Transaction, types::Json};

use self::authorization::{Authorization, Fact, State};
use crate::{
    Failure,
    message::{Kind, Message},
    messages::{
        ACCOUNTING_COMMANDS, CHOREOGRAPHED, CONSUMER_EVENTS, KITCHEN_EVENTS, ORDER_EVENTS, OfOrder,
        OfTotal, Order, Refused,
    },
    service::{self, Options},
};

/// What it reads.
const CHANNELS: [&str; 4] = [
    ORDER_EVENTS,
    CONSUMER_EVENTS,
    KITCHEN_EVENTS,
    ACCOUNTING_COMMANDS,
];

/// Runs it; the card company is at this address.
pub(crate) async fn run(options: &Options, cards: SocketAddr) -> Result<Infallible, Failure> {
    service::migrate(options, include_str!("tables.sql")).await?;
    // There may be something to ask.
    let news = Notify::new();
    let handle = async |transaction: &Transaction<'_>, message: &Message| {
        handle(transaction, message).await?;
        news.notify_one();
        Ok(())
    };
    tokio::select! {
        ended = service::run("accounting", &CHANNELS, options, handle) => ended,
        ended = charge::run(options, cards, &news) => ended,
    }
}

async fn handle(transaction: &Transaction<'_>, message: &Message) -> Result<(), Failure> {
    match message.kind {
        Kind::Event if message.is_of(CHOREOGRAPHED) => hear(transaction, message).await,
        Kind::Command => obey(transaction, message).await,
        Kind::Event | Kind::Reply | Kind::Document => Ok(()),
    }
}

/// Choreography: it puts together what three services tell, and goes on when nothing is missing.
async fn hear(transaction: &Transaction<'_>, message: &Message) -> Result<(), Failure> {
    let (order_id, fact) = match message.name.as_str() {
        "OrderCreated" => {
            let order: Order = message.read()?;
            let (consumer_id, total) = (order.consumer_id, order.order_total);
            (order.order_id, Fact::Order { consumer_id, total })
        }
        "ConsumerVerified" => {
            let of: OfOrder = message.read()?;
            (of.order_id, Fact::ConsumerVerified)
        }
        "TicketCreated" => {
            let of: OfOrder = message.read()?;
            (of.order_id, Fact::TicketCreated)
        }
        "ConsumerVerificationFailed" | "TicketCreationFailed" => {
            let refused: Refused = message.read()?;
            (refused.order_id, Fact::Refused)
        }
        _ => return Ok(()),
    };
    learn(transaction, message, &order_id, vec![fact]).await
}

/// Orchestration: when it is told to go on, nothing is missing.
async fn obey(transaction: &Transaction<'_>, command: &Message) -> Result<(), Failure> {
    if command.name != "AuthorizeCommand" {
        return Ok(());
    }
    let order: OfTotal = command.read()?;
    let (consumer_id, total) = (order.consumer_id, order.order_total);
    let facts = [
        Fact::Order { consumer_id, total },
        Fact::ConsumerVerified,
        Fact::TicketCreated,
    ];
    learn(transaction, command, &order.order_id, facts.into()).await
}

/// Notes what a message tells of an order in the join row, which only one transaction at a time may hold.
async fn learn(
    transaction: &Transaction<'_>,
    message: &Message,
    order_id: &str,
    facts: Vec<Fact>,
) -> Result<(), Failure> {
    let there = "insert into authorizations (order_id) values ($1) on conflict do nothing";
    transaction.execute(there, &[&order_id]).await?;
    let lock = "
        select consumer_id, order_total, consumer_ok, ticket_ok, state from authorizations
        where order_id = $1 for update";
    let row = transaction.query_one(lock, &[&order_id]).await?;
    let (consumer_id, total): (Option<String>, Option<i64>) =
        (row.try_get("consumer_id")?, row.try_get("order_total")?);
    let name: &str = row.try_get("state")?;
    let mut known = Authorization {
        order: consumer_id.zip(total),
        consumer_ok: row.try_get("consumer_ok")?,
        ticket_ok: row.try_get("ticket_ok")?,
        state: State::named(name).ok_or_else(|| format!("{order_id} is {name}"))?,
    };
    let complete = facts.into_iter().any(|fact| known.learn(fact));
    let (consumer_id, total) = known.order.unzip();
    let update = "
        update authorizations
        set consumer_id = $2, order_total = $3, consumer_ok = $4, ticket_ok = $5, state = $6,
            origin = coalesce($7, origin), next_at = now()
        where order_id = $1";
    transaction
        .execute(
            update,
            &[
                &order_id,
                &consumer_id,
                &total,
                &known.consumer_ok,
                &known.ticket_ok,
                &known.state.name(),
                &complete.then_some(Json(&message.origin)),
            ],
        )
        .await?;
    Ok(())
}
