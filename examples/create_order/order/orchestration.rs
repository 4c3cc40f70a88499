//! The orchestrator, which lives in the order service: it tells one service after the other what to do, and takes their
//! replies. Its plan is in `saga.rs`.

use serde_json::{Value, json};
use tokio_postgres::{Transaction, types::Json};
use uuid::Uuid;

use super::{decide, saga, state};
use crate::{
    Failure,
    message::Message,
    messages::{
        CreateTicket, ORCHESTRATED, ORDER_EVENTS, OfOrder, OfTicket, OfTotal, Order, REPLIES,
        Refused, TicketDetails, status, step,
    },
    outbox::Outbox,
};

/// A saga, as its row remembers it.
struct Saga {
    id: Uuid,
    state: saga::State,
    /// How many moves it has made.
    seq: i64,
    ticket_id: Option<String>,
    /// Why a service has refused.
    reason: Option<String>,
    order: Order,
}

/// A new order: it, its saga and the first command are committed together.
pub(super) async fn begin(
    transaction: &Transaction<'_>,
    order: &Order,
    saga_id: Uuid,
) -> Result<(), Failure> {
    Outbox::event(ORDER_EVENTS, &order.order_id, "OrderCreated", order)
        .of_saga(ORCHESTRATED, &saga_id.to_string())
        .for_user(&order.consumer_id)
        .state(state::State::ApprovalPending.name(), None)
        .insert(transaction)
        .await?;
    let insert = "
        insert into create_order_saga (saga_id, order_id, state, seq, data)
        values ($1, $2, $3, 0, $4)";
    let state = saga::State::FIRST;
    transaction
        .execute(
            insert,
            &[&saga_id, &order.order_id, &state.name(), &Json(order)],
        )
        .await?;
    let saga = Saga {
        id: saga_id,
        state,
        seq: 0,
        ticket_id: None,
        reason: None,
        order: order.clone(),
    };
    move_to(transaction, saga, state).await
}

/// Takes a reply, and makes the next move.
pub(super) async fn go_on(transaction: &Transaction<'_>, reply: &Message) -> Result<(), Failure> {
    let (saga_id, command) = (&reply.origin.saga_id, &reply.origin.causation_id);
    let (Some(saga_id), Some(command)) = (saga_id, command) else {
        return Err(format!("the reply {} is to nothing", reply.origin.id).into());
    };
    // Not the command that it waits for: a late reply, or one that came by another way before.
    let look = "
        select state, seq, ticket_id, reason, data from create_order_saga
        where saga_id = $1 and last_command_id = $2 for update";
    let (saga_id, command): (Uuid, Uuid) = (saga_id.parse()?, command.parse()?);
    let Some(row) = transaction.query_opt(look, &[&saga_id, &command]).await? else {
        return Ok(());
    };
    let name: &str = row.try_get("state")?;
    let state = saga::State::named(name).ok_or_else(|| format!("{saga_id} is {name}"))?;
    let Json(order) = row.try_get("data")?;
    let mut saga = Saga {
        id: saga_id,
        state,
        seq: row.try_get("seq")?,
        ticket_id: row.try_get("ticket_id")?,
        reason: row.try_get("reason")?,
        order,
    };
    if reply.name == "CreateTicketReply" {
        let created: OfTicket = reply.read()?;
        saga.ticket_id = Some(created.ticket_id);
    }
    if !reply.success {
        let refused: Refused = reply.read()?;
        saga.reason = Some(refused.reason);
    }
    let Some(next) = state.after(reply.success) else {
        tracing::error!(%saga_id, state = name, reply = reply.name, "cannot be refused, and was");
        return Ok(());
    };
    move_to(transaction, saga, next).await
}

/// Makes a move: says where the saga stands now, sends the command of that state, and remembers both.
async fn move_to(
    transaction: &Transaction<'_>,
    saga: Saga,
    next: saga::State,
) -> Result<(), Failure> {
    let (id, seq) = (saga.id.to_string(), saga.seq + 1);
    let order_id = &saga.order.order_id;
    let moved =
        json!({ "orderId": order_id, "from": saga.state.name(), "to": next.name(), "seq": seq });
    Outbox::event(ORDER_EVENTS, order_id, "CreateOrderSagaChanged", &moved)
        .of_saga(ORCHESTRATED, &id)
        .state(next.name(), next.outcome())
        .insert(transaction)
        .await?;
    let command_id = match next.command() {
        Some(command) => {
            let says = says(command.name, &saga)?;
            let command = Outbox::command(command.channel, order_id, command.name, &says, REPLIES)
                .of_saga(ORCHESTRATED, &id);
            Some(command.insert(transaction).await?)
        }
        None => None,
    };
    let remember = "
        update create_order_saga
        set state = $3, seq = $4, last_command_id = $5, ticket_id = $6, reason = $7, updated_at = now()
        where saga_id = $1 and seq = $2";
    let remembered = transaction
        .execute(
            remember,
            &[
                &saga.id,
                &saga.seq,
                &next.name(),
                &seq,
                &command_id,
                &saga.ticket_id,
                &saga.reason,
            ],
        )
        .await?;
    if remembered == 0 {
        return Err(format!("the saga {id} has moved on by itself").into());
    }
    Ok(())
}

/// What a command says.
fn says(name: &str, saga: &Saga) -> Result<Value, Failure> {
    let order = &saga.order;
    let order_id = order.order_id.clone();
    Ok(match name {
        "CreateTicket" => json!(CreateTicket {
            restaurant_id: order.restaurant_id.clone(),
            order_id,
            ticket_details: TicketDetails {
                items: order.items.clone(),
            },
        }),
        "ConfirmCreateTicket" | "CancelCreateTicket" => json!(OfTicket {
            ticket_id: saga.ticket_id.clone().ok_or("there is no ticket yet")?,
        }),
        "ValidateOrderByConsumer" | "AuthorizeCommand" => json!(OfTotal {
            consumer_id: order.consumer_id.clone(),
            order_id,
            order_total: order.order_total,
        }),
        "RejectOrderCommand" => json!(Refused {
            order_id,
            reason: saga.reason.clone().unwrap_or_default(),
        }),
        _ => json!(OfOrder { order_id }),
    })
}

/// Does what the orchestrator commands to its own service, in the way of any other: so that a crash between a reply and the
/// order's change is no case of its own.
pub(super) async fn obey(transaction: &Transaction<'_>, command: &Message) -> Result<(), Failure> {
    let of: OfOrder = command.read()?;
    let reply = Outbox::reply(&command.origin, true, "Success", &of)?;
    let (decision, event, reason, reply) = match command.name.as_str() {
        "ApproveOrderCommand" => {
            let reply = reply.step(step::APPROVE_ORDER, status::DONE);
            (state::State::Approved, "OrderApproved", None, reply)
        }
        // Undoes what came before every step: that there is an order.
        "RejectOrderCommand" => {
            let Refused { reason, .. } = command.read()?;
            (state::State::Rejected, "OrderRejected", Some(reason), reply)
        }
        _ => return Ok(()),
    };
    if decide(transaction, &of.order_id, decision, reason.as_deref()).await? {
        Outbox::event(ORDER_EVENTS, &of.order_id, event, &of)
            .because_of(&command.origin)
            .insert(transaction)
            .await?;
    }
    reply.insert(transaction).await?;
    Ok(())
}
