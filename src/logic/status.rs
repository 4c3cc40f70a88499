//! What one source is doing, as an operator sees it: plain data that the relay fills and the admin side shows.
//!
//! Never holds a key, a payload or a secret.

use serde::{Deserialize, Serialize};

/// The state of one source in this daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// The source's name.
    pub source: String,
    /// What this daemon does with it.
    pub phase: Phase,
    /// Whether an operator has paused it here: who leads keeps the lease and publishes nothing.
    pub paused: bool,
    /// The instance that leads it, as far as this daemon knows.
    pub leader: Option<String>,
    /// Events that were committed and not yet published at the last count.
    pub backlog_events: u64,
    /// Unix time in seconds of the oldest unpublished event's insert; `None` when there is none.
    pub oldest_unpublished_at: Option<f64>,
    /// Events published a second, over the last seconds.
    pub events_per_second: f64,
    /// Rows in `outbox.dead_letter`.
    pub dead_letters: u64,
    /// Whether the circuit to Kafka is closed (working), open (resting) or half open (trying).
    pub circuit: Circuit,
    /// The last error and when it happened, Unix time in seconds.
    pub last_error: Option<(f64, String)>,
}

/// How the client-facing half is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushStatus {
    /// Whether the saga topic has been read up to now and clients are served.
    pub is_ready: bool,
    /// Why not.
    pub last_error: Option<String>,
}

/// What a daemon does with a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Has not reached its database yet.
    Connecting,
    /// Another daemon leads.
    Standby,
    /// Has the lease and is making sure of what was published.
    TakingOver,
    /// Publishes.
    Leading,
    /// Rests after an error and will try again.
    Retrying,
    /// Needs an operator; the last error says what for.
    Stopped,
}

/// Whether a target is being talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Circuit {
    /// Working.
    Closed,
    /// Trying once.
    HalfOpen,
    /// Resting.
    Open,
}

impl SourceStatus {
    /// A source that nothing is known of yet.
    pub fn unknown(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            phase: Phase::Connecting,
            paused: false,
            leader: None,
            backlog_events: 0,
            oldest_unpublished_at: None,
            events_per_second: 0.0,
            dead_letters: 0,
            circuit: Circuit::Closed,
            last_error: None,
        }
    }

    /// Whether the source needs nothing to work: it leads, or stands by for one that does.
    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Standby | Phase::Leading)
    }
}
