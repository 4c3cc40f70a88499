//! An event, as it was inserted and as it comes out of Kafka, and what it says of its saga. Never its payload: this demo follows
//! events, not what they say.

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, macros::format_description};

/// What must be the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// `event_id`, in Kafka `ce_id`.
    pub(crate) id: String,
    /// The service whose outbox it was in, in Kafka `ce_source`.
    pub(crate) source: String,
    /// Its topic.
    pub(crate) topic: String,
    /// The unit of order; `None`: no order.
    pub(crate) key: Option<String>,
    /// `event_type`, in Kafka `ce_type`.
    pub(crate) event_type: String,
}

/// An event that the consumer saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sight {
    /// The event.
    #[serde(flatten)]
    pub(crate) event: Event,
    /// When it was seen: the time of the day in UTC, for people.
    pub(crate) at: String,
    /// From the insert (`ce_time`) until it was seen.
    pub(crate) milliseconds: f64,
}

/// The state of a saga.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SagaState {
    /// The id of the order that the saga is about.
    pub(crate) order: String,
    /// `saga_state`.
    pub(crate) state: String,
    /// `saga_outcome`; `None`: it goes on.
    pub(crate) outcome: Option<String>,
}

/// A state that the saga's client saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StateSeen {
    /// The state.
    #[serde(flatten)]
    pub(crate) state: SagaState,
    /// The state that this client saw before; `None`: this is its first.
    pub(crate) previous: Option<String>,
    /// When it was seen: the time of the day in UTC, for people.
    pub(crate) at: String,
    /// From the insert (the frame's `at`) until it was seen.
    pub(crate) milliseconds: f64,
}

/// From an insert until now.
pub(crate) fn milliseconds(inserted: OffsetDateTime, now: OffsetDateTime) -> f64 {
    (now - inserted).as_seconds_f64() * 1000.0
}

/// A time of the day as people read it.
pub(crate) fn time_of_day(at: OffsetDateTime) -> String {
    let format = format_description!("[hour]:[minute]:[second].[subsecond digits:3]");
    at.format(format).unwrap_or_default()
}
