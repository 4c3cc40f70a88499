//! Every record compared byte for byte with what its row says, through the whole daemon.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_postgres::Row;

use crate::murmur;
use crate::support::consumer::{self, Message};
use crate::support::{block_on, kafka, postgres, unique};
use crate::world::{Service, daemon, topic};

const EVENTS: u64 = 3000;
const KEYS: u64 = 200;
const PARTITIONS: i32 = 4;
const SAGA_PARTITIONS: i32 = 12;

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

#[test]
fn every_record_is_what_its_row_says() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let prefix = unique("bytes");
    let topics: Vec<String> = (0..3)
        .map(|_| topic(kafka, "bytes", PARTITIONS, &[]))
        .collect();
    let services = ["shop", "kitchen"].map(|name| Service::install(postgres, name));
    let daemon = daemon(kafka, &prefix, &services.iter().collect::<Vec<_>>());
    for (seed, service) in (1..).zip(&services) {
        block_on(write(service, &topics, seed));
    }
    let committed: i64 = services
        .iter()
        .map(|s| s.number("select count(*) from outbox.event"))
        .sum();
    assert!(committed > 5000, "{committed}");
    daemon.wait_metrics("all to be published", |metrics| {
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let committed = committed as f64;
        metrics.sum("outboxd_events_published_total") >= committed
    });

    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let messages = consumer::read_all(&kafka.bootstrap(), &names);
    assert_eq!(messages.len(), usize::try_from(committed).unwrap());
    let sagas = format!("{prefix}.sagas");
    let saga_messages = consumer::read_all(&kafka.bootstrap(), &[&sagas]);
    for service in &services {
        let rows = block_on(rows(service));
        compare_events(service, &rows, &messages);
        compare_sagas(service, &rows, &saga_messages);
    }
    assert_eq!(daemon.terminate(), 0, "{}", daemon.log());
}

/// Transactions of one to four events, one in eight rolled back.
async fn write(service: &Service<'_>, topics: &[String], seed: u64) {
    let mut client = service.connect().await;
    let mut dice = Dice(seed);
    let mut written = 0;
    while written < EVENTS {
        let transaction = client.transaction().await.unwrap();
        for _ in 0..=dice.roll(4) {
            insert(&transaction, &mut dice, topics, written).await;
            written += 1;
        }
        if dice.one_in(8) {
            transaction.rollback().await.unwrap();
        } else {
            transaction.commit().await.unwrap();
        }
    }
}

async fn insert(
    client: &tokio_postgres::Transaction<'_>,
    dice: &mut Dice,
    topics: &[String],
    n: u64,
) {
    let some = |dice: &mut Dice, sides, text: String| dice.one_in(sides).then_some(text);
    let topic = &topics[usize::try_from(dice.roll(3)).unwrap()];
    let key = (!dice.one_in(20)).then(|| format!("schlüssel-{}", dice.roll(KEYS)));
    let large = dice.one_in(400);
    let (payload, bytes, content_type): (Option<String>, Option<Vec<u8>>, Option<&str>) =
        match dice.roll(10) {
            0 => (None, None, None),
            1 => (None, Some((0..=255).collect()), None),
            2 => (None, Some(vec![]), Some("application/avro")),
            3 => (
                Some("not json \u{1F980} at all".into()),
                None,
                Some("text/plain"),
            ),
            4 => (Some(String::new()), None, Some("text/plain")),
            5 => (
                Some("  [ 1,\t\"\u{e4}\\u0000\" ] \n".into()),
                None,
                Some("application/vnd.x+json; charset=utf-8"),
            ),
            _ if large => (Some(format!("\"{}\"", "x".repeat(900_000))), None, None),
            _ => (
                Some(format!("{{\"n\": {n}, \"t\": \"\u{1F600} ж\"}}")),
                None,
                None,
            ),
        };
    let headers = match dice.roll(4) {
        0 => Some(serde_json::json!({"tenant": "t-1", "Привет": "мир", "empty": ""})),
        1 => Some(serde_json::json!({})),
        _ => None,
    };
    let kind = ["event", "command", "reply", "document"][usize::try_from(dice.roll(4)).unwrap()];
    let kind = (!dice.one_in(3)).then_some(kind);
    let saga = dice
        .one_in(2)
        .then(|| ("create-order", format!("o-{}", dice.roll(50))));
    let state = saga
        .as_ref()
        .and_then(|_| some(dice, 2, "APPROVAL_PENDING".into()));
    let outcome = saga
        .as_ref()
        .and_then(|_| some(dice, 5, "completed".into()));
    let step = saga
        .as_ref()
        .and_then(|_| some(dice, 2, "create-ticket".into()));
    client
        .execute(
            "insert into outbox.event (topic, key, event_type, kind, payload, payload_bytes, content_type, headers, \
             correlation_id, causation_id, reply_to, reply_outcome, saga_type, saga_id, saga_user, saga_state, \
             saga_outcome, saga_step, saga_step_status, traceparent, tracestate) \
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)",
            &[
                topic,
                &key,
                &format!("Ereignis-{}", n % 7),
                &kind,
                &payload,
                &bytes,
                &content_type,
                &headers,
                &some(dice, 3, format!("corr-{n}")),
                &some(dice, 3, format!("cause-{n}")),
                &some(dice, 5, "replies".into()),
                &some(dice, 5, "failure".into()),
                &saga.as_ref().map(|saga| saga.0),
                &saga.as_ref().map(|saga| &saga.1),
                &saga.as_ref().map(|_| "c-\"7\""),
                &state,
                &outcome,
                &step,
                &step.as_ref().map(|_| "done"),
                &some(dice, 4, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
                &some(dice, 8, "vendor=1".into()),
            ],
        )
        .await
        .unwrap();
}

/// What the table says, as text, lowest id first.
async fn rows(service: &Service<'_>) -> Vec<Row> {
    let client = service.connect_as("postgres").await;
    client
        .query(
            "select *, event_id::text as event_id_text, floor(extract(epoch from created_at) * 1000)::bigint as at_ms, \
             to_char(created_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') as at \
             from outbox.event order by id",
            &[],
        )
        .await
        .unwrap()
}

fn text(row: &Row, column: &str) -> Option<String> {
    row.get(column)
}

fn compare_events(service: &Service<'_>, rows: &[Row], messages: &[Message]) {
    let ours = |message: &&Message| header(message, "ce_source") == Some(service.name.as_str());
    let by_id: BTreeMap<&str, &Message> = messages
        .iter()
        .filter(ours)
        .map(|message| (header(message, "ce_id").unwrap(), message))
        .collect();
    assert_eq!(by_id.len(), rows.len());
    let mut last: BTreeMap<(String, Option<String>), (i64, &str)> = BTreeMap::new();
    for row in rows {
        let id = text(row, "event_id_text").unwrap();
        let message = by_id[id.as_str()];
        compare_event(service, row, message);
        if let Some(key) = text(row, "key") {
            let place = (message.topic.clone(), Some(key));
            if let Some((offset, before)) =
                last.insert(place, (message.offset, header(message, "ce_id").unwrap()))
            {
                assert!(offset < message.offset, "{before} and {id} changed places");
            }
        }
    }
}

fn compare_event(service: &Service<'_>, row: &Row, message: &Message) {
    let (payload, bytes): (Option<String>, Option<Vec<u8>>) =
        (row.get("payload"), row.get("payload_bytes"));
    let natural = match (&payload, &bytes) {
        (Some(_), _) => Some("application/json"),
        (None, Some(_)) => Some("application/octet-stream"),
        (None, None) => None,
    };
    let content_type =
        natural.map(|natural| text(row, "content_type").unwrap_or_else(|| natural.to_owned()));
    let mut expected: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        expected.extend(value.map(|value| (name.to_owned(), value)));
    };
    add("ce_specversion", Some("1.0".into()));
    add("ce_id", text(row, "event_id_text"));
    add("ce_source", Some(service.name.clone()));
    add("ce_type", text(row, "event_type"));
    add("ce_time", text(row, "at"));
    add("content-type", content_type);
    add("ce_kind", text(row, "kind").filter(|kind| kind != "event"));
    for (name, column) in [
        ("ce_correlationid", "correlation_id"),
        ("ce_causationid", "causation_id"),
        ("ce_replyto", "reply_to"),
        ("ce_replyoutcome", "reply_outcome"),
        ("ce_sagatype", "saga_type"),
        ("ce_sagaid", "saga_id"),
        ("ce_sagastate", "saga_state"),
        ("ce_sagaoutcome", "saga_outcome"),
        ("ce_sagastep", "saga_step"),
        ("ce_sagastepstatus", "saga_step_status"),
        ("traceparent", "traceparent"),
        ("tracestate", "tracestate"),
    ] {
        add(name, text(row, column));
    }
    let own: Option<serde_json::Value> = row.get("headers");
    let own = own
        .map(|own| own.as_object().unwrap().clone())
        .unwrap_or_default();
    let found: Vec<(String, String)> = message
        .headers
        .iter()
        .map(|(name, value)| {
            (
                name.clone(),
                String::from_utf8(value.clone().unwrap()).unwrap(),
            )
        })
        .collect();
    let (head, tail) = found.split_at(expected.len().min(found.len()));
    assert_eq!(head, expected);
    let mut tail = tail.to_vec();
    tail.sort();
    let mut own: Vec<_> = own
        .into_iter()
        .map(|(name, value)| (name, value.as_str().unwrap().to_owned()))
        .collect();
    own.sort();
    assert_eq!(tail, own);
    assert_eq!(message.topic, text(row, "topic").unwrap());
    assert_eq!(message.key, text(row, "key").map(String::into_bytes));
    assert_eq!(message.value, payload.map(String::into_bytes).or(bytes));
    assert_eq!(message.timestamp_ms, Some(row.get("at_ms")));
    if let Some(key) = &message.key {
        assert_eq!(message.partition, murmur::partition(key, PARTITIONS));
    }
}

fn compare_sagas(service: &Service<'_>, rows: &[Row], messages: &[Message]) {
    let marker = format!(r#""source":"{}","at":"#, service.name);
    let mut found: BTreeMap<Vec<u8>, Vec<&Message>> = BTreeMap::new();
    for message in messages {
        let value = String::from_utf8(message.value.clone().unwrap()).unwrap();
        if value.contains(&marker) {
            found
                .entry(message.key.clone().unwrap())
                .or_default()
                .push(message);
        }
    }
    let mut expected: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
    for row in rows {
        let Some(saga_id) = text(row, "saga_id") else {
            continue;
        };
        let json = |column: &str| serde_json::to_string(&text(row, column)).unwrap();
        let value = format!(
            r#"{{"v":1,"saga_type":{},"saga_id":{},"user":{},"state":{},"outcome":{},"step":{},"status":{},"event_type":{},"event_id":{},"source":"{}","at":{}}}"#,
            json("saga_type"),
            json("saga_id"),
            json("saga_user"),
            json("saga_state"),
            json("saga_outcome"),
            json("saga_step"),
            json("saga_step_status"),
            json("event_type"),
            json("event_id_text"),
            service.name,
            json("at"),
        );
        expected
            .entry(saga_id.into_bytes())
            .or_default()
            .push(value);
    }
    assert!(expected.len() > 40);
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    for (saga_id, values) in &expected {
        let messages = &found[saga_id];
        let seen: Vec<_> = messages
            .iter()
            .map(|m| String::from_utf8(m.value.clone().unwrap()).unwrap())
            .collect();
        // A transaction's events of one saga may have several keys, so their order is that of the ids.
        assert_eq!(&seen, values);
        assert!(
            messages
                .iter()
                .all(|m| m.partition == murmur::partition(saga_id, SAGA_PARTITIONS))
        );
    }
}

fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    let header = message.headers.iter().find(|(found, _)| found == name)?;
    std::str::from_utf8(header.1.as_deref()?).ok()
}

#[test]
fn every_partition_of_the_saga_topic_hears_how_far_a_source_is_published() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let prefix = unique("beat");
    let service = Service::install(postgres, "beat");
    let daemon = daemon(kafka, &prefix, &[&service]);
    daemon.wait_ready();
    let sagas = format!("{prefix}.sagas");
    let heard = || {
        let messages =
            consumer::read_all_within(Duration::from_secs(20), &kafka.bootstrap(), &[&sagas]);
        let mut partitions: Vec<_> = messages
            .iter()
            .filter(|message| {
                let value: serde_json::Value =
                    serde_json::from_slice(message.value.as_ref().unwrap()).unwrap();
                let until = value["published_until"].as_str().unwrap();
                message.key.is_none()
                    && value["source"] == service.name.as_str()
                    && until.ends_with('Z')
            })
            .map(|message| message.partition)
            .collect();
        partitions.sort_unstable();
        partitions.dedup();
        partitions.len()
    };
    crate::support::wait_until("a beat in all partitions", Duration::from_secs(30), || {
        heard() == 12
    });
}

/// Whatever a service calls its trace: outboxd reads nothing in it, and adds no span of its own.
#[test]
fn a_trace_goes_untouched_from_row_to_record() {
    const TRACES: [(&str, &str); 5] = [
        (
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7",
        ),
        (
            "00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-00",
            "a=1",
        ),
        (
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-09-later",
            " b = 2 ,, ",
        ),
        (
            "00-00000000000000000000000000000000-0000000000000000-00",
            "ß=☃",
        ),
        ("no trace at all", "\t"),
    ];
    let (kafka, postgres) = (kafka(), postgres(16));
    let topic = topic(kafka, "trace", 1, &[]);
    let service = Service::install(postgres, "shop");
    let daemon = daemon(kafka, &unique("trace"), &[&service]);
    block_on(async {
        let client = service.connect().await;
        for (parent, state) in &TRACES {
            let insert = "insert into outbox.event (topic, event_type, payload, traceparent, tracestate) \
                 values ($1, 'E', '{}', $2, $3)";
            client
                .execute(insert, &[&topic, parent, state])
                .await
                .unwrap();
        }
    });
    daemon.wait_metrics("all to be published", |metrics| {
        metrics.sum("outboxd_events_published_total") >= 5.0
    });
    let messages = consumer::read_all(&kafka.bootstrap(), &[&topic]);
    let header = |message: &Message, name: &str| {
        let mut of_name = message.headers.iter().filter(|(it, _)| it == name);
        let (_, value) = of_name.next().unwrap();
        assert!(of_name.next().is_none(), "{name} stands there twice");
        String::from_utf8(value.clone().unwrap()).unwrap()
    };
    let found: Vec<_> = messages
        .iter()
        .map(|it| (header(it, "traceparent"), header(it, "tracestate")))
        .collect();
    let sent = TRACES.map(|(parent, state)| (parent.to_owned(), state.to_owned()));
    assert_eq!(found, sent);
}
