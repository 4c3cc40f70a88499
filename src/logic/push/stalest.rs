//! Sagas by the time of the last report on them, stalest first. Never looks at a clock: time is the log's.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::logic::saga::SagaKey;

/// A saga's place: log time of the last report on it in ms, and the report's offset, which no other saga shares.
pub type Place = (i64, i64);

/// The sagas of one partition in the order in which services reported on them.
#[derive(Debug, Default)]
pub struct Stalest {
    unfinished: BTreeMap<Place, SagaKey>,
    finished: BTreeMap<Place, SagaKey>,
}

impl Stalest {
    /// Notes a saga that is at `place` now and was at another one before, if it is not new.
    pub fn moved(&mut self, key: &SagaKey, from: Option<Place>, to: Place, finished: bool) {
        let known = from.and_then(|from| {
            let unfinished = self.unfinished.remove(&from);
            unfinished.or_else(|| self.finished.remove(&from))
        });
        let key = known.unwrap_or_else(|| key.clone());
        let places = if finished {
            &mut self.finished
        } else {
            &mut self.unfinished
        };
        places.insert(to, key);
    }

    /// Takes out one saga that was last reported on before its time, if there is one.
    pub fn expired(
        &mut self,
        unfinished_before_ms: i64,
        finished_before_ms: i64,
    ) -> Option<SagaKey> {
        let due = |places: &mut BTreeMap<Place, SagaKey>, before_ms| {
            let first = places.first_entry()?;
            (first.key().0 < before_ms).then(|| first.remove())
        };
        due(&mut self.unfinished, unfinished_before_ms)
            .or_else(|| due(&mut self.finished, finished_before_ms))
    }

    /// Those after `place`, stalest first; with `finished` only those that are, or are not.
    pub fn after(
        &self,
        place: Place,
        finished: Option<bool>,
    ) -> impl Iterator<Item = (&Place, &SagaKey)> {
        let from = (Bound::Excluded(place), Bound::Unbounded);
        let left = (finished != Some(true)).then(|| self.unfinished.range(from));
        let right = (finished != Some(false)).then(|| self.finished.range(from));
        let (left, right) = (left.into_iter().flatten(), right.into_iter().flatten());
        merged(left, right, |a, b| a < b)
    }

    /// Those before `place`, the freshest first.
    pub fn before(
        &self,
        place: Place,
        finished: Option<bool>,
    ) -> impl Iterator<Item = (&Place, &SagaKey)> {
        let to = (Bound::Unbounded, Bound::Excluded(place));
        let left = (finished != Some(true)).then(|| self.unfinished.range(to).rev());
        let right = (finished != Some(false)).then(|| self.finished.range(to).rev());
        let (left, right) = (left.into_iter().flatten(), right.into_iter().flatten());
        merged(left, right, |a, b| a > b)
    }
}

/// Two orders as one, in which `is_first` says what comes first.
fn merged<'a>(
    left: impl Iterator<Item = (&'a Place, &'a SagaKey)>,
    right: impl Iterator<Item = (&'a Place, &'a SagaKey)>,
    is_first: impl Fn(&Place, &Place) -> bool,
) -> impl Iterator<Item = (&'a Place, &'a SagaKey)> {
    let (mut left, mut right) = (left.peekable(), right.peekable());
    std::iter::from_fn(move || match (left.peek(), right.peek()) {
        (Some(a), Some(b)) if is_first(b.0, a.0) => right.next(),
        (None, _) => right.next(),
        (Some(_), _) => left.next(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> SagaKey {
        SagaKey::new("t", id)
    }

    fn ids(stalest: &Stalest, after: Place) -> String {
        let after = stalest.after(after, None);
        after.map(|(_, key)| &*key.saga_id).collect()
    }

    #[test]
    fn a_saga_that_changes_is_the_freshest() {
        let mut stalest = Stalest::default();
        stalest.moved(&key("a"), None, (1, 1), false);
        stalest.moved(&key("b"), None, (1, 2), true);
        stalest.moved(&key("c"), None, (2, 3), false);
        assert_eq!(ids(&stalest, (0, 0)), "abc");
        stalest.moved(&key("a"), Some((1, 1)), (3, 4), true);
        assert_eq!(ids(&stalest, (0, 0)), "bca");
        assert_eq!(ids(&stalest, (1, 2)), "ca");
    }

    #[test]
    fn the_freshest_may_come_first_and_one_kind_alone() {
        let mut stalest = Stalest::default();
        for (place, id) in (1..).zip(["a", "b", "c", "d"]) {
            stalest.moved(&key(id), None, (place, 0), place % 2 == 0);
        }
        let before = |place, finished| -> String {
            let before = stalest.before((place, 0), finished);
            before.map(|(_, key)| &*key.saga_id).collect()
        };
        assert_eq!(before(9, None), "dcba");
        assert_eq!(before(4, None), "cba");
        assert_eq!(before(9, Some(true)), "db");
        assert_eq!(before(9, Some(false)), "ca");
        let after = stalest.after((0, 0), Some(false));
        assert_eq!(
            after.map(|(_, key)| &*key.saga_id).collect::<String>(),
            "ac"
        );
    }

    #[test]
    fn each_kind_expires_at_its_own_time() {
        let mut stalest = Stalest::default();
        stalest.moved(&key("old"), None, (1, 1), false);
        stalest.moved(&key("done"), None, (5, 2), true);
        stalest.moved(&key("new"), None, (6, 3), false);
        assert_eq!(stalest.expired(1, 5), None, "not before its time");
        assert_eq!(stalest.expired(2, 5), Some(key("old")));
        assert_eq!(stalest.expired(2, 6), Some(key("done")));
        assert_eq!(ids(&stalest, (0, 0)), "new");
    }
}
