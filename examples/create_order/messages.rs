//! What the four services agree on: channels, sagas, and what their messages say. Never how a service does its work.
//!
//! A message only grows: a new field has a default (`items` is one), an unknown one is passed over, and what means something
//! else gets another name.

use serde::{Deserialize, Serialize};

/// The saga in which every service knows by itself what to do when it hears of something.
pub(crate) const CHOREOGRAPHED: &str = "create-order-choreographed";
/// The saga in which the order service tells every other what to do.
pub(crate) const ORCHESTRATED: &str = "create-order-orchestrated";

/// Publish and subscribe: whoever wants to know reads these, each at a pace of its own. Key: the order's id.
pub(crate) const ORDER_EVENTS: &str = "order.events";
/// See [`ORDER_EVENTS`].
pub(crate) const CONSUMER_EVENTS: &str = "consumer.events";
/// See [`ORDER_EVENTS`].
pub(crate) const KITCHEN_EVENTS: &str = "kitchen.events";
/// See [`ORDER_EVENTS`].
pub(crate) const ACCOUNTING_EVENTS: &str = "accounting.events";

/// Point to point: one service reads this, and does what it is told. Key: the order's id.
pub(crate) const ORDER_COMMANDS: &str = "order.commands";
/// See [`ORDER_COMMANDS`].
pub(crate) const CONSUMER_COMMANDS: &str = "consumer.commands";
/// See [`ORDER_COMMANDS`].
pub(crate) const KITCHEN_COMMANDS: &str = "kitchen.commands";
/// See [`ORDER_COMMANDS`].
pub(crate) const ACCOUNTING_COMMANDS: &str = "accounting.commands";

/// Point to point: where the consumer service gets its receipts. Key: the order's id.
pub(crate) const CONSUMER_DOCUMENTS: &str = "consumer.documents";

/// Where the orchestrator awaits its replies. Key: the saga's id.
pub(crate) const REPLIES: &str = "create-order-saga.replies";

/// What clients see of both sagas.
pub(crate) mod step {
    pub(crate) const VERIFY_CONSUMER: &str = "verify-consumer";
    pub(crate) const CREATE_TICKET: &str = "create-ticket";
    pub(crate) const AUTHORIZE_CARD: &str = "authorize-card";
    pub(crate) const CONFIRM_TICKET: &str = "confirm-ticket";
    pub(crate) const APPROVE_ORDER: &str = "approve-order";
}

/// How a step is doing, of the words that outboxd knows. Only the service whose step it is says so.
pub(crate) mod status {
    pub(crate) const DONE: &str = "done";
    pub(crate) const FAILED: &str = "failed";
    pub(crate) const COMPENSATED: &str = "compensated";
    pub(crate) const SKIPPED: &str = "skipped";
}

/// `OrderCreated`, the event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Order {
    pub(crate) order_id: String,
    pub(crate) consumer_id: String,
    pub(crate) restaurant_id: String,
    /// In cents.
    pub(crate) order_total: i64,
    /// The first version had none.
    #[serde(default)]
    pub(crate) items: Vec<Item>,
}

/// What is on the plate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Item {
    pub(crate) name: String,
    pub(crate) quantity: i64,
    /// Of one, in cents.
    pub(crate) price: i64,
}

/// Every event about an order that needs no further word, and `ApproveOrderCommand` and `RejectOrderCommand`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OfOrder {
    pub(crate) order_id: String,
}

/// `ConsumerVerificationFailed`, `TicketCreationFailed`, `CardAuthorizationFailed`, and as a reply what refuses a command.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Refused {
    pub(crate) order_id: String,
    pub(crate) reason: String,
}

/// `ValidateOrderByConsumer` and `AuthorizeCommand`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OfTotal {
    pub(crate) consumer_id: String,
    pub(crate) order_id: String,
    /// In cents.
    pub(crate) order_total: i64,
}

/// `CreateTicket`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateTicket {
    pub(crate) restaurant_id: String,
    pub(crate) order_id: String,
    pub(crate) ticket_details: TicketDetails,
}

/// What the kitchen has to know.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TicketDetails {
    pub(crate) items: Vec<Item>,
}

/// `CreateTicketReply`, `ConfirmCreateTicket` and `CancelCreateTicket`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OfTicket {
    pub(crate) ticket_id: String,
}

/// `Receipt`, the document.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Receipt {
    pub(crate) order_id: String,
    pub(crate) consumer_id: String,
    /// In cents.
    pub(crate) total: i64,
}

#[cfg(test)]
mod tests {
    use super::Order;

    #[test]
    fn an_order_of_the_first_version_and_one_of_a_later_version_can_be_read() {
        let first =
            r#"{"orderId":"o-1","consumerId":"c-1","restaurantId":"r-1","orderTotal":1250}"#;
        let first: Order = serde_json::from_str(first).unwrap();
        assert_eq!(first.items, []);
        let later = r#"{"orderId":"o-1","consumerId":"c-1","restaurantId":"r-1","orderTotal":1250,"tip":100,
            "items":[{"name":"soup","quantity":1,"price":1250,"hot":true}]}"#;
        let later: Order = serde_json::from_str(later).unwrap();
        assert_eq!(later.items.len(), 1);
    }
}
