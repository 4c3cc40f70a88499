//! Follows what every source publishes while the run goes on, as a read_committed consumer: its notes tell how long a source
//! was silent after a fault. Never judges: the verdict reads everything anew.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use outboxd::logic::checkpoint::Checkpoint;

use crate::support::consumer;

/// A transaction with events that became visible.
struct Batch {
    seen: Instant,
    epoch: i64,
    /// By the clock of the machine, in milliseconds since 1970.
    made_ms: i64,
}

/// A source that was hit, and what counts as its recovery.
pub(crate) struct Hit {
    /// Its name.
    pub(crate) source: String,
    /// When it was hit.
    pub(crate) began: Instant,
    /// From here on its recovery is measured: at once, or when what froze goes on.
    pub(crate) since: Instant,
    /// Only what was made later is a sign of life.
    pub(crate) made_after_ms: i64,
    /// And by a later leader.
    pub(crate) epoch_over: i64,
}

impl Hit {
    /// A source is hit now; any leader may recover it.
    pub(crate) fn now(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            began: Instant::now(),
            since: Instant::now(),
            made_after_ms: now_ms(),
            epoch_over: -1,
        }
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// All batches that became visible, by source.
#[derive(Default)]
pub(crate) struct Tail(Mutex<HashMap<String, Vec<Batch>>>);

impl Tail {
    /// Reads the checkpoints of all sources until `stop`: each is the last record of a transaction.
    pub(crate) fn follow(&self, bootstrap: &str, topics: &[String], stop: &AtomicBool) {
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let consumer = consumer::consumer(bootstrap, &topics);
        while !stop.load(Ordering::Relaxed) {
            // Errors are those of a broker that is away; the client comes back to it by itself.
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) else {
                continue;
            };
            let message = consumer::owned(&message);
            let value = message.value.unwrap_or_default();
            let checkpoint = Checkpoint::decode(&value).expect("a checkpoint");
            if checkpoint.published.0.is_empty() {
                continue;
            }
            let (_, source) = message.topic.split_once(".checkpoints.").unwrap();
            self.batches()
                .entry(source.to_owned())
                .or_default()
                .push(Batch {
                    seen: Instant::now(),
                    epoch: checkpoint.epoch,
                    made_ms: message.timestamp_ms.unwrap_or_default(),
                });
        }
    }

    /// How long a source that was hit took to publish again; `None` while it has not.
    pub(crate) fn recovery(&self, hit: &Hit) -> Option<Duration> {
        let batches = self.batches();
        let batches = batches.get(&hit.source)?;
        let later = batches.partition_point(|batch| batch.seen < hit.since);
        let alive =
            |batch: &&Batch| batch.made_ms >= hit.made_after_ms && batch.epoch > hit.epoch_over;
        let first = batches[later..].iter().find(alive)?;
        Some(first.seen - hit.since)
    }

    /// Whether nothing of any source became visible since then.
    pub(crate) fn is_silent_since(&self, then: Instant) -> bool {
        let batches = self.batches();
        let mut last = batches.values().filter_map(|batches| batches.last());
        last.all(|batch| batch.seen < then)
    }

    /// How many batches became visible.
    pub(crate) fn count(&self) -> usize {
        self.batches().values().map(Vec::len).sum()
    }

    fn batches(&self) -> MutexGuard<'_, HashMap<String, Vec<Batch>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
