//! `outboxd saga`: sagas as the log tells of them. Reads the topic itself, so that it needs no daemon; never writes to it.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Exit, Failure, load, table};
use crate::config::Config;
use crate::kafka::{Clients, Fed, Owner, SagaLog, SagaLogError, Topics};
use crate::logic::event::Timestamp;
use crate::logic::push::frames::Frame;
use crate::logic::push::partition::{Filter, Keep, Listed, Partition, Sink};
use crate::logic::push::placement::partition_of;
use crate::logic::rights::Rights;
use crate::logic::saga::{Definitions, SagaKey};

/// Arguments of `saga`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  outboxd saga list --type create-order --state APPROVAL_PENDING"
)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to see of sagas.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List them, those that changed longest ago first.
    #[command(
        after_help = "Example:\n  outboxd saga list --type create-order --state APPROVAL_PENDING"
    )]
    List {
        /// Of this type only.
        #[arg(long = "type", value_name = "TYPE")]
        saga_type: Option<String>,
        /// In this state only.
        #[arg(long, value_name = "STATE")]
        state: Option<String>,
        /// Beyond the limit of their state only; limits are in definitions of sagas.
        #[arg(long)]
        stuck: bool,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
        /// Print a JSON list instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Show one: its state, its steps, and what should not be.
    #[command(after_help = "Example:\n  outboxd saga show create-order o-42")]
    Show {
        /// The saga's type.
        #[arg(value_name = "TYPE")]
        saga_type: String,
        /// Its id.
        #[arg(value_name = "ID")]
        saga_id: String,
        /// Print JSON: what a client is shown.
        #[arg(long)]
        json: bool,
    },
}

/// Records that may wait for a partition.
const MAILBOX: usize = 4;
/// How often progress is shown.
const PROGRESS: Duration = Duration::from_millis(200);
/// Defaults of `[push]`, for a daemon that has none.
const USUAL: Keep = Keep {
    history: Duration::from_secs(7 * 24 * 3600),
    finished: Duration::from_secs(24 * 3600),
};

/// Nobody watches.
#[derive(Debug, Clone)]
struct Nobody;

impl Sink for Nobody {
    fn offer(&self, _: &Arc<Frame>) -> bool {
        true
    }

    fn answer(&self, _: Arc<Frame>) {}

    fn behind(&self, _: i32) {}
}

pub(super) async fn execute(file: &Path, args: Args) -> Result<(), Failure> {
    let config = load(file)?;
    let definitions = Arc::new(config.definitions()?);
    let everything = json!([{"saga_type": "*"}]);
    let rights = Rights::new(None, Some(&everything));
    let partitions = read(&config, &definitions).await?;
    let mut out = std::io::stdout().lock();
    match args.command {
        Command::List {
            saga_type,
            state,
            stuck,
            limit,
            json,
        } => {
            let filter = Filter {
                saga_type,
                state,
                stuck,
                finished: None,
                newest: false,
                after: None,
                limit,
            };
            let listed = partitions
                .iter()
                .flat_map(|partition| partition.list(&filter, &rights));
            let mut listed: Vec<Listed> = listed.collect();
            listed.sort_by_key(|listed| listed.place);
            listed.truncate(limit);
            let sagas: Vec<Value> = listed
                .iter()
                .filter_map(|one| parse(&one.snapshot))
                .collect();
            if json {
                writeln!(out, "{:#}", Value::Array(sagas))?;
            } else if sagas.is_empty() {
                writeln!(out, "no sagas")?;
            } else {
                write!(out, "{}", list(&sagas, now_seconds()))?;
            }
        }
        Command::Show {
            saga_type,
            saga_id,
            json,
        } => {
            let number = partition_of(
                &saga_id,
                i32::try_from(partitions.len()).unwrap_or(i32::MAX),
            );
            let partition = usize::try_from(number)
                .ok()
                .and_then(|number| partitions.get(number));
            let key = SagaKey::new(&saga_type, &saga_id);
            let found = partition.and_then(|partition| partition.snapshot(&key, &rights, "").ok());
            let Some(saga) = found.and_then(|(_, snapshot)| parse(&snapshot)) else {
                let message =
                    format!("the log does not know a saga {saga_type} {saga_id} any more, or yet");
                return Err(Failure::new(Exit::Shape, message));
            };
            if json {
                writeln!(out, "{saga:#}")?;
            } else {
                write!(out, "{}", show(&saga))?;
            }
        }
    }
    Ok(())
}

/// Reads the log up to now.
async fn read(
    config: &Config,
    definitions: &Arc<Definitions>,
) -> Result<Vec<Partition<Nobody>>, Failure> {
    let keep = config.push.as_ref().map_or(USUAL, |push| Keep {
        history: push.history,
        finished: push.keep_finished,
    });
    let clients = Clients::new(config.kafka.clone(), "saga");
    let topics = Topics::new(&clients)?;
    let log = SagaLog::find(&clients, &topics).await?;
    let (owners, mailboxes): (Vec<_>, Vec<_>) = (0..log.partitions)
        .map(|_| mpsc::channel::<Fed>(MAILBOX))
        .map(|(sink, mailbox)| (Owner { sink, last: None }, mailbox))
        .unzip();
    let progress = Progress::new();
    let folding = join_all(
        mailboxes
            .into_iter()
            .zip(0..)
            .map(|(mailbox, number)| fold(number, keep, definitions, mailbox, &progress)),
    );
    let history_ms = i64::try_from(keep.history.as_millis()).unwrap_or(i64::MAX);
    let since_ms = now_ms().saturating_sub(history_ms);
    let never = CancellationToken::new();
    tokio::select! {
        partitions = folding => {
            progress.end();
            Ok(partitions)
        }
        ended = log.read(since_ms, owners, None, &never) => {
            progress.end();
            Err(ended.err().map_or_else(|| Failure::bug("reading ended by itself"), Failure::from))
        }
    }
}

async fn fold(
    number: i32,
    keep: Keep,
    definitions: &Arc<Definitions>,
    mut mailbox: mpsc::Receiver<Fed>,
    progress: &Progress,
) -> Partition<Nobody> {
    let mut partition = Partition::new(number, keep, 0, false);
    while let Some(fed) = mailbox.recv().await {
        match fed {
            Fed::Start(offset) => {
                partition = Partition::new(number, keep, 0, offset == 0);
                partition.define(definitions);
            }
            Fed::Records(records) => {
                progress.add(records.len());
                for record in records {
                    let value = record.value.unwrap_or_default();
                    partition.apply(record.offset, record.timestamp_ms, &value, |_| ());
                }
            }
            Fed::CaughtUp => break,
            Fed::Lag(_) => {}
        }
    }
    partition
}

/// How much has been read, for a person who waits.
struct Progress {
    is_watched: bool,
    shown: std::cell::Cell<(usize, Instant)>,
}

impl Progress {
    fn new() -> Self {
        Self {
            is_watched: std::io::stderr().is_terminal(),
            shown: std::cell::Cell::new((0, Instant::now())),
        }
    }

    fn add(&self, records: usize) {
        let (before, at) = self.shown.get();
        let count = before + records;
        let is_due = self.is_watched && at.elapsed() > PROGRESS;
        if is_due {
            // Nobody is left to tell when this cannot be shown.
            let _ = write!(std::io::stderr().lock(), "\rreading sagas: {count} records");
        }
        self.shown
            .set((count, if is_due { Instant::now() } else { at }));
    }

    fn end(&self) {
        if self.is_watched {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}

fn parse(snapshot: &str) -> Option<Value> {
    let mut saga: Value = serde_json::from_str(snapshot).ok()?;
    let fields = saga.as_object_mut()?;
    // What only a client can use.
    fields.remove("type");
    fields.remove("epoch");
    Some(saga)
}

fn text(value: &Value, field: &str) -> String {
    let found = value.get(field).and_then(Value::as_str);
    found.unwrap_or("-").to_owned()
}

fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(field)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn list(sagas: &[Value], now_seconds: f64) -> String {
    let head = [
        "TYPE", "ID", "STATE", "OUTCOME", "STEPS", "CHANGED", "STUCK",
    ];
    let row = |saga: &Value| {
        let steps = items(saga, "steps");
        let (mut done, mut all) = (0_usize, 0_usize);
        for step in steps {
            all += 1;
            done += usize::from(text(step, "status") == "done");
        }
        let age = |field| {
            let at = Timestamp::from_rfc3339(&text(saga, field))?;
            Some(table::age((now_seconds - at.as_seconds()).max(0.0)))
        };
        let dash = || "-".to_owned();
        vec![
            text(saga, "saga_type"),
            text(saga, "saga_id"),
            text(saga, "state"),
            text(saga, "outcome"),
            format!("{done}/{all}"),
            age("at").map_or_else(dash, |age| format!("{age} ago")),
            age("stuck_since").map_or_else(dash, |age| format!("for {age}")),
        ]
    };
    table::render(&head, sagas.iter().map(row))
}

fn show(saga: &Value) -> String {
    let facts = ["state", "outcome", "started_at", "at", "stuck_since"].map(|field| {
        let name = if field == "at" { "changed_at" } else { field };
        vec![name.replace('_', " "), text(saga, field)]
    });
    let [saga_type, saga_id] = &["saga_type", "saga_id"].map(|field| text(saga, field));
    let mut shown = table::render(&[saga_type, saga_id], facts.into_iter());
    let remaining: Vec<_> = items(saga, "remaining_steps")
        .filter_map(Value::as_str)
        .collect();
    if !remaining.is_empty() {
        shown.push_str(&format!("\nstill to do: {}\n", remaining.join(", ")));
    }
    for due in items(saga, "due_compensations") {
        let [step, compensation] = ["step", "compensation"].map(|field| text(due, field));
        shown.push_str(&format!("\nto be undone: {step}, by {compensation}\n"));
    }
    let steps: Vec<_> = items(saga, "steps")
        .map(|step| vec![text(step, "step"), text(step, "status"), text(step, "at")])
        .collect();
    if !steps.is_empty() {
        shown.push('\n');
        shown.push_str(&table::render(&["STEP", "STATUS", "AT"], steps.into_iter()));
    }
    let anomalies: Vec<_> = items(saga, "anomalies")
        .map(|one| vec![text(one, "kind"), text(one, "at"), text(one, "event_id")])
        .collect();
    if !anomalies.is_empty() {
        shown.push('\n');
        shown.push_str(&table::render(
            &["ANOMALY", "AT", "EVENT"],
            anomalies.into_iter(),
        ));
    }
    if saga.get("partial").and_then(Value::as_bool) == Some(true) {
        shown.push_str("\nThe log's beginning is gone: what happened before is not known.\n");
    }
    shown
}

fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn now_seconds() -> f64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    since.as_secs_f64()
}

impl From<SagaLogError> for Failure {
    fn from(error: SagaLogError) -> Self {
        match error {
            SagaLogError::Kafka(error) => error.into(),
            SagaLogError::Replaced { .. }
            | SagaLogError::Unknown { .. }
            | SagaLogError::Repartitioned { .. } => Self::new(Exit::Unreachable, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saga() -> Value {
        json!({
            "saga_type": "create-order", "saga_id": "o-42", "version": 8130, "state": "APPROVED", "outcome": "completed",
            "started_at": "1970-01-01T00:00:00.000000Z", "at": "1970-01-01T00:01:00.000000Z",
            "steps": [{"step": "create-ticket", "status": "done", "at": "1970-01-01T00:00:30.000000Z"},
                      {"step": "confirm-ticket", "status": "pending", "at": "1970-01-01T00:00:40.000000Z"}],
            "stuck_since": "1970-01-01T00:01:30.000000Z", "partial": false, "remaining_steps": ["confirm-ticket", "deliver"],
            "anomalies": [{"kind": "foreign_state", "at": "1970-01-01T00:00:50.000000Z", "event_id": "e"}],
        })
    }

    #[test]
    fn a_list_has_a_line_for_each() {
        assert_eq!(
            list(&[saga()], 120.0),
            "TYPE          ID    STATE     OUTCOME    STEPS  CHANGED   STUCK\n\
             create-order  o-42  APPROVED  completed  1/2    60 s ago  for 30 s\n"
        );
    }

    #[test]
    fn one_is_shown_with_its_steps_and_what_should_not_be() {
        assert_eq!(
            show(&saga()),
            "create-order  o-42\n\
             state         APPROVED\n\
             outcome       completed\n\
             started at    1970-01-01T00:00:00.000000Z\n\
             changed at    1970-01-01T00:01:00.000000Z\n\
             stuck since   1970-01-01T00:01:30.000000Z\n\
             \n\
             still to do: confirm-ticket, deliver\n\
             \n\
             STEP            STATUS   AT\n\
             create-ticket   done     1970-01-01T00:00:30.000000Z\n\
             confirm-ticket  pending  1970-01-01T00:00:40.000000Z\n\
             \n\
             ANOMALY        AT                           EVENT\n\
             foreign_state  1970-01-01T00:00:50.000000Z  e\n"
        );
    }
}
