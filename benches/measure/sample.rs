//! The events of the bench: what is inserted, and the same as records for a producer. Payloads hardly compress.

use std::time::SystemTime;

use rdkafka::{
    message::{Header, OwnedHeaders},
    producer::BaseRecord,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use crate::support::block_on;
use crate::world::Service;

/// Length of the payload.
pub(crate) const PAYLOAD_BYTES: usize = 1024;
/// Partitions of the topic that the events go to.
pub(crate) const PARTITIONS: i32 = 4;
pub(crate) const KEYS: usize = 10_000;
const EVENT_TYPE: &str = "OrderCreated";
/// Rows of one insert, and sessions that insert.
const ROWS: usize = 500;
const WRITERS: usize = 2;

/// One statement inserts many rows: a service does not, but its inserts are not what is measured.
const INSERT: &str = "insert into outbox.event (topic, key, event_type, payload) \
    select $1, key, $2, payload from unnest($3::text[], $4::text[]) as row (key, payload)";

pub(crate) fn key(number: usize) -> String {
    format!("order-{}", number % KEYS)
}

pub(crate) fn payload(number: usize) -> String {
    let mut text = format!(r#"{{"order":{number},"lines":""#);
    let mut state = u64::try_from(number).expect("it fits").wrapping_add(1);
    while text.len() < PAYLOAD_BYTES - 2 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let digit = u8::try_from(state >> 60).expect("four bits");
        text.push(char::from(if digit < 10 {
            b'0' + digit
        } else {
            b'a' + digit - 10
        }));
    }
    text + "\"}"
}

/// Commits so many events, in transactions of moderate size.
pub(crate) fn insert(service: &Service<'_>, topic: &str, rows: usize) {
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || block_on(write(service, topic, writer, rows)));
        }
    });
}

async fn write(service: &Service<'_>, topic: &str, writer: usize, rows: usize) {
    let client = service.connect().await;
    let statement = client.prepare(INSERT).await.unwrap();
    for first in (0..rows).step_by(ROWS).skip(writer).step_by(WRITERS) {
        let numbers = first..rows.min(first + ROWS);
        let keys: Vec<String> = numbers.clone().map(key).collect();
        let payloads: Vec<String> = numbers.map(payload).collect();
        client
            .execute(&statement, &[&topic, &EVENT_TYPE, &keys, &payloads])
            .await
            .unwrap();
    }
}

/// An event in Kafka's form.
pub(crate) struct Record {
    key: String,
    payload: String,
    headers: [(&'static str, String); 6],
}

impl Record {
    pub(crate) fn new(number: usize, at: SystemTime) -> Self {
        let time = OffsetDateTime::from(at)
            .format(&Rfc3339)
            .expect("a year of four digits");
        let headers = [
            ("ce_specversion", "1.0".into()),
            ("ce_id", Uuid::new_v4().to_string()),
            ("ce_source", "bench".into()),
            ("ce_type", EVENT_TYPE.into()),
            ("ce_time", time),
            ("content-type", "application/json".into()),
        ];
        Self {
            key: key(number),
            payload: payload(number),
            headers,
        }
    }

    pub(crate) fn native<'a>(&'a self, topic: &'a str) -> BaseRecord<'a, str, str> {
        let headers = OwnedHeaders::new_with_capacity(self.headers.len());
        let headers = self.headers.iter().fold(headers, |headers, (key, value)| {
            headers.insert(Header {
                key,
                value: Some(value),
            })
        });
        BaseRecord::to(topic)
            .key(self.key.as_str())
            .payload(self.payload.as_str())
            .headers(headers)
    }
}

/// The moment in a record's `ce_time`.
pub(crate) fn moment(ce_time: &[u8]) -> SystemTime {
    let text = std::str::from_utf8(ce_time).expect("RFC 3339");
    OffsetDateTime::parse(text, &Rfc3339)
        .expect("RFC 3339")
        .into()
}

/// Milliseconds since then; clocks of one machine, so never before it.
pub(crate) fn ms_since(then: SystemTime) -> f64 {
    then.elapsed().unwrap_or_default().as_secs_f64() * 1000.0
}
