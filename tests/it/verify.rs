//! `outboxd verify`: quiet about what is well, also under load, and every fault made by hand is called by its name.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;

use crate::kill::{prepare, write};
use crate::support::consumer::{self, Message};
use crate::support::daemon::Daemon;
use crate::support::{block_on, kafka, postgres, topics, unique, wait_until};
use crate::world::{OUTBOXD, Service, daemon, kafka_block, topic};

const PATIENCE: Duration = Duration::from_secs(60);

fn verify(daemon: &Daemon, service: &Service<'_>, arguments: &[&str]) -> Output {
    let config = daemon.config();
    Command::new(OUTBOXD)
        .args(["--config", config.to_str().unwrap()])
        .args(["verify", "--source", &service.name])
        .args(arguments)
        .output()
        .unwrap()
}

/// Exit code and JSON.
fn json(daemon: &Daemon, service: &Service<'_>, arguments: &[&str]) -> (i32, Value) {
    let output = verify(daemon, service, &[arguments, &["--json"]].concat());
    let parsed = serde_json::from_slice(&output.stdout);
    let parsed = parsed.unwrap_or_else(|_| panic!("no JSON: {output:?}"));
    (output.status.code().unwrap(), parsed)
}

fn faults(report: &Value) -> [u64; 4] {
    ["lost", "doubled", "reordered", "ghosts"].map(|kind| report[kind]["count"].as_u64().unwrap())
}

fn insert(service: &Service<'_>, topic: &str, key: &str, payload: &str) -> String {
    block_on(async {
        let row = service
            .connect()
            .await
            .query_one(
                "insert into outbox.event (topic, key, event_type, payload) values ($1, $2, 'E', $3)
                 returning event_id::text",
                &[&topic, &key, &payload],
            )
            .await;
        row.unwrap().get(0)
    })
}

fn settled(service: &Service<'_>) {
    wait_until("the position to pass all rows", PATIENCE, || {
        service.number(
            "select count(*) from outbox.event, outbox.relay where not pg_visible_in_snapshot(txid, seen)",
        ) == 0
    });
}

fn records(topic: &str) -> Vec<Message> {
    consumer::read_all(&kafka().bootstrap(), &[topic])
}

/// Writes a record as it was read, with another event id if there is one.
fn produce(message: &Message, event_id: Option<&str>) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka().bootstrap())
        .create()
        .unwrap();
    let mut headers = OwnedHeaders::new();
    for (key, value) in &message.headers {
        let value = match (key.as_str(), event_id) {
            ("ce_id", Some(event_id)) => Some(event_id.as_bytes()),
            _ => value.as_deref(),
        };
        headers = headers.insert(Header { key, value });
    }
    let record = BaseRecord::to(&message.topic)
        .partition(message.partition)
        .timestamp(message.timestamp_ms.unwrap())
        .headers(headers)
        .key(message.key.as_ref().unwrap())
        .payload(message.value.as_ref().unwrap());
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(PATIENCE).unwrap();
}

#[test]
fn under_load_and_after_kills_nothing_is_called_a_fault() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let prefix = unique("verify");
    let topic = topic(kafka, "verify", 4, &[]);
    let service = Service::install(postgres, "shop");
    prepare(&service);
    let daemon = daemon(kafka, &prefix, &[&service]);
    let (stop, commits) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (stop, commits, topic, service) = (&stop, &commits, &topic, &service);
            scope.spawn(move || block_on(write(service, topic, writer, stop, commits)));
        }
        let verdicts = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..3 {
                daemon.wait_metrics("the daemon to publish", |metrics| {
                    metrics.sum("outboxd_batches_total") > 20.0
                });
                let (code, report) = json(&daemon, &service, &[]);
                assert_eq!((code, faults(&report)), (0, [0; 4]), "{report:#}");
                assert!(
                    report["tally"]["published"].as_u64().unwrap() > 20,
                    "{report:#}"
                );
                daemon.kill();
                let (code, report) = json(&daemon, &service, &[]);
                assert_eq!((code, faults(&report)), (0, [0; 4]), "{report:#}");
                daemon.start_again();
            }
        }));
        stop.store(true, Ordering::Relaxed);
        verdicts.unwrap_or_else(|cause| std::panic::resume_unwind(cause));
    });
    settled(&service);
    let (code, report) = json(&daemon, &service, &[]);
    assert_eq!((code, faults(&report)), (0, [0; 4]), "{report:#}");
    let rows = service.number("select count(*) from outbox.event");
    assert_eq!(report["tally"]["published"], rows, "{report:#}");
    assert_eq!(report["tally"]["records"], rows, "{report:#}");
    assert_eq!(report["clean"], true);
}

#[test]
fn every_fault_is_called_by_its_name() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let prefix = unique("faults");
    let topic = topic(kafka, "faults", 1, &[]);
    let service = Service::install(postgres, "shop");
    let daemon = daemon(kafka, &prefix, &[&service]);
    let events: Vec<String> = (0..4)
        .map(|n| insert(&service, &topic, "a", &n.to_string()))
        .collect();
    settled(&service);
    let (code, report) = json(&daemon, &service, &[]);
    assert_eq!((code, faults(&report)), (0, [0; 4]), "{report:#}");
    assert_eq!(daemon.terminate(), 0);

    // The same record again.
    let original = records(&topic);
    produce(&original[1], None);
    // One that no row stands behind.
    let nobody = "00000000-0000-4000-8000-000000000001";
    produce(&original[2], Some(nobody));
    // A row that the position passes without a record.
    let lost = insert(&service, &topic, "b", "9");
    service.execute(
        "update outbox.relay set seen = pg_current_snapshot(), page_upto = null, page_after = null",
    );
    // The rows of two published events, 3 and 4, change their order.
    service.execute(&format!(
        "alter table outbox.event alter column id drop identity;
         update outbox.event set id = 7 - id where event_id in ('{}', '{}')",
        events[2], events[3]
    ));

    let (code, report) = json(&daemon, &service, &[]);
    assert_eq!((code, faults(&report)), (65, [1, 1, 1, 1]), "{report:#}");
    let example = |kind: &str| report[kind]["examples"][0].clone();
    assert_eq!(example("lost")["event_id"], lost.as_str());
    assert_eq!(example("lost")["key"], "b");
    assert_eq!(example("doubled")["event_id"], events[1].as_str());
    let copies = records(&topic);
    let offset_of = |id: &str| {
        let value = Some(id.as_bytes().to_vec());
        let is_it = |message: &&Message| message.headers.contains(&("ce_id".into(), value.clone()));
        copies.iter().rfind(is_it).unwrap().offset
    };
    assert_eq!(example("doubled")["offset"], offset_of(&events[1]));
    assert_eq!(example("ghosts")["event_id"], nobody);
    assert_eq!(example("ghosts")["offset"], offset_of(nobody));
    assert_eq!(example("reordered")["event_id"], events[3].as_str());
    assert_eq!(example("reordered")["after_offset"], offset_of(&events[2]));

    // People see the same, and no payload.
    let output = verify(&daemon, &service, &[]);
    assert_eq!(output.status.code(), Some(65));
    let text = String::from_utf8(output.stdout).unwrap();
    for id in [&lost, &events[1], &events[3], nobody] {
        assert!(text.contains(id), "{text}");
    }
    let output = verify(&daemon, &service, &["--event", &lost]);
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stdout).starts_with("lost (topic"),
        "{output:?}"
    );
    let (code, told) = json(&daemon, &service, &["--event", &events[1]]);
    assert_eq!(
        (code, &told[1]["answer"]),
        (65, &Value::from("published again")),
        "{told:#}"
    );
}

#[test]
fn one_event_is_told_where_it_is() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let prefix = unique("event");
    let topic = topic(kafka, "event", 4, &[("max.message.bytes", "2000")]);
    let missing = unique("missing_topic");
    let service = Service::install(postgres, "shop");
    let daemon = Daemon::start(OUTBOXD, &(kafka_block(kafka, &prefix) + &service.block("")));
    let published = insert(&service, &topic, "a", "1");
    let refused = insert(&service, &topic, "b", &format!("\"{}\"", "x".repeat(5000)));
    let parked = insert(&service, &missing, "a", "1");
    settled(&service);
    assert_eq!(daemon.terminate(), 0);
    let waiting = insert(&service, &topic, "a", "2");
    let ask = |event: &str| {
        let (code, told) = json(&daemon, &service, &["--event", event]);
        assert_eq!((code, told.as_array().unwrap().len()), (0, 1), "{told:#}");
        told[0].clone()
    };

    let message = records(&topic).pop().unwrap();
    let told = ask(&published);
    assert_eq!(told["answer"], "published");
    assert_eq!(told["topic"], topic.as_str());
    assert_eq!(told["partition"], message.partition);
    assert_eq!(told["offset"], message.offset);
    assert_eq!(ask(&waiting)["answer"], "waiting");
    let told = ask(&refused);
    assert_eq!(
        [&told["answer"], &told["reason"], &told["release"]],
        ["dead letter", "too_large", "manual"]
    );
    let told = ask(&parked);
    assert_eq!(
        [&told["reason"], &told["release"]],
        ["topic_missing", "auto"]
    );
    let nobody = "00000000-0000-4000-8000-000000000001";
    assert_eq!(ask(nobody)["answer"], "not in the table");
    let output = verify(&daemon, &service, &["--event", &refused]);
    let text = String::from_utf8(output.stdout).unwrap();
    let expected =
        format!("dead letter (topic {topic}, reason too_large, release manual, key b)\n");
    assert_eq!(text, expected);
    // Nothing of all that is a fault.
    let (code, report) = json(&daemon, &service, &[]);
    assert_eq!((code, faults(&report)), (0, [0; 4]), "{report:#}");
    assert_eq!(report["tally"]["dead_letters"], 2);
    assert_eq!(report["tally"]["waiting"], 1);

    // Long after the row is gone its record still tells, and is no ghost.
    service.execute("truncate outbox.event");
    let told = ask(&waiting);
    assert_eq!(told["answer"], "not in the table");
    let output = verify(
        &daemon,
        &service,
        &["--event", &published, "--topic", &topic],
    );
    let expected = format!(
        "published (topic {topic}, partition {}, offset {}, key a)\n",
        message.partition, message.offset
    );
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    let (code, report) = json(&daemon, &service, &[]);
    assert_eq!((code, faults(&report)), (0, [0; 4]), "{report:#}");

    // A letter that was dropped is not lost.
    topics::create_topic(&kafka.bootstrap(), &missing, 1, &[]);
    daemon.start_again();
    let again = insert(&service, &topic, "c", &format!("\"{}\"", "x".repeat(5000)));
    settled(&service);
    service.execute("update outbox.dead_letter set wish = 'drop'");
    wait_until("the letters to be dropped", PATIENCE, || {
        service.number("select count(*) from outbox.dead_letter") == 0
    });
    assert_eq!(ask(&again)["answer"], "dropped dead letter");
    let (code, report) = json(&daemon, &service, &[]);
    assert_eq!((code, faults(&report)), (0, [0; 4]), "{report:#}");
    assert_eq!(report["tally"]["given_up"], 1);
}

#[test]
fn a_compacted_topic_proves_no_loss() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let prefix = unique("compact");
    let topic = topic(kafka, "compact", 1, &[("cleanup.policy", "compact")]);
    let service = Service::install(postgres, "shop");
    let daemon = daemon(kafka, &prefix, &[&service]);
    insert(&service, &topic, "a", "1");
    settled(&service);
    assert_eq!(daemon.terminate(), 0);
    insert(&service, &topic, "a", "2");
    service.execute(
        "update outbox.relay set seen = pg_current_snapshot(), page_upto = null, page_after = null",
    );
    let (code, report) = json(&daemon, &service, &[]);
    assert_eq!((code, faults(&report)), (0, [0; 4]), "{report:#}");
    assert_eq!(report["tally"]["rows_not_judged"], 1);
    let note = report["topics"][&topic].as_str().unwrap();
    assert!(note.starts_with("is compacted"), "{note}");
}
