//! Events that Kafka does not take: they wait as dead letters, their key or topic behind them, and nobody else.

use std::process::{Command, Output};
use std::time::Duration;

use crate::support::consumer;
use crate::support::daemon::Daemon;
use crate::support::{block_on, kafka, postgres, topics, unique, wait_until};
use crate::world::{OUTBOXD, Service, kafka_block, topic};

const PATIENCE: Duration = Duration::from_secs(60);

fn insert(service: &Service<'_>, topic: &str, key: &str, payload: &str) {
    block_on(async {
        service
            .connect()
            .await
            .execute(
                "insert into outbox.event (topic, key, event_type, payload, saga_type, saga_id) \
                 values ($1, $2, 'E', $3, 't', 's')",
                &[&topic, &key, &payload],
            )
            .await
            .unwrap();
    });
}

/// `key=value` of what a consumer sees, large values by their length.
fn seen(topic: &str) -> Vec<String> {
    let text =
        |bytes: &Option<Vec<u8>>| String::from_utf8(bytes.clone().unwrap_or_default()).unwrap();
    let mut seen: Vec<String> = consumer::read_all(&kafka().bootstrap(), &[topic])
        .iter()
        .map(|message| format!("{}={}", text(&message.key), text(&message.value)))
        .map(|line| {
            if line.len() > 100 {
                format!("{} bytes", line.len())
            } else {
                line
            }
        })
        .collect();
    // One partition's order is kept by the sort, since values of a key rise.
    seen.sort();
    seen
}

fn wait_seen(topic: &str, expected: &[&str]) {
    wait_until(&format!("{expected:?} in {topic}"), PATIENCE, || {
        seen(topic) == expected
    });
}

fn dead_letters(daemon: &Daemon, arguments: &[&str]) -> Output {
    let config = daemon.config();
    Command::new(OUTBOXD)
        .args(["--config", config.to_str().unwrap(), "dead-letters"])
        .args(arguments)
        .output()
        .unwrap()
}

fn listed(daemon: &Daemon, service: &Service<'_>) -> Vec<(String, String, String)> {
    let output = dead_letters(daemon, &["list", "--source", &service.name, "--json"]);
    assert!(output.status.success(), "{output:?}");
    let letters: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let text = |letter: &serde_json::Value, field: &str| letter[field].as_str().unwrap().to_owned();
    letters
        .iter()
        .map(|l| (text(l, "key"), text(l, "reason"), text(l, "release")))
        .collect()
}

fn letter(key: &str, reason: &str, release: &str) -> (String, String, String) {
    (key.into(), reason.into(), release.into())
}

#[test]
fn a_large_event_blocks_its_key_until_an_operator_decides() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let prefix = unique("refused");
    let topic = topic(kafka, "small", 1, &[("max.message.bytes", "2000")]);
    let service = Service::install(postgres, "shop");
    let daemon = Daemon::start(OUTBOXD, &(kafka_block(kafka, &prefix) + &service.block("")));
    daemon.wait_ready();
    let large = format!("\"{}\"", "x".repeat(5000));
    insert(&service, &topic, "a", "1");
    insert(&service, &topic, "a", &large);
    insert(&service, &topic, "a", "3");
    insert(&service, &topic, "b", "1");
    wait_seen(&topic, &["a=1", "b=1"]);
    wait_until("two dead letters", PATIENCE, || {
        listed(&daemon, &service)
            == [
                letter("a", "too_large", "manual"),
                letter("a", "behind", "manual"),
            ]
    });
    // The saga heard of all four when their turn came.
    let sagas = format!("{prefix}.sagas");
    wait_until("four saga records", PATIENCE, || {
        let all = consumer::read_all(&kafka.bootstrap(), &[&sagas]);
        all.iter()
            .filter(|message| message.key.as_deref() == Some(b"s"))
            .count()
            == 4
    });
    assert_eq!(
        daemon.metrics().value(
            "outboxd_refused_total",
            &[("source", &service.name), ("reason", "too_large")]
        ),
        Some(1.0)
    );

    // A retry before the cause is mended changes nothing.
    assert!(
        dead_letters(&daemon, &["retry", "--source", &service.name, "--all"])
            .status
            .success()
    );
    wait_until("the wish to be carried out", PATIENCE, || {
        service.number("select count(*) from outbox.dead_letter where wish is not null") == 0
    });
    assert_eq!(listed(&daemon, &service).len(), 2);
    insert(&service, &topic, "a", "4");
    insert(&service, &topic, "b", "2");
    wait_seen(&topic, &["a=1", "b=1", "b=2"]);

    // Given up, it frees its key: those behind go on, in order.
    let first = service_event(&service, "too_large");
    assert!(
        dead_letters(&daemon, &["drop", "--source", &service.name, &first])
            .status
            .success()
    );
    wait_seen(&topic, &["a=1", "a=3", "a=4", "b=1", "b=2"]);
    wait_until("no dead letters", PATIENCE, || {
        listed(&daemon, &service).is_empty()
    });
    insert(&service, &topic, "a", "5");
    wait_seen(&topic, &["a=1", "a=3", "a=4", "a=5", "b=1", "b=2"]);
}

fn service_event(service: &Service<'_>, reason: &str) -> String {
    block_on(async {
        let client = service.connect_as("postgres").await;
        let row = client
            .query_one(
                "select event_id::text from outbox.dead_letter where reason = $1",
                &[&reason],
            )
            .await;
        row.unwrap().get(0)
    })
}

#[test]
fn with_skip_the_key_goes_on() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let prefix = unique("skip");
    let topic = topic(kafka, "small", 1, &[("max.message.bytes", "2000")]);
    let service = Service::install(postgres, "shop");
    let block = service.block("on_refused = \"skip\"");
    let daemon = Daemon::start(OUTBOXD, &(kafka_block(kafka, &prefix) + &block));
    insert(&service, &topic, "a", &format!("\"{}\"", "x".repeat(5000)));
    insert(&service, &topic, "a", "2");
    insert(&service, &format!("{prefix}.sagas"), "a", "3");
    wait_seen(&topic, &["a=2"]);
    wait_until("the letters", PATIENCE, || {
        listed(&daemon, &service)
            == [
                letter("a", "too_large", "manual"),
                letter("a", "reserved", "manual"),
            ]
    });
}

#[test]
fn a_missing_topic_waits_by_itself_and_in_order() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let prefix = unique("missing");
    let there = topic(kafka, "there", 1, &[]);
    let missing = unique("missing_topic");
    let service = Service::install(postgres, "shop");
    let daemon = Daemon::start(OUTBOXD, &(kafka_block(kafka, &prefix) + &service.block("")));
    insert(&service, &missing, "a", "1");
    insert(&service, &there, "a", "1");
    insert(&service, &missing, "b", "1");
    wait_seen(&there, &["a=1"]);
    wait_until("two dead letters", PATIENCE, || {
        listed(&daemon, &service)
            == [
                letter("a", "topic_missing", "auto"),
                letter("b", "topic_missing", "auto"),
            ]
    });
    // A restart in between forgets nothing.
    daemon.kill();
    insert(&service, &missing, "a", "2");
    daemon.start_again();
    topics::create_topic(&kafka.bootstrap(), &missing, 1, &[]);
    wait_seen(&missing, &["a=1", "a=2", "b=1"]);
    insert(&service, &missing, "a", "3");
    wait_seen(&missing, &["a=1", "a=2", "a=3", "b=1"]);
    wait_until("no dead letters", PATIENCE, || {
        listed(&daemon, &service).is_empty()
    });
    let order: Vec<_> = consumer::read_all(&kafka.bootstrap(), &[&missing])
        .iter()
        .map(|message| message.value.clone().unwrap())
        .collect();
    assert_eq!(
        order,
        [b"1", b"1", b"2", b"3"].map(|value: &[u8; 1]| value.to_vec())
    );
}

/// What Kafka or outboxd calls a fault of the row itself waits for an operator, each under its name.
#[test]
fn each_fault_of_a_row_is_told_by_its_name_and_stops_no_other() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let prefix = unique("faults");
    let compacted = topic(kafka, "compacted", 1, &[("cleanup.policy", "compact")]);
    let small = topic(kafka, "small", 1, &[("max.message.bytes", "2000")]);
    let service = Service::install(postgres, "shop");
    // What the table's own constraint would have refused, had it always been there.
    service.execute("alter table outbox.event drop constraint header_is_not_a_string");
    let daemon = Daemon::start(OUTBOXD, &(kafka_block(kafka, &prefix) + &service.block("")));
    let large = format!("\"{}\"", "x".repeat(5000));
    let columns = "insert into outbox.event (topic, key, event_type, headers, saga_type, saga_id, saga_state, payload) values";
    service.execute(&format!(
        "{columns} ('{compacted}', null, 'E', null, 't', 's', '1', '1'), ('{compacted}', 'a', 'E', null, 't', 's', '2', '2'),
         ('{compacted}', 'b', 'E', '{{\"h\": 1}}', 't', 's', '3', '3'), ('{prefix}.sagas', 'c', 'E', null, 't', 's', '4', '4'),
         ('{small}', 'e', 'E', null, 't', 's', '6', '{large}'),
         ('{compacted}', 'a', 'E', null, 't', 's', '7', '7'), ('{compacted}', 'b', 'E', null, 't', 's', '8', '8')"
    ));
    wait_seen(&compacted, &["a=2", "a=7"]);
    let letters = "select string_agg(saga_state || ' ' || reason || ' ' || release, ', ' order by seq) from outbox.dead_letter";
    let expected = "1 invalid manual, 3 bad_header manual, 4 reserved manual, 6 too_large manual, 8 behind manual";
    let text = |query: &str| -> String {
        block_on(async {
            let client = service.connect_as("postgres").await;
            let row = client.query_one(query, &[]).await.unwrap();
            row.get::<_, Option<String>>(0).unwrap_or_default()
        })
    };
    wait_until("five letters", PATIENCE, || {
        service.number("select count(*) from outbox.dead_letter") == 5
    });
    // Each was written down when it was found, and the row ids tell the order of the rows.
    let mut told: Vec<String> = text(letters).split(", ").map(str::to_owned).collect();
    told.sort();
    assert_eq!(told.join(", "), expected);

    // Sagas heard of all of them when their turn came, and hear nothing twice when some are sent after all.
    let sagas = format!("{prefix}.sagas");
    let states = || -> Vec<String> {
        let all = consumer::read_all(&kafka.bootstrap(), &[&sagas]);
        let ours = all
            .iter()
            .filter(|message| message.key.as_deref() == Some(b"s"));
        let state = |message: &consumer::Message| {
            let value: serde_json::Value =
                serde_json::from_slice(message.value.as_deref().unwrap()).unwrap();
            value["state"].as_str().unwrap().to_owned()
        };
        ours.map(state).collect()
    };
    let in_turn = ["1", "2", "3", "4", "6", "7", "8"];
    assert_eq!(states(), in_turn);
    topics::configure_topic(&kafka.bootstrap(), &small, "max.message.bytes", "100000");
    let retried = dead_letters(&daemon, &["retry", "--source", &service.name, "--all"]);
    assert!(retried.status.success(), "{retried:?}");
    wait_until("the large one", PATIENCE, || seen(&small).len() == 1);
    wait_until("the wishes to be carried out", PATIENCE, || {
        service.number("select count(*) from outbox.dead_letter where wish is not null") == 0
    });
    assert_eq!(states(), in_turn);
    assert_eq!(daemon.terminate(), 0, "{}", daemon.log());
}

#[test]
fn one_refused_record_of_a_thousand_costs_one_aborted_transaction() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let compacted = topic(kafka, "compacted", 1, &[("cleanup.policy", "compact")]);
    let small = topic(kafka, "small", 1, &[("max.message.bytes", "20000")]);
    let strict = [("message.timestamp.before.max.ms", "3600000")];
    let strict = topic(kafka, "strict", 1, &strict);
    let large = format!("\"{}\"", "x".repeat(30_000));
    for (topic, bad, costs) in [
        // Known before it is sent.
        (&compacted, "null, '500', now()".to_owned(), 0.0),
        // Alone in its batch, also where nobody has written to the topic yet.
        (&small, format!("'k', '{large}', now()"), 1.0),
        // The broker's answer means all of its batch: the second time each record is alone.
        (
            &strict,
            "'k', '500', now() - interval '2 hours'".to_owned(),
            2.0,
        ),
    ] {
        let service = Service::install(postgres, "shop");
        service.execute(&format!(
            "insert into outbox.event (topic, key, event_type, payload)
             select '{topic}', 'k-' || n, 'E', n::text from generate_series(1, 499) n;
             insert into outbox.event (topic, event_type, key, payload, created_at) values ('{topic}', 'E', {bad});
             insert into outbox.event (topic, key, event_type, payload)
             select '{topic}', 'k-' || n, 'E', n::text from generate_series(501, 1000) n"
        ));
        let prefix = unique("thousand");
        let daemon = Daemon::start(OUTBOXD, &(kafka_block(kafka, &prefix) + &service.block("")));
        let values = || -> Vec<i32> {
            let all = consumer::read_all(&kafka.bootstrap(), &[topic]);
            let number = |message: consumer::Message| {
                String::from_utf8(message.value.unwrap())
                    .unwrap()
                    .parse()
                    .unwrap()
            };
            all.into_iter().map(number).collect()
        };
        wait_until("all others", PATIENCE, || values().len() == 999);
        assert!(values().is_sorted(), "in their order");
        wait_until("one letter", PATIENCE, || {
            service.number("select count(*) from outbox.dead_letter") == 1
        });
        let aborted = [("source", service.name.as_str()), ("result", "aborted")];
        let aborted = daemon.metrics().value("outboxd_batches_total", &aborted);
        assert_eq!(aborted, Some(costs), "{topic}: {}", daemon.log());
        assert_eq!(daemon.terminate(), 0, "{}", daemon.log());
    }
}

#[test]
fn beyond_the_limit_of_dead_letters_the_source_stops_until_there_is_room() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let good = topic(kafka, "good", 1, &[]);
    let prefix = unique("limit");
    let service = Service::install(postgres, "shop");
    let config = kafka_block(kafka, &prefix)
        + &service.block("dead_letter_limit = 3\nbatch = { events = 1 }");
    let daemon = Daemon::start(OUTBOXD, &config);
    for number in 1..=5 {
        insert(
            &service,
            &format!("{prefix}.sagas"),
            &format!("k-{number}"),
            "1",
        );
    }
    insert(&service, &good, "a", "1");
    wait_until("the source to stop", PATIENCE, || {
        daemon.log().contains("dead_letter_limit")
    });
    assert_eq!(service.number("select count(*) from outbox.dead_letter"), 3);
    assert_eq!(seen(&good), Vec::<String>::new(), "it stops as a whole");
    let dropped = dead_letters(&daemon, &["drop", "--source", &service.name, "--all"]);
    assert!(dropped.status.success(), "{dropped:?}");
    wait_seen(&good, &["a=1"]);
    assert_eq!(service.number("select count(*) from outbox.dead_letter"), 2);
    assert_eq!(daemon.terminate(), 0, "{}", daemon.log());
}
