//! The name, kind, buckets and help of every metric; `docs/metrics.md` shows them. Never a label.

/// What a metric counts.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Grows, and begins anew with the process.
    Counter,
    /// Comes and goes.
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
pub(super) const METRICS: &[(&str, Kind, &str)] = &[
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
        "outboxd_push_last_record_timestamp_seconds",
        G,
        "When the newest record of the saga topic was appended that this daemon has read; relays write one every 10 s.",
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
