//! An order's states, and which may follow which. Never stores one.

use std::fmt::{self, Display};

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Its saga goes on. This is a semantic lock: until it is gone, nobody else changes the order.
    ApprovalPending,
    /// Decided: it will be cooked.
    Approved,
    /// Decided: it will not.
    Rejected,
}

/// Why an order cannot be changed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Locked(State);

impl State {
    const ALL: [Self; 3] = [Self::ApprovalPending, Self::Approved, Self::Rejected];

    /// Its name, as in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ApprovalPending => "APPROVAL_PENDING",
            Self::Approved => "APPROVED",
            Self::Rejected => "REJECTED",
        }
    }

    /// The state with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Decides the order; `None`: it is decided already, and stays so.
    pub(crate) fn decide(self, decision: Self) -> Option<Self> {
        (self == Self::ApprovalPending).then_some(decision)
    }

    /// Whether a customer may change it: not while it is locked, and not what will never be cooked.
    pub(crate) fn may_change(self) -> Result<(), Locked> {
        match self {
            Self::Approved => Ok(()),
            Self::ApprovalPending | Self::Rejected => Err(Locked(self)),
        }
    }
}

impl Display for Locked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an order cannot be changed while it is {}",
            self.0.name()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::State::{self, ApprovalPending, Approved, Rejected};

    #[test]
    fn an_order_is_decided_once() {
        assert_eq!(ApprovalPending.decide(Approved), Some(Approved));
        assert_eq!(ApprovalPending.decide(Rejected), Some(Rejected));
        for decided in [Approved, Rejected] {
            assert_eq!(decided.decide(Approved), None);
            assert_eq!(decided.decide(Rejected), None);
        }
    }

    #[test]
    fn an_order_is_locked_until_its_saga_ends() {
        let refusal = ApprovalPending.may_change().unwrap_err().to_string();
        assert!(refusal.contains("APPROVAL_PENDING"), "{refusal}");
        assert!(Approved.may_change().is_ok());
    }

    #[test]
    fn a_state_is_known_by_its_name() {
        for state in State::ALL {
            assert_eq!(State::named(state.name()), Some(state));
        }
    }
}
