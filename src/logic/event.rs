//! One row of an outbox table, as a service wrote it. Never changed on its way; [`record`](super::record) gives it Kafka's form.

use time::OffsetDateTime;
use time::format_description::well_known::iso8601::{Config, EncodedConfig, TimePrecision};
use time::format_description::well_known::{Iso8601, Rfc3339};
use uuid::Uuid;

/// A row of `outbox.event`, or of `outbox.dead_letter` when it is sent after all.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The row's number; rises with the order of commits of one key.
    pub id: i64,
    /// Identity of the event for its consumers; two rows may share it.
    pub event_id: Uuid,
    /// The Kafka topic.
    pub topic: String,
    /// Unit of order; `None` has no order.
    pub key: Option<String>,
    /// What happened.
    pub event_type: String,
    /// `command`, `reply` or `document`; `None` for a plain event.
    pub kind: Option<String>,
    /// The value; `None` is a tombstone.
    pub payload: Option<Payload>,
    /// As the service set it.
    pub content_type: Option<String>,
    /// The service's own headers; `Err` if the column holds something else than strings by name.
    pub headers: Result<Vec<(String, String)>, BadHeaders>,
    /// Request and reply, as the service set them.
    pub correlation_id: Option<String>,
    /// The event or command that caused this one.
    pub causation_id: Option<String>,
    /// Topic that a command's reply goes to.
    pub reply_to: Option<String>,
    /// `success` or `failure`.
    pub reply_outcome: Option<String>,
    /// The saga that the event belongs to.
    pub saga: Option<Saga>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// W3C trace context.
    pub tracestate: Option<String>,
    /// Time of the insert.
    pub created_at: Timestamp,
}

/// The value of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// The column `payload`.
    Text(String),
    /// The column `payload_bytes`.
    Bytes(Vec<u8>),
}

/// What an event says of its saga.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Saga {
    /// The saga's type.
    pub saga_type: String,
    /// Unique within the type.
    pub saga_id: String,
    /// Who may watch it.
    pub user: Option<String>,
    /// Its state, from the home service.
    pub state: Option<String>,
    /// Its end, from the home service.
    pub outcome: Option<String>,
    /// A participant's step.
    pub step: Option<String>,
    /// How that step is doing.
    pub status: Option<String>,
}

/// The column `headers` holds something that no Kafka header can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadHeaders;

/// A moment in microseconds since 1970, as PostgreSQL keeps it.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Timestamp(pub i64);

const MICROSECONDS: EncodedConfig = Config::DEFAULT
    .set_time_precision(TimePrecision::Second {
        decimal_digits: std::num::NonZero::new(6),
    })
    .encode();

impl Timestamp {
    /// Milliseconds since 1970, Kafka's unit.
    pub fn as_ms(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Seconds since 1970, Prometheus's unit.
    pub fn as_seconds(self) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "exact to the microsecond until the year 2255"
        )]
        let micros = self.0 as f64;
        micros / 1e6
    }

    /// Reads RFC 3339; what is finer than a microsecond is cut.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        let micros = moment.unix_timestamp_nanos().div_euclid(1000);
        i64::try_from(micros).ok().map(Self)
    }

    /// Time from `earlier` to this; nothing, where clocks disagree on which was first.
    pub fn since(self, earlier: Self) -> std::time::Duration {
        let micros = self.0.saturating_sub(earlier.0);
        std::time::Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    /// RFC 3339 in UTC with six decimals; `None` outside the years 1970 to 9999.
    pub fn to_rfc3339(self) -> Option<String> {
        let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1000).ok()?;
        (1970..=9999)
            .contains(&moment.year())
            .then(|| moment.format(&Iso8601::<MICROSECONDS>).ok())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_written_with_six_decimals_in_utc() {
        assert_eq!(
            Timestamp(0).to_rfc3339().unwrap(),
            "1970-01-01T00:00:00.000000Z"
        );
        assert_eq!(
            Timestamp(1_795_255_200_123_456).to_rfc3339().unwrap(),
            "2026-11-21T10:00:00.123456Z"
        );
        assert_eq!(
            Timestamp(253_402_300_799_999_999).to_rfc3339().unwrap(),
            "9999-12-31T23:59:59.999999Z"
        );
    }

    #[test]
    fn what_is_written_is_read_again() {
        for micros in [0, 1_795_255_200_123_456, 253_402_300_799_999_999] {
            let text = Timestamp(micros).to_rfc3339().unwrap();
            assert_eq!(Timestamp::from_rfc3339(&text), Some(Timestamp(micros)));
        }
        let elsewhere = Timestamp::from_rfc3339("1970-01-01T01:00:00+01:00");
        assert_eq!(elsewhere, Some(Timestamp(0)));
        assert_eq!(Timestamp::from_rfc3339("yesterday"), None);
    }

    #[test]
    fn a_timestamp_that_rfc_3339_cannot_say_is_none() {
        for micros in [-1, 253_402_300_800_000_000, i64::MAX, i64::MIN] {
            assert_eq!(Timestamp(micros).to_rfc3339(), None, "{micros}");
        }
    }
}
