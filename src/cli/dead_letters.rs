//! `outboxd dead-letters`: the events that Kafka did not take. Never moves one itself: the leader of the source does.

use std::io::Write;
use std::path::Path;

use uuid::Uuid;

use super::{Exit, Failure, load, table};
use crate::config::{Config, Source};
use crate::outbox::{Letter, Link, Wish, connect, letters};

/// Arguments of `dead-letters`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  outboxd dead-letters list --source orders --json")]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do with dead letters.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List them, oldest first.
    #[command(after_help = "Example:\n  outboxd dead-letters list --source orders --json")]
    List {
        /// Of this source only.
        #[arg(long, value_name = "SOURCE")]
        source: Option<String>,
        /// At most so many of each source.
        #[arg(long, value_name = "N", default_value_t = 1000)]
        limit: u32,
        /// Print a JSON list instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Show all of one as JSON, its payload included.
    #[command(
        after_help = "Example:\n  outboxd dead-letters show --source orders 8a0e6a0c-7c1f-4f0e-9f43-0d5b7f4f5a55"
    )]
    Show {
        /// The source it belongs to.
        #[arg(long, value_name = "SOURCE")]
        source: String,
        /// The event's id.
        #[arg(value_name = "EVENT_ID")]
        event_id: Uuid,
    },
    /// Have them sent after all, in the order of their keys.
    #[command(after_help = "Example:\n  outboxd dead-letters retry --source orders --all")]
    Retry(Which),
    /// Have them forgotten.
    #[command(
        after_help = "Example:\n  outboxd dead-letters drop --source orders 8a0e6a0c-7c1f-4f0e-9f43-0d5b7f4f5a55"
    )]
    Drop(Which),
}

/// Which dead letters.
#[derive(Debug, clap::Args)]
#[group(id = "which", required = true, args = ["all", "event_ids"])]
pub struct Which {
    /// The source they belong to.
    #[arg(long, value_name = "SOURCE")]
    pub source: String,
    /// All of them.
    #[arg(long, conflicts_with = "event_ids")]
    pub all: bool,
    /// The events' ids.
    #[arg(value_name = "EVENT_ID")]
    pub event_ids: Vec<Uuid>,
}

pub(super) async fn execute(file: &Path, args: Args) -> Result<(), Failure> {
    let config = load(file)?;
    match args.command {
        Command::List {
            source,
            limit,
            json,
        } => list(&config, source.as_deref(), limit, json).await,
        Command::Show { source, event_id } => {
            let link = open(find(&config, &source)?).await?;
            let found = letters::show(&link, event_id).await?;
            if found.is_empty() {
                let message = format!("source \"{source}\" has no dead letter {event_id}");
                return Err(Failure::new(Exit::Shape, message));
            }
            let mut out = std::io::stdout().lock();
            for letter in found {
                writeln!(out, "{letter:#}")?;
            }
            Ok(())
        }
        Command::Retry(which) => wish(&config, &which, Wish::Retry).await,
        Command::Drop(which) => wish(&config, &which, Wish::Drop).await,
    }
}

async fn list(
    config: &Config,
    source: Option<&str>,
    limit: u32,
    json: bool,
) -> Result<(), Failure> {
    let sources: Vec<&Source> = match source {
        Some(name) => vec![find(config, name)?],
        None => config.sources.iter().collect(),
    };
    let mut all = Vec::new();
    for source in sources {
        let link = open(source).await?;
        let letters = letters::list(&link, &source.name, limit).await?;
        all.extend(letters);
    }
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &all).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else if all.is_empty() {
        writeln!(out, "no dead letters")?;
    } else {
        let head = [
            "SOURCE", "EVENT ID", "TOPIC", "KEY", "REASON", "RELEASE", "AT", "ERROR",
        ];
        write!(out, "{}", table::render(&head, all.into_iter().map(row)))?;
    }
    Ok(())
}

async fn wish(config: &Config, which: &Which, wish: Wish) -> Result<(), Failure> {
    let link = open(find(config, &which.source)?).await?;
    let event_ids = (!which.all).then_some(which.event_ids.as_slice());
    let wished = letters::wish(&link, wish, event_ids).await?;
    let expected = event_ids.map_or(0, <[Uuid]>::len) as u64;
    if wished < expected {
        let message = format!(
            "source \"{}\" has only {wished} of these {expected} dead letters",
            which.source
        );
        return Err(Failure::new(Exit::Shape, message));
    }
    let word = match wish {
        Wish::Retry => "be sent",
        Wish::Drop => "be forgotten",
    };
    writeln!(
        std::io::stdout().lock(),
        "{wished} dead letters will {word} within seconds, while a daemon leads source \"{}\"",
        which.source
    )?;
    Ok(())
}

async fn open(source: &Source) -> Result<Link, Failure> {
    Ok(connect(&source.database, "outboxd dead-letters").await?)
}

pub(super) fn find<'a>(config: &'a Config, name: &str) -> Result<&'a Source, Failure> {
    config
        .sources
        .iter()
        .find(|source| source.name == name)
        .ok_or_else(|| {
            let names: Vec<&str> = config
                .sources
                .iter()
                .map(|source| source.name.as_str())
                .collect();
            let message = format!(
                "there is no source \"{name}\" in the configuration, but: {}",
                names.join(", ")
            );
            Failure::new(Exit::Usage, message)
        })
}

fn row(letter: Letter) -> Vec<String> {
    let Letter {
        source,
        event_id,
        topic,
        key,
        reason,
        release,
        error,
        at,
    } = letter;
    let key = key.unwrap_or_else(|| "-".to_owned());
    vec![
        source,
        event_id.to_string(),
        topic,
        key,
        reason,
        release,
        at,
        error,
    ]
}
