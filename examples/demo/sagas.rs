//! The judge of sagas: how each is to end, the states that its home service committed, those that its client saw, and what of it is
//! wrong. Never reads a database, a socket or a clock; it is told.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use crate::{
    event::{SagaState, StateSeen},
    ledger,
};

/// All sagas, in the order in which they were first heard of.
#[derive(Default)]
pub(crate) struct Sagas {
    sagas: Vec<Saga>,
    /// By the order's id.
    places: HashMap<String, usize>,
    /// So many of them, from the first on, are settled.
    settled_up_to: usize,
    milliseconds: Vec<f64>,
}

#[derive(Default)]
struct Saga {
    /// How it is to end; `None`: nobody has said.
    expected: Option<&'static str>,
    committed: Vec<SagaState>,
    /// When the last of them was.
    since: Option<Instant>,
    seen: Vec<SagaState>,
    /// Why its client gave up.
    failed: Option<String>,
}

impl Sagas {
    /// Notes an order that is placed, and how its saga is to end, if that is known.
    pub(crate) fn place(&mut self, order: &str, expected: Option<&'static str>) {
        if let Some(saga) = self.saga(order) {
            saga.expected = expected;
        }
    }

    /// How many go on.
    pub(crate) fn unfinished(&self) -> usize {
        let unfinished = self.sagas.iter().filter(|saga| saga.end().is_none());
        unfinished.count()
    }

    /// Notes a state that was committed at this moment.
    pub(crate) fn commit(&mut self, state: SagaState, now: Instant) {
        if let Some(saga) = self.saga(&state.order) {
            saga.committed.push(state);
            saga.since = Some(now);
        }
    }

    /// Notes a state that the saga's client saw.
    pub(crate) fn see(&mut self, seen: StateSeen) {
        self.milliseconds.push(seen.milliseconds);
        if let Some(saga) = self.saga(&seen.state.order) {
            saga.seen.push(seen.state);
        }
    }

    /// Notes that a saga's client gave up.
    pub(crate) fn fail(&mut self, order: &str, why: String) {
        if let Some(saga) = self.saga(order) {
            saga.failed = Some(why);
        }
    }

    /// Since when the first client that has not seen its saga's state has been waiting; `None`: all have, or gave up.
    pub(crate) fn waiting_since(&mut self) -> Option<Instant> {
        let settled = self.sagas.iter().skip(self.settled_up_to);
        self.settled_up_to += settled.take_while(|saga| saga.is_settled()).count();
        let rest = self.sagas.iter().skip(self.settled_up_to);
        let waiting = rest.filter(|saga| saga.failed.is_none() && !saga.is_up_to_date());
        waiting.filter_map(|saga| saga.since).next()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.sagas.len()
    }

    /// How many ended before the eyes of their clients, by outcome.
    pub(crate) fn outcomes(&self) -> BTreeMap<&str, usize> {
        let mut outcomes = BTreeMap::new();
        let last = self.sagas.iter().filter_map(|saga| saga.seen.last());
        for outcome in last.filter_map(|state| state.outcome.as_deref()) {
            *outcomes.entry(outcome).or_default() += 1;
        }
        outcomes
    }

    /// So many percent of all states were seen within so many milliseconds of their insert; `None` without any.
    pub(crate) fn percentile(&self, percent: usize) -> Option<f64> {
        ledger::percentile(self.milliseconds.iter().copied(), percent)
    }

    /// What is wrong, a line each; nothing when every saga ended as it should, and its client saw that, and no state but those
    /// committed, in their order.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut sagas: Vec<_> = self.places.iter().collect();
        sagas.sort_by_key(|(_, place)| **place);
        let faults = sagas
            .into_iter()
            .filter_map(|(id, place)| self.sagas.get(*place)?.fault(id));
        faults.collect()
    }

    fn saga(&mut self, order: &str) -> Option<&mut Saga> {
        let next = self.sagas.len();
        let place = *self.places.entry(order.to_owned()).or_insert(next);
        if place == next {
            self.sagas.push(Saga::default());
        }
        self.sagas.get_mut(place)
    }
}

impl Saga {
    fn is_up_to_date(&self) -> bool {
        self.seen.last() == self.committed.last()
    }

    /// Nothing more is to be expected of it.
    fn is_settled(&self) -> bool {
        self.failed.is_some() || self.end().is_some() && self.is_up_to_date()
    }

    /// How it has ended.
    fn end(&self) -> Option<&str> {
        self.committed.last()?.outcome.as_deref()
    }

    fn fault(&self, id: &str) -> Option<String> {
        let mut committed = self.committed.iter();
        if let Some(stranger) = self.seen.iter().find(|it| !committed.any(|own| own == *it)) {
            let state = &stranger.state;
            return Some(format!(
                "{id}: its client saw {state}, which was not committed then"
            ));
        }
        let why = self.failed.as_ref();
        let why = why.map_or(String::new(), |why| format!(": {why}"));
        match self.committed.last() {
            Some(end) if !self.is_up_to_date() => {
                let end = end.outcome.as_ref().unwrap_or(&end.state);
                Some(format!("{id} {end}, unseen by its client{why}"))
            }
            Some(_) | None if self.failed.is_some() => {
                Some(format!("{id}: its client failed{why}"))
            }
            Some(_) | None => match (self.end(), self.expected) {
                (None, _) => Some(format!("{id} has not ended")),
                (Some(end), Some(expected)) if end != expected => {
                    Some(format!("{id} {end}, and should be {expected}"))
                }
                (Some(_), Some(_) | None) => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::Sagas;
    use crate::event::{SagaState, StateSeen};

    /// From `o-1 STATE outcome`.
    fn state(text: &str) -> SagaState {
        let mut words = text.split(' ').map(str::to_owned);
        SagaState {
            order: words.next().unwrap_or_default(),
            state: words.next().unwrap_or_default(),
            outcome: words.next(),
        }
    }

    fn sagas(committed: &[&str], seen: &[&str]) -> Sagas {
        let mut sagas = Sagas::default();
        for text in committed {
            sagas.commit(state(text), Instant::now());
        }
        for text in seen {
            sagas.see(StateSeen {
                state: state(text),
                previous: None,
                at: String::new(),
                milliseconds: 1.0,
            });
        }
        sagas
    }

    const ONE: [&str; 2] = ["o-1 PENDING", "o-1 APPROVED completed"];

    #[test]
    fn a_saga_whose_client_saw_its_end_is_right() {
        let mut right = sagas(&ONE, &["o-1 APPROVED completed"]);
        assert_eq!(right.faults(), [""; 0]);
        assert_eq!(right.waiting_since(), None);
        assert_eq!(
            right.outcomes().into_iter().collect::<Vec<_>>(),
            [("completed", 1)]
        );
    }

    #[test]
    fn an_end_that_did_not_come_is_told_and_waited_for() {
        let mut lost = sagas(&ONE, &["o-1 PENDING"]);
        assert_eq!(lost.faults(), ["o-1 completed, unseen by its client"]);
        assert!(lost.waiting_since().is_some());
        let mut behind = sagas(&["o-2 PENDING"], &[]);
        assert_eq!(behind.faults(), ["o-2 PENDING, unseen by its client"]);
        assert!(behind.waiting_since().is_some());
    }

    #[test]
    fn a_saga_that_ends_otherwise_or_not_at_all_is_told() {
        let mut wrong = sagas(&ONE, &ONE);
        assert_eq!(wrong.unfinished(), 0);
        wrong.place("o-1", Some("completed"));
        assert_eq!(wrong.faults(), [""; 0]);
        wrong.place("o-1", Some("rejected"));
        assert_eq!(wrong.faults(), ["o-1 completed, and should be rejected"]);
        let mut endless = sagas(&["o-1 PENDING"], &["o-1 PENDING"]);
        endless.place("o-2", None);
        assert_eq!(endless.faults(), ["o-1 has not ended", "o-2 has not ended"]);
        assert_eq!(endless.unfinished(), 2);
    }

    #[test]
    fn a_client_that_gave_up_is_told_and_not_waited_for() {
        let mut failed = sagas(&ONE, &["o-1 PENDING"]);
        failed.fail("o-1", "closed with 4009".into());
        failed.fail("o-2", "refused".into());
        let told = [
            "o-1 completed, unseen by its client: closed with 4009",
            "o-2: its client failed: refused",
        ];
        assert_eq!(failed.faults(), told);
        assert_eq!(failed.waiting_since(), None);
    }

    #[test]
    fn a_state_that_was_not_committed_is_told() {
        let told = |seen: &[&str]| sagas(&ONE, seen).faults();
        let ghost = told(&[
            "o-1 PENDING",
            "o-1 REJECTED rejected",
            "o-1 APPROVED completed",
        ]);
        assert_eq!(
            ghost,
            ["o-1: its client saw REJECTED, which was not committed then"]
        );
        let back = told(&["o-1 APPROVED completed", "o-1 PENDING"]);
        assert_eq!(
            back,
            ["o-1: its client saw PENDING, which was not committed then"]
        );
        let stranger = sagas(&[], &["o-9 PENDING"]).faults();
        assert_eq!(
            stranger,
            ["o-9: its client saw PENDING, which was not committed then"]
        );
    }
}
