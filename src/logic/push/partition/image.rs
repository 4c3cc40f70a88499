//! A partition's sagas as a list of parts from which it can be made again, say after a restart. Never holds the partition up.
//!
//! Records go on being applied between two parts, so that these are not of one moment. Reading the log again from where it
//! stood when the first part was taken makes up for that: each saga knows the offset of the last record that it holds, and
//! passes over what it holds already. Only a saga that had a record after the first part and was forgotten before its
//! own cannot be told from one that began after the first part: then the parts are of no use.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Keep, Kept, Partition, Sink};
use crate::logic::push::stalest::Place;
use crate::logic::saga::overdue::{Heard, Overdue};
use crate::logic::saga::{Definition, Saga, SagaKey};

/// Raise it whenever what is written changes, or what it means: images of another format are not read.
pub const FORMAT: u32 = 3;

/// A part has at most so many sagas,
const PART_SAGAS: usize = 256;
/// and no further one after so many bytes.
const PART_BYTES: usize = 256 << 10;

/// A record's place in the log and when it was appended: no other record has both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Its offset.
    pub offset: i64,
    /// In milliseconds since 1970.
    pub timestamp_ms: i64,
}

/// What a partition knows beside its sagas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// The last record that was applied, whatever it said.
    pub last: Option<Mark>,
    log_ms: i64,
    whole: bool,
    heard: Heard,
}

/// Some of a partition's sagas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Of the moment when it was taken; the first part's counts.
    pub base: Base,
    /// The sagas, one after the other.
    pub sagas: Vec<u8>,
    /// How many they are.
    pub count: usize,
    /// Where the next part goes on; none: this was the last.
    pub after: Option<SagaKey>,
    forgotten: i64,
}

impl Part {
    /// Whether parts from `first` to this one are of no use.
    pub fn is_too_late_for(&self, first: &Base) -> bool {
        let first = first.last.map_or(i64::MIN, |last| last.offset);
        self.forgotten > first
    }
}

/// Bytes that are no sagas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what should be sagas is something else")]
pub struct Unfit;

/// A saga as a part holds it.
#[derive(Serialize)]
struct Written<'a> {
    saga_type: &'a str,
    saga_id: &'a str,
    place: Place,
    due_us: Option<i64>,
    definition: Defined<&'a Definition>,
    saga: &'a Saga,
}

/// The same, read.
#[derive(Deserialize)]
struct Read<'a> {
    saga_type: &'a str,
    saga_id: &'a str,
    place: Place,
    due_us: Option<i64>,
    definition: Defined<Definition>,
    saga: Saga,
}

/// What a saga should look like. A part says it once: most of its sagas have the same definition.
#[derive(Serialize, Deserialize)]
enum Defined<D> {
    No,
    By(D),
    /// By the one that came at this place in the part.
    Before(usize),
}

impl<S: Sink> Partition<S> {
    /// The sagas after `after`, in the order of their keys, as many as fit a part.
    pub fn part(&self, after: Option<&SagaKey>) -> Part {
        self.part_within(after, PART_SAGAS)
    }

    fn part_within(&self, after: Option<&SagaKey>, sagas_max: usize) -> Part {
        let mut part = Part {
            base: self.base(),
            sagas: Vec::new(),
            count: 0,
            after: None,
            forgotten: self.forgotten,
        };
        let mut said: Vec<&Arc<Definition>> = Vec::new();
        let mut types: Vec<_> = self
            .sagas
            .iter()
            .filter(|(saga_type, _)| after.is_none_or(|after| after.saga_type <= **saga_type))
            .collect();
        types.sort_unstable_by_key(|(saga_type, _)| *saga_type);
        for (saga_type, sagas) in types {
            let from = match after {
                Some(after) if after.saga_type == *saga_type => {
                    Bound::Excluded(Arc::clone(&after.saga_id))
                }
                Some(_) | None => Bound::Unbounded,
            };
            for (saga_id, kept) in sagas.range((from, Bound::Unbounded)) {
                let definition = kept.saga.definition();
                let before = said.iter().position(|it| Some(*it) == definition);
                let written = Written {
                    saga_type,
                    saga_id,
                    place: kept.place,
                    due_us: kept.deadline.map(|(due_us, _)| due_us),
                    definition: match (before, definition) {
                        (Some(before), _) => Defined::Before(before),
                        (None, Some(definition)) => Defined::By(definition),
                        (None, None) => Defined::No,
                    },
                    saga: &kept.saga,
                };
                if before.is_none() {
                    said.extend(definition);
                }
                // Into memory, and nothing here refuses to be written: this cannot fail.
                if let Ok(bytes) = postcard::to_extend(&written, std::mem::take(&mut part.sagas)) {
                    part.sagas = bytes;
                }
                part.count += 1;
                if part.count == sagas_max || part.sagas.len() >= PART_BYTES {
                    part.after = Some(SagaKey {
                        saga_type: Arc::clone(saga_type),
                        saga_id: Arc::clone(saga_id),
                    });
                    return part;
                }
            }
        }
        part
    }

    /// What it knows beside its sagas.
    pub fn base(&self) -> Base {
        Base {
            last: self.last,
            log_ms: self.log_ms,
            whole: self.whole,
            heard: self.overdue.heard().clone(),
        }
    }

    /// One that knows what the first part of another said beside its sagas.
    pub fn again(number: i32, keep: Keep, ring_bytes: usize, base: Base) -> Self {
        Self {
            log_ms: base.log_ms,
            last: base.last,
            overdue: Overdue::after(base.heard),
            ..Self::new(number, keep, ring_bytes, base.whole)
        }
    }

    /// Takes the sagas of a part in; how many they are.
    ///
    /// # Errors
    /// When they are none; the partition is of no use then.
    pub fn take_in(&mut self, mut sagas: &[u8]) -> Result<usize, Unfit> {
        let mut count = 0;
        let mut known: BTreeMap<&str, Arc<str>> = BTreeMap::new();
        let mut said: Vec<Arc<Definition>> = Vec::new();
        while !sagas.is_empty() {
            let (read, rest) = postcard::take_from_bytes::<Read<'_>>(sagas).map_err(|_| Unfit)?;
            sagas = rest;
            let saga_type = known.entry(read.saga_type).or_insert_with(|| {
                match self.sagas.get_key_value(read.saga_type) {
                    Some((saga_type, _)) => Arc::clone(saga_type),
                    None => read.saga_type.into(),
                }
            });
            let key = SagaKey {
                saga_type: Arc::clone(saga_type),
                saga_id: read.saga_id.into(),
            };
            let definition = match read.definition {
                Defined::No => None,
                Defined::By(definition) => {
                    said.push(Arc::new(definition));
                    said.last().cloned()
                }
                Defined::Before(at) => Some(said.get(at).cloned().ok_or(Unfit)?),
            };
            let finished = read.saga.outcome.is_some();
            self.stalest.moved(&key, None, read.place, finished);
            self.begun += 1;
            let deadline = read.due_us.map(|due_us| (due_us, self.begun));
            if let Some(deadline) = deadline {
                self.overdue.resume(&key, deadline);
            }
            let of_type = self.sagas.entry(key.saga_type).or_default();
            let kept = Kept {
                saga: read.saga.defined(definition),
                number: self.begun,
                place: read.place,
                deadline,
            };
            of_type.insert(key.saga_id, kept);
            count += 1;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
