//! How many sagas stand where, and how far each source is published, for those who look at all of them. Never counts ahead:
//! whoever asks waits for a walk through all sagas.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::{Partition, Sink};
use crate::logic::event::Timestamp;
use crate::logic::rights::Rights;
use crate::logic::saga::Outcome;

/// Types that are told; a log with more has somebody who makes them up.
const TYPES: usize = 1_000;
/// States of a type that are told, those with the most sagas.
const STATES: usize = 200;

/// The sagas of one or more partitions, counted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Overview {
    types: BTreeMap<Arc<str>, BTreeMap<Option<Box<str>>, Count>>,
    /// Until when everything is in the log that a source committed.
    sources: BTreeMap<Box<str>, Timestamp>,
}

/// How many are in a state.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Count {
    sagas: u64,
    stuck: u64,
    outcomes: BTreeMap<Outcome, u64>,
}

#[derive(Serialize)]
struct Told<'a> {
    now: String,
    types: Vec<TypeTold<'a>>,
    sources: Vec<SourceTold<'a>>,
}

#[derive(Serialize)]
struct TypeTold<'a> {
    saga_type: &'a str,
    states: Vec<StateTold<'a>>,
    /// Sagas in further states.
    more: u64,
}

#[derive(Serialize)]
struct StateTold<'a> {
    state: Option<&'a str>,
    sagas: u64,
    stuck: u64,
    outcomes: BTreeMap<&'a str, u64>,
}

#[derive(Serialize)]
struct SourceTold<'a> {
    source: &'a str,
    published_until: String,
}

impl<S: Sink> Partition<S> {
    /// Counts its sagas.
    pub fn overview(&self) -> Overview {
        let mut overview = Overview::default();
        for (saga_type, sagas) in &self.sagas {
            let states = overview.types.entry(Arc::clone(saga_type)).or_default();
            for kept in sagas.values() {
                let state = &kept.saga.state;
                // Not every saga is worth another copy of its state's name.
                if !states.contains_key(state) {
                    states.insert(state.clone(), Count::default());
                }
                let Some(count) = states.get_mut(state) else {
                    continue;
                };
                count.sagas += 1;
                count.stuck += u64::from(kept.saga.stuck_since.is_some());
                if let Some(outcome) = kept.saga.outcome {
                    *count.outcomes.entry(outcome).or_default() += 1;
                }
            }
        }
        let sources = self.overdue.sources();
        overview.sources = sources.map(|(name, until)| (name.into(), until)).collect();
        overview
    }
}

impl Overview {
    /// Adds what another partition has. A source is published as far as the last of them has heard.
    pub fn add(&mut self, other: Self) {
        for (saga_type, states) in other.types {
            let of_type = self.types.entry(saga_type).or_default();
            for (state, more) in states {
                let count = of_type.entry(state).or_default();
                count.sagas += more.sagas;
                count.stuck += more.stuck;
                for (outcome, number) in more.outcomes {
                    *count.outcomes.entry(outcome).or_default() += number;
                }
            }
        }
        for (source, until) in other.sources {
            let known = self.sources.entry(source).or_insert(until);
            *known = (*known).min(until);
        }
    }

    /// What somebody with these rights is told, as JSON: of the types that they may watch whole.
    pub fn text(&self, rights: &Rights, now: Timestamp) -> String {
        let time = |at: Timestamp| at.to_rfc3339().unwrap_or_default();
        let allowed = self
            .types
            .iter()
            .filter(|(saga_type, _)| rights.may_watch_type(saga_type));
        let sources = self.sources.iter().map(|(source, until)| SourceTold {
            source,
            published_until: time(*until),
        });
        let told = Told {
            now: time(now),
            types: allowed
                .take(TYPES)
                .map(|(saga_type, states)| type_told(saga_type, states))
                .collect(),
            sources: sources.collect(),
        };
        // Strings and numbers only: this cannot fail.
        serde_json::to_string(&told).unwrap_or_default()
    }
}

fn type_told<'a>(
    saga_type: &'a str,
    states: &'a BTreeMap<Option<Box<str>>, Count>,
) -> TypeTold<'a> {
    let mut largest: Vec<_> = states.iter().collect();
    largest.sort_by_key(|(_, count)| std::cmp::Reverse(count.sagas));
    let rest = largest.split_off(largest.len().min(STATES));
    let state = |(state, count): (&'a Option<Box<str>>, &'a Count)| StateTold {
        state: state.as_deref(),
        sagas: count.sagas,
        stuck: count.stuck,
        outcomes: count
            .outcomes
            .iter()
            .map(|(outcome, number)| (outcome.as_str(), *number))
            .collect(),
    };
    TypeTold {
        saga_type,
        states: largest.into_iter().map(state).collect(),
        more: rest.iter().map(|(_, count)| count.sagas).sum(),
    }
}
