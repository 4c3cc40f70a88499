//! The order service: it takes orders, is the home of both sagas, and says how they end. Never talks to another service but by
//! messages.

mod api;
mod choreography;
mod orchestration;
mod saga;
mod state;

use std::{convert::Infallible, net::SocketAddr};

use tokio_postgres::Transaction;

use self::state::State;
use crate::{
    Failure,
    message::{Kind, Message},
    messages::{
        ACCOUNTING_EVENTS, CHOREOGRAPHED, CONSUMER_EVENTS, KITCHEN_EVENTS, ORDER_COMMANDS, REPLIES,
    },
    service::{self, Options},
};

/// What it reads: what the others tell, what its orchestrator tells it to do, and what the others reply to that.
const CHANNELS: [&str; 5] = [
    CONSUMER_EVENTS,
    KITCHEN_EVENTS,
    ACCOUNTING_EVENTS,
    ORDER_COMMANDS,
    REPLIES,
];

/// Runs it; customers come to this address.
pub(crate) async fn run(options: &Options, listen: SocketAddr) -> Result<Infallible, Failure> {
    service::migrate(options, include_str!("tables.sql")).await?;
    tokio::select! {
        ended = service::run("order", &CHANNELS, options, handle) => ended,
        ended = api::serve(options, listen) => ended,
    }
}

async fn handle(transaction: &Transaction<'_>, message: &Message) -> Result<(), Failure> {
    match message.kind {
        Kind::Event if message.is_of(CHOREOGRAPHED) => {
            choreography::hear(transaction, message).await
        }
        Kind::Command => orchestration::obey(transaction, message).await,
        Kind::Reply => orchestration::go_on(transaction, message).await,
        Kind::Event | Kind::Document => Ok(()),
    }
}

/// Decides an order, if it is not decided yet; gives whether this was the moment.
async fn decide(
    transaction: &Transaction<'_>,
    order_id: &str,
    decision: State,
    reason: Option<&str>,
) -> Result<bool, Failure> {
    // First the row, then the event: who holds the row's lock is the only one to say what becomes of it.
    let look = "select state from orders where order_id = $1 for update";
    let row = transaction.query_one(look, &[&order_id]).await?;
    let name: &str = row.try_get(0)?;
    let state = State::named(name).ok_or_else(|| format!("{order_id} is {name}"))?;
    let Some(decided) = state.decide(decision) else {
        return Ok(false);
    };
    let change = "update orders set state = $2, reason = $3 where order_id = $1";
    transaction
        .execute(change, &[&order_id, &decided.name(), &reason])
        .await?;
    Ok(true)
}
