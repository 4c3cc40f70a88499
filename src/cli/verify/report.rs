//! What `verify` prints of a whole source, and how it ends.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use serde::Serialize;

use crate::cli::{Exit, Failure, table};
use crate::logic::event::Timestamp;
use crate::logic::verify::{Example, Reach, Span, Verdict};

/// What was found of a source; as JSON, its fields as they are.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    source: String,
    clean: bool,
    #[serde(flatten)]
    verdict: Verdict,
    /// Topics are read from here.
    read_since: Option<String>,
    /// Ghosts are judged from here; `None`: the table holds more rows than are judged.
    judged_since: Option<String>,
    /// When the books were read.
    judged_until: Option<String>,
    /// By topic, what limits the verdict.
    topics: BTreeMap<String, Option<&'static str>>,
}

impl Report {
    pub(super) fn new(
        source: &str,
        verdict: Verdict,
        span: Span,
        since_ms: i64,
        reaches: HashMap<String, Reach>,
    ) -> Self {
        let notes = reaches
            .into_iter()
            .map(|(topic, reach)| (topic, reach.note()));
        Self {
            source: source.to_owned(),
            clean: verdict.faults() == 0,
            verdict,
            read_since: Timestamp(since_ms.saturating_mul(1000)).to_rfc3339(),
            judged_since: span.since.and_then(Timestamp::to_rfc3339),
            judged_until: span.until.to_rfc3339(),
            topics: notes.collect(),
        }
    }

    /// Prints it; faults end with 65.
    pub(super) fn print(&self, json: bool) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        if json {
            serde_json::to_writer_pretty(&mut out, self).map_err(std::io::Error::from)?;
            writeln!(out)?;
        } else {
            write!(out, "{}", self.text())?;
        }
        match self.verdict.faults() {
            0 => Ok(()),
            faults => {
                let message = format!("{faults} faults in source \"{}\", see above", self.source);
                Err(Failure::new(Exit::Shape, message))
            }
        }
    }

    fn text(&self) -> String {
        let Verdict {
            lost,
            doubled,
            reordered,
            ghosts,
            tally,
        } = &self.verdict;
        let facts = [
            ("lost", lost.count),
            ("doubled", doubled.count),
            ("reordered", reordered.count),
            ("ghosts", ghosts.count),
            ("rows published", tally.published),
            ("rows waiting", tally.waiting),
            ("dead letters", tally.dead_letters),
            ("dead letters dropped", tally.given_up),
            ("rows under another source's name", tally.other_name),
            ("rows not judged", tally.rows_not_judged),
            ("records read", tally.records),
            ("records not judged", tally.records_not_judged),
        ];
        let facts = facts.map(|(name, count)| vec![name.to_owned(), count.to_string()]);
        let mut text = table::render(&[&self.source, ""], facts.into_iter());
        text.push_str(&match &self.judged_since {
            Some(since) => format!("\nThe table is whole since {since}: ghosts are judged from there.\n"),
            None => "\nThe table holds more rows than are judged: the newest were, and ghosts were not.\n".to_owned(),
        });
        for (topic, note) in &self.topics {
            if let Some(note) = note {
                text.push_str(&format!("Topic {topic} {note}.\n"));
            }
        }
        let kinds = [
            ("lost", lost),
            ("doubled", doubled),
            ("reordered", reordered),
            ("ghost", ghosts),
        ];
        let examples = kinds.iter().flat_map(|(kind, fault)| {
            let rows = fault.examples.iter();
            rows.map(|example| row(kind, example))
        });
        let examples: Vec<_> = examples.collect();
        if !examples.is_empty() {
            text.push('\n');
            let head = [
                "FAULT",
                "EVENT ID",
                "TOPIC",
                "PARTITION",
                "OFFSET",
                "AFTER",
                "ROW",
                "KEY",
            ];
            text.push_str(&table::render(&head, examples.into_iter()));
        }
        text
    }
}

fn row(kind: &str, example: &Example) -> Vec<String> {
    fn cell(value: Option<impl ToString>) -> String {
        value.map_or("-".to_owned(), |value| value.to_string())
    }
    vec![
        kind.to_owned(),
        cell(example.event_id),
        cell(example.topic.as_ref()),
        cell(example.partition),
        cell(example.offset),
        cell(example.after_offset),
        cell(example.row),
        cell(example.key.as_ref()),
    ]
}
