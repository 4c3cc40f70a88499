//! The orchestrator's plan: in which state it sends which command, and what it does after which reply. Never sends anything.
//!
//! Steps 1 and 2 can be undone. Step 3 is the pivot: once the card is authorized there is no way back, and what follows is
//! done until it succeeds.

use crate::messages::{ACCOUNTING_COMMANDS, CONSUMER_COMMANDS, KITCHEN_COMMANDS, ORDER_COMMANDS};

/// Where the saga stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// 1: nothing to undo.
    VerifyingConsumer,
    /// 2: can be undone by cancelling the ticket.
    CreatingTicket,
    /// 3: the pivot.
    AuthorizingCard,
    /// 4: cannot fail for good.
    ConfirmingTicket,
    /// 5: cannot fail for good.
    ApprovingOrder,
    /// Undoes step 2.
    CancellingTicket,
    /// The last thing to undo.
    RejectingOrder,
    /// The end.
    Approved,
    /// The other end.
    Rejected,
}

/// What the orchestrator asks a service to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// The channel of the service.
    pub(crate) channel: &'static str,
    /// What to do.
    pub(crate) name: &'static str,
}

impl State {
    const ALL: [Self; 9] = [
        Self::VerifyingConsumer,
        Self::CreatingTicket,
        Self::AuthorizingCard,
        Self::ConfirmingTicket,
        Self::ApprovingOrder,
        Self::CancellingTicket,
        Self::RejectingOrder,
        Self::Approved,
        Self::Rejected,
    ];

    /// Where every saga begins.
    pub(crate) const FIRST: Self = Self::VerifyingConsumer;

    /// Its name, as in the table and as clients see it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::VerifyingConsumer => "VERIFYING_CONSUMER",
            Self::CreatingTicket => "CREATING_TICKET",
            Self::AuthorizingCard => "AUTHORIZING_CARD",
            Self::ConfirmingTicket => "CONFIRMING_TICKET",
            Self::ApprovingOrder => "APPROVING_ORDER",
            Self::CancellingTicket => "CANCELLING_TICKET",
            Self::RejectingOrder => "REJECTING_ORDER",
            Self::Approved => "APPROVED",
            Self::Rejected => "REJECTED",
        }
    }

    /// The state with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// What it sends when it comes here; `None`: this is the end.
    pub(crate) fn command(self) -> Option<Command> {
        let (channel, name) = match self {
            Self::VerifyingConsumer => (CONSUMER_COMMANDS, "ValidateOrderByConsumer"),
            Self::CreatingTicket => (KITCHEN_COMMANDS, "CreateTicket"),
            Self::AuthorizingCard => (ACCOUNTING_COMMANDS, "AuthorizeCommand"),
            Self::ConfirmingTicket => (KITCHEN_COMMANDS, "ConfirmCreateTicket"),
            Self::ApprovingOrder => (ORDER_COMMANDS, "ApproveOrderCommand"),
            Self::CancellingTicket => (KITCHEN_COMMANDS, "CancelCreateTicket"),
            Self::RejectingOrder => (ORDER_COMMANDS, "RejectOrderCommand"),
            Self::Approved | Self::Rejected => return None,
        };
        Some(Command { channel, name })
    }

    /// What follows when the command was carried out, or was refused; `None`: this cannot be, and the saga stays where it is
    /// until somebody looks after it.
    pub(crate) fn after(self, success: bool) -> Option<Self> {
        match (self, success) {
            (Self::VerifyingConsumer, true) => Some(Self::CreatingTicket),
            (Self::CreatingTicket, true) => Some(Self::AuthorizingCard),
            (Self::AuthorizingCard, true) => Some(Self::ConfirmingTicket),
            (Self::ConfirmingTicket, true) => Some(Self::ApprovingOrder),
            (Self::ApprovingOrder, true) => Some(Self::Approved),
            // Nothing has been done yet that others could see, but for the order itself.
            (Self::VerifyingConsumer | Self::CreatingTicket, false) => Some(Self::RejectingOrder),
            (Self::AuthorizingCard, false) => Some(Self::CancellingTicket),
            (Self::CancellingTicket, true) => Some(Self::RejectingOrder),
            (Self::RejectingOrder, true) => Some(Self::Rejected),
            (
                Self::ConfirmingTicket
                | Self::ApprovingOrder
                | Self::CancellingTicket
                | Self::RejectingOrder,
                false,
            )
            | (Self::Approved | Self::Rejected, _) => None,
        }
    }

    /// How the saga ended; `None`: it goes on.
    pub(crate) fn outcome(self) -> Option<&'static str> {
        match self {
            Self::Approved => Some("completed"),
            Self::Rejected => Some("rejected"),
            Self::VerifyingConsumer
            | Self::CreatingTicket
            | Self::AuthorizingCard
            | Self::ConfirmingTicket
            | Self::ApprovingOrder
            | Self::CancellingTicket
            | Self::RejectingOrder => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::State;

    /// All states that a saga comes through in which the commands with these names are refused.
    fn path(refused: &[&str]) -> Vec<&'static str> {
        let mut state = State::FIRST;
        let mut names = vec![state.name()];
        while let Some(command) = state.command() {
            state = state.after(!refused.contains(&command.name)).unwrap();
            names.push(state.name());
        }
        names
    }

    #[test]
    fn every_step_is_taken_when_nobody_refuses() {
        let [one, two, three] = ["VERIFYING_CONSUMER", "CREATING_TICKET", "AUTHORIZING_CARD"];
        let rest = ["CONFIRMING_TICKET", "APPROVING_ORDER", "APPROVED"];
        assert_eq!(path(&[]), [&[one, two, three][..], &rest].concat());
    }

    #[test]
    fn what_was_done_is_undone_in_reverse_and_nothing_else_is() {
        let [one, two, three] = ["VERIFYING_CONSUMER", "CREATING_TICKET", "AUTHORIZING_CARD"];
        let [undo, end] = [&["CANCELLING_TICKET"][..], &["REJECTING_ORDER", "REJECTED"]];
        assert_eq!(path(&["ValidateOrderByConsumer"]), [&[one], end].concat());
        assert_eq!(path(&["CreateTicket"]), [&[one, two], end].concat());
        let late = [&[one, two, three], undo, end].concat();
        assert_eq!(path(&["AuthorizeCommand"]), late);
    }

    #[test]
    fn after_the_pivot_nothing_can_be_refused_and_after_the_end_nothing_follows() {
        for state in State::ALL {
            let before = ["VERIFYING_CONSUMER", "CREATING_TICKET", "AUTHORIZING_CARD"];
            assert_eq!(
                state.after(false).is_some(),
                before.contains(&state.name()),
                "{state:?}"
            );
            assert_eq!(state.outcome().is_some(), state.command().is_none());
            assert_eq!(state.after(true).is_none(), state.command().is_none());
            assert_eq!(State::named(state.name()), Some(state));
        }
    }
}
