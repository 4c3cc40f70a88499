//! What accounting knows of an order: it may ask for the money when three things are known, which come in any order. Never
//! stores it.

/// Where the authorization of an order's card stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Something is not known yet.
    Waiting,
    /// The card company is to be asked.
    Requested,
    /// It said yes.
    Authorized,
    /// It said no.
    Declined,
    /// Another service has refused the order: nobody will be asked, whatever else may be heard.
    Closed,
}

/// What accounting can hear of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// Whose order it is, and what it costs.
    Order { consumer_id: String, total: i64 },
    /// The consumer may place it.
    ConsumerVerified,
    /// The kitchen can cook it.
    TicketCreated,
    /// Somebody refused it.
    Refused,
}

/// What is known of one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authorization {
    pub(super) order: Option<(String, i64)>,
    pub(super) consumer_ok: bool,
    pub(super) ticket_ok: bool,
    pub(super) state: State,
}

impl State {
    const ALL: [Self; 5] = [
        Self::Waiting,
        Self::Requested,
        Self::Authorized,
        Self::Declined,
        Self::Closed,
    ];

    /// Its name, as in the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Waiting => "WAITING",
            Self::Requested => "REQUESTED",
            Self::Authorized => "AUTHORIZED",
            Self::Declined => "DECLINED",
            Self::Closed => "CLOSED",
        }
    }

    /// The state with this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl Authorization {
    /// Learns a fact; gives whether it was the last that was missing.
    pub(super) fn learn(&mut self, fact: Fact) -> bool {
        match fact {
            Fact::Order { consumer_id, total } => self.order = Some((consumer_id, total)),
            Fact::ConsumerVerified => self.consumer_ok = true,
            Fact::TicketCreated => self.ticket_ok = true,
            Fact::Refused if self.state == State::Waiting => self.state = State::Closed,
            Fact::Refused => {}
        }
        let complete = self.order.is_some() && self.consumer_ok && self.ticket_ok;
        let now = complete && self.state == State::Waiting;
        if now {
            self.state = State::Requested;
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use super::{Authorization, Fact, State};

    const NOTHING: Authorization = Authorization {
        order: None,
        consumer_ok: false,
        ticket_ok: false,
        state: State::Waiting,
    };

    fn facts() -> [Fact; 3] {
        let (consumer_id, total) = ("c-1".to_owned(), 1250);
        let order = Fact::Order { consumer_id, total };
        [order, Fact::ConsumerVerified, Fact::TicketCreated]
    }

    #[test]
    fn the_card_is_asked_for_once_whatever_comes_first_and_however_often() {
        for order in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            let mut known = NOTHING;
            let learned = order.map(|fact| known.learn(facts()[fact].clone()));
            assert_eq!(learned, [false, false, true], "{order:?}");
            assert_eq!(known.state, State::Requested);
            for fact in facts() {
                assert!(!known.learn(fact));
            }
        }
    }

    #[test]
    fn nobody_is_asked_for_an_order_that_was_refused_not_even_before_it_came() {
        let mut known = NOTHING;
        known.learn(Fact::Refused);
        for fact in facts() {
            assert!(!known.learn(fact));
        }
        assert_eq!(known.state, State::Closed);
    }

    #[test]
    fn a_state_is_known_by_its_name() {
        for state in State::ALL {
            assert_eq!(State::named(state.name()), Some(state));
        }
    }
}
