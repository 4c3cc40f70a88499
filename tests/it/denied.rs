//! Rights in Kafka, with a real authoriser: those that the README asks for are enough, and one that is taken away and given back
//! costs nothing but time.

use std::time::Duration;

use crate::support::acl::{May, On, grant, revoke};
use crate::support::consumer;
use crate::support::daemon::Daemon;
use crate::support::kafka::Kafka;
use crate::support::{block_on, postgres, topics, wait_until};
use crate::world::{OUTBOXD, Service};

const PATIENCE: Duration = Duration::from_secs(90);
const USER: &str = "relay";

struct World<'a> {
    kafka: Kafka,
    service: Service<'a>,
    daemon: Daemon,
}

impl World<'_> {
    fn start() -> Self {
        let users = "org.apache.kafka.common.security.plain.PlainLoginModule required user_relay=\"secret\";";
        let kafka = Kafka::builder()
            .listener(
                "SASL_PLAINTEXT",
                "SASL_PLAINTEXT",
                &[
                    ("sasl.enabled.mechanisms", "PLAIN"),
                    ("plain.sasl.jaas.config", users),
                ],
            )
            .properties(&[
                (
                    "authorizer.class.name",
                    "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                ),
                // The broker itself and the tests, on the listeners without names.
                ("super.users", "User:ANONYMOUS"),
            ])
            .start();
        let service = Service::install(postgres(16), "shop");
        let servers = kafka.bootstrap_for("SASL_PLAINTEXT");
        let config = format!(
            "[kafka]\nbootstrap_servers = \"{servers}\"\n[kafka.properties]\n\"security.protocol\" = \"sasl_plaintext\"\n\
             \"sasl.mechanism\" = \"PLAIN\"\n\"sasl.username\" = \"{USER}\"\n\"sasl.password\" = {{ file = \"kafka.secret\" }}\n\
             [relay]\nlease = \"4s\"\n{}",
            service.block("batch = { events = 50 }")
        );
        let daemon = Daemon::builder(OUTBOXD, &config)
            .file("kafka.secret", "secret")
            .prepare();
        Self {
            kafka,
            service,
            daemon,
        }
    }

    fn grant(&self, may: &[May], on: On<'_>) {
        for may in may {
            grant(&self.kafka.bootstrap(), USER, *may, on);
        }
    }

    fn revoke(&self, may: May, on: On<'_>) {
        revoke(&self.kafka.bootstrap(), USER, may, on);
    }

    fn topic(&self, name: &str, config: &[(&str, &str)]) {
        topics::create_topic(&self.kafka.bootstrap(), name, 1, config);
    }

    fn insert(&self, topic: &str, payloads: &[&str]) {
        block_on(async {
            let client = self.service.connect().await;
            for payload in payloads {
                let insert =
                    "insert into outbox.event (topic, key, event_type, payload, saga_type, saga_id)
                    values ($1, 'k', 'E', $2, 't', 's')";
                client.execute(insert, &[&topic, payload]).await.unwrap();
            }
        });
    }

    /// Waits until exactly these are in a topic, in this order.
    fn wait_seen(&self, topic: &str, expected: &[&str]) {
        wait_until(&format!("{expected:?} in {topic}"), PATIENCE, || {
            let all = consumer::read_all(&self.kafka.bootstrap(), &[topic]);
            let values = all.into_iter().map(|message| message.value.unwrap());
            values.eq(expected.iter().map(|value| value.as_bytes().to_vec()))
        });
    }

    fn wait_letters(&self, reason: &str, count: i64) {
        let query = format!("select count(*) from outbox.dead_letter where reason = '{reason}'");
        wait_until(&format!("{count} {reason}"), PATIENCE, || {
            self.service.number(&query) == count
        });
    }

    fn wait_log(&self, words: &str) {
        wait_until(&format!("{words:?} in the log"), PATIENCE, || {
            self.daemon.log().contains(words)
        });
    }
}

#[test]
fn a_right_that_is_taken_away_and_given_back_costs_time_alone() {
    let world = World::start();
    for name in ["open", "shut", "later"] {
        world.topic(name, &[]);
    }
    world.topic("small", &[("max.message.bytes", "2000")]);
    // What the README asks for, and no more: DescribeConfigs, for one, is not among it.
    let (own, seen) = (On::Topics("outboxd."), [May::Write, May::Describe]);
    world.grant(&[May::Read, May::Write, May::Describe, May::Create], own);
    world.grant(&seen, On::Transactions("outboxd/"));
    world.grant(&[May::Describe], On::Group("outboxd.reader"));
    for name in ["open", "shut", "small"] {
        world.grant(&seen, On::Topic(name));
    }
    world.daemon.start_again();
    world.insert("open", &["1"]);
    world.insert("shut", &["1"]);
    world.insert("later", &["1", "2"]);
    world.wait_seen("open", &["1"]);
    world.wait_seen("shut", &["1"]);
    world.wait_letters("topic_denied", 2);

    // The limit of a topic may not be asked for: it is found out, and the one that is too large with it.
    let large = format!("\"{}\"", "x".repeat(5000));
    let fits = format!("\"{}\"", "y".repeat(1000));
    world.insert("small", &[&fits, &fits, &large]);
    world.wait_letters("too_large", 1);
    world.wait_seen("small", &[&fits, &fits]);

    // Visible, and not to be written to any more: only a try tells.
    world.revoke(May::Write, On::Topic("shut"));
    world.insert("shut", &["2", "3"]);
    world.wait_letters("topic_denied", 4);
    world.insert("open", &["2"]);
    world.wait_seen("open", &["1", "2"]);
    world.daemon.stays_calm(Duration::from_secs(10));
    world.grant(&seen, On::Topic("later"));
    world.grant(&[May::Write], On::Topic("shut"));
    world.wait_seen("later", &["1", "2"]);
    world.wait_seen("shut", &["1", "2", "3"]);
    world.wait_letters("topic_denied", 0);

    // Without what is its own the source stops, says so, and goes on by itself.
    for (may, on) in [
        (May::Write, On::Transactions("outboxd/")),
        (May::Write, own),
    ] {
        let published = |metrics: &crate::support::metrics::Metrics| {
            metrics.sum("outboxd_events_published_total")
        };
        let before = published(&world.daemon.metrics());
        world.revoke(may, on);
        world.insert("open", &["3"]);
        world.wait_log("Kafka refuses outboxd");
        world.daemon.wait_metrics("the circuit to open", |metrics| {
            metrics.sum("outboxd_circuit_state") > 0.0
        });
        assert!((published(&world.daemon.metrics()) - before).abs() < f64::EPSILON);
        world.daemon.stays_calm(Duration::from_secs(5));
        world.grant(&[may], on);
        world.daemon.wait_metrics("the source to go on", |metrics| {
            published(metrics) > before && metrics.sum("outboxd_circuit_state") == 0.0
        });
    }
    world.wait_seen("open", &["1", "2", "3", "3"]);
    assert_eq!(world.daemon.terminate(), 0, "{}", world.daemon.log());
}
