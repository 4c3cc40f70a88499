//! `outboxd verify`: whether the topics hold what the table says was published. Reads both, and never changes either.

mod event;
mod report;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use uuid::Uuid;

use self::report::Report;
use super::dead_letters::find;
use super::progress::Progress;
use super::{Exit, Failure, load};
use crate::clock;
use crate::config::{Config, OnRefused, Source};
use crate::kafka::{CheckpointLog, Clients, TopicLog, Topics};
use crate::logic::checkpoint::Checkpoint;
use crate::logic::event::Timestamp;
use crate::logic::verify::{
    Judge, Named, ROWS_MAX, Reach, Rows, SecondLook, Span, Standing, Verdict,
};
use crate::outbox::{BookRow, Books, Look};
use crate::relay::checkpoint_topic;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  outboxd verify --source orders\n
What it can say:
  lost       published by the table's books, and not in its topic
  doubled    more records than rows of one event, topic and key
  reordered  records of one key against the order of their rows; where writers of a key
             do not lock its aggregate, no order was promised, but this is said all the same
  ghost      a record of the source whose row never was
What it cannot: the table keeps published rows for one to two slots, so it speaks of these, of at most
5 million (the newest), and of the topics that they name. A missing record proves nothing where the topic
is compacted, keeps less than the table, or does not show its settings (DescribeConfigs); such rows are
counted as not judged. The daemon may run meanwhile. One event is looked for in all that is kept.

Exit code 65 when something is lost, doubled, reordered or a ghost.")]
pub struct Args {
    /// The source.
    #[arg(long, value_name = "SOURCE")]
    pub source: String,
    /// Tell what became of this one event.
    #[arg(long, value_name = "EVENT_ID")]
    pub event: Option<Uuid>,
    /// A topic to look for the event in besides those that the table names; may be given several times.
    #[arg(long, value_name = "TOPIC", requires = "event")]
    pub topic: Vec<String>,
    /// Show at most so many of each kind of fault.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub limit: usize,
    /// Print JSON instead of tables.
    #[arg(long)]
    pub json: bool,
}

/// A record bears its event's time or the relay's, whichever is earlier; clocks may differ by so much.
const SLACK_MS: i64 = 15 * 60 * 1000;

/// What a verification works with.
struct Scene<'a> {
    source: &'a Source,
    books: Books,
    clients: Clients,
    topics: Topics,
    progress: Progress,
}

pub(super) async fn execute(file: &Path, args: Args) -> Result<(), Failure> {
    let config: Config = load(file)?;
    let source = find(&config, &args.source)?;
    let clients = Clients::new(config.kafka.clone(), "verify");
    let mut scene = Scene {
        source,
        books: Box::pin(Books::open(&source.database)).await?,
        topics: Topics::new(&clients)?,
        clients,
        progress: Progress::new(),
    };
    match args.event {
        Some(event_id) => Box::pin(event::tell(&mut scene, event_id, &args)).await,
        None => {
            let report = Box::pin(scene.verify(args.limit)).await?;
            drop(scene);
            report.print(args.json)
        }
    }
}

impl Scene<'_> {
    /// Books first, topics then: what was settled when the books were read is in the topics when these are.
    async fn verify(&mut self, most: usize) -> Result<Report, Failure> {
        let look = self.look().await?;
        let taken = self.rows(&look).await?;
        // What was whole before may have lost a slot while it was read.
        let whole_since = self.look().await?.whole_since;
        let span = Span {
            since: (!taken.is_cut).then_some(whole_since),
            until: look.at,
        };
        let oldest = taken.oldest.unwrap_or(look.at).min(whole_since);
        let since_ms = oldest.as_ms() - SLACK_MS;
        let topics = taken.rows.topics().to_vec();
        let mut judge = Judge::new(taken.rows, span);
        let mut reaches: HashMap<String, Reach> = HashMap::new();
        for topic in &topics {
            let reach = self.read(topic, since_ms, &mut judge).await?;
            reaches.insert(topic.to_string(), reach);
        }
        let proves = |topic: &str| reaches.get(topic).is_some_and(|reach| reach.proves());
        let second_look = judge.second_look(proves);
        let verdict = self.decide(second_look, &look, since_ms, most).await?;
        Ok(Report::new(
            &self.source.name,
            verdict,
            span,
            since_ms,
            reaches,
        ))
    }

    /// Where the source stands, if it is this one.
    async fn look(&self) -> Result<Look, Failure> {
        let look = self.books.look().await?;
        match &look.source {
            Some(other) if *other != self.source.name => {
                let message = format!(
                    "the database of source \"{}\" belongs to source \"{other}\"; mend the configuration, or rename it \
                     with `outboxd sql rename`",
                    self.source.name
                );
                Err(Failure::new(Exit::Shape, message))
            }
            Some(_) | None => Ok(look),
        }
    }

    /// All rows that the look sees, or the newest of them.
    async fn rows(&mut self, look: &Look) -> Result<Taken, Failure> {
        let ahead = self.books.ahead().await?;
        let letters = self.books.letters(None).await?;
        let mut parked: HashSet<_> = letters.iter().map(|it| (it.id, it.event_id)).collect();
        let mut taken = Taken::default();
        let (lowest, highest) = look.ids.unwrap_or((0, -1));
        let mut after = (lowest - 1).max(highest - ROWS_MAX);
        taken.is_cut = after >= lowest;
        loop {
            let page = self.books.page(after, &look.now).await?;
            let Some(last) = page.last() else {
                break;
            };
            after = last.id;
            for row in &page {
                let standing = match parked.remove(&(row.id, row.event_id)) {
                    true => Standing::Letter,
                    false => standing(look, &ahead, row),
                };
                taken.add(row, standing);
            }
            let count = taken.rows.len();
            self.progress.tell(|| format!("{count} rows read"));
        }
        // Those whose row has gone with its slot.
        for letter in letters {
            if parked.contains(&(letter.id, letter.event_id)) {
                let (topic, key) = (&letter.topic, letter.key.as_deref());
                let (id, event_id) = (letter.id, letter.event_id);
                taken.rows.add(id, event_id, topic, key, Standing::Letter);
            }
        }
        Ok(taken)
    }

    /// Shows a topic's records to the judge.
    async fn read(
        &mut self,
        topic: &str,
        since_ms: i64,
        judge: &mut Judge,
    ) -> Result<Reach, Failure> {
        let name = &self.source.name;
        let log = TopicLog::open(&self.clients, &self.topics, topic, name, Some(since_ms)).await?;
        let Some(mut log) = log else {
            return Ok(Reach::Missing);
        };
        let kept = self.topics.keeps(topic).await;
        let mut records = 0;
        while let Some(round) = log.next().await? {
            records += round.records;
            round.sightings.into_iter().for_each(|it| judge.see(it));
            self.progress.tell(|| {
                format!(
                    "{topic}: {records} records read, of {} offsets",
                    log.offsets
                )
            });
        }
        Ok(Reach::new(
            log.may_be_cut,
            kept,
            clock::now().as_ms() - since_ms,
        ))
    }

    /// Looks at doubts again.
    async fn decide(
        &mut self,
        mut second_look: SecondLook,
        look: &Look,
        since_ms: i64,
        most: usize,
    ) -> Result<Verdict, Failure> {
        if !second_look.is_needless() {
            self.checkpoints(look, since_ms, |it| second_look.checkpoint(it))
                .await?;
        }
        let named = self.books.named(&second_look.wanted(most)).await?;
        let named = named.into_iter().map(|(id, row)| {
            let (event_id, topic, key) = (row.event_id, row.topic, row.key);
            (
                id,
                Named {
                    event_id,
                    topic,
                    key,
                },
            )
        });
        let skips = self.source.on_refused == OnRefused::Skip;
        Ok(second_look.verdict(&named.collect(), skips, most))
    }

    /// The checkpoints of this database since some time.
    async fn checkpoints(
        &mut self,
        look: &Look,
        since_ms: i64,
        mut take: impl FnMut(&Checkpoint),
    ) -> Result<(), Failure> {
        let topic = checkpoint_topic(&self.clients, &self.source.name);
        if !self.topics.exists(&topic).await? {
            return Ok(());
        }
        let mut log = CheckpointLog::since(&self.clients, &topic, since_ms).await?;
        let mut count = 0;
        while let Some(record) = log.next().await? {
            let checkpoint = Checkpoint::decode(&record.value);
            if let Ok(checkpoint) = checkpoint
                && checkpoint.is_of(look.incarnation)
            {
                take(&checkpoint);
            }
            count += 1;
            self.progress
                .tell(|| format!("second look: {count} checkpoints read"));
        }
        Ok(())
    }
}

/// Rows that were taken from the table.
#[derive(Default)]
struct Taken {
    rows: Rows,
    /// When the oldest row with a record was inserted.
    oldest: Option<Timestamp>,
    /// Whether there are more rows.
    is_cut: bool,
}

impl Taken {
    fn add(&mut self, row: &BookRow, standing: Standing) {
        let oldest = self.oldest.unwrap_or(row.created_at);
        self.oldest = Some(oldest.min(row.created_at));
        let (topic, key) = (&row.topic, row.key.as_deref());
        self.rows.add(row.id, row.event_id, topic, key, standing);
    }
}

fn standing(look: &Look, ahead: &HashSet<i64>, row: &BookRow) -> Standing {
    if look.position.has_read(row.txid, row.id) || ahead.contains(&row.id) {
        Standing::Published
    } else {
        Standing::Waiting
    }
}
