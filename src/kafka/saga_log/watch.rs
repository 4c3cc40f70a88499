//! What the client library says while the saga log is read. Never decides what follows from it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::Statistics;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError as Inner;
use tracing::debug;

use super::super::brokers::Brokers;
use super::super::client::Failures;

/// What the client library says of itself now and then.
#[derive(Debug)]
pub(super) struct Seen {
    /// By partition: the next offset to read and the last stable one.
    pub(super) partitions: BTreeMap<i32, (i64, i64)>,
    /// Whether a leader is not connected.
    pub(super) away: bool,
}

/// Notes what the call-backs of a consumer say; its errors are returned by its calls.
#[derive(Debug, Default)]
pub(super) struct Watch {
    seen: Mutex<Option<Seen>>,
    served: AtomicBool,
    brokers: Brokers,
    failures: Failures,
}

impl Watch {
    pub(super) fn new(failures: Failures) -> Self {
        Self {
            failures,
            ..Self::default()
        }
    }

    /// The newest, once.
    pub(super) fn seen(&self) -> Option<Seen> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.take()
    }

    /// Whether a call-back was called since this was asked.
    pub(super) fn served(&self) -> bool {
        self.served.swap(false, Ordering::Relaxed)
    }
}

impl ClientContext for Watch {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        self.served.store(true, Ordering::Relaxed);
        self.failures.log_line(level, fac, message);
    }

    fn error(&self, error: Inner, reason: &str) {
        debug!(target: "librdkafka", %error, reason, "client error");
    }

    fn stats(&self, statistics: Statistics) {
        self.served.store(true, Ordering::Relaxed);
        self.brokers.note(&statistics);
        let brokers = statistics.brokers.values();
        let up = brokers.filter(|broker| broker.state == "UP");
        let up: Vec<i32> = up.map(|broker| broker.nodeid).collect();
        let topics = statistics.topics.values();
        let known = topics.flat_map(|topic| &topic.partitions);
        let known: Vec<_> = known.filter(|(number, _)| **number >= 0).collect();
        let seen = Seen {
            away: known.iter().any(|(_, it)| !up.contains(&it.leader)),
            partitions: known
                .into_iter()
                .filter(|(_, it)| it.ls_offset >= 0)
                .map(|(number, it)| (*number, (it.app_offset, it.ls_offset)))
                .collect(),
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
    }
}

impl ConsumerContext for Watch {}
