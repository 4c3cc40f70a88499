//! Every metric with its labels; the names are in `metrics/table.rs`. Parts get a typed handle and never name one. Labels
//! come from the configuration, from closed lists or from the cluster's brokers; never from a row.
#![expect(
    clippy::disallowed_macros,
    reason = "this is the one place that names metrics"
)]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use metrics::{Counter, Gauge, Histogram};
use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
pub use metrics_exporter_prometheus::BuildError as MetricsError;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::logic::refusal::{Reason, Release};
use crate::logic::status::Circuit;

mod process;
mod push;
mod sagas;
mod table;

pub use push::{KeyMetrics, PartitionMetrics, PushMetrics, Rejected, Skipped, Transport};
pub use sagas::SagaMetrics;

use table::{Kind, METRICS};

/// Collects what the parts report.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
    /// Sources that are gone.
    hidden: Arc<Mutex<BTreeSet<String>>>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Starts to collect, once in a process and before any handle is made.
    pub fn install(loaded_at_seconds: f64) -> Result<Self, MetricsError> {
        let mut builder = PrometheusBuilder::new();
        for (name, kind, _) in METRICS {
            if let Kind::Histogram(buckets) = kind {
                builder =
                    builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)?;
            }
        }
        let handle = builder.install_recorder()?;
        for (name, kind, help) in METRICS {
            match kind {
                Kind::Counter => describe_counter!(*name, *help),
                Kind::Gauge => describe_gauge!(*name, *help),
                Kind::Histogram(_) => describe_histogram!(*name, Unit::Count, *help),
            }
        }
        let revision = option_env!("OUTBOXD_REVISION").unwrap_or("unknown");
        gauge!("outboxd_build_info", "version" => env!("CARGO_PKG_VERSION"), "revision" => revision).set(1.0);
        gauge!("outboxd_config_last_reload_successful").set(1.0);
        gauge!("outboxd_config_last_reload_success_timestamp_seconds").set(loaded_at_seconds);
        let hidden = Arc::default();
        Ok(Self { handle, hidden })
    }

    /// All of it in Prometheus' text format. Takes a while: not for an async thread.
    pub fn render(&self) -> String {
        let rendered = self.handle.render();
        let hidden = self.hidden();
        let mut text = without(rendered, &hidden);
        text.push_str(&process::render());
        text
    }

    /// The configuration has been read again, at this time; or in vain.
    pub fn reloaded(&self, at_seconds: Option<f64>) {
        gauge!("outboxd_config_last_reload_successful")
            .set(f64::from(u8::from(at_seconds.is_some())));
        if let Some(at) = at_seconds {
            gauge!("outboxd_config_last_reload_success_timestamp_seconds").set(at);
        }
    }

    /// Tells nothing of a source that is gone: whatever its last numbers were, they are nobody's.
    pub fn hide_source(&self, source: &str) {
        self.hidden().insert(source.to_owned());
    }

    /// It is back.
    pub fn show_source(&self, source: &str) {
        self.hidden().remove(source);
    }

    fn hidden(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.hidden.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Folds what histograms have collected into their buckets; without it they grow until the next scrape.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

/// A scrape without the lines that are about one of these sources.
fn without(scrape: String, sources: &BTreeSet<String>) -> String {
    if sources.is_empty() {
        return scrape;
    }
    let labels: Vec<String> = sources
        .iter()
        .flat_map(|source| {
            [
                format!("source=\"{source}\""),
                format!("target=\"kafka/{source}\""),
            ]
        })
        .collect();
    let kept = scrape
        .split_inclusive('\n')
        .filter(|line| line.starts_with('#') || !labels.iter().any(|label| line.contains(label)));
    kept.collect()
}

/// Why a producer was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recreated {
    /// A commit took so long that it may have been tried twice.
    SlowCommit,
    /// Its batches were too large for a topic that it learned of later.
    TopicLimit,
    /// Records were refused, so its transaction was aborted.
    Refused,
    /// The broker gave it up although the lease is ours.
    Fenced,
    /// Kafka did not answer, or not as it should.
    Error,
}

impl Recreated {
    const ALL: [Self; 5] = [
        Self::SlowCommit,
        Self::TopicLimit,
        Self::Refused,
        Self::Fenced,
        Self::Error,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::SlowCommit => "slow_commit",
            Self::TopicLimit => "topic_limit",
            Self::Refused => "refused",
            Self::Fenced => "fenced",
            Self::Error => "error",
        }
    }
}

/// The metrics of one source; named as in the contract, without prefix and unit.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the table above says what each is")]
pub struct SourceMetrics {
    source: String,
    pub up: Gauge,
    pub leader: Gauge,
    pub paused: Gauge,
    pub events_read: Counter,
    pub events_published: Counter,
    pub published_bytes: Counter,
    pub batch_committed: Counter,
    pub batch_aborted: Counter,
    pub batch_unknown: Counter,
    pub duplicates_suppressed: Counter,
    pub insert_to_publish: Histogram,
    pub phase_read: Histogram,
    pub phase_send: Histogram,
    pub phase_commit: Histogram,
    pub phase_settle: Histogram,
    pub batch_events: Histogram,
    pub backlog_events: Gauge,
    pub oldest_unpublished_timestamp: Gauge,
    pub last_poll_timestamp: Gauge,
    pub ring_slots_used: Gauge,
    pub lease_lost: Counter,
    pub queue_messages: Gauge,
    circuit: Gauge,
}

impl SourceMetrics {
    /// Makes every series of a source appear, at zero.
    pub fn new(source: &str) -> Self {
        let name = source.to_owned();
        let labels = || [("source", name.clone())];
        let batches = |result: &'static str| counter!("outboxd_batches_total", "source" => name.clone(), "result" => result);
        let phase = |phase: &'static str| histogram!("outboxd_phase_seconds", "source" => name.clone(), "phase" => phase);
        let metrics = Self {
            up: gauge!("outboxd_source_up", &labels()),
            leader: gauge!("outboxd_source_leader", &labels()),
            paused: gauge!("outboxd_source_paused", &labels()),
            events_read: counter!("outboxd_events_read_total", &labels()),
            events_published: counter!("outboxd_events_published_total", &labels()),
            published_bytes: counter!("outboxd_published_bytes_total", &labels()),
            batch_committed: batches("committed"),
            batch_aborted: batches("aborted"),
            batch_unknown: batches("unknown"),
            duplicates_suppressed: counter!("outboxd_duplicates_suppressed_total", &labels()),
            insert_to_publish: histogram!("outboxd_insert_to_publish_seconds", &labels()),
            phase_read: phase("read"),
            phase_send: phase("send"),
            phase_commit: phase("commit"),
            phase_settle: phase("settle"),
            batch_events: histogram!("outboxd_batch_events", &labels()),
            backlog_events: gauge!("outboxd_backlog_events", &labels()),
            oldest_unpublished_timestamp: gauge!(
                "outboxd_oldest_unpublished_timestamp_seconds",
                &labels()
            ),
            last_poll_timestamp: gauge!("outboxd_last_poll_timestamp_seconds", &labels()),
            ring_slots_used: gauge!("outboxd_ring_slots_used", &labels()),
            lease_lost: counter!("outboxd_lease_lost_total", &labels()),
            queue_messages: gauge!("outboxd_kafka_queue_messages", &labels()),
            circuit: gauge!("outboxd_circuit_state", "target" => format!("kafka/{source}")),
            source: name.clone(),
        };
        for reason in Reason::ALL {
            metrics.refused_counter(reason).increment(0);
        }
        for reason in Recreated::ALL {
            metrics.recreated_counter(reason).increment(0);
        }
        for release in Release::ALL {
            metrics.dead_letters(release, 0);
        }
        metrics.circuit(Circuit::Closed);
        metrics
    }

    /// An event was refused.
    pub fn refused(&self, reason: Reason) {
        self.refused_counter(reason).increment(1);
    }

    /// The producer was replaced.
    pub fn recreated(&self, reason: Recreated) {
        self.recreated_counter(reason).increment(1);
    }

    /// So many dead letters wait for this release.
    pub fn dead_letters(&self, release: Release, rows: u64) {
        #[expect(clippy::cast_precision_loss, reason = "there is a limit far below")]
        gauge!("outboxd_dead_letter_rows", "source" => self.source.clone(), "release" => release.as_str())
            .set(rows as f64);
    }

    /// What is not published yet, and when the oldest of it was inserted.
    pub fn backlog(&self, events: u64, oldest_seconds: Option<f64>) {
        #[expect(clippy::cast_precision_loss, reason = "counted to a million")]
        self.backlog_events.set(events as f64);
        self.oldest_unpublished_timestamp
            .set(oldest_seconds.unwrap_or(0.0));
    }

    /// Another daemon leads, and counts what waits; what was counted here would be said for ever.
    pub fn stand_by(&self) {
        self.backlog(0, None);
        for release in Release::ALL {
            self.dead_letters(release, 0);
        }
        self.ring_slots_used.set(0.0);
    }

    /// Whether Kafka is talked to for this source.
    pub fn circuit(&self, circuit: Circuit) {
        self.circuit.set(match circuit {
            Circuit::Closed => 0.0,
            Circuit::HalfOpen => 1.0,
            Circuit::Open => 2.0,
        });
    }

    fn refused_counter(&self, reason: Reason) -> Counter {
        counter!("outboxd_refused_total", "source" => self.source.clone(), "reason" => reason.as_str())
    }

    fn recreated_counter(&self, reason: Recreated) -> Counter {
        counter!("outboxd_producer_recreated_total", "source" => self.source.clone(), "reason" => reason.as_str())
    }
}

/// A broker of the cluster, as one client sees it.
pub fn broker(name: &str, up: bool, rtt_seconds: Option<f64>) {
    gauge!("outboxd_kafka_broker_up", "broker" => name.to_owned()).set(if up { 1.0 } else { 0.0 });
    if let Some(seconds) = rtt_seconds {
        gauge!("outboxd_kafka_broker_rtt_seconds", "broker" => name.to_owned()).set(seconds);
    }
}

#[cfg(test)]
mod tests;
