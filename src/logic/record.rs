//! An event in Kafka's form, byte for byte as the contract says. Never decides whether or when it is sent.

use std::borrow::Cow;

use serde::Serialize;

use super::event::{Event, Payload, Saga, Timestamp};
use super::refusal::Reason;

/// One Kafka record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The topic.
    pub topic: String,
    /// The partition, where it is not left to the key.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// In order; names may repeat.
    pub headers: Vec<Header>,
}

/// One header. Most names are outboxd's own and cost nothing.
pub type Header = (Cow<'static, str>, Vec<u8>);

impl Record {
    /// Bytes of key, value and headers: what counts towards a batch's limit.
    pub fn size_bytes(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len) + headers
    }
}

/// Why an event cannot be made a record: what the table's constraints should have refused.
pub fn unfit(event: &Event) -> Option<Reason> {
    if event.headers.is_err() {
        return Some(Reason::BadHeader);
    }
    event
        .created_at
        .to_rfc3339()
        .is_none()
        .then_some(Reason::Invalid)
}

/// Gives an event that is not [`unfit`] Kafka's form.
///
/// `now_ms` bounds the record's timestamp: brokers refuse records too far ahead of their clock, and
/// a service's clock is not ours.
pub fn event(source: &str, event: Event, now_ms: i64) -> Record {
    let at = event.created_at.to_rfc3339().unwrap_or_default();
    let own = event.headers.unwrap_or_default();
    let content_type = event
        .payload
        .as_ref()
        .map(|payload| match (event.content_type, payload) {
            (Some(content_type), _) => content_type.into_bytes(),
            (None, Payload::Text(_)) => b"application/json".to_vec(),
            (None, Payload::Bytes(_)) => b"application/octet-stream".to_vec(),
        });
    let saga = event.saga.unwrap_or_default();
    let text = |value: &str| (!value.is_empty()).then(|| value.as_bytes().to_vec());
    let bytes = |value: Option<String>| value.map(String::into_bytes);
    let kind = event.kind.filter(|kind| kind != "event");

    let mut headers = Vec::with_capacity(8 + own.len());
    let mut push = |name: &'static str, value: Option<Vec<u8>>| {
        if let Some(value) = value {
            headers.push((Cow::Borrowed(name), value));
        }
    };
    push("ce_specversion", Some(b"1.0".to_vec()));
    push("ce_id", Some(event.event_id.to_string().into_bytes()));
    push("ce_source", Some(source.as_bytes().to_vec()));
    push("ce_type", Some(event.event_type.into_bytes()));
    push("ce_time", Some(at.into_bytes()));
    push("content-type", content_type);
    push("ce_kind", bytes(kind));
    push("ce_correlationid", bytes(event.correlation_id));
    push("ce_causationid", bytes(event.causation_id));
    push("ce_replyto", bytes(event.reply_to));
    push("ce_replyoutcome", bytes(event.reply_outcome));
    push("ce_sagatype", text(&saga.saga_type));
    push("ce_sagaid", text(&saga.saga_id));
    push("ce_sagastate", bytes(saga.state));
    push("ce_sagaoutcome", bytes(saga.outcome));
    push("ce_sagastep", bytes(saga.step));
    push("ce_sagastepstatus", bytes(saga.status));
    push("traceparent", bytes(event.traceparent));
    push("tracestate", bytes(event.tracestate));
    headers.extend(
        own.into_iter()
            .map(|(name, value)| (Cow::Owned(name), value.into_bytes())),
    );

    Record {
        topic: event.topic,
        partition: None,
        key: event.key.map(String::into_bytes),
        value: event.payload.map(|payload| match payload {
            Payload::Text(text) => text.into_bytes(),
            Payload::Bytes(bytes) => bytes,
        }),
        timestamp_ms: event.created_at.as_ms().min(now_ms),
        headers,
    }
}

/// What `<prefix>.sagas` says of an event; fields in the contract's order.
#[derive(Debug, Serialize)]
struct SagaValue<'a> {
    v: u8,
    saga_type: &'a str,
    saga_id: &'a str,
    user: Option<&'a str>,
    state: Option<&'a str>,
    outcome: Option<&'a str>,
    step: Option<&'a str>,
    status: Option<&'a str>,
    event_type: &'a str,
    event_id: String,
    source: &'a str,
    at: String,
}

/// The saga record of an event that belongs to one.
pub fn saga(topic: &str, source: &str, event: &Event, saga: &Saga, now_ms: i64) -> Option<Record> {
    let value = serde_json::to_vec(&SagaValue {
        v: 1,
        saga_type: &saga.saga_type,
        saga_id: &saga.saga_id,
        user: saga.user.as_deref(),
        state: saga.state.as_deref(),
        outcome: saga.outcome.as_deref(),
        step: saga.step.as_deref(),
        status: saga.status.as_deref(),
        event_type: &event.event_type,
        event_id: event.event_id.to_string(),
        source,
        at: event.created_at.to_rfc3339()?,
    });
    Some(Record {
        topic: topic.to_owned(),
        partition: None,
        key: Some(saga.saga_id.clone().into_bytes()),
        value: Some(value.ok()?),
        timestamp_ms: event.created_at.as_ms().min(now_ms),
        headers: Vec::new(),
    })
}

/// How far a source is published, said once to each partition of the saga topic.
#[derive(Debug, Serialize)]
struct PublishedUntil<'a> {
    v: u8,
    source: &'a str,
    published_until: String,
}

/// The records that tell every partition of the saga topic how far `source` is published.
pub fn published_until(
    topic: &str,
    partitions: i32,
    source: &str,
    until: Timestamp,
    now_ms: i64,
) -> Vec<Record> {
    let Some(published_until) = until.to_rfc3339() else {
        return Vec::new();
    };
    let Ok(value) = serde_json::to_vec(&PublishedUntil {
        v: 1,
        source,
        published_until,
    }) else {
        return Vec::new();
    };
    let record = |partition| Record {
        topic: topic.to_owned(),
        partition: Some(partition),
        key: None,
        value: Some(value.clone()),
        timestamp_ms: now_ms,
        headers: Vec::new(),
    };
    (0..partitions).map(record).collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::logic::event::BadHeaders;

    fn bare() -> Event {
        Event {
            id: 1,
            event_id: Uuid::from_u128(7),
            topic: "orders".into(),
            key: Some("o-42".into()),
            event_type: "OrderCreated".into(),
            kind: Some("event".into()),
            payload: Some(Payload::Text(r#"{"total": 1250}"#.into())),
            content_type: None,
            headers: Ok(Vec::new()),
            correlation_id: None,
            causation_id: None,
            reply_to: None,
            reply_outcome: None,
            saga: None,
            traceparent: None,
            tracestate: None,
            created_at: Timestamp(1_795_255_200_123_456),
        }
    }

    fn shown(record: &Record) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        record
            .headers
            .iter()
            .map(|(name, value)| format!("{name}={}", text(value)))
            .collect()
    }

    #[test]
    fn a_plain_event_carries_six_headers_in_order() {
        let record = event("orders", bare(), i64::MAX);
        assert_eq!(
            shown(&record),
            [
                "ce_specversion=1.0",
                "ce_id=00000000-0000-0000-0000-000000000007",
                "ce_source=orders",
                "ce_type=OrderCreated",
                "ce_time=2026-11-21T10:00:00.123456Z",
                "content-type=application/json",
            ]
        );
        assert_eq!(record.value.unwrap(), br#"{"total": 1250}"#);
        assert_eq!(record.timestamp_ms, 1_795_255_200_123);
    }

    #[test]
    fn a_full_event_carries_every_header_in_order_and_its_own_last() {
        let some = |text: &str| Some(text.to_owned());
        let full = Event {
            kind: some("reply"),
            payload: Some(Payload::Bytes(vec![0, 159, 255])),
            headers: Ok(vec![("tenant".into(), "t-1".into())]),
            correlation_id: some("c"),
            causation_id: some("d"),
            reply_to: some("replies"),
            reply_outcome: some("success"),
            saga: Some(Saga {
                saga_type: "create-order".into(),
                saga_id: "o-42".into(),
                user: some("c-7"),
                state: some("APPROVED"),
                outcome: some("completed"),
                step: some("confirm-ticket"),
                status: some("done"),
            }),
            traceparent: some("00-1-2-01"),
            tracestate: some("a=b"),
            ..bare()
        };
        let names: Vec<_> = event("s", full, 0)
            .headers
            .into_iter()
            .map(|h| h.0)
            .collect();
        assert_eq!(
            names,
            [
                "ce_specversion",
                "ce_id",
                "ce_source",
                "ce_type",
                "ce_time",
                "content-type",
                "ce_kind",
                "ce_correlationid",
                "ce_causationid",
                "ce_replyto",
                "ce_replyoutcome",
                "ce_sagatype",
                "ce_sagaid",
                "ce_sagastate",
                "ce_sagaoutcome",
                "ce_sagastep",
                "ce_sagastepstatus",
                "traceparent",
                "tracestate",
                "tenant",
            ]
        );
    }

    #[test]
    fn a_tombstone_has_no_value_and_no_content_type() {
        let record = event(
            "s",
            Event {
                payload: None,
                ..bare()
            },
            0,
        );
        assert_eq!(record.value, None);
        assert!(
            !record
                .headers
                .iter()
                .any(|(name, _)| name == "content-type")
        );
    }

    #[test]
    fn bytes_are_octets_unless_the_service_says_otherwise() {
        let bytes = Event {
            payload: Some(Payload::Bytes(vec![1])),
            ..bare()
        };
        let avro = Event {
            content_type: Some("application/avro".into()),
            ..bytes.clone()
        };
        assert!(shown(&event("s", avro, 0)).contains(&"content-type=application/avro".into()));
        let octets = event("s", bytes, 0);
        assert!(shown(&octets).contains(&"content-type=application/octet-stream".into()));
    }

    #[test]
    fn the_timestamp_is_never_ahead_of_the_relay() {
        assert_eq!(event("s", bare(), 1000).timestamp_ms, 1000);
    }

    #[test]
    fn what_the_constraints_should_have_refused_is_refused_here() {
        let header = Event {
            headers: Err(BadHeaders),
            ..bare()
        };
        assert_eq!(unfit(&header), Some(Reason::BadHeader));
        let time = Event {
            created_at: Timestamp(i64::MAX),
            ..bare()
        };
        assert_eq!(unfit(&time), Some(Reason::Invalid));
        assert_eq!(unfit(&bare()), None);
    }

    #[test]
    fn a_saga_record_says_null_for_what_is_absent() {
        let part = Saga {
            saga_type: "t".into(),
            saga_id: "o-42".into(),
            ..Saga::default()
        };
        let record = saga("outboxd.sagas", "orders", &bare(), &part, 0).unwrap();
        assert_eq!(record.key.unwrap(), b"o-42");
        assert_eq!(
            String::from_utf8(record.value.unwrap()).unwrap(),
            r#"{"v":1,"saga_type":"t","saga_id":"o-42","user":null,"state":null,"outcome":null,"step":null,"status":null,"event_type":"OrderCreated","event_id":"00000000-0000-0000-0000-000000000007","source":"orders","at":"2026-11-21T10:00:00.123456Z"}"#
        );
    }

    #[test]
    fn every_partition_hears_how_far_a_source_is_published() {
        let records = published_until("outboxd.sagas", 3, "orders", Timestamp(0), 5);
        let partitions: Vec<_> = records.iter().map(|record| record.partition).collect();
        assert_eq!(partitions, [Some(0), Some(1), Some(2)]);
        assert_eq!(
            records[0].value.as_deref().unwrap(),
            br#"{"v":1,"source":"orders","published_until":"1970-01-01T00:00:00.000000Z"}"#
        );
    }
}
