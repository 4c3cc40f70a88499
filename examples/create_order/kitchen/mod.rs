//! The kitchen service: it holds a ticket for each order, hidden from the cooks until the order's saga says that it stands.
//! Never asks whether the order is paid for; it is told.

mod ticket;

use std::convert::Infallible;

use tokio_postgres::{Transaction, types::Json};

use self::ticket::{Cancelled, Created, State};
use crate::{
    Failure,
    message::{Kind, Message},
    messages::{
        ACCOUNTING_EVENTS, CHOREOGRAPHED, CONSUMER_EVENTS, CreateTicket, Item, KITCHEN_COMMANDS,
        KITCHEN_EVENTS, ORDER_EVENTS, OfOrder, OfTicket, Order, Refused, status, step,
    },
    outbox::Outbox,
    service::{self, Options},
};

/// What it reads.
const CHANNELS: [&str; 4] = [
    ORDER_EVENTS,
    CONSUMER_EVENTS,
    ACCOUNTING_EVENTS,
    KITCHEN_COMMANDS,
];

/// Why a ticket is refused.
const CLOSED: &str = "the restaurant is closed";

/// Runs it.
pub(crate) async fn run(options: &Options) -> Result<Infallible, Failure> {
    service::migrate(options, include_str!("tables.sql")).await?;
    service::run("kitchen", &CHANNELS, options, handle).await
}

async fn handle(transaction: &Transaction<'_>, message: &Message) -> Result<(), Failure> {
    match message.kind {
        Kind::Event if message.is_of(CHOREOGRAPHED) => hear(transaction, message).await,
        Kind::Command => obey(transaction, message).await,
        Kind::Event | Kind::Reply | Kind::Document => Ok(()),
    }
}

/// Choreography: it hears what happens to an order, and does its part.
async fn hear(transaction: &Transaction<'_>, message: &Message) -> Result<(), Failure> {
    match message.name.as_str() {
        "OrderCreated" => {
            let order: Order = message.read()?;
            let (order_id, restaurant) = (order.order_id.clone(), &order.restaurant_id);
            match create(transaction, &order_id, restaurant, &order.items).await? {
                Created::Ticket => Outbox::event(
                    KITCHEN_EVENTS,
                    &order.order_id,
                    "TicketCreated",
                    &OfOrder { order_id },
                )
                .step(step::CREATE_TICKET, status::DONE),
                Created::Refused => {
                    let reason = CLOSED.to_owned();
                    let refused = Refused { order_id, reason };
                    Outbox::event(
                        KITCHEN_EVENTS,
                        &order.order_id,
                        "TicketCreationFailed",
                        &refused,
                    )
                    .step(step::CREATE_TICKET, status::FAILED)
                }
                Created::TooLate => return Ok(()),
            }
            .because_of(&message.origin)
            .insert(transaction)
            .await?;
        }
        "CardAuthorized" => {
            let of: OfOrder = message.read()?;
            if confirm(transaction, &of.order_id).await? {
                Outbox::event(KITCHEN_EVENTS, &of.order_id, "TicketConfirmed", &of)
                    .because_of(&message.origin)
                    .step(step::CONFIRM_TICKET, status::DONE)
                    .insert(transaction)
                    .await?;
            }
        }
        // It may hear of a refusal before it hears of the order: these are two channels.
        "ConsumerVerificationFailed" | "CardAuthorizationFailed" => {
            let Refused { order_id, .. } = message.read()?;
            let status = match cancel(transaction, &order_id).await? {
                Cancelled::Ticket => status::COMPENSATED,
                Cancelled::Tombstone => status::SKIPPED,
                Cancelled::Before => return Ok(()),
            };
            let key = order_id.clone();
            Outbox::event(
                KITCHEN_EVENTS,
                &key,
                "TicketCancelled",
                &OfOrder { order_id },
            )
            .because_of(&message.origin)
            .step(step::CREATE_TICKET, status)
            .insert(transaction)
            .await?;
        }
        _ => {}
    }
    Ok(())
}

/// Orchestration: it is told what to do, and replies.
async fn obey(transaction: &Transaction<'_>, command: &Message) -> Result<(), Failure> {
    match command.name.as_str() {
        "CreateTicket" => {
            let create_ticket: CreateTicket = command.read()?;
            let (order_id, restaurant) = (create_ticket.order_id, &create_ticket.restaurant_id);
            let items = &create_ticket.ticket_details.items;
            match create(transaction, &order_id, restaurant, items).await? {
                Created::Ticket => {
                    let (name, ticket_id) = ("CreateTicketReply", order_id);
                    Outbox::reply(&command.origin, true, name, &OfTicket { ticket_id })?
                        .step(step::CREATE_TICKET, status::DONE)
                }
                Created::Refused | Created::TooLate => {
                    let reason = CLOSED.to_owned();
                    let name = "RestaurantDetailsVerificationFailed";
                    Outbox::reply(&command.origin, false, name, &Refused { order_id, reason })?
                        .step(step::CREATE_TICKET, status::FAILED)
                }
            }
            .insert(transaction)
            .await?;
        }
        "ConfirmCreateTicket" => {
            let of: OfTicket = command.read()?;
            if confirm(transaction, &of.ticket_id).await? {
                Outbox::event(KITCHEN_EVENTS, &of.ticket_id, "TicketCreated", &of)
                    .because_of(&command.origin)
                    .insert(transaction)
                    .await?;
            }
            Outbox::reply(&command.origin, true, "Success", &of)?
                .step(step::CONFIRM_TICKET, status::DONE)
                .insert(transaction)
                .await?;
        }
        "CancelCreateTicket" => {
            let of: OfTicket = command.read()?;
            if cancel(transaction, &of.ticket_id).await? != Cancelled::Before {
                Outbox::event(KITCHEN_EVENTS, &of.ticket_id, "TicketCancelled", &of)
                    .because_of(&command.origin)
                    .insert(transaction)
                    .await?;
            }
            Outbox::reply(&command.origin, true, "Success", &of)?
                .step(step::CREATE_TICKET, status::COMPENSATED)
                .insert(transaction)
                .await?;
        }
        _ => {}
    }
    Ok(())
}

async fn create(
    transaction: &Transaction<'_>,
    order_id: &str,
    restaurant_id: &str,
    items: &[Item],
) -> Result<Created, Failure> {
    let there = there(transaction, order_id).await?;
    let query = "select is_open from restaurants where restaurant_id = $1";
    let row = transaction.query_opt(query, &[&restaurant_id]).await?;
    let is_open = row.map_or(Ok(false), |row| row.try_get(0))?;
    let created = State::create(there, is_open);
    let state = match created {
        Created::Ticket => State::CreatePending,
        // Whoever cancels it afterwards finds nothing to do.
        Created::Refused => State::Cancelled,
        Created::TooLate => return Ok(created),
    };
    let insert = "
        insert into tickets (order_id, restaurant_id, items, state) values ($1, $2, $3, $4)";
    transaction
        .execute(
            insert,
            &[&order_id, &restaurant_id, &Json(items), &state.name()],
        )
        .await?;
    Ok(created)
}

/// Lets the cooks see the ticket; gives whether this was the moment.
async fn confirm(transaction: &Transaction<'_>, order_id: &str) -> Result<bool, Failure> {
    let there = there(transaction, order_id).await?;
    let now = State::confirm(there).ok_or_else(|| format!("{order_id} has no ticket"))?;
    if now {
        set(transaction, order_id, State::AwaitingAcceptance).await?;
    }
    Ok(now)
}

async fn cancel(transaction: &Transaction<'_>, order_id: &str) -> Result<Cancelled, Failure> {
    let there = there(transaction, order_id).await?;
    let cancelled = State::cancel(there).ok_or_else(|| format!("{order_id} is being cooked"))?;
    match cancelled {
        Cancelled::Ticket => set(transaction, order_id, State::Cancelled).await?,
        Cancelled::Tombstone => {
            // A late OrderCreated finds this, and cannot bring the ticket to life.
            let tombstone = "insert into tickets (order_id, state) values ($1, 'CANCELLED')";
            transaction.execute(tombstone, &[&order_id]).await?;
        }
        Cancelled::Before => {}
    }
    Ok(cancelled)
}

/// The ticket that is there, locked until the end of the transaction.
async fn there(transaction: &Transaction<'_>, order_id: &str) -> Result<Option<State>, Failure> {
    let query = "select state from tickets where order_id = $1 for update";
    let Some(row) = transaction.query_opt(query, &[&order_id]).await? else {
        return Ok(None);
    };
    let name: &str = row.try_get(0)?;
    let state = State::named(name).ok_or_else(|| format!("{order_id} is {name}"))?;
    Ok(Some(state))
}

async fn set(transaction: &Transaction<'_>, order_id: &str, state: State) -> Result<(), Failure> {
    let change = "update tickets set state = $2 where order_id = $1";
    transaction
        .execute(change, &[&order_id, &state.name()])
        .await?;
    Ok(())
}
