//! What librdkafka says of a transaction while its producer is polled: acknowledgements, failures, topics that it may not write to.
//! Decides nothing: it is kept until the producer's thread asks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as Inner, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::ProducerContext;
use rdkafka::statistics::Statistics;
use tracing::debug;

use crate::kafka::brokers::Brokers;
use crate::kafka::client::Failures;
use crate::logic::batch::TopicState;
use crate::metrics::Gauge;

/// What the library tells us while it is polled.
#[derive(Debug)]
pub(super) struct Deliveries {
    failed: Mutex<Vec<(usize, Code)>>,
    /// Topics that the transaction could not be extended to.
    shut: Mutex<HashMap<String, TopicState>>,
    checkpoint_offset: Mutex<Option<i64>>,
    pub(super) trouble: AtomicBool,
    queue_messages: Gauge,
    brokers: Brokers,
    failures: Failures,
}

/// Stands for the checkpoint among the records of a transaction; saga records follow the events.
pub(super) const CHECKPOINT: usize = usize::MAX;

impl Deliveries {
    pub(super) fn new(queue_messages: Gauge, failures: Failures) -> Self {
        Self {
            failed: Mutex::default(),
            shut: Mutex::default(),
            checkpoint_offset: Mutex::default(),
            trouble: AtomicBool::new(false),
            queue_messages,
            brokers: Brokers::default(),
            failures,
        }
    }

    pub(super) fn failed(&self) -> MutexGuard<'_, Vec<(usize, Code)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn shut(&self) -> MutexGuard<'_, HashMap<String, TopicState>> {
        self.shut.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn checkpoint_offset(&self) -> MutexGuard<'_, Option<i64>> {
        self.checkpoint_offset
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self) {
        self.failed().clear();
        self.shut().clear();
        *self.checkpoint_offset() = None;
        self.trouble.store(false, Ordering::Relaxed);
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        if fac == "ADDPARTS" {
            self.shut().extend(shut_topic(message));
        }
        self.failures.log_line(level, fac, message);
    }

    fn error(&self, error: Inner, reason: &str) {
        debug!(target: "librdkafka", %error, reason, "producer error");
        self.trouble.store(true, Ordering::Relaxed);
    }

    fn stats(&self, statistics: Statistics) {
        #[expect(clippy::cast_precision_loss, reason = "a queue of thousands")]
        self.queue_messages.set(statistics.msg_cnt as f64);
        self.brokers.note(&statistics);
    }
}

impl Drop for Deliveries {
    /// What the metrics say of a client that is gone would stay for ever.
    fn drop(&mut self) {
        self.queue_messages.set(0.0);
        if self.trouble.load(Ordering::Relaxed) {
            self.brokers.lost();
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        match result {
            Ok(message) if index == CHECKPOINT => {
                *self.checkpoint_offset() = Some(message.offset());
            }
            Ok(_) => {}
            Err((error, _)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                self.failed().push((index, code));
            }
        }
    }
}

/// The topic that a line of the library's log says a transaction could not be extended to, and why. Where a right to write
/// is missing and that to describe is not, records fail with no reason of their own, and this is all that tells.
fn shut_topic(line: &str) -> Option<(String, TopicState)> {
    let (_, rest) = line.split_once("Failed to add partition \"")?;
    let (topic, why) = rest.split_once('"')?;
    let denied = why.contains("authorization failed");
    let missing = why.contains("Unknown topic");
    let state = match (denied, missing) {
        (true, _) => TopicState::Denied,
        (_, true) => TopicState::Missing,
        (false, false) => return None,
    };
    Some((topic.to_owned(), state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_library_tells_which_topic_is_shut() {
        let line = |why: &str| {
            let line = "[thrd:main]: TxnCoordinator/1: Failed to add partition \"orders\" [0] to transaction: ";
            shut_topic(&(line.to_owned() + why))
        };
        let orders = |state| Some(("orders".to_owned(), state));
        let denied = "Broker: Topic authorization failed";
        assert_eq!(line(denied), orders(TopicState::Denied));
        let missing = "Broker: Unknown topic or partition";
        assert_eq!(line(missing), orders(TopicState::Missing));
        assert_eq!(line("Broker: Not enough in-sync replicas"), None);
        assert_eq!(shut_topic("anything else"), None);
    }
}
