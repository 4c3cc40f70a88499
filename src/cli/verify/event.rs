//! What became of one event: its rows, its dead letters, its records.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use serde::Serialize;
use uuid::Uuid;

use super::{Args, SLACK_MS, Scene, standing};
use crate::cli::{Exit, Failure, table};
use crate::clock;
use crate::kafka::TopicLog;
use crate::logic::verify::{Kept, Reach, Sighting, Standing};
use crate::outbox::{BookLetter, BookRow, Look};

/// So many records of one event are enough.
const MOST: usize = 100;

/// What became of a row, or what a record tells whose row is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Told {
    event_id: Uuid,
    answer: Answer,
    topic: Option<String>,
    key: Option<String>,
    partition: Option<i32>,
    offset: Option<i64>,
    reason: Option<String>,
    release: Option<String>,
    row: Option<i64>,
}

/// What can be said of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Answer {
    #[serde(rename = "not in the table")]
    NotInTheTable,
    #[serde(rename = "waiting")]
    Waiting,
    #[serde(rename = "published")]
    Published,
    #[serde(rename = "dead letter")]
    DeadLetter,
    /// Once refused, and given up by an operator.
    #[serde(rename = "dropped dead letter")]
    Dropped,
    /// Published by the books, but not to be found where it proves nothing.
    #[serde(rename = "published, no longer kept")]
    NotKept,
    /// Published by the books, and not in its topic.
    #[serde(rename = "lost")]
    Lost,
    /// A record more than there are rows.
    #[serde(rename = "published again")]
    Again,
}

impl Answer {
    fn as_str(self) -> &'static str {
        match self {
            Self::NotInTheTable => "not in the table",
            Self::Waiting => "waiting",
            Self::Published => "published",
            Self::DeadLetter => "dead letter",
            Self::Dropped => "dropped dead letter",
            Self::NotKept => "published, no longer kept",
            Self::Lost => "lost",
            Self::Again => "published again",
        }
    }

    fn is_fault(self) -> bool {
        match self {
            Self::Lost | Self::Again => true,
            Self::NotInTheTable
            | Self::Waiting
            | Self::Published
            | Self::DeadLetter
            | Self::Dropped
            | Self::NotKept => false,
        }
    }
}

/// The records of the event, and what their topics let one say.
#[derive(Default)]
struct Records {
    sightings: Vec<Sighting>,
    reaches: BTreeMap<String, Reach>,
}

pub(super) async fn tell(
    scene: &mut Scene<'_>,
    event_id: Uuid,
    args: &Args,
) -> Result<(), Failure> {
    let look = scene.look().await?;
    let ahead = scene.books.ahead().await?;
    let letters = scene.books.letters(Some(event_id)).await?;
    let rows = find(scene, &look, event_id).await?;
    let mut topics: BTreeSet<String> = args.topic.iter().cloned().collect();
    topics.extend(rows.iter().map(|row| row.topic.clone()));
    topics.extend(letters.iter().map(|letter| letter.topic.clone()));
    let oldest = rows.iter().map(|row| row.created_at.as_ms()).min();
    // Where the row is gone, or only a letter is left of it, its record may be anywhere.
    let since_ms = oldest.filter(|_| letters.is_empty() && args.topic.is_empty());
    let since_ms = since_ms.map(|oldest| oldest.min(look.at.as_ms()) - SLACK_MS);
    if topics.is_empty() {
        topics = all_topics(scene, &look).await?;
    }
    let mut records = Records::default();
    for topic in &topics {
        read(scene, topic, event_id, since_ms, &mut records).await?;
    }
    let mut told = Vec::new();
    for row in &rows {
        let letter = letters.iter().find(|letter| letter.id == row.id);
        told.push(of_row(
            row,
            letter,
            standing(&look, &ahead, row),
            &mut records,
        ));
    }
    for letter in &letters {
        if rows.iter().all(|row| row.id != letter.id) {
            told.push(of_letter(letter, &mut records));
        }
    }
    let answer = match told.is_empty() {
        true => Answer::Published,
        false => Answer::Again,
    };
    told.extend(records.sightings.iter().map(|it| of_record(it, answer)));
    look_again(scene, &look, since_ms, &mut told).await?;
    if told.is_empty() {
        told.push(nothing(event_id, Answer::NotInTheTable));
    }
    print(&told, &topics, args)
}

async fn find(scene: &mut Scene<'_>, look: &Look, event_id: Uuid) -> Result<Vec<BookRow>, Failure> {
    let mut found = Vec::new();
    let (lowest, highest) = look.ids.unwrap_or((0, -1));
    let mut after = lowest - 1;
    while after < highest {
        let (rows, last) = scene.books.find(after, event_id).await?;
        found.extend(rows);
        after = last;
        scene
            .progress
            .tell(|| format!("rows up to {after} of {highest} looked at"));
    }
    Ok(found)
}

/// The topics of all rows and dead letters.
async fn all_topics(scene: &mut Scene<'_>, look: &Look) -> Result<BTreeSet<String>, Failure> {
    let letters = scene.books.letters(None).await?;
    let mut all: BTreeSet<String> = letters.into_iter().map(|letter| letter.topic).collect();
    let (lowest, highest) = look.ids.unwrap_or((0, -1));
    let mut after = lowest - 1;
    while after < highest {
        let (topics, last) = scene.books.topics(after).await?;
        all.extend(topics);
        after = last;
    }
    Ok(all)
}

async fn read(
    scene: &mut Scene<'_>,
    topic: &str,
    event_id: Uuid,
    since_ms: Option<i64>,
    records: &mut Records,
) -> Result<(), Failure> {
    let source = &scene.source.name;
    let log = TopicLog::open(&scene.clients, &scene.topics, topic, source, since_ms).await?;
    let Some(mut log) = log else {
        records.reaches.insert(topic.to_owned(), Reach::Missing);
        return Ok(());
    };
    let kept: Option<Kept> = scene.topics.keeps(topic).await;
    let mut count = 0;
    while let Some(round) = log.next().await? {
        count += round.records;
        let found = round.sightings.into_iter();
        let found = found.filter(|it| it.is_ours && it.event_id == event_id);
        let room = MOST.saturating_sub(records.sightings.len());
        records.sightings.extend(found.take(room));
        scene
            .progress
            .tell(|| format!("{topic}: {count} records read, of {} offsets", log.offsets));
    }
    let age_ms = since_ms.map_or(i64::MAX, |since_ms| clock::now().as_ms() - since_ms);
    let reach = Reach::new(log.may_be_cut, kept, age_ms);
    records.reaches.insert(topic.to_owned(), reach);
    Ok(())
}

impl Records {
    /// The first record of this topic and key, taken out.
    fn take(&mut self, topic: &str, key: Option<&str>) -> Option<Sighting> {
        let key = key.map(str::as_bytes);
        let is_it = |it: &Sighting| &*it.topic == topic && it.key.as_deref() == key;
        let place = self.sightings.iter().position(is_it)?;
        Some(self.sightings.remove(place))
    }
}

fn of_row(
    row: &BookRow,
    letter: Option<&BookLetter>,
    standing: Standing,
    records: &mut Records,
) -> Told {
    let record = records.take(&row.topic, row.key.as_deref());
    let told = match (record, letter, standing) {
        (Some(record), _, _) => of_record(&record, Answer::Published),
        (None, Some(letter), _) => of_letter(letter, records),
        (None, None, Standing::Published) => {
            let reach = records.reaches.get(&row.topic);
            match reach.is_none_or(|reach| reach.proves()) {
                true => nothing(row.event_id, Answer::Lost),
                false => nothing(row.event_id, Answer::NotKept),
            }
        }
        (None, None, Standing::Waiting | Standing::Letter) => {
            nothing(row.event_id, Answer::Waiting)
        }
    };
    Told {
        topic: Some(row.topic.clone()),
        key: row.key.clone(),
        row: Some(row.id),
        ..told
    }
}

fn of_letter(letter: &BookLetter, records: &mut Records) -> Told {
    if let Some(record) = records.take(&letter.topic, letter.key.as_deref()) {
        return of_record(&record, Answer::Published);
    }
    Told {
        topic: Some(letter.topic.clone()),
        key: letter.key.clone(),
        reason: Some(letter.reason.clone()),
        release: Some(letter.release.clone()),
        ..nothing(letter.event_id, Answer::DeadLetter)
    }
}

fn of_record(record: &Sighting, answer: Answer) -> Told {
    let key = record.key.as_deref();
    Told {
        topic: Some(record.topic.to_string()),
        key: key.map(|key| String::from_utf8_lossy(key).into_owned()),
        partition: Some(record.partition),
        offset: Some(record.offset),
        ..nothing(record.event_id, answer)
    }
}

fn nothing(event_id: Uuid, answer: Answer) -> Told {
    Told {
        event_id,
        answer,
        topic: None,
        key: None,
        partition: None,
        offset: None,
        reason: None,
        release: None,
        row: None,
    }
}

/// A lost one may have been dropped as a dead letter, and one too many may belong to a row that is gone or new.
async fn look_again(
    scene: &mut Scene<'_>,
    look: &Look,
    since_ms: Option<i64>,
    told: &mut [Told],
) -> Result<(), Failure> {
    if !told.iter().any(|told| told.answer.is_fault()) {
        return Ok(());
    }
    let mut known = BTreeSet::new();
    let mut refused = BTreeSet::new();
    let event_id = told.first().map(|told| told.event_id).unwrap_or_default();
    let take = |checkpoint: &crate::logic::checkpoint::Checkpoint| {
        let letters = checkpoint.refused.iter().flat_map(|(_, rows)| &rows.0);
        let letters = letters
            .filter(|(_, id)| *id == event_id)
            .map(|(row, _)| *row);
        let letters: Vec<i64> = letters.collect();
        let rows = checkpoint.published.0.iter();
        let rows = rows.filter(|(_, id)| *id == event_id).map(|(row, _)| *row);
        known.extend(rows.chain(letters.iter().copied()));
        refused.extend(letters);
    };
    scene
        .checkpoints(look, since_ms.unwrap_or_default(), take)
        .await?;
    for told in told.iter().filter_map(|told| told.row) {
        known.remove(&told);
    }
    for told in told {
        let is_refused = told.row.is_some_and(|row| refused.contains(&row));
        if told.answer == Answer::Lost && is_refused {
            told.answer = Answer::Dropped;
        } else if told.answer == Answer::Again && known.pop_first().is_some() {
            told.answer = Answer::Published;
        }
    }
    Ok(())
}

fn print(told: &[Told], topics: &BTreeSet<String>, args: &Args) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, told).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        for line in told.iter().map(line) {
            writeln!(out, "{line}")?;
        }
        if told.iter().all(|told| told.answer == Answer::NotInTheTable) {
            let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
            let topics = match topics.is_empty() {
                true => "no topic, since the table names none; name some with --topic".to_owned(),
                false => topics.join(", "),
            };
            writeln!(out, "and without a record in: {topics}")?;
        }
    }
    if told.iter().any(|told| told.answer.is_fault()) {
        let message = format!(
            "something is wrong with this event of source \"{}\", see above",
            args.source
        );
        return Err(Failure::new(Exit::Shape, message));
    }
    Ok(())
}

fn line(told: &Told) -> String {
    let word = told.answer.as_str();
    let mut facts = Vec::new();
    let mut fact = |name: &str, value: Option<String>| {
        facts.extend(value.map(|value| format!("{name} {value}")));
    };
    fact("topic", told.topic.clone());
    fact("partition", told.partition.map(|it| it.to_string()));
    fact("offset", told.offset.map(|it| it.to_string()));
    fact("reason", told.reason.clone());
    fact("release", told.release.clone());
    fact("key", told.key.clone());
    let line = match facts.is_empty() {
        true => word.to_owned(),
        false => format!("{word} ({})", facts.join(", ")),
    };
    table::printable(&line)
}
