//! What the checkpoints and the table say of the doubts. Never raises a new one.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::judge::{Late, Surplus};
use super::{Example, Identity, Sighting, Tally, Verdict};
use crate::logic::checkpoint::Checkpoint;

/// A row that the table has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The event's id.
    pub event_id: Uuid,
    /// The topic.
    pub topic: String,
    /// The key.
    pub key: Option<String>,
}

/// Doubts, and what speaks for innocence.
#[derive(Debug)]
pub struct SecondLook {
    lost: Vec<i64>,
    surplus: Vec<Surplus>,
    late: Vec<Late>,
    /// The rows that the surplus was compared with.
    indexed: HashSet<(Identity, i64)>,
    tally: Tally,
    /// Rows whose refusal would explain something.
    suspects: HashSet<i64>,
    refused: HashSet<i64>,
    /// By the event of a surplus, the rows that were ever published or refused under it.
    known: HashMap<Uuid, HashSet<i64>>,
}

impl SecondLook {
    pub(super) fn new(
        lost: Vec<i64>,
        surplus: Vec<Surplus>,
        late: Vec<Late>,
        indexed: Vec<(Identity, i64)>,
        tally: Tally,
    ) -> Self {
        let suspects = lost.iter().copied().chain(late.iter().map(|late| late.row));
        let events = surplus.iter().map(|surplus| surplus.sighting.event_id);
        Self {
            suspects: suspects.collect(),
            refused: HashSet::new(),
            known: events.map(|event| (event, HashSet::new())).collect(),
            indexed: indexed.into_iter().collect(),
            lost,
            surplus,
            late,
            tally,
        }
    }

    /// Whether there is nothing to look at again.
    pub fn is_needless(&self) -> bool {
        self.lost.is_empty() && self.surplus.is_empty() && self.late.is_empty()
    }

    /// Takes a checkpoint of this database.
    pub fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        let refused = checkpoint.refused.iter().flat_map(|(_, rows)| &rows.0);
        for (id, _) in refused.clone() {
            if self.suspects.contains(id) {
                self.refused.insert(*id);
            }
        }
        for (id, event_id) in checkpoint.published.0.iter().chain(refused) {
            if let Some(rows) = self.known.get_mut(event_id) {
                rows.insert(*id);
            }
        }
    }

    /// The rows that the table should be asked for: those that may explain a record, and `most` of the lost.
    pub fn wanted(&self, most: usize) -> Vec<i64> {
        let lost = self.lost.iter().filter(|id| !self.refused.contains(id));
        let known = self.known.values().flatten();
        known.chain(lost.take(most)).copied().collect()
    }

    /// The verdict, with `most` examples of each fault. `named` are the wanted rows that the table has; with `skips` a row that
    /// was once refused may come late.
    pub fn verdict(mut self, named: &HashMap<i64, Named>, skips: bool, most: usize) -> Verdict {
        let mut verdict = Verdict::default();
        for id in &self.lost {
            if self.refused.contains(id) {
                self.tally.given_up += 1;
                continue;
            }
            verdict.lost.add(most, || {
                let row = named.get(id);
                Example {
                    event_id: row.map(|row| row.event_id),
                    topic: row.map(|row| row.topic.clone()),
                    key: row.and_then(|row| row.key.clone()),
                    row: Some(*id),
                    ..Example::default()
                }
            });
        }
        for late in &self.late {
            if skips && self.refused.contains(&late.row) {
                continue;
            }
            verdict.reordered.add(most, || Example {
                row: Some(late.row),
                after_offset: Some(late.after_offset),
                ..example(&late.sighting)
            });
        }
        for surplus in &self.surplus {
            let rows = self.known.get_mut(&surplus.sighting.event_id);
            if excuse(rows, &self.indexed, &surplus.sighting, named) {
                self.tally.records_not_judged += 1;
                continue;
            }
            let fault = match surplus.is_double {
                true => &mut verdict.doubled,
                false => &mut verdict.ghosts,
            };
            fault.add(most, || example(&surplus.sighting));
        }
        verdict.tally = self.tally;
        verdict
    }
}

/// Whether a known row explains a record: one that is gone, or that came after the books were read. Each explains one record.
fn excuse(
    rows: Option<&mut HashSet<i64>>,
    indexed: &HashSet<(Identity, i64)>,
    sighting: &Sighting,
    named: &HashMap<i64, Named>,
) -> bool {
    let Some(rows) = rows else {
        return false;
    };
    let identity = sighting.identity();
    let explains = |id: &&i64| match named.get(*id) {
        // An id may come again after a fail-over; the row that bore it first is gone then.
        Some(row) if row.event_id == sighting.event_id => {
            let key = row.key.as_deref().map(str::as_bytes);
            Identity::new(row.event_id, &row.topic, key) == identity
                && !indexed.contains(&(identity, **id))
        }
        Some(_) | None => !indexed.contains(&(identity, **id)),
    };
    match rows.iter().find(explains).copied() {
        Some(id) => rows.remove(&id),
        None => false,
    }
}

fn example(sighting: &Sighting) -> Example {
    let key = sighting.key.as_deref();
    Example {
        event_id: Some(sighting.event_id),
        topic: Some(sighting.topic.to_string()),
        partition: Some(sighting.partition),
        offset: Some(sighting.offset),
        key: key.map(|key| String::from_utf8_lossy(key).into_owned()),
        row: None,
        after_offset: None,
    }
}
