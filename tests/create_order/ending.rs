//! How the saga of an order is to end: in the databases, in what was said on the way, and before the customer's eyes. Never looks
//! at anything.

use std::collections::BTreeMap;

/// What is to become of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Success,
    /// It costs more than its consumer may spend.
    ConsumerRefuses,
    /// Its restaurant is closed.
    KitchenRefuses,
    /// Its consumer's account is disabled, or the card company declines.
    CardRefused,
}

/// Which of the two sagas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Choreography,
    Orchestration,
}

/// An end.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ending {
    /// The order's state, and the saga's.
    pub(crate) order: String,
    /// The ticket's state, if there is one.
    pub(crate) ticket: Option<String>,
    /// The authorization's state, if there is one.
    pub(crate) authorization: Option<String>,
    /// Channel and name of every message about it, sorted.
    pub(crate) messages: Vec<String>,
    /// How each step is doing.
    pub(crate) steps: BTreeMap<String, String>,
    /// How the saga ended.
    pub(crate) outcome: String,
}

/// The ends that are right. Where there is more than one, it depends on what a service hears first.
pub(crate) fn endings(style: Style, fate: Fate) -> Vec<Ending> {
    match style {
        Style::Choreography => choreographed(fate),
        Style::Orchestration => vec![orchestrated(fate)],
    }
}

fn choreographed(fate: Fate) -> Vec<Ending> {
    let created = "order.events OrderCreated";
    let verified = "consumer.events ConsumerVerified";
    let unverified = "consumer.events ConsumerVerificationFailed";
    let ticket = "kitchen.events TicketCreated";
    let cancelled = "kitchen.events TicketCancelled";
    let rejected = "order.events OrderRejected";
    match fate {
        Fate::Success => vec![ending(
            ["APPROVED", "AWAITING_ACCEPTANCE", "AUTHORIZED"],
            &[
                created,
                verified,
                ticket,
                "accounting.events CardAuthorized",
                "consumer.documents Receipt",
                "kitchen.events TicketConfirmed",
                "order.events OrderApproved",
            ],
            "verify-consumer done, create-ticket done, authorize-card done, confirm-ticket done",
        )],
        Fate::ConsumerRefuses => vec![
            ending(
                ["REJECTED", "CANCELLED", "CLOSED"],
                &[created, unverified, ticket, cancelled, rejected],
                "verify-consumer failed, create-ticket compensated",
            ),
            // The kitchen heard of the refusal before it heard of the order.
            ending(
                ["REJECTED", "CANCELLED", "CLOSED"],
                &[created, unverified, cancelled, rejected],
                "verify-consumer failed, create-ticket skipped",
            ),
        ],
        Fate::KitchenRefuses => vec![ending(
            ["REJECTED", "CANCELLED", "CLOSED"],
            &[
                created,
                verified,
                "kitchen.events TicketCreationFailed",
                rejected,
            ],
            "verify-consumer done, create-ticket failed",
        )],
        Fate::CardRefused => vec![ending(
            ["REJECTED", "CANCELLED", "DECLINED"],
            &[
                created,
                verified,
                ticket,
                "accounting.events CardAuthorizationFailed",
                cancelled,
                rejected,
            ],
            "verify-consumer done, create-ticket compensated, authorize-card failed",
        )],
    }
}

fn orchestrated(fate: Fate) -> Ending {
    // Whom the orchestrator commands to do what, and what is replied.
    let verify = "consumer.commands ValidateOrderByConsumer";
    let create = "kitchen.commands CreateTicket";
    let authorize = "accounting.commands AuthorizeCommand";
    let success = "create-order-saga.replies Success";
    let created = "create-order-saga.replies CreateTicketReply";
    let refused = [
        "order.commands RejectOrderCommand",
        success,
        "order.events OrderRejected",
    ];
    let (states, moves, rest, steps): (_, _, &[&[&str]], _) = match fate {
        Fate::Success => (
            ["APPROVED", "AWAITING_ACCEPTANCE", "AUTHORIZED"],
            6,
            &[
                &[verify, success, create, created, authorize, success],
                &["kitchen.commands ConfirmCreateTicket", success],
                &["kitchen.events TicketCreated", "consumer.documents Receipt"],
                &["order.commands ApproveOrderCommand", success],
                &["order.events OrderApproved"],
            ],
            "verify-consumer done, create-ticket done, authorize-card done, confirm-ticket done, approve-order done",
        ),
        Fate::ConsumerRefuses => (
            ["REJECTED", "", ""],
            3,
            &[
                &[
                    verify,
                    "create-order-saga.replies ConsumerVerificationFailed",
                ],
                &refused,
            ],
            "verify-consumer failed",
        ),
        Fate::KitchenRefuses => (
            ["REJECTED", "CANCELLED", ""],
            4,
            &[
                &[verify, success, create],
                &["create-order-saga.replies RestaurantDetailsVerificationFailed"],
                &refused,
            ],
            "verify-consumer done, create-ticket failed",
        ),
        Fate::CardRefused => (
            ["REJECTED", "CANCELLED", "DECLINED"],
            6,
            &[
                &[verify, success, create, created, authorize],
                &["create-order-saga.replies refusal of the card"],
                &["kitchen.commands CancelCreateTicket", success],
                &["kitchen.events TicketCancelled"],
                &refused,
            ],
            "verify-consumer done, create-ticket compensated, authorize-card failed",
        ),
    };
    let mut messages = rest.concat();
    messages.push("order.events OrderCreated");
    messages.extend(vec!["order.events CreateOrderSagaChanged"; moves]);
    ending(states, &messages, steps)
}

fn ending([order, ticket, authorization]: [&str; 3], messages: &[&str], steps: &str) -> Ending {
    let some = |state: &str| (!state.is_empty()).then(|| state.to_owned());
    let mut messages: Vec<_> = messages.iter().map(|&it| it.to_owned()).collect();
    messages.sort();
    let steps = steps.split(", ").filter_map(|step| step.split_once(' '));
    let outcome = if order == "APPROVED" {
        "completed"
    } else {
        "rejected"
    };
    Ending {
        order: order.to_owned(),
        ticket: some(ticket),
        authorization: some(authorization),
        messages,
        steps: steps
            .map(|(step, status)| (step.to_owned(), status.to_owned()))
            .collect(),
        outcome: outcome.to_owned(),
    }
}
