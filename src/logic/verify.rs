//! Compares what a table's books say was published with what the topics hold. Never calls anything a fault at first sight.
//!
//! What it can know, and what not:
//! - A row that the position has passed, or that was published ahead of it, must be in its topic: *lost* if it is not. Rows stay
//!   for one to two slots; of earlier ones nobody can say that they are missing. A missing record proves nothing where a topic
//!   is compacted, keeps less than the table does, or does not let its settings be seen ([`Reach`]).
//! - More records than rows of one event, topic and key are *doubled*, whenever they were written.
//! - A record of the source without a row is a *ghost*. Its row may have gone with its slot, so this is said only of records
//!   between the moment since when the table is whole and the moment of the look.
//! - Two records of one key in one partition against the order of their rows' ids are *reordered*. That is the promised order
//!   where writers of a key exclude each other; where they do not, none was promised, and it may be called so all the same.
//!
//! The books are read before the topics, so what moves meanwhile cannot make a fault: a row that was settled then is in its topic
//! by the time that is read. The second look asks the checkpoints, which name every row that was ever published or refused: a
//! missing row that was refused has been dropped as a dead letter, and a record too many may belong to a row that is gone, or
//! that was not there yet.

mod judge;
mod second_look;
#[cfg(test)]
mod tests;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

pub use self::judge::{Judge, Rows};
pub use self::second_look::{Named, SecondLook};
use super::event::Timestamp;

/// So many rows are judged at most, the newest; 24 bytes each, and as much again for each key.
pub const ROWS_MAX: i64 = 5_000_000;
/// So many doubts of each kind are looked at again; what is beyond is not judged.
pub const DOUBTS_MAX: usize = 100_000;

/// Where a row stands by the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The position has passed it.
    Published,
    /// Its turn has not come, or that is not settled: its record may be there or not.
    Waiting,
    /// A dead letter; its record may be there while it is being released.
    Letter,
}

/// What makes two events one: event id, topic and key, as 64 bits. That two of five million rows share them by chance is a matter
/// of one in a million.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(u64);

impl Identity {
    /// Of a row or of a record.
    pub fn new(event_id: Uuid, topic: &str, key: Option<&[u8]>) -> Self {
        Self(hash((event_id.as_bytes(), topic, key)))
    }
}

fn hash(of: impl Hash) -> u64 {
    // The same for every process: what is said of a topic can be said again.
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// A record of some outboxd as it was seen in a topic, without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// `ce_id`.
    pub event_id: Uuid,
    /// `ce_time`; 0 when it cannot be read.
    pub at: Timestamp,
    /// Whether `ce_source` is the source in question.
    pub is_ours: bool,
}

impl Sighting {
    /// What makes it the record of a row.
    pub fn identity(&self) -> Identity {
        Identity::new(self.event_id, &self.topic, self.key.as_deref())
    }
}

/// What a topic keeps, as its settings say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Whether an older record of a key may go for a newer one.
    pub compacts: bool,
    /// For how long, in milliseconds; `None`: for ever.
    pub retention_ms: Option<i64>,
    /// Whether there is a limit by size.
    pub by_size: bool,
}

/// Whether a missing record of a topic proves anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Whatever was written since the time in question is there.
    Whole,
    /// The topic is not there: nothing of it is.
    Missing,
    /// Older records of a key go for newer ones.
    Compacted,
    /// The topic may have removed records of that time.
    Cut,
    /// Its settings may not be seen.
    Hidden,
}

impl Reach {
    /// `may_be_cut`: a partition has removed records, and has none left that is older than the time in question.
    pub fn new(may_be_cut: bool, kept: Option<Kept>, age_ms: i64) -> Self {
        match kept {
            None => Self::Hidden,
            Some(Kept { compacts: true, .. }) => Self::Compacted,
            Some(kept) => {
                let long_enough = kept.retention_ms.is_none_or(|kept_ms| kept_ms >= age_ms);
                if may_be_cut && (kept.by_size || !long_enough) {
                    Self::Cut
                } else {
                    Self::Whole
                }
            }
        }
    }

    /// Whether a row without a record is lost.
    pub fn proves(self) -> bool {
        match self {
            Self::Whole | Self::Missing => true,
            Self::Compacted | Self::Cut | Self::Hidden => false,
        }
    }

    /// What an operator should know; nothing if all is well.
    pub fn note(self) -> Option<&'static str> {
        match self {
            Self::Whole => None,
            Self::Missing => Some("is missing"),
            Self::Compacted => Some("is compacted: a missing record proves nothing"),
            Self::Cut => Some("keeps less than the table does: a missing record proves nothing"),
            Self::Hidden => Some(
                "does not show its settings, so that a missing record proves nothing: grant DescribeConfigs on it",
            ),
        }
    }
}

/// The time of events of which the table would have the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Since when the table is whole; `None`: more rows than are judged, so of no record it can be said.
    pub since: Option<Timestamp>,
    /// When the books were read.
    pub until: Timestamp,
}

impl Span {
    fn has(&self, at: Timestamp) -> bool {
        self.since.is_some_and(|since| since <= at) && at <= self.until
    }
}

/// What was counted on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Tally {
    /// Rows published by the books.
    pub published: u64,
    /// Rows whose turn has not come, or is not settled.
    pub waiting: u64,
    /// Dead letters, those included whose row is gone.
    pub dead_letters: u64,
    /// Rows that were dropped as dead letters.
    pub given_up: u64,
    /// Rows whose record is there under another source's name only: before a rename, or from a copy of the database.
    pub other_name: u64,
    /// Rows without a record of which it cannot be said that they are lost.
    pub rows_not_judged: u64,
    /// Records of the source.
    pub records: u64,
    /// Records of the source without a row of which it cannot be said that they are too many.
    pub records_not_judged: u64,
}

/// All that was found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Verdict {
    /// Published by the books, and in no topic.
    pub lost: Fault,
    /// More records than rows.
    pub doubled: Fault,
    /// Records of one key against the order of their rows.
    pub reordered: Fault,
    /// Records without a row.
    pub ghosts: Fault,
    /// What was counted.
    pub tally: Tally,
}

impl Verdict {
    /// How many faults there are.
    pub fn faults(&self) -> u64 {
        let Self {
            lost,
            doubled,
            reordered,
            ghosts,
            ..
        } = self;
        [lost, doubled, reordered, ghosts]
            .iter()
            .map(|fault| fault.count)
            .sum()
    }
}

/// Faults of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Fault {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub examples: Vec<Example>,
}

/// One fault; what is not known is absent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Example {
    /// The event's id.
    pub event_id: Option<Uuid>,
    /// The topic.
    pub topic: Option<String>,
    /// The partition.
    pub partition: Option<i32>,
    /// The offset of the record.
    pub offset: Option<i64>,
    /// The key.
    pub key: Option<String>,
    /// The id of the row.
    pub row: Option<i64>,
    /// The offset of a later row's record that came before it.
    pub after_offset: Option<i64>,
}

impl Fault {
    fn add(&mut self, most: usize, example: impl FnOnce() -> Example) {
        self.count += 1;
        if self.examples.len() < most {
            self.examples.push(example());
        }
    }
}
