//! What the order service does by itself when it hears of something. Never asks anybody for anything.

use tokio_postgres::Transaction;

use super::{decide, state::State};
use crate::{
    Failure,
    message::Message,
    messages::{CHOREOGRAPHED, ORDER_EVENTS, OfOrder, Order, Refused},
    outbox::Outbox,
};

/// A new order: whoever is concerned hears of it, and knows what to do.
pub(super) async fn begin(
    transaction: &Transaction<'_>,
    order: &Order,
    saga_id: &str,
) -> Result<(), Failure> {
    Outbox::event(ORDER_EVENTS, &order.order_id, "OrderCreated", order)
        .of_saga(CHOREOGRAPHED, saga_id)
        .for_user(&order.consumer_id)
        .state(State::ApprovalPending.name(), None)
        .insert(transaction)
        .await?;
    Ok(())
}

/// The last word is the order's: the card is authorized, or somebody has refused.
pub(super) async fn hear(transaction: &Transaction<'_>, message: &Message) -> Result<(), Failure> {
    let (order_id, decision, reason) = match message.name.as_str() {
        "CardAuthorized" => {
            let of: OfOrder = message.read()?;
            (of.order_id, State::Approved, None)
        }
        "ConsumerVerificationFailed" | "TicketCreationFailed" | "CardAuthorizationFailed" => {
            let refused: Refused = message.read()?;
            (refused.order_id, State::Rejected, Some(refused.reason))
        }
        _ => return Ok(()),
    };
    // Two services may refuse the same order: the first one's refusal is enough.
    if !decide(transaction, &order_id, decision, reason.as_deref()).await? {
        return Ok(());
    }
    let (name, outcome) = match decision {
        State::Approved => ("OrderApproved", "completed"),
        State::ApprovalPending | State::Rejected => ("OrderRejected", "rejected"),
    };
    let of = OfOrder {
        order_id: order_id.clone(),
    };
    Outbox::event(ORDER_EVENTS, &order_id, name, &of)
        .because_of(&message.origin)
        .state(decision.name(), Some(outcome))
        .insert(transaction)
        .await?;
    Ok(())
}
