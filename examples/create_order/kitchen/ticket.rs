//! A ticket's life, up to where a cook takes over. Never stores one.

/// Where a ticket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its saga goes on: no cook sees it yet, and it can still be cancelled.
    CreatePending,
    /// A cook may take it.
    AwaitingAcceptance,
    /// It will not be cooked. It may never have been there: then this is a tombstone, for an order that comes too late.
    Cancelled,
}

/// What creating a ticket comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Created {
    /// It is new.
    Ticket,
    /// The restaurant does not take it.
    Refused,
    /// It was cancelled before it came, and stays so.
    TooLate,
}

/// What cancelling a ticket comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cancelled {
    /// It was there.
    Ticket,
    /// It was not there yet: a tombstone has to see to it that it never will be.
    Tombstone,
    /// It had been cancelled.
    Before,
}

impl State {
    const ALL: [Self; 3] = [
        Self::CreatePending,
        Self::AwaitingAcceptance,
        Self::Cancelled,
    ];

    /// Its name, as in the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::CreatePending => "CREATE_PENDING",
            Self::AwaitingAcceptance => "AWAITING_ACCEPTANCE",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// The state with this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Creates a ticket where there is this one, or none.
    pub(super) fn create(there: Option<Self>, is_open: bool) -> Created {
        match there {
            Some(_) => Created::TooLate,
            None if is_open => Created::Ticket,
            None => Created::Refused,
        }
    }

    /// Cancels the ticket that is there, if any; `None`: it is confirmed, and nobody may.
    pub(super) fn cancel(there: Option<Self>) -> Option<Cancelled> {
        match there {
            Some(Self::CreatePending) => Some(Cancelled::Ticket),
            Some(Self::Cancelled) => Some(Cancelled::Before),
            None => Some(Cancelled::Tombstone),
            Some(Self::AwaitingAcceptance) => None,
        }
    }

    /// Whether a cook may have it now; `false`: it was confirmed before. `None`: it cannot be confirmed.
    pub(super) fn confirm(there: Option<Self>) -> Option<bool> {
        match there {
            Some(Self::CreatePending) => Some(true),
            Some(Self::AwaitingAcceptance) => Some(false),
            Some(Self::Cancelled) | None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cancelled, Created, State};

    #[test]
    fn a_ticket_that_was_cancelled_before_it_came_never_comes() {
        assert_eq!(State::cancel(None), Some(Cancelled::Tombstone));
        assert_eq!(
            State::create(Some(State::Cancelled), true),
            Created::TooLate
        );
        assert_eq!(State::confirm(Some(State::Cancelled)), None);
    }

    #[test]
    fn a_ticket_is_cancelled_once_and_only_before_it_is_confirmed() {
        let cancel = |state| State::cancel(Some(state));
        assert_eq!(cancel(State::CreatePending), Some(Cancelled::Ticket));
        assert_eq!(cancel(State::Cancelled), Some(Cancelled::Before));
        assert_eq!(cancel(State::AwaitingAcceptance), None);
    }

    #[test]
    fn a_closed_restaurant_takes_nothing() {
        assert_eq!(State::create(None, false), Created::Refused);
        assert_eq!(State::create(None, true), Created::Ticket);
    }

    #[test]
    fn a_state_is_known_by_its_name() {
        for state in State::ALL {
            assert_eq!(State::named(state.name()), Some(state));
        }
    }
}
