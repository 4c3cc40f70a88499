//! What one Kafka transaction published, in outboxd's own memory; and what a new leader makes of it.
//!
//! A checkpoint is the last record of its transaction, so it is there exactly if the events are. Its form is private,
//! but a newer outboxd reads an older one's. Never holds a key or a payload.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::batch::RowId;
use super::event::Timestamp;
use super::refusal::Refusal;

/// The content of one record of the checkpoint topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Version of this form.
    pub v: u8,
    /// Which database the events came from.
    pub incarnation: String,
    /// That database's timeline; a lower one later means that an old primary is back.
    pub timeline: u32,
    /// Epoch of the leader that wrote it.
    pub epoch: i64,
    /// Rises by one with every transaction.
    pub batch: i64,
    /// Everything committed before this moment is published.
    pub until: Timestamp,
    /// The rows it published.
    pub published: RowIds,
    /// The rows that it sent to the dead letters, by refusal.
    pub refused: Vec<(Refusal, RowIds)>,
    /// The dead letters that it published after all, by their `seq`.
    pub released: Vec<i64>,
}

/// A checkpoint takes one offset of its topic, and the marker of its transaction the next.
pub const OFFSETS: i64 = 2;

/// The version that this outboxd writes.
pub const VERSION: u8 = 1;

impl Checkpoint {
    /// The record's value.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a record's value.
    pub fn decode(value: &[u8]) -> Result<Self, String> {
        let checkpoint: Self = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        if checkpoint.v > VERSION {
            return Err(format!(
                "form {} is newer than this outboxd knows",
                checkpoint.v
            ));
        }
        Ok(checkpoint)
    }

    /// Whether it was written for the schema that has this incarnation now, before or after a rebase.
    pub fn is_of(&self, incarnation: Uuid) -> bool {
        let known = self.incarnation.rsplit('/').next().map(Uuid::try_parse);
        let (ours, _) = incarnation.as_bytes().split_at(KEPT);
        matches!(known, Some(Ok(known)) if known.as_bytes().starts_with(ours))
    }
}

/// So many bytes of a schema's incarnation outlive every rebase.
const KEPT: usize = 12;

/// Groups refusals that say the same.
pub fn group(refused: &[(RowId, Refusal)]) -> Vec<(Refusal, RowIds)> {
    let mut groups: Vec<(Refusal, RowIds)> = Vec::new();
    for (id, refusal) in refused {
        match groups.iter_mut().find(|(known, _)| known == refusal) {
            Some((_, rows)) => rows.0.push(*id),
            None => groups.push((refusal.clone(), RowIds(vec![*id]))),
        }
    }
    groups
}

/// Rows by id and event id; 32 characters each in the record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowIds(pub Vec<RowId>);

const PACKED: usize = 24;

impl Serialize for RowIds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(self.0.len() * PACKED);
        for (id, event_id) in &self.0 {
            bytes.extend_from_slice(&id.to_be_bytes());
            bytes.extend_from_slice(event_id.as_bytes());
        }
        serializer.serialize_str(&STANDARD_NO_PAD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for RowIds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD_NO_PAD.decode(text).map_err(D::Error::custom)?;
        if bytes.len() % PACKED != 0 {
            return Err(D::Error::custom("row ids are cut off"));
        }
        let rows = bytes.chunks_exact(PACKED).map(|row| {
            let (id, event_id) = row.split_first_chunk::<8>()?;
            Some((i64::from_be_bytes(*id), Uuid::from_slice(event_id).ok()?))
        });
        rows.collect::<Option<Vec<_>>>()
            .map(Self)
            .ok_or_else(|| D::Error::custom("bad row ids"))
    }
}

/// What the database says of the checkpoints that it includes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Which database this is.
    pub incarnation: String,
    /// Its timeline now.
    pub timeline: u32,
    /// The last checkpoint that it includes.
    pub batch: i64,
    /// The offset behind that checkpoint and its commit marker.
    pub next: i64,
}

/// Where the checkpoint topic begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnds {
    /// Offset of the oldest record that is kept.
    pub low: i64,
    /// Offset behind the newest, decided or not.
    pub high: i64,
}

/// Why a source must not go on: nothing but an operator can tell what was published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// The topic holds checkpoints of another database.
    #[error(
        "the checkpoint topic belongs to another database ({found}, this one is {ours}): two deployments share a \
         `[kafka] prefix` and a source name, or the outbox schema was created anew; give one of them another name, or \
         accept this database with `outboxd sql rebase`"
    )]
    Foreign {
        /// Incarnation in the topic.
        found: String,
        /// Incarnation of the database.
        ours: String,
    },
    /// The database went back to an older timeline.
    #[error(
        "the database is on timeline {ours}, but events were published from timeline {found}: this is an old primary; \
         connect to the current one, or accept this one with `outboxd sql rebase`"
    )]
    OldTimeline {
        /// Timeline in the topic.
        found: u32,
        /// Timeline of the database.
        ours: u32,
    },
    /// Checkpoints are missing between the database and the topic.
    #[error(
        "the checkpoint topic does not reach back to batch {settled} (it begins with {found}): events after it may have \
         been published; accept that with `outboxd sql rebase`"
    )]
    Gap {
        /// Last batch that the database includes.
        settled: i64,
        /// First batch found, or the offset found when there is none.
        found: String,
    },
    /// The topic ends before what the database includes.
    #[error(
        "the checkpoint topic ends at offset {high}, before batch {settled} that the database includes: it was deleted or \
         lost data; accept that with `outboxd sql rebase`"
    )]
    Regressed {
        /// Last batch that the database includes.
        settled: i64,
        /// End of the topic.
        high: i64,
    },
    /// A record that cannot be read.
    #[error(
        "checkpoint at offset {offset} cannot be read: {why}; is another program writing to this topic?"
    )]
    Unreadable {
        /// Its offset.
        offset: i64,
        /// What is wrong.
        why: String,
    },
}

/// Follows the checkpoints behind the settled one, in order, and refuses any doubt.
#[derive(Debug)]
pub struct Reconcile {
    settled: Settled,
    next_batch: i64,
    /// Whether checkpoints before the first one found could have been removed.
    cut: Option<i64>,
}

impl Reconcile {
    /// Begins where the database stands; the topic is to be read from [`Settled::next`].
    pub fn new(settled: Settled, ends: LogEnds) -> Result<Self, Halt> {
        if ends.high < settled.next {
            return Err(Halt::Regressed {
                settled: settled.batch,
                high: ends.high,
            });
        }
        let cut = (ends.low > settled.next).then_some(ends.low);
        Ok(Self {
            next_batch: settled.batch + 1,
            settled,
            cut,
        })
    }

    /// Takes the next record. Gives it back if the database does not include it yet.
    pub fn take(&mut self, offset: i64, value: &[u8]) -> Result<Option<Checkpoint>, Halt> {
        let unreadable = |why| Halt::Unreadable { offset, why };
        let checkpoint = Checkpoint::decode(value).map_err(unreadable)?;
        if checkpoint.incarnation != self.settled.incarnation {
            let ours = self.settled.incarnation.clone();
            return Err(Halt::Foreign {
                found: checkpoint.incarnation,
                ours,
            });
        }
        if checkpoint.timeline > self.settled.timeline {
            let (found, ours) = (checkpoint.timeline, self.settled.timeline);
            return Err(Halt::OldTimeline { found, ours });
        }
        if checkpoint.batch < self.next_batch {
            self.cut = None;
            return Ok(None);
        }
        if checkpoint.batch > self.next_batch {
            let found = format!("batch {}", checkpoint.batch);
            return Err(Halt::Gap {
                settled: self.next_batch - 1,
                found,
            });
        }
        self.cut = None;
        self.next_batch += 1;
        Ok(Some(checkpoint))
    }

    /// The end of the topic was reached; gives the last batch there is.
    pub fn finish(self) -> Result<i64, Halt> {
        match self.cut {
            Some(low) => Err(Halt::Gap {
                settled: self.settled.batch,
                found: format!("offset {low}"),
            }),
            None => Ok(self.next_batch - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::logic::refusal::Reason;

    fn checkpoint(batch: i64) -> Checkpoint {
        Checkpoint {
            v: VERSION,
            incarnation: "db".into(),
            timeline: 2,
            epoch: 1,
            batch,
            until: Timestamp(5),
            published: RowIds(vec![(batch, Uuid::from_u128(9))]),
            refused: Vec::new(),
            released: Vec::new(),
        }
    }

    #[test]
    fn a_rebase_keeps_what_was_published_before_as_ours() {
        let uuid = |text: &str| Uuid::try_parse(text).unwrap();
        let mut checkpoint = checkpoint(1);
        checkpoint.incarnation = "77/16384/6f2b1c3d-7c1f-4f0e-9f43-0d5b7f4f5a55".into();
        assert!(checkpoint.is_of(uuid("6f2b1c3d-7c1f-4f0e-9f43-0d5b7f4f5a55")));
        assert!(checkpoint.is_of(uuid("6f2b1c3d-7c1f-4f0e-9f43-0d5bffffffff")));
        assert!(!checkpoint.is_of(uuid("6f2b1c3d-7c1f-4f0e-9f43-ffffffff5a55")));
        checkpoint.incarnation = "db".into();
        assert!(!checkpoint.is_of(uuid("6f2b1c3d-7c1f-4f0e-9f43-0d5b7f4f5a55")));
    }

    fn settled(batch: i64, next: i64) -> Settled {
        Settled {
            incarnation: "db".into(),
            timeline: 2,
            batch,
            next,
        }
    }

    /// Each checkpoint and its marker take two offsets; batch n stands at 2(n - 1).
    fn run(settled: Settled, ends: LogEnds, log: &[Checkpoint]) -> Result<(Vec<i64>, i64), Halt> {
        let mut reconcile = Reconcile::new(settled, ends)?;
        let mut unsettled = Vec::new();
        for found in log {
            let taken = reconcile.take(2 * (found.batch - 1), &found.encode())?;
            unsettled.extend(taken.map(|checkpoint| checkpoint.batch));
        }
        Ok((unsettled, reconcile.finish()?))
    }

    fn log(batches: std::ops::Range<i64>) -> Vec<Checkpoint> {
        batches.map(checkpoint).collect()
    }

    #[test]
    fn what_the_database_does_not_include_is_given_back_in_order() {
        let ends = LogEnds { low: 0, high: 10 };
        assert_eq!(run(settled(3, 6), ends, &log(4..6)), Ok((vec![4, 5], 5)));
        assert_eq!(
            run(settled(3, 4), ends, &log(3..6)),
            Ok((vec![4, 5], 5)),
            "read from too early"
        );
        assert_eq!(run(settled(5, 10), ends, &[]), Ok((vec![], 5)));
        assert_eq!(
            run(settled(0, 0), LogEnds { low: 0, high: 0 }, &[]),
            Ok((vec![], 0))
        );
    }

    #[test]
    fn an_aborted_end_of_the_topic_is_nothing() {
        assert_eq!(
            run(settled(5, 10), LogEnds { low: 0, high: 13 }, &[]),
            Ok((vec![], 5))
        );
    }

    #[test]
    fn retention_may_take_what_is_settled_and_nothing_else() {
        assert_eq!(
            run(settled(5, 10), LogEnds { low: 10, high: 10 }, &[]),
            Ok((vec![], 5))
        );
        let cut = run(settled(3, 6), LogEnds { low: 8, high: 10 }, &log(5..6));
        assert_eq!(
            cut,
            Err(Halt::Gap {
                settled: 3,
                found: "batch 5".into()
            })
        );
        let empty = run(settled(3, 6), LogEnds { low: 10, high: 10 }, &[]);
        assert_eq!(
            empty,
            Err(Halt::Gap {
                settled: 3,
                found: "offset 10".into()
            })
        );
        let enough = run(settled(3, 5), LogEnds { low: 6, high: 10 }, &log(4..6));
        assert_eq!(
            enough,
            Ok((vec![4, 5], 5)),
            "a marker was cut, not a checkpoint"
        );
    }

    #[test]
    fn a_topic_that_lost_its_end_stops_the_source() {
        let ends = LogEnds { low: 0, high: 4 };
        assert_eq!(
            run(settled(3, 6), ends, &[]),
            Err(Halt::Regressed {
                settled: 3,
                high: 4
            })
        );
    }

    #[test]
    fn a_hole_stops_the_source() {
        let holed = [checkpoint(4), checkpoint(6)];
        let halt = run(settled(3, 6), LogEnds { low: 0, high: 12 }, &holed);
        assert_eq!(
            halt,
            Err(Halt::Gap {
                settled: 4,
                found: "batch 6".into()
            })
        );
    }

    #[test]
    fn another_database_and_an_older_timeline_stop_the_source() {
        let ends = LogEnds { low: 0, high: 10 };
        let foreign = Checkpoint {
            incarnation: "other".into(),
            ..checkpoint(4)
        };
        assert!(matches!(
            run(settled(3, 6), ends, &[foreign]),
            Err(Halt::Foreign { .. })
        ));
        let newer = Checkpoint {
            timeline: 3,
            ..checkpoint(4)
        };
        assert_eq!(
            run(settled(3, 6), ends, &[newer]),
            Err(Halt::OldTimeline { found: 3, ours: 2 })
        );
        let older = Checkpoint {
            timeline: 1,
            ..checkpoint(4)
        };
        assert_eq!(
            run(settled(3, 6), ends, &[older]),
            Ok((vec![4], 4)),
            "after a promotion"
        );
    }

    #[test]
    fn refusals_that_say_the_same_are_written_once() {
        let (missing, large) = (
            Refusal::new(Reason::TopicMissing, "m"),
            Refusal::new(Reason::TooLarge, "l"),
        );
        let row = |id| (id, Uuid::nil());
        let refused = [
            (row(1), missing.clone()),
            (row(2), large.clone()),
            (row(3), missing.clone()),
        ];
        let groups = group(&refused);
        assert_eq!(
            groups,
            [
                (missing, RowIds(vec![row(1), row(3)])),
                (large, RowIds(vec![row(2)]))
            ]
        );
    }

    #[test]
    fn a_newer_form_is_not_guessed_at() {
        let newer = Checkpoint {
            v: VERSION + 1,
            ..checkpoint(1)
        };
        assert!(Checkpoint::decode(&newer.encode()).is_err());
    }

    proptest! {
        #[test]
        fn a_checkpoint_is_read_as_it_was_written(ids in proptest::collection::vec((any::<i64>(), any::<u128>()), 0..50)) {
            let rows = RowIds(ids.into_iter().map(|(id, event)| (id, Uuid::from_u128(event))).collect());
            let refusal = Refusal::new(Reason::Invalid, "x");
            let written = Checkpoint { published: rows.clone(), refused: vec![(refusal, rows)], ..checkpoint(1) };
            prop_assert_eq!(Checkpoint::decode(&written.encode()).unwrap(), written);
        }

        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Checkpoint::decode(&bytes);
        }
    }
}
