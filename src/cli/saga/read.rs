//! Reads the saga topic up to now, into the same partitions that a daemon has. Never stays to follow it.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cli::{Exit, Failure};
use crate::clock;
use crate::config::Config;
use crate::kafka::{Clients, Fed, Owner, SagaLog, SagaLogError, Topics};
use crate::logic::push::frames::Frame;
use crate::logic::push::partition::{Keep, Partition, Sink};
use crate::logic::saga::Definitions;

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
pub(super) struct Nobody;

impl Sink for Nobody {
    fn offer(&self, _: &Arc<Frame>) -> bool {
        true
    }

    fn answer(&self, _: Arc<Frame>) {}

    fn behind(&self, _: i32) {}
}

/// Reads the log up to now.
pub(super) async fn read(
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
    let since_ms = clock::now().as_ms().saturating_sub(history_ms);
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
