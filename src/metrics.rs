//! Every metric: name, label, bucket and help. Parts get a typed handle and never name one. Labels come from the
//! configuration, from closed lists or from the cluster's brokers; never from a row.
#![expect(
    clippy::disallowed_macros,
    reason = "this is the one place that names metrics"
)]

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

pub use push::{KeyMetrics, PartitionMetrics, PushMetrics, Rejected, Skipped, Transport};
pub use sagas::SagaMetrics;

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    /// With the upper bounds of its buckets.
    Histogram(&'static [f64]),
}

/// From an insert, a read or a commit to its end, in seconds.
const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];
const EVENTS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0,
];

/// From a saga's start or a step's to its end, in seconds: people wait, and shops close overnight.
const SAGA_SECONDS: &[f64] = &[
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0,
    604800.0,
];
const BYTES: &[f64] = &[
    256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0,
];

use Kind::{Counter as C, Gauge as G, Histogram as H};

/// All of them, in the order of the contract.
const METRICS: &[(&str, Kind, &str)] = &[
    (
        "outboxd_source_up",
        G,
        "Whether the source's database is reached (1) or not (0).",
    ),
    (
        "outboxd_source_leader",
        G,
        "Whether this daemon leads the source (1) or not (0).",
    ),
    (
        "outboxd_source_paused",
        G,
        "Whether an operator has paused the source (1) or not (0).",
    ),
    (
        "outboxd_events_read_total",
        C,
        "Rows read from the outbox, those read again after a failure included.",
    ),
    (
        "outboxd_events_published_total",
        C,
        "Events in committed Kafka transactions.",
    ),
    (
        "outboxd_published_bytes_total",
        C,
        "Bytes of keys, values and headers of published events.",
    ),
    (
        "outboxd_batches_total",
        C,
        "Kafka transactions by result; the outcome of an unknown one is read back.",
    ),
    (
        "outboxd_duplicates_suppressed_total",
        C,
        "Rows left out because they were found published before a crash.",
    ),
    (
        "outboxd_insert_to_publish_seconds",
        H(SECONDS),
        "From the insert of an event to the commit of its Kafka transaction.",
    ),
    (
        "outboxd_phase_seconds",
        H(SECONDS),
        "Time of one batch in each phase of its way.",
    ),
    (
        "outboxd_batch_events",
        H(EVENTS),
        "Events in one Kafka transaction.",
    ),
    (
        "outboxd_backlog_events",
        G,
        "Committed events that are not published yet, counted every 10 s up to a million.",
    ),
    (
        "outboxd_oldest_unpublished_timestamp_seconds",
        G,
        "When the oldest unpublished event was inserted; 0 if there is none.",
    ),
    (
        "outboxd_last_poll_timestamp_seconds",
        G,
        "When the outbox was last read.",
    ),
    (
        "outboxd_refused_total",
        C,
        "Events that went to the dead letters, by reason.",
    ),
    (
        "outboxd_dead_letter_rows",
        G,
        "Events that wait as dead letters, by who can release them.",
    ),
    (
        "outboxd_ring_slots_used",
        G,
        "Slots of the outbox ring that hold rows; 4 is full.",
    ),
    (
        "outboxd_circuit_state",
        G,
        "Whether a target is talked to: 0 closed, 1 half open, 2 open (resting).",
    ),
    (
        "outboxd_producer_recreated_total",
        C,
        "Kafka producers that were replaced, by reason.",
    ),
    (
        "outboxd_lease_lost_total",
        C,
        "Times that another daemon took the source from this one.",
    ),
    (
        "outboxd_kafka_broker_up",
        G,
        "Whether a broker is connected (1) or not (0).",
    ),
    (
        "outboxd_kafka_broker_rtt_seconds",
        G,
        "Mean round-trip time to a broker over the last seconds.",
    ),
    (
        "outboxd_kafka_queue_messages",
        G,
        "Records that wait in the producer.",
    ),
    (
        "outboxd_push_connections",
        G,
        "Clients that are connected, by transport.",
    ),
    (
        "outboxd_push_accepted_total",
        C,
        "Clients that were let in, by transport.",
    ),
    (
        "outboxd_push_rejected_total",
        C,
        "Connections and requests that were turned away, by reason.",
    ),
    (
        "outboxd_push_closed_total",
        C,
        "WebSockets that ended, by close code; 1006 is without one.",
    ),
    (
        "outboxd_push_subscriptions",
        G,
        "Subscriptions of all connections.",
    ),
    (
        "outboxd_push_frames_sent_total",
        C,
        "Frames that were handed to the network.",
    ),
    ("outboxd_push_bytes_sent_total", C, "Bytes of these frames."),
    (
        "outboxd_push_resumes_total",
        C,
        "Subscriptions to a known saga by what the client was given.",
    ),
    (
        "outboxd_push_skipped_total",
        C,
        "Changes that did not fit the queue of a slow client; a snapshot took their place.",
    ),
    (
        "outboxd_push_hidden_total",
        C,
        "Requests for a saga that the token may not watch.",
    ),
    (
        "outboxd_push_key_fetches_total",
        C,
        "Times that the issuer's key set was asked for, by result.",
    ),
    (
        "outboxd_push_keys_fetched_timestamp_seconds",
        G,
        "When the key set that tokens are checked with was fetched.",
    ),
    (
        "outboxd_push_queue_bytes",
        H(BYTES),
        "Bytes that waited for a client when some of them were sent.",
    ),
    (
        "outboxd_insert_to_push_seconds",
        H(SECONDS),
        "From the insert of an event to the first write of its change to a client.",
    ),
    (
        "outboxd_push_lag_records",
        G,
        "Records of the saga topic that this daemon has not read yet.",
    ),
    (
        "outboxd_push_records_skipped_total",
        C,
        "Records of the saga topic that made no change, by reason.",
    ),
    (
        "outboxd_sagas",
        G,
        "Sagas that this daemon knows, by type and state.",
    ),
    (
        "outboxd_sagas_stuck",
        G,
        "Those of them that are beyond a time limit.",
    ),
    (
        "outboxd_sagas_finished_total",
        C,
        "Sagas that ended since this daemon began.",
    ),
    (
        "outboxd_saga_duration_seconds",
        H(SAGA_SECONDS),
        "From a saga's first event to its outcome.",
    ),
    (
        "outboxd_saga_step_seconds",
        H(SAGA_SECONDS),
        "From a step's first report, or else the saga's, to the end of the step.",
    ),
    (
        "outboxd_saga_anomalies_total",
        C,
        "Reports of services that should not be, by kind.",
    ),
    (
        "outboxd_build_info",
        G,
        "Always 1; the labels tell the version.",
    ),
    (
        "outboxd_config_last_reload_successful",
        G,
        "Whether the last load of the configuration succeeded (1) or not (0).",
    ),
    (
        "outboxd_config_last_reload_success_timestamp_seconds",
        G,
        "When the configuration was last loaded with success.",
    ),
];

/// Collects what the parts report.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
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
            if let H(buckets) = kind {
                builder =
                    builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)?;
            }
        }
        let handle = builder.install_recorder()?;
        for (name, kind, help) in METRICS {
            match kind {
                C => describe_counter!(*name, *help),
                G => describe_gauge!(*name, *help),
                H(_) => describe_histogram!(*name, Unit::Count, *help),
            }
        }
        let revision = option_env!("OUTBOXD_REVISION").unwrap_or("unknown");
        gauge!("outboxd_build_info", "version" => env!("CARGO_PKG_VERSION"), "revision" => revision).set(1.0);
        gauge!("outboxd_config_last_reload_successful").set(1.0);
        gauge!("outboxd_config_last_reload_success_timestamp_seconds").set(loaded_at_seconds);
        Ok(Self { handle })
    }

    /// All of it in Prometheus' text format. Takes a while: not for an async thread.
    pub fn render(&self) -> String {
        let mut text = self.handle.render();
        text.push_str(&process::render());
        text
    }

    /// Folds what histograms have collected into their buckets; without it they grow until the next scrape.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

/// Why a producer was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recreated {
    /// A commit took so long that it may have been tried twice.
    SlowCommit,
    /// Records were refused, so its transaction was aborted.
    Refused,
    /// The broker gave it up although the lease is ours.
    Fenced,
    /// Kafka did not answer, or not as it should.
    Error,
}

impl Recreated {
    const ALL: [Self; 4] = [Self::SlowCommit, Self::Refused, Self::Fenced, Self::Error];

    fn as_str(self) -> &'static str {
        match self {
            Self::SlowCommit => "slow_commit",
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
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::logic::event::Timestamp;
    use crate::logic::saga::{AnomalyKind, Change, record};

    fn tell_of_a_saga() {
        let change = Change {
            version: 1,
            previous: None,
            state: Some(("APPROVED".into(), None)),
            outcome: Some(record::Outcome::Completed),
            step: Some(("verify".into(), None)),
            after_end: false,
            anomaly: Some(AnomalyKind::ForeignState),
            event_type: "E".into(),
            event_id: uuid::Uuid::nil(),
            at: Timestamp(0),
            duration: Some(Duration::from_secs(1)),
            step_took: Some(Duration::from_secs(1)),
        };
        SagaMetrics::default().changed("create-order", true, &change, true);
    }

    #[test]
    fn every_name_is_described_bucketed_and_there_from_the_first_scrape() {
        let metrics = Metrics::install(1.0).unwrap();
        let _source = SourceMetrics::new("orders");
        broker("127.0.0.1:9092/1", true, Some(0.001));
        let push = PushMetrics::new();
        KeyMetrics::new();
        push.closed(4001);
        push.closed(5000);
        PartitionMetrics::new(0);
        tell_of_a_saga();
        let text = metrics.render();
        let head: Vec<&str> = text.lines().filter(|line| line.starts_with("# ")).collect();
        let mut head: Vec<String> = head.iter().map(|line| (*line).to_owned()).collect();
        head.sort();
        let expected = include_str!("../tests/snapshots/metrics.txt");
        assert_eq!(
            head.join("\n") + "\n",
            expected,
            "the snapshot is out of date"
        );
        for (name, kind, _) in METRICS {
            let series = match kind {
                C | G => format!("\n{name}"),
                H(_) => format!("\n{name}_bucket"),
            };
            assert!(text.contains(&series), "{name} does not appear:\n{text}");
        }
        assert!(
            !text.contains("quantile="),
            "a histogram without buckets:\n{text}"
        );
    }
}
