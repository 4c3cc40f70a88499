//! Matches records with rows, in one pass over each partition. Never keeps a record that has its row.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use super::{DOUBTS_MAX, Identity, SecondLook, Sighting, Span, Standing, Tally, hash};

/// A row, reduced to what is compared.
#[derive(Debug, Clone, Copy)]
struct Row {
    identity: Identity,
    id: i64,
    topic: u32,
    standing: Standing,
    seen: Seen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Never,
    /// Under another source's name.
    Elsewhere,
    Ours,
}

/// The rows of a table, and the topics that they name.
#[derive(Debug, Default)]
pub struct Rows {
    rows: Vec<Row>,
    topics: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
}

impl Rows {
    /// Takes a row.
    pub fn add(
        &mut self,
        id: i64,
        event_id: Uuid,
        topic: &str,
        key: Option<&str>,
        standing: Standing,
    ) {
        let number = match self.numbers.get(topic) {
            Some(number) => *number,
            None => {
                let number = u32::try_from(self.topics.len()).unwrap_or(u32::MAX);
                let name: Arc<str> = topic.into();
                self.topics.push(Arc::clone(&name));
                self.numbers.insert(name, number);
                number
            }
        };
        self.rows.push(Row {
            identity: Identity::new(event_id, topic, key.map(str::as_bytes)),
            id,
            topic: number,
            standing,
            seen: Seen::Never,
        });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The topics that they name.
    pub fn topics(&self) -> &[Arc<str>] {
        &self.topics
    }
}

/// A record that has no row of its own.
#[derive(Debug)]
pub(super) struct Surplus {
    pub(super) sighting: Sighting,
    /// Whether its event has a row that another record belongs to.
    pub(super) is_double: bool,
}

/// A record that came after one of a later row.
#[derive(Debug)]
pub(super) struct Late {
    pub(super) sighting: Sighting,
    pub(super) row: i64,
    pub(super) after_offset: i64,
}

/// Sees record after record, each partition in its order.
#[derive(Debug)]
pub struct Judge {
    /// By identity and id.
    rows: Vec<Row>,
    topics: Vec<Arc<str>>,
    span: Span,
    /// Of each key in each partition the highest row so far, and the offset of its record.
    last: HashMap<u64, (i64, i64)>,
    surplus: Vec<Surplus>,
    late: Vec<Late>,
    tally: Tally,
}

impl Judge {
    /// Begins with all rows; ghosts are judged within `span`.
    pub fn new(rows: Rows, span: Span) -> Self {
        let Rows {
            mut rows, topics, ..
        } = rows;
        rows.sort_unstable_by_key(|row| (row.identity, row.id));
        let mut tally = Tally::default();
        for row in &rows {
            match row.standing {
                Standing::Published => tally.published += 1,
                Standing::Waiting => tally.waiting += 1,
                Standing::Letter => tally.dead_letters += 1,
            }
        }
        Self {
            rows,
            topics,
            span,
            last: HashMap::new(),
            surplus: Vec::new(),
            late: Vec::new(),
            tally,
        }
    }

    /// Takes the next record of a partition.
    pub fn see(&mut self, sighting: Sighting) {
        let identity = sighting.identity();
        let begin = self.rows.partition_point(|row| row.identity < identity);
        let rows = self.rows.get_mut(begin..).unwrap_or_default();
        let mut same = rows
            .iter_mut()
            .take_while(|row| row.identity == identity)
            .peekable();
        let has_row = same.peek().is_some();
        if !sighting.is_ours {
            same.filter(|row| row.seen == Seen::Never)
                .for_each(|row| row.seen = Seen::Elsewhere);
            return;
        }
        self.tally.records += 1;
        match same.find(|row| row.seen != Seen::Ours) {
            Some(row) => {
                row.seen = Seen::Ours;
                let id = row.id;
                self.order(sighting, id);
            }
            None if has_row || self.span.has(sighting.at) => {
                if self.surplus.len() < DOUBTS_MAX {
                    self.surplus.push(Surplus {
                        sighting,
                        is_double: has_row,
                    });
                } else {
                    self.tally.records_not_judged += 1;
                }
            }
            None => self.tally.records_not_judged += 1,
        }
    }

    /// Whether a key's rows come in their order.
    fn order(&mut self, sighting: Sighting, row: i64) {
        let Some(key) = &sighting.key else {
            return;
        };
        let place = hash((&*sighting.topic, sighting.partition, key));
        let last = self.last.entry(place).or_insert((row, sighting.offset));
        if last.0 <= row {
            *last = (row, sighting.offset);
            return;
        }
        let after_offset = last.1;
        if self.late.len() < DOUBTS_MAX {
            self.late.push(Late {
                sighting,
                row,
                after_offset,
            });
        } else {
            self.tally.records_not_judged += 1;
        }
    }

    /// All has been seen. `proves` says of a topic whether a missing record proves anything.
    pub fn second_look(mut self, proves: impl Fn(&str) -> bool) -> SecondLook {
        let proves: Vec<bool> = self.topics.iter().map(|topic| proves(topic)).collect();
        let mut lost = Vec::new();
        for row in &self.rows {
            if row.standing != Standing::Published {
                continue;
            }
            let topic = usize::try_from(row.topic).unwrap_or(usize::MAX);
            match row.seen {
                Seen::Ours => {}
                Seen::Elsewhere => self.tally.other_name += 1,
                Seen::Never if proves.get(topic) == Some(&true) && lost.len() < DOUBTS_MAX => {
                    lost.push(row.id);
                }
                Seen::Never => self.tally.rows_not_judged += 1,
            }
        }
        let mut indexed: Vec<(Identity, i64)> = Vec::new();
        for surplus in &self.surplus {
            let identity = surplus.sighting.identity();
            let begin = self.rows.partition_point(|row| row.identity < identity);
            let rows = self.rows.get(begin..).unwrap_or_default();
            let same = rows.iter().take_while(|row| row.identity == identity);
            indexed.extend(same.map(|row| (identity, row.id)));
        }
        SecondLook::new(lost, self.surplus, self.late, indexed, self.tally)
    }
}
