//! Compares what transactions wrote with what consumers see. The verdict is pure; around it, a log that writers fill and a
//! reader of topics. Never knows how a relay works: its word is the service's database and Kafka.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use super::consumer::{self, Message};

/// A record that a row must become; a row that belongs to a saga becomes two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The source.
    pub(crate) source: String,
    /// Where it must appear.
    pub(crate) topic: String,
    /// Its key; without one it has no order.
    pub(crate) key: Option<String>,
    /// Like that of no other row of this source; the payload carries it.
    pub(crate) mark: String,
    /// Rises in the order in which the transactions held this key.
    pub(crate) version: i64,
}

/// A record that a consumer saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Where it says it is from.
    pub(crate) source: String,
    /// Where it was read.
    pub(crate) topic: String,
    /// Its partition there.
    pub(crate) partition: i32,
    /// Its key.
    pub(crate) key: Option<String>,
    /// The mark in its payload.
    pub(crate) mark: String,
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Committed, and not to be seen.
    Lost,
    /// Seen more than once.
    Doubled,
    /// Seen after a later one of its source, topic and key, or in another partition.
    Reordered,
    /// Seen, and never committed.
    Ghost,
    /// A partition cannot be read to its end: some transaction in it is undecided.
    LeftOpen,
}

/// How often each fault was found, with examples; empty when all is well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    faults: BTreeMap<Fault, (usize, Vec<String>)>,
}

/// So many examples of each fault are kept.
const EXAMPLES: usize = 5;

impl Verdict {
    /// Whether nothing is wrong.
    pub(crate) fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }

    /// How often this was found.
    pub(crate) fn count(&self, fault: Fault) -> usize {
        self.faults.get(&fault).map_or(0, |(count, _)| *count)
    }

    fn add(&mut self, fault: Fault, example: impl FnOnce() -> String) {
        let (count, examples) = self.faults.entry(fault).or_default();
        *count += 1;
        if examples.len() < EXAMPLES {
            examples.push(example());
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Fault::Lost, "lost"),
            (Fault::Doubled, "doubled"),
            (Fault::Reordered, "reordered"),
            (Fault::Ghost, "ghosts"),
            (Fault::LeftOpen, "left open"),
        ];
        let counts = names.map(|(fault, name)| format!("{} {name}", self.count(fault)));
        f.write_str(&counts.join(", "))?;
        for (fault, (_, examples)) in &self.faults {
            write!(f, "\n  {fault:?}: {}", examples.join("; "))?;
        }
        Ok(())
    }
}

/// Judges what was seen, each partition in its order, of what was committed; `open` names partitions that could not be
/// read to their ends.
pub(crate) fn judge(committed: &[Row], seen: &[Seen], open: &[String]) -> Verdict {
    let mut verdict = Verdict::default();
    for place in open {
        verdict.add(Fault::LeftOpen, || place.clone());
    }
    let mut expected: HashMap<(&str, &str, &str), (&Row, usize)> = committed
        .iter()
        .map(|row| ((&*row.source, &*row.topic, &*row.mark), (row, 0)))
        .collect();
    assert!(
        expected.len() == committed.len(),
        "marks are not unlike each other"
    );
    // By source, topic and key: the partition, the last version, and its mark.
    let mut last: HashMap<(&str, &str, &str), (i32, i64, &str)> = HashMap::new();
    for record in seen {
        let name = (&*record.source, &*record.topic, &*record.mark);
        let place = || {
            format!(
                "{}/{} {:?} {}",
                record.topic, record.partition, record.key, record.mark
            )
        };
        let Some((row, times)) = expected
            .get_mut(&name)
            .filter(|(row, _)| row.key == record.key)
        else {
            verdict.add(Fault::Ghost, place);
            continue;
        };
        *times += 1;
        if *times > 1 {
            verdict.add(Fault::Doubled, place);
            continue;
        }
        let Some(key) = &record.key else { continue };
        let now = (record.partition, row.version, &*record.mark);
        let key = (&*record.source, &*record.topic, &**key);
        if let Some((partition, version, mark)) = last.insert(key, now)
            && (partition != record.partition || version > row.version)
        {
            verdict.add(Fault::Reordered, || {
                format!("{} after {partition} {mark}", place())
            });
        }
    }
    let lost = committed.iter().filter(|row| {
        let name = (&*row.source, &*row.topic, &*row.mark);
        expected.get(&name).is_some_and(|(_, times)| *times == 0)
    });
    for row in lost {
        verdict.add(Fault::Lost, || {
            format!("{} {} {:?} {}", row.source, row.topic, row.key, row.mark)
        });
    }
    verdict
}

/// How a transaction ended, as far as its writer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The database said that it is committed and will stay so.
    Committed,
    /// It was rolled back.
    RolledBack,
    /// No answer came, or one that a crash may take back.
    Unknown,
}

/// One transaction. The database keeps `id` in a ledger exactly if it is committed.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// What it put into the ledger.
    pub(crate) id: Uuid,
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// What it wrote and did not itself roll back.
    pub(crate) rows: Vec<Row>,
}

/// What all writers did.
#[derive(Debug, Default)]
pub(crate) struct Log(Mutex<Vec<Attempt>>);

impl Log {
    /// Notes a transaction when it has ended.
    pub(crate) fn note(&self, attempt: Attempt) {
        self.attempts().push(attempt);
    }

    /// How many transactions ended so.
    pub(crate) fn count(&self, outcome: Outcome) -> usize {
        let attempts = self.attempts();
        attempts
            .iter()
            .filter(|attempt| attempt.outcome == outcome)
            .count()
    }

    /// What is committed, as the ledger says where the writer does not know. Fails when they contradict each other: then it
    /// is the database that lost or invented something.
    pub(crate) fn committed(&self, ledger: &HashSet<Uuid>) -> Vec<Row> {
        let mut rows = Vec::new();
        for attempt in &*self.attempts() {
            let kept = ledger.contains(&attempt.id);
            let said = match attempt.outcome {
                Outcome::Committed => true,
                Outcome::RolledBack => false,
                Outcome::Unknown => kept,
            };
            assert!(said == kept, "{attempt:?}, but the ledger says {kept}");
            if kept {
                rows.extend(attempt.rows.iter().cloned());
            }
        }
        rows
    }

    /// Poisoned only by a test that has failed already.
    fn attempts(&self) -> MutexGuard<'_, Vec<Attempt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads topics to their high watermarks as a read_committed consumer: what it saw, and the partitions whose end it cannot
/// reach for `patience`. Of `<prefix>.sagas` it takes the records of sagas, of checkpoints none.
pub(crate) fn read(
    bootstrap: &str,
    topics: &[&str],
    patience: Duration,
) -> (Vec<Seen>, Vec<String>) {
    let reading = consumer::read_keeping(patience, bootstrap, topics, |message| seen(&message));
    (reading.messages, reading.behind)
}

fn seen(message: &Message) -> Option<Seen> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("tests write text");
    let value: Value = serde_json::from_slice(message.value.as_deref()?).expect("tests write JSON");
    let field = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let header = message.headers.iter().find(|(name, _)| name == "ce_source");
    let (source, mark) = match header {
        Some((_, source)) => (text(source.as_deref()?), field("mark")?),
        // A record of a saga; other records without our header are no events.
        None => (field("source")?, field("state")?),
    };
    Some(Seen {
        source,
        topic: message.topic.clone(),
        partition: message.partition,
        key: message.key.as_deref().map(text),
        mark,
    })
}

#[cfg(test)]
mod tests;
