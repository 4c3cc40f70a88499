//! Which brokers one client is connected to, as its statistics tell. Never speaks of a broker that the client has no use for.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use rdkafka::statistics::Statistics;

use crate::metrics;

/// The brokers that a client was connected to at some time.
#[derive(Debug, Default)]
pub(super) struct Brokers {
    known: Mutex<BTreeSet<String>>,
}

impl Brokers {
    /// Takes the news into the metrics.
    ///
    /// A client connects only to brokers that it needs, so that one it never needed says nothing.
    pub(super) fn note(&self, statistics: &Statistics) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // The first connection of all goes to a broker whose id is not known yet.
        let brokers = statistics.brokers.values();
        for broker in brokers.filter(|broker| broker.nodeid >= 0) {
            let mut partitions = statistics
                .topics
                .values()
                .flat_map(|topic| topic.partitions.values());
            let is_up = broker.state == "UP";
            let leads = partitions.any(|partition| partition.leader == broker.nodeid);
            if is_up || leads {
                known.insert(broker.name.clone());
            }
            if known.contains(&broker.name) {
                let rtt = broker.rtt.as_ref().filter(|rtt| rtt.cnt > 0);
                #[expect(clippy::cast_precision_loss, reason = "microseconds")]
                let rtt_seconds = rtt.map(|rtt| rtt.avg as f64 / 1e6);
                metrics::broker(&broker.name, is_up, rtt_seconds);
            }
        }
    }

    /// The client ends because Kafka does not answer it.
    pub(super) fn lost(&self) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for name in known.iter() {
            metrics::broker(name, false, None);
        }
    }
}
