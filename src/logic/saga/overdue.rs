//! Which sagas have been in a state for longer than its limit, by what one partition of the log says. Never looks at a
//! clock, so that every reader of the log comes to the same.
//!
//! A saga is late only if nothing that would move it can be on its way: every source that has a part in its type must be
//! published beyond the deadline. And while a relay or Kafka was away nobody could act, so that time counts for no limit.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::definition::Definition;
use super::fold::SagaKey;
use crate::logic::event::Timestamp;

/// A source of which nothing was heard for so long no longer holds up the others.
const SILENCE_MS: i64 = 3_600_000;
/// Relays tell every 10 s how far they are published. Who leaps further than this was away.
const OUTAGE_US: i64 = 60_000_000;
/// Sources that are looked at; a topic with more has somebody who makes them up.
const SOURCES: usize = 1_000;

/// The deadlines of one partition.
#[derive(Debug, Default)]
pub struct Overdue {
    heard: Heard,
    deadlines: HashMap<Arc<str>, BTreeMap<Deadline, SagaKey>>,
}

/// What a partition's log has said of sources so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    sources: BTreeMap<Box<str>, Source>,
    types: BTreeMap<Box<str>, OfType>,
}

/// How far a source is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Source {
    /// None until it has said so.
    until: Option<Timestamp>,
    /// Log time of the record that said so, or of the first one from it at all.
    heard_ms: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct OfType {
    /// Who has a part in it, and the log time of the latest report; those that a definition names always have.
    sources: BTreeMap<Box<str>, i64>,
    /// Until when all of them were published.
    until: Option<Timestamp>,
    /// How long somebody was away.
    outages_us: i64,
}

/// When the time of a saga is over, on a clock that stands still during outages; and a number that no other saga has.
pub type Deadline = (i64, u64);

/// A saga that is late now and was not before.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Late {
    /// Which.
    pub key: SagaKey,
    /// When its time was over.
    pub since: Timestamp,
    /// What is not kept any more.
    pub deadline: Deadline,
}

impl Overdue {
    /// One that goes on from what was heard before.
    pub fn after(heard: Heard) -> Self {
        Self {
            heard,
            deadlines: HashMap::new(),
        }
    }

    /// What was heard so far.
    pub fn heard(&self) -> &Heard {
        &self.heard
    }

    /// How far each source has said that it is published.
    pub fn sources(&self) -> impl Iterator<Item = (&str, Timestamp)> {
        let known = self.heard.sources.iter();
        known.filter_map(|(name, source)| Some((&**name, source.until?)))
    }

    /// A source has reported on a saga; without a definition it has no limits, and nobody is waited for.
    pub fn reported(
        &mut self,
        saga_type: &str,
        definition: Option<&Arc<Definition>>,
        source: &str,
        log_ms: i64,
    ) {
        let Some(definition) = definition else {
            return;
        };
        let types = &mut self.heard.types;
        if !types.contains_key(saga_type) {
            types.insert(saga_type.into(), OfType::default());
        }
        let Some(of_type) = types.get_mut(saga_type) else {
            return;
        };
        for step in &definition.steps {
            if !of_type.sources.contains_key(&*step.service) {
                of_type.sources.insert(step.service.clone(), i64::MAX);
            }
        }
        if let Some(latest) = of_type.sources.get_mut(source) {
            *latest = log_ms.max(*latest);
        } else if of_type.sources.len() < SOURCES {
            of_type.sources.insert(source.into(), log_ms);
        }
        if !self.heard.sources.contains_key(source) {
            self.heard.hear(source, None, log_ms);
        }
    }

    /// A saga has entered a state with this limit at that log time. Gives its deadline, to be handed back when it leaves.
    pub fn enter(
        &mut self,
        key: &SagaKey,
        number: u64,
        limit: Duration,
        log_ms: i64,
    ) -> Option<Deadline> {
        let of_type = self.heard.types.get(&*key.saga_type)?;
        let limit_us = i64::try_from(limit.as_micros()).ok()?;
        let due_us = log_ms.checked_mul(1_000)?.checked_add(limit_us)?;
        let deadline = (due_us - of_type.outages_us, number);
        self.resume(key, deadline);
        Some(deadline)
    }

    /// A deadline that was kept before counts again.
    pub fn resume(&mut self, key: &SagaKey, deadline: Deadline) {
        let saga_type = Arc::clone(&key.saga_type);
        let of_type = self.deadlines.entry(saga_type).or_default();
        of_type.insert(deadline, key.clone());
    }

    /// A saga has moved on, ended, or was forgotten.
    pub fn leave(&mut self, saga_type: &str, deadline: Deadline) {
        if let Some(of_type) = self.deadlines.get_mut(saga_type) {
            of_type.remove(&deadline);
        }
    }

    /// A source is published until then: who is late now? Their deadlines are gone.
    ///
    /// `memory_ms`: whoever has not reported on a type for so long has no part in it any more.
    pub fn published_until(
        &mut self,
        source: &str,
        until: Timestamp,
        log_ms: i64,
        memory_ms: i64,
    ) -> Vec<Late> {
        self.heard.hear(source, Some(until), log_ms);
        let Heard { sources, types } = &mut self.heard;
        let mut late = Vec::new();
        for (saga_type, of_type) in types {
            let Some(until) = of_type.published_until(sources, log_ms, memory_ms) else {
                continue;
            };
            of_type.advance(until);
            let Some(deadlines) = self.deadlines.get_mut(&**saga_type) else {
                continue;
            };
            let now_us = until.0.saturating_sub(of_type.outages_us);
            let still = deadlines.split_off(&(now_us, 0));
            let over = std::mem::replace(deadlines, still).into_iter();
            late.extend(over.map(|(deadline, key)| Late {
                key,
                since: Timestamp(deadline.0 + of_type.outages_us),
                deadline,
            }));
        }
        late.sort();
        late
    }
}

impl Heard {
    fn hear(&mut self, source: &str, until: Option<Timestamp>, heard_ms: i64) {
        let heard = Source { until, heard_ms };
        if let Some(known) = self.sources.get_mut(source) {
            *known = heard;
        } else if self.sources.len() < SOURCES {
            self.sources.insert(source.into(), heard);
        }
    }
}

impl OfType {
    /// Until when everybody who has a part in it is published; none if somebody has not said so.
    fn published_until(
        &self,
        sources: &BTreeMap<Box<str>, Source>,
        log_ms: i64,
        memory_ms: i64,
    ) -> Option<Timestamp> {
        let after_ms = log_ms.saturating_sub(memory_ms);
        let taking_part = self.sources.iter();
        let taking_part = taking_part.filter(|(_, latest)| **latest >= after_ms);
        let heard = taking_part.filter_map(|(source, _)| sources.get(source));
        let heard = heard.filter(|it| log_ms.saturating_sub(it.heard_ms) <= SILENCE_MS);
        // None comes first: who has not said anything yet holds up all.
        heard.map(|it| it.until).min().flatten()
    }

    fn advance(&mut self, until: Timestamp) {
        let before = self.until.replace(until);
        let leap = before.map_or(0, |before| until.0.saturating_sub(before.0));
        if leap > OUTAGE_US {
            self.outages_us = self.outages_us.saturating_add(leap);
        }
    }
}

#[cfg(test)]
mod tests;
