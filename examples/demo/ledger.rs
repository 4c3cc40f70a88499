//! The judge: what was committed, what the consumer saw, and what of it is wrong. Never reads a database, a topic or a clock; it
//! is told.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use crate::event::{Event, Sight};

/// Everything that happened to events, in the order in which it did.
#[derive(Default)]
pub(crate) struct Ledger {
    committed: Vec<(Event, Instant)>,
    seen: Vec<Sight>,
    /// The ids of those seen.
    sights: HashSet<String>,
    /// So many of those committed, from the first on, are seen.
    seen_up_to: usize,
}

impl Ledger {
    /// Notes events that are committed, by this moment at the latest.
    pub(crate) fn commit(&mut self, events: impl IntoIterator<Item = Event>, now: Instant) {
        self.committed
            .extend(events.into_iter().map(|event| (event, now)));
    }

    /// Notes what the consumer saw.
    pub(crate) fn see(&mut self, sight: Sight) {
        self.sights.insert(sight.event.id.clone());
        self.seen.push(sight);
    }

    /// Since when the first committed event that nobody has seen has been waiting; `None`: all are seen.
    pub(crate) fn waiting_since(&mut self) -> Option<Instant> {
        while let Some((event, since)) = self.committed.get(self.seen_up_to) {
            if !self.sights.contains(&event.id) {
                return Some(*since);
            }
            self.seen_up_to += 1;
        }
        None
    }

    /// How many events were committed.
    pub(crate) fn committed(&self) -> usize {
        self.committed.len()
    }

    /// How many the consumer saw.
    pub(crate) fn seen(&self) -> usize {
        self.seen.len()
    }

    /// So many percent of all events were seen within so many milliseconds of their insert; `None` without events.
    pub(crate) fn percentile(&self, percent: usize) -> Option<f64> {
        percentile(self.seen.iter().map(|sight| sight.milliseconds), percent)
    }

    /// What is wrong, a line each; nothing when the consumer saw every committed event exactly once, no other, and those of one
    /// key in the order of their commits.
    ///
    /// Two rows with the same id are two events: both are to be seen.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = self.miscounted();
        faults.extend(self.altered());
        faults.extend(self.reordered());
        faults
    }

    /// Lost, doubled, and seen without a commit.
    fn miscounted(&self) -> Vec<String> {
        let mut balance: Vec<(&Event, usize, usize)> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        let committed = self.committed.iter().map(|(event, _)| (event, 1, 0));
        let seen = self.seen.iter().map(|sight| (&sight.event, 0, 1));
        for (event, commits, sights) in committed.chain(seen) {
            let place = *places.entry(&event.id).or_insert(balance.len());
            match balance.get_mut(place) {
                Some(entry) => *entry = (entry.0, entry.1 + commits, entry.2 + sights),
                None => balance.push((event, commits, sights)),
            }
        }
        let wrong = balance.into_iter().filter_map(|(event, commits, sights)| {
            let what = match (commits, sights) {
                (commits, sights) if commits == sights => return None,
                (0, _) => "seen, but never committed".to_owned(),
                (_, 0) => "lost".to_owned(),
                (commits, sights) => format!("committed {commits} times, seen {sights} times"),
            };
            Some(format!("{what}: {}", described(event)))
        });
        wrong.collect()
    }

    /// Seen with another source, topic, key or type than it was committed with.
    fn altered(&self) -> Vec<String> {
        let mut committed: HashMap<&str, Vec<&Event>> = HashMap::new();
        for (event, _) in &self.committed {
            committed.entry(&event.id).or_default().push(event);
        }
        let altered = self.seen.iter().filter(|sight| {
            let originals = committed.get(sight.event.id.as_str());
            originals.is_some_and(|originals| !originals.contains(&&sight.event))
        });
        altered
            .map(|sight| format!("altered on its way: {}", described(&sight.event)))
            .collect()
    }

    /// Keys whose events were first seen in another order than they were committed in.
    fn reordered(&self) -> Vec<String> {
        let committed = by_key(self.committed.iter().map(|(event, _)| event));
        let seen = by_key(self.seen.iter().map(|sight| &sight.event));
        let mut keys: Vec<_> = seen.iter().collect();
        keys.sort();
        let reordered = keys.into_iter().filter(|(key, seen)| {
            // Those that are missing on one side are a fault of another kind.
            let committed: Vec<_> = committed.get(*key).into_iter().flatten().collect();
            let here: HashSet<_> = committed.iter().copied().collect();
            let there: HashSet<_> = seen.iter().collect();
            let committed = committed.iter().copied().filter(|id| there.contains(id));
            !committed.eq(seen.iter().filter(|id| here.contains(id)))
        });
        reordered
            .map(|((source, topic, key), _)| {
                format!("not in order: key {key} from {source} in {topic}")
            })
            .collect()
    }
}

/// So many percent of all values are at most this; `None` without values.
pub(crate) fn percentile(values: impl Iterator<Item = f64>, percent: usize) -> Option<f64> {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    let rank = (all.len() * percent).div_ceil(100);
    all.get(rank.checked_sub(1)?).copied()
}

/// The ids of the events of each key in their order, each id once. Order is promised per source, topic and key.
fn by_key<'a>(
    events: impl Iterator<Item = &'a Event>,
) -> HashMap<(&'a str, &'a str, &'a str), Vec<&'a str>> {
    let mut keys: HashMap<_, Vec<_>> = HashMap::new();
    let mut met = HashSet::new();
    for event in events.filter(|event| met.insert(event.id.as_str())) {
        if let Some(key) = &event.key {
            let key = (event.source.as_str(), event.topic.as_str(), key.as_str());
            keys.entry(key).or_default().push(event.id.as_str());
        }
    }
    keys
}

fn described(event: &Event) -> String {
    let Event {
        id,
        source,
        topic,
        key,
        event_type,
    } = event;
    let key = key.as_deref().unwrap_or("no key");
    format!("{event_type} of {key} from {source} in {topic} ({id})")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::Ledger;
    use crate::event::{Event, Sight};

    fn event(id: &str) -> Event {
        let key = id.get(..1).map(str::to_owned);
        Event {
            id: id.to_owned(),
            source: "shop".into(),
            topic: "orders".into(),
            key,
            event_type: "OrderCreated".into(),
        }
    }

    fn sight(event: Event) -> Sight {
        Sight {
            event,
            at: String::new(),
            milliseconds: 1.0,
        }
    }

    /// Ids begin with their key.
    fn ledger(committed: &[&str], seen: &[&str]) -> Ledger {
        let mut ledger = Ledger::default();
        for id in committed {
            ledger.commit([event(id)], Instant::now());
        }
        for id in seen {
            ledger.see(sight(event(id)));
        }
        ledger
    }

    fn kinds(ledger: &Ledger) -> Vec<String> {
        let kind = |fault: String| fault.split(':').next().unwrap_or_default().to_owned();
        ledger.faults().into_iter().map(kind).collect()
    }

    #[test]
    fn every_committed_event_once_and_in_order_per_key_is_right() {
        let mut right = ledger(&["a1", "b1", "a2", "b2"], &["b1", "a1", "b2", "a2"]);
        assert_eq!(kinds(&right), [""; 0]);
        assert_eq!(right.waiting_since(), None);
        assert_eq!(kinds(&Ledger::default()), [""; 0]);
    }

    #[test]
    fn a_lost_event_is_told_and_waited_for() {
        let mut lost = ledger(&["a1", "a2", "a3"], &["a1", "a3"]);
        assert_eq!(kinds(&lost), ["lost"]);
        assert!(lost.waiting_since().is_some());
    }

    #[test]
    fn a_doubled_event_is_told() {
        let doubled = ledger(&["a1", "a2"], &["a1", "a2", "a1"]);
        assert_eq!(kinds(&doubled), ["committed 1 times, seen 2 times"]);
    }

    #[test]
    fn a_stranger_is_told() {
        let ghost = ledger(&["a1"], &["a1", "c1"]);
        assert_eq!(kinds(&ghost), ["seen, but never committed"]);
    }

    #[test]
    fn a_key_out_of_order_is_told_even_when_something_else_is_wrong() {
        let reordered = ledger(&["a1", "a2", "b1"], &["a2", "b1", "a1"]);
        assert_eq!(kinds(&reordered), ["not in order"]);
        let worse = ledger(&["a1", "a2", "a3"], &["a3", "c1", "a1"]);
        assert_eq!(
            kinds(&worse),
            ["lost", "seen, but never committed", "not in order"]
        );
    }

    #[test]
    fn an_altered_event_is_told() {
        let mut altered = ledger(&["a1"], &[]);
        altered.see(sight(Event {
            event_type: "OrderLost".into(),
            ..event("a1")
        }));
        assert_eq!(kinds(&altered), ["altered on its way"]);
    }

    #[test]
    fn one_id_in_two_rows_is_two_events() {
        assert_eq!(kinds(&ledger(&["a1", "a1"], &["a1", "a1"])), [""; 0]);
        let once = ledger(&["a1", "a1"], &["a1"]);
        assert_eq!(kinds(&once), ["committed 2 times, seen 1 times"]);
    }

    #[test]
    fn percentiles_are_those_of_what_was_seen() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.percentile(50), None);
        for milliseconds in (1..=200).rev() {
            ledger.see(Sight {
                milliseconds: f64::from(milliseconds),
                ..sight(event("a1"))
            });
        }
        assert_eq!(
            [50, 99, 100].map(|it| ledger.percentile(it)),
            [100.0, 198.0, 200.0].map(Some)
        );
    }
}
