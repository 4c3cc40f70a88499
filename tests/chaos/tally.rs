//! Counts the faults that had an effect, and those that had none. Never inflicts one.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::schedule::Kind;
use crate::tail::{Hit, Tail};

/// What became of the faults of one kind.
#[derive(Default)]
pub(crate) struct Count {
    pub(crate) effective: usize,
    pub(crate) without_effect: usize,
    pub(crate) hits: Vec<Hit>,
}

/// How long a source took to publish again.
pub(crate) struct Recovery {
    pub(crate) took: Duration,
    /// Whether no other fault fell upon this source between the fault and its recovery.
    pub(crate) alone: bool,
}

/// What all threads did so far.
#[derive(Default)]
pub(crate) struct Tally {
    counts: Mutex<BTreeMap<Kind, Count>>,
    surprises: Mutex<Vec<String>>,
}

impl Tally {
    /// Notes a fault: which sources it hit, or `None` if nothing came of it.
    pub(crate) fn note(&self, kind: Kind, hits: Option<Vec<Hit>>) {
        let mut counts = self.counts();
        let count = counts.entry(kind).or_default();
        match hits {
            Some(hits) => {
                count.effective += 1;
                count.hits.extend(hits);
            }
            None => count.without_effect += 1,
        }
    }

    /// Notes what no fault explains, such as a daemon that ended by itself.
    pub(crate) fn surprise(&self, what: String) {
        self.surprises
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(what);
    }

    pub(crate) fn surprises(&self) -> Vec<String> {
        self.surprises
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Reads the counts of a kind.
    pub(crate) fn of<T>(&self, kind: Kind, read: impl FnOnce(&Count) -> T) -> T {
        read(self.counts().entry(kind).or_default())
    }

    /// The recoveries of all hits by kind, shortest first.
    pub(crate) fn recoveries(&self, tail: &Tail) -> BTreeMap<Kind, Vec<Recovery>> {
        let counts = self.counts();
        let hits = counts
            .iter()
            .flat_map(|(kind, count)| count.hits.iter().map(|hit| (*kind, hit)));
        let spans: Vec<(Kind, &Hit, Duration)> = hits
            .filter_map(|(kind, hit)| Some((kind, hit, tail.recovery(hit)?)))
            .collect();
        let mut recoveries: BTreeMap<Kind, Vec<Recovery>> = BTreeMap::new();
        for (at, (kind, hit, took)) in spans.iter().enumerate() {
            let others = spans.iter().enumerate().filter(|(other, _)| *other != at);
            let meets = |other: &Hit, its: Duration| {
                other.source == hit.source
                    && other.began <= hit.since + *took
                    && hit.began <= other.since + its
            };
            let alone = others
                .map(|(_, span)| span)
                .all(|(_, other, its)| !meets(other, *its));
            let recovery = Recovery { took: *took, alone };
            recoveries.entry(*kind).or_default().push(recovery);
        }
        for recoveries in recoveries.values_mut() {
            recoveries.sort_unstable_by_key(|recovery| recovery.took);
        }
        recoveries
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<Kind, Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The value that `percent` of the sorted values do not exceed.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}
