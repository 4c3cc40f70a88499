//! Kafka fails in every way that one broker and the way to it can, while services write: nothing is lost, doubled or reordered,
//! and the daemon neither spins nor fills its log meanwhile.

use std::time::Duration;

use crate::lane::{Lane, PATIENCE, start, stopped};
use crate::support::daemon::Daemon;
use crate::support::kafka::Kafka;
use crate::support::proxy::Proxy;
use crate::support::topics::{create_topic, create_topic_at, delete_topic, leader};
use crate::support::{consumer, kafka, postgres, unique, wait_until};
use crate::world::{OUTBOXD, Service, kafka_block, topic};

const NONE: Duration = Duration::ZERO;

/// A broker that is reached through a proxy.
fn behind_a_proxy(properties: &[(&str, &str)]) -> (Kafka, Proxy) {
    let kafka = Kafka::builder();
    let proxy = Proxy::listen(kafka.bootstrap());
    let advertised = format!("PLAINTEXT://{}", proxy.address());
    let kafka = kafka
        .properties(&[("advertised.listeners", &advertised)])
        .properties(properties)
        .start();
    (kafka, proxy)
}

fn replaced(lane: &Lane<'_>) -> f64 {
    lane.daemon
        .metrics()
        .value(
            "outboxd_producer_recreated_total",
            &[("reason", "slow_commit")],
        )
        .unwrap()
}

/// A commit that takes longer than a tried one may costs a producer each time, and neither the lease nor the session.
#[test]
fn slow_commits_cost_a_producer_and_no_take_over() {
    let (kafka, proxy) = behind_a_proxy(&[]);
    let lane = Lane::new(
        &kafka,
        postgres(16),
        "slow",
        "lease = \"60s\"",
        "batch = { events = 40 }",
    );
    lane.while_writing(&[&lane.daemon], || {
        start(&lane.daemon, "", None);
        lane.led_with(1);
        let (epoch, before) = (lane.epoch(), replaced(&lane));
        proxy.delay(NONE, Duration::from_millis(350));
        lane.daemon.wait_metrics("ten slow commits", |metrics| {
            metrics.sum("outboxd_producer_recreated_total") >= before + 10.0
        });
        assert!(replaced(&lane) >= before + 10.0);
        proxy.delay(NONE, NONE);
        assert_eq!(lane.epoch(), epoch, "nobody took over");
        lane.led_with(epoch);
    });
}

/// Waits until the circuit to Kafka is closed again, or open.
fn circuit(daemon: &Daemon, source: &str, closed: bool) {
    let target = format!("kafka/{source}");
    daemon.wait_metrics(&format!("the circuit of {source}"), |metrics| {
        let state = metrics.value("outboxd_circuit_state", &[("target", &target)]);
        state.is_some_and(|state| (state == 0.0) == closed)
    });
}

#[test]
fn a_broker_that_is_slow_cut_off_frozen_or_killed_loses_nothing() {
    let (kafka, proxy) = behind_a_proxy(&[]);
    let lane = Lane::new(
        &kafka,
        postgres(16),
        "faults",
        "lease = \"2s\"",
        "batch = { events = 40 }",
    );
    let (daemon, source) = (&lane.daemon, &lane.service.name);
    std::thread::scope(|scope| {
        scope.spawn(reaped);
        lane.while_writing(&[daemon], || {
            start(daemon, "", None);
            lane.led_with(1);
            proxy.delay(Duration::from_millis(30), Duration::from_millis(30));
            lane.led_with(1);
            proxy.delay(NONE, NONE);
            for _ in 0..4 {
                assert!(proxy.cut() > 0, "nothing was connected");
                lane.led_with(1);
            }
            kafka.pause();
            daemon.stays_calm(Duration::from_secs(7));
            kafka.resume();
            lane.led_with(1);
            kafka.kill();
            circuit(daemon, source, false);
            daemon.stays_calm(Duration::from_secs(5));
            kafka.start_again();
            lane.led_with(1);
            circuit(daemon, source, true);
        });
    });
}

/// A leader that is frozen for longer than a transaction may be open goes on by itself: its lease says that it still leads,
/// although the broker has given its producer up.
fn reaped() {
    let (relay, source) = ("lease = \"600s\"", "batch = { events = 40 }");
    let lane = Lane::new(kafka(), postgres(16), "reaped", relay, source);
    lane.while_writing(&[&lane.daemon], || {
        start(&lane.daemon, "before_commit=9:stop", None);
        stopped(&lane.daemon);
        // Every transaction ends with a checkpoint. Theirs can be read to its end again when this one is aborted.
        consumer::read_all(&lane.kafka.bootstrap(), &[&lane.checkpoints()]);
        lane.daemon.signal("CONT");
        lane.daemon
            .wait_metrics("the producer to be fenced", |metrics| {
                let fenced = [("reason", "fenced")];
                metrics.value("outboxd_producer_recreated_total", &fenced) == Some(1.0)
            });
        lane.led_with(1);
    });
}

/// Which of the partitions of its coordinator's topic a transactional id belongs to, as Java hashes it.
fn coordinator_partition(id: &str, partitions: i32) -> i32 {
    let step = |hash: i32, unit: u16| hash.wrapping_mul(31).wrapping_add(i32::from(unit));
    let hash = id.encode_utf16().fold(0, step);
    (hash & i32::MAX) % partitions
}

/// Three sources of one daemon, and a second broker that freezes: one source writes to a topic that has too few replicas
/// then, one has its coordinator there, and one has nothing to do with it, like the topic of sagas.
#[test]
fn what_one_source_lacks_stops_no_other_and_no_saga() {
    let first = Kafka::builder()
        .properties(&[
            ("replica.lag.time.max.ms", "2000"),
            ("broker.session.timeout.ms", "9000"),
        ])
        .start();
    let second = first.second();
    let bootstrap = first.bootstrap();
    let prefix = unique("two");
    let (both, one) = (unique("both"), unique("one"));
    create_topic_at(
        &bootstrap,
        &both,
        &[&[1, 2]],
        &[("min.insync.replicas", "2")],
    );
    create_topic_at(&bootstrap, &one, &[&[1]], &[]);
    let sagas = format!("{prefix}.sagas");
    create_topic_at(&bootstrap, &sagas, &[&[1][..]; 12], &[]);
    // The first transaction of a cluster makes the coordinators' topic.
    let mut config = rdkafka::ClientConfig::new();
    config
        .set("bootstrap.servers", &bootstrap)
        .set("transactional.id", "first");
    let producer: rdkafka::producer::BaseProducer = config.create().unwrap();
    rdkafka::producer::Producer::init_transactions(&producer, PATIENCE).unwrap();
    let coordinated_by = |broker: i32| {
        let services = std::iter::repeat_with(|| Service::install(postgres(16), "shop"));
        let mut services = services.take(40);
        let found = services.find(|service| {
            let id = format!("{prefix}/{}", service.name);
            let partition = coordinator_partition(&id, 4);
            leader(&bootstrap, "__transaction_state", partition) == broker
        });
        let found = found.expect("one of forty names");
        create_topic_at(
            &bootstrap,
            &format!("{prefix}.checkpoints.{}", found.name),
            &[&[1]],
            &[],
        );
        found
    };
    let (lacking, healthy, cut) = (coordinated_by(1), coordinated_by(1), coordinated_by(2));
    let all = [(&lacking, &both), (&healthy, &one), (&cut, &one)];
    let blocks: String = all.iter().map(|(service, _)| service.block("")).collect();
    let config = kafka_block(&first, &prefix) + "[relay]\nlease = \"2s\"\n" + &blocks;
    let daemon = Daemon::start(OUTBOXD, &config);
    let insert = |number: i32| {
        for (service, topic) in all {
            service.execute(&format!(
                "insert into outbox.event (topic, key, event_type, payload, saga_type, saga_id, saga_state)
                 values ('{topic}', 'k', 'E', '{number}', 't', '{}', '{number}')",
                service.name
            ));
        }
    };
    let seen = |topic: &str, service: &Service<'_>| {
        let all = consumer::read_all(&bootstrap, &[topic]);
        let source = service.name.as_bytes();
        let ours = all.iter().filter(|message| {
            let header = message.headers.iter().find(|(name, _)| name == "ce_source");
            let by = header.map_or(message.key.as_deref(), |(_, source)| source.as_deref());
            by == Some(source)
        });
        ours.count()
    };
    insert(1);
    for (service, topic) in all {
        wait_until("the first events", PATIENCE, || seen(topic, service) == 1);
    }
    second.pause();
    for number in 2..5 {
        insert(number);
        let seen_all = |topic: &str| seen(topic, &healthy) == usize::try_from(number).unwrap();
        wait_until("the healthy source and its saga", PATIENCE, || {
            seen_all(&one) && seen_all(&sagas)
        });
    }
    circuit(&daemon, &lacking.name, false);
    circuit(&daemon, &healthy.name, true);
    daemon.stays_calm(Duration::from_secs(5));
    assert_eq!(seen(&sagas, &lacking), 1, "no saga is ahead of its event");
    second.resume();
    for (service, topic) in all {
        wait_until("all events", PATIENCE, || seen(topic, service) == 4);
        wait_until("all sagas", PATIENCE, || seen(&sagas, service) == 4);
        circuit(&daemon, &service.name, true);
    }
    assert_eq!(daemon.terminate(), 0, "{}", daemon.log());
}

/// A topic that is deleted and made anew, an event's own and outboxd's: what comes afterwards waits and is sent in order.
#[test]
fn topics_that_are_deleted_and_made_anew_are_written_to_again() {
    let name = topic(kafka(), "anew", 1, &[]);
    let service = Service::install(postgres(16), "anew");
    let prefix = unique("anew");
    let config = kafka_block(kafka(), &prefix) + "[relay]\nlease = \"4s\"\n" + &service.block("");
    let daemon = Daemon::start(OUTBOXD, &config);
    let bootstrap = kafka().bootstrap();
    let insert = |numbers: std::ops::Range<i32>| {
        for number in numbers {
            service.execute(&format!(
                "insert into outbox.event (topic, key, event_type, payload, saga_type, saga_id, saga_state)
                 values ('{name}', 'k', 'E', '{number}', 't', 's', '{number}')"
            ));
        }
    };
    let seen = |topic: &str| -> Vec<String> {
        let all = consumer::read_all(&bootstrap, &[topic]);
        let text = |message: consumer::Message| String::from_utf8(message.value.unwrap()).unwrap();
        let keyed = all.into_iter().filter(|message| message.key.is_some());
        keyed.map(text).collect()
    };
    let numbers = |numbers: std::ops::Range<i32>| {
        numbers.map(|number| number.to_string()).collect::<Vec<_>>()
    };
    insert(0..3);
    wait_until("the first ones", PATIENCE, || seen(&name) == numbers(0..3));
    delete_topic(&bootstrap, &name);
    insert(3..6);
    let letters = "select count(*) from outbox.dead_letter where release = 'auto'";
    wait_until("letters", PATIENCE, || service.number(letters) == 3);
    create_topic(&bootstrap, &name, 3, &[]);
    wait_until("those that waited", PATIENCE, || {
        seen(&name) == numbers(3..6)
    });
    let sagas = format!("{prefix}.sagas");
    delete_topic(&bootstrap, &sagas);
    insert(6..9);
    wait_until("the last ones", PATIENCE, || seen(&name) == numbers(3..9));
    wait_until("their sagas", PATIENCE, || seen(&sagas).len() == 3);
    assert_eq!(daemon.terminate(), 0, "{}", daemon.log());
}
