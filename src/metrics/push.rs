//! The metrics of the client-facing half. Never labelled by a key, a user or anything else that a client chose.

use super::{Counter, Gauge, Histogram, counter, gauge, histogram};
use crate::logic::push::admission::Full;
use crate::logic::push::partition::Given;
use crate::logic::push::session::{Close, Limit};

/// How a client is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// For good.
    WebSocket,
    /// For good, over HTTP.
    Sse,
    /// For one answer that may take a while.
    Poll,
}

impl Transport {
    const ALL: [Self; 3] = [Self::WebSocket, Self::Sse, Self::Poll];

    fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Sse => "sse",
            Self::Poll => "poll",
        }
    }
}

/// Why a connection, a request or a frame was turned away, or has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// A limit was reached.
    Full(Full),
    /// A limit of one connection was reached; the connection goes on.
    Limit(Limit),
    /// It comes from a page that may not.
    Origin,
    /// It does not speak TLS, or not in time.
    Tls,
    /// It is no WebSocket of ours, or its request did not come in time.
    Handshake,
    /// Its token is no good.
    Token,
    /// Its token cannot be checked now.
    Unchecked,
    /// It has no right to what it asked for.
    Forbidden,
    /// Too many look up a saga's events in the log.
    Lookups,
    /// The log has not been read yet, or the daemon ends.
    NotReady,
}

impl Rejected {
    fn all() -> impl Iterator<Item = Self> {
        let others = [
            Self::Limit(Limit::Subscriptions),
            Self::Limit(Limit::Rate),
            Self::Origin,
            Self::Tls,
            Self::Handshake,
            Self::Token,
            Self::Unchecked,
            Self::Forbidden,
            Self::Lookups,
            Self::NotReady,
        ];
        Full::ALL.into_iter().map(Self::Full).chain(others)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Full(full) => full.as_str(),
            Self::Limit(Limit::Subscriptions) => "subscriptions",
            Self::Limit(Limit::Rate) => "rate",
            Self::Origin => "origin",
            Self::Tls => "tls",
            Self::Handshake => "handshake",
            Self::Token => "token",
            Self::Unchecked => "unchecked",
            Self::Forbidden => "forbidden",
            Self::Lookups => "lookups",
            Self::NotReady => "not_ready",
        }
    }
}

/// Why a record of the saga topic made no change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skipped {
    /// Its event was seen before.
    Duplicate,
    /// It is not what a relay writes.
    Malformed,
    /// It is of a later version.
    Unknown,
}

impl Skipped {
    const ALL: [Self; 3] = [Self::Duplicate, Self::Malformed, Self::Unknown];

    fn as_str(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
        }
    }
}

/// The metrics of all connections; named as in the contract, without prefix and unit.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the table of metrics says what each is")]
pub struct PushMetrics {
    pub subscriptions: Gauge,
    pub frames_sent: Counter,
    pub bytes_sent: Counter,
    pub skipped: Counter,
    pub hidden: Counter,
    pub queue_bytes: Histogram,
    pub insert_to_push: Histogram,
}

impl PushMetrics {
    /// Makes every series appear, at zero.
    pub fn new() -> Self {
        let metrics = Self {
            subscriptions: gauge!("outboxd_push_subscriptions"),
            frames_sent: counter!("outboxd_push_frames_sent_total"),
            bytes_sent: counter!("outboxd_push_bytes_sent_total"),
            skipped: counter!("outboxd_push_skipped_total"),
            hidden: counter!("outboxd_push_hidden_total"),
            queue_bytes: histogram!("outboxd_push_queue_bytes"),
            insert_to_push: histogram!("outboxd_insert_to_push_seconds"),
        };
        for transport in Transport::ALL {
            metrics.connections(transport).set(0.0);
            metrics.accepted(transport, 0);
        }
        for rejected in Rejected::all() {
            metrics.rejected(rejected, 0);
        }
        for code in Close::ALL
            .map(Close::code)
            .into_iter()
            .chain([1000, 1001, 1006])
        {
            metrics.closed_counter(Some(code)).increment(0);
        }
        for skipped in Skipped::ALL {
            metrics.not_applied(skipped, 0);
        }
        for result in ["current", "changes", "snapshot"] {
            counter!("outboxd_push_resumes_total", "result" => result).increment(0);
        }
        metrics
    }

    /// How many there are.
    pub fn connections(&self, transport: Transport) -> Gauge {
        gauge!("outboxd_push_connections", "transport" => transport.as_str())
    }

    /// So many more were let in.
    pub fn accepted(&self, transport: Transport, count: u64) {
        counter!("outboxd_push_accepted_total", "transport" => transport.as_str()).increment(count);
    }

    /// So many more were turned away.
    pub fn rejected(&self, why: Rejected, count: u64) {
        counter!("outboxd_push_rejected_total", "reason" => why.as_str()).increment(count);
    }

    /// One has ended with this code; a client may choose any, so that only the usual ones are told apart.
    pub fn closed(&self, code: u16) {
        let ours = || Close::ALL.iter().any(|close| close.code() == code);
        let is_usual = matches!(code, 1000..=1015) || ours();
        self.closed_counter(is_usual.then_some(code)).increment(1);
    }

    fn closed_counter(&self, code: Option<u16>) -> Counter {
        let code = code.map_or("other".to_owned(), |code| code.to_string());
        counter!("outboxd_push_closed_total", "code" => code)
    }

    /// So many more records made no change.
    pub fn not_applied(&self, why: Skipped, count: u64) {
        counter!("outboxd_push_records_skipped_total", "reason" => why.as_str()).increment(count);
    }

    /// A subscriber was given this.
    pub fn given(&self, given: Given) {
        let result = match given {
            Given::Current => "current",
            Given::Changes => "changes",
            Given::Snapshot => "snapshot",
            Given::Waiting | Given::Hidden => return,
        };
        counter!("outboxd_push_resumes_total", "result" => result).increment(1);
    }
}

impl Default for PushMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// The metrics of an issuer's keys, where they are fetched.
#[derive(Debug, Clone)]
pub struct KeyMetrics {
    good: Counter,
    bad: Counter,
    fetched_at: Gauge,
}

impl KeyMetrics {
    /// Makes its series appear.
    pub fn new() -> Self {
        let fetches = |result| counter!("outboxd_push_key_fetches_total", "result" => result);
        let metrics = Self {
            good: fetches("ok"),
            bad: fetches("error"),
            fetched_at: gauge!("outboxd_push_keys_fetched_timestamp_seconds"),
        };
        metrics.good.increment(0);
        metrics.bad.increment(0);
        metrics
    }

    /// A fetch has ended, well or not, at this time in seconds.
    pub fn fetched(&self, good: bool, now: f64) {
        if good {
            self.good.increment(1);
            self.fetched_at.set(now);
        } else {
            self.bad.increment(1);
        }
    }
}

impl Default for KeyMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// The metrics of one partition of the saga topic.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the table of metrics says what each is")]
pub struct PartitionMetrics {
    pub lag: Gauge,
    pub last_record_timestamp: Gauge,
}

impl PartitionMetrics {
    /// Makes its series appear.
    pub fn new(partition: i32) -> Self {
        let labels = [("partition", partition.to_string())];
        Self {
            lag: gauge!("outboxd_push_lag_records", &labels),
            last_record_timestamp: gauge!("outboxd_push_last_record_timestamp_seconds", &labels),
        }
    }
}
