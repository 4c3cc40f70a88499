//! Kafka behind TLS, passwords and an authoriser: what opens it, and what is said when something is wrong.

use std::path::PathBuf;
use std::time::Duration;

use crate::site::{Ended, outboxd_with};
use crate::support::acl::{May, On, grant};
use crate::support::authority::Authority;
use crate::support::daemon::Daemon;
use crate::support::kafka::Kafka;
use crate::support::process::Port;
use crate::support::{block_on, consumer, postgres, topics, unique, wait_until};
use crate::world::{OUTBOXD, Service, publish_unsettled};

const PATIENCE: Duration = Duration::from_secs(90);
const PASSWORD: &str = "tiger-in-the-broker";

/// A broker that shows itself by a certificate: a good one, one whose time is over, one of another host; that asks clients for
/// one; and that asks for passwords in two ways.
fn broker(ours: &Authority) -> Kafka {
    let store = |(certificate, key): (String, String)| {
        [
            ("ssl.keystore.type", "PEM".to_owned()),
            ("ssl.keystore.certificate.chain", certificate),
            ("ssl.keystore.key", key),
        ]
    };
    let good = || store(ours.sign("IP:127.0.0.1"));
    let mutual = [
        ("ssl.client.auth", "required".to_owned()),
        ("ssl.truststore.type", "PEM".to_owned()),
        ("ssl.truststore.certificates", ours.certificate()),
    ];
    let module = "org.apache.kafka.common.security";
    let scram = [
        ("sasl.enabled.mechanisms", "SCRAM-SHA-512".to_owned()),
        (
            "scram-sha-512.sasl.jaas.config",
            format!("{module}.scram.ScramLoginModule required;"),
        ),
    ];
    let plain = [
        ("sasl.enabled.mechanisms", "PLAIN".to_owned()),
        (
            "plain.sasl.jaas.config",
            format!("{module}.plain.PlainLoginModule required user_outboxd=\"{PASSWORD}\";"),
        ),
    ];
    let mut builder = Kafka::builder().scram("outboxd", PASSWORD);
    for (name, protocol, properties) in [
        ("GOOD", "SSL", good().to_vec()),
        (
            "EXPIRED",
            "SSL",
            store(ours.sign_expired("IP:127.0.0.1")).to_vec(),
        ),
        (
            "ELSEWHERE",
            "SSL",
            store(ours.sign("DNS:kafka.example")).to_vec(),
        ),
        ("MUTUAL", "SSL", [good(), mutual].concat()),
        ("SCRAM", "SASL_SSL", [&good()[..], &scram].concat()),
        ("PASSWORDS", "SASL_SSL", [&good()[..], &plain].concat()),
    ] {
        let properties: Vec<_> = properties
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        builder = builder.listener(name, protocol, &properties);
    }
    builder.start()
}

type Properties = Vec<(&'static str, String)>;

/// The block of a listener with these properties.
fn block(kafka: &Kafka, listener: &str, prefix: &str, properties: &Properties) -> String {
    let lines: String = properties
        .iter()
        .map(|(name, value)| format!("\"{name}\" = {value}\n"))
        .collect();
    format!(
        "[kafka]\nbootstrap_servers = \"{}\"\nprefix = \"{prefix}\"\n[kafka.properties]\n{lines}",
        kafka.bootstrap_for(listener)
    )
}

fn quoted(value: impl std::fmt::Display) -> String {
    format!("\"{value}\"")
}

/// TLS to brokers that this authority vouches for.
fn tls(root: &Authority) -> Properties {
    vec![
        ("security.protocol", quoted("ssl")),
        ("ssl.ca.location", quoted(root.root().display())),
    ]
}

/// The same, with a certificate of ours.
fn mutual(root: &Authority, (certificate, key): &(PathBuf, PathBuf)) -> Properties {
    let mut properties = tls(root);
    properties.push(("ssl.certificate.location", quoted(certificate.display())));
    properties.push(("ssl.key.location", quoted(key.display())));
    properties
}

/// A password, in TLS or without.
fn sasl(protocol: &str, mechanism: &str, user: &str) -> Properties {
    vec![
        ("security.protocol", quoted(protocol)),
        ("sasl.mechanism", quoted(mechanism)),
        ("sasl.username", quoted(user)),
        ("sasl.password", "{ env = \"KAFKA_PASSWORD\" }".to_owned()),
    ]
}

fn sasl_ssl(root: &Authority, mechanism: &str, user: &str) -> Properties {
    let mut properties = sasl("sasl_ssl", mechanism, user);
    properties.push(("ssl.ca.location", quoted(root.root().display())));
    properties
}

/// `check --connect` of a configuration that knows a password by a variable.
fn check(config: &str, password: &str) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("outboxd.toml");
    std::fs::write(&file, config).unwrap();
    let words = ["check", "--connect", "--config", file.to_str().unwrap()];
    let ended = outboxd_with(&words, &[("KAFKA_PASSWORD", password)]);
    let all = ended.out.clone() + &ended.err;
    assert!(!all.contains(password), "{all}");
    ended
}

/// A listener, how it is come to, with which password, and what comes of it: an exit code and words that are said.
type Case = (
    &'static str,
    Properties,
    &'static str,
    i32,
    &'static [&'static str],
);

const UNVERIFIED: &[&str] = &[
    "certificate verify failed",
    "\"ssl.ca.location\"",
    "names in their certificates",
];
const UNSHOWN: &[&str] = &["\"ssl.certificate.location\""];

#[test]
fn kafka_is_reached_as_far_as_certificates_and_passwords_are_right_and_no_further() {
    let (ours, other) = (Authority::new(), Authority::new());
    let kafka = broker(&ours);
    let client = ours.client("outboxd");
    let mut unnamed = tls(&ours);
    unnamed.push(("ssl.endpoint.identification.algorithm", quoted("none")));
    let plaintext = vec![("security.protocol", quoted("plaintext"))];
    let scram = || sasl_ssl(&ours, "SCRAM-SHA-512", "outboxd");
    let plain = || sasl_ssl(&ours, "PLAIN", "outboxd");
    let cases: Vec<Case> = vec![
        ("GOOD", tls(&ours), "", 0, &[]),
        ("GOOD", tls(&other), "", 77, UNVERIFIED),
        ("GOOD", plaintext, "", 69, &["does not answer"]),
        ("EXPIRED", tls(&ours), "", 77, UNVERIFIED),
        ("ELSEWHERE", tls(&ours), "", 77, UNVERIFIED),
        ("ELSEWHERE", unnamed, "", 0, &[]),
        ("MUTUAL", mutual(&ours, &client), "", 0, &[]),
        ("MUTUAL", tls(&ours), "", 77, UNSHOWN),
        (
            "MUTUAL",
            mutual(&ours, &ours.client_expired("outboxd")),
            "",
            77,
            UNSHOWN,
        ),
        (
            "MUTUAL",
            mutual(&ours, &other.client("outboxd")),
            "",
            77,
            UNSHOWN,
        ),
        ("SCRAM", scram(), PASSWORD, 0, &[]),
        (
            "SCRAM",
            scram(),
            "wrong-word",
            77,
            &["SCRAM-SHA-512", "\"sasl.password\""],
        ),
        (
            "SCRAM",
            sasl_ssl(&ours, "SCRAM-SHA-512", "nobody"),
            PASSWORD,
            77,
            &["\"sasl.username\""],
        ),
        (
            "SCRAM",
            plain(),
            PASSWORD,
            77,
            &["PLAIN", "\"sasl.mechanism\""],
        ),
        ("PASSWORDS", plain(), PASSWORD, 0, &[]),
        (
            "PASSWORDS",
            plain(),
            "wrong-word",
            77,
            &["Invalid username or password", "\"sasl.password\""],
        ),
        (
            "PASSWORDS",
            sasl_ssl(&other, "PLAIN", "outboxd"),
            PASSWORD,
            77,
            UNVERIFIED,
        ),
    ];
    // Together: a time-out of one costs nothing to the others.
    let kafka = &kafka;
    let ended: Vec<Ended> = std::thread::scope(|scope| {
        let each = cases.iter().map(|(listener, properties, password, _, _)| {
            let config = block(kafka, listener, "tls", properties);
            let password = if password.is_empty() {
                "none-is-asked"
            } else {
                password
            };
            scope.spawn(move || check(&config, password))
        });
        let each: Vec<_> = each.collect();
        each.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for ((listener, properties, _, code, words), ended) in cases.iter().zip(&ended) {
        assert_eq!(
            ended.code, *code,
            "{words:?}: {listener} {properties:?}: {ended:?}"
        );
        let all = ended.out.clone() + &ended.err;
        for word in *words {
            assert!(
                all.contains(word),
                "{listener} {properties:?}: no {word} in {all}"
            );
        }
    }
    publishes(kafka, "MUTUAL", &mutual(&ours, &client));
    publishes(kafka, "SCRAM", &scram());
}

/// A whole daemon, both producers and readers, behind that listener.
fn publishes(kafka: &Kafka, listener: &str, properties: &Properties) {
    let prefix = unique("secure");
    let service = Service::install(postgres(16), "secure");
    let topic = unique("secure");
    topics::create_topic(&kafka.bootstrap(), &topic, 1, &[]);
    let config = block(kafka, listener, &prefix, properties) + &service.block("");
    let builder = Daemon::builder(OUTBOXD, &config);
    let daemon = builder.environment("KAFKA_PASSWORD", PASSWORD).start();
    insert(&service, &topic);
    wait_until("the event behind TLS", PATIENCE, || {
        consumer::read_all(&kafka.bootstrap(), &[&topic]).len() == 1
    });
    assert_eq!(daemon.terminate(), 0, "{}", daemon.log());
    assert!(!daemon.log().contains(PASSWORD), "{}", daemon.log());
}

fn insert(service: &Service<'_>, topic: &str) {
    service.execute(&event(topic));
}

fn event(topic: &str) -> String {
    format!(
        "insert into outbox.event (topic, key, event_type, payload, saga_type, saga_id, saga_user, saga_state)
         values ('{topic}', 'k', 'E', '{{}}', 'create-order', 'o-1', 'c-7', 'BEGUN')"
    )
}

/// What a user may do: kind of name, the name, and the right.
type Right = (fn(&str) -> On<'_>, String, May);

/// What the documents say that a relay needs, for a user whose name is also the prefix and the end of its topic's.
fn documented(user: &str) -> Vec<Right> {
    vec![
        (|name| On::Topic(name), format!("events-{user}"), May::Write),
        (|name| On::Topics(name), format!("{user}."), May::Read),
        (|name| On::Topics(name), format!("{user}."), May::Write),
        (|name| On::Topics(name), format!("{user}."), May::Create),
        (
            |name| On::Transactions(name),
            format!("{user}/"),
            May::Write,
        ),
        (
            |name| On::Group(name),
            format!("{user}.reader"),
            May::Describe,
        ),
    ]
}

fn allow(kafka: &Kafka, user: &str, rights: &[Right]) {
    for (on, name, may) in rights {
        grant(&kafka.bootstrap(), user, *may, on(name));
    }
}

/// What is said when the right of that place in [`documented`] is missing.
fn said(n: usize, user: &str) -> String {
    match n {
        1 => format!("reading {user}.checkpoints"),
        2 => format!("grant Write and Describe on the topic {user}."),
        3 => format!(
            "grant Create on it, or create it with: kafka-topics.sh --create --topic {user}."
        ),
        4 => format!("grant Write and Describe on the transactional ids {user}/*"),
        _ => format!("grant Describe on the group {user}.reader"),
    }
}

/// A deployment whose user, prefix and topic have one name.
struct Tried<'a> {
    name: String,
    service: Service<'a>,
    topic: String,
}

impl Tried<'_> {
    fn new(kafka: &Kafka, name: &str) -> Self {
        let topic = format!("events-{name}");
        topics::create_topic(&kafka.bootstrap(), &topic, 1, &[]);
        let service = Service::install(postgres(16), name);
        insert(&service, &topic);
        Self {
            name: name.to_owned(),
            service,
            topic,
        }
    }

    fn config(&self, kafka: &Kafka) -> String {
        let properties = sasl("sasl_plaintext", "PLAIN", &self.name);
        block(kafka, "USERS", &self.name, &properties) + &self.service.block("")
    }

    /// A command of its operator.
    fn asked(&self, daemon: &Daemon, words: &[&str]) -> Ended {
        let config = daemon.config().display().to_string();
        let words = [words, &["--config", &config]].concat();
        outboxd_with(&words, &[("KAFKA_PASSWORD", PASSWORD)])
    }

    fn start(&self, kafka: &Kafka) -> Daemon {
        let builder = Daemon::builder(OUTBOXD, &self.config(kafka));
        builder.environment("KAFKA_PASSWORD", PASSWORD).start()
    }
}

/// A broker that lets these users in and allows them nothing by itself.
fn authoriser(users: &[&str]) -> Kafka {
    let users: String = users
        .iter()
        .map(|user| format!(" user_{user}=\"{PASSWORD}\""))
        .collect();
    let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
    let jaas = format!("{module} required{users};");
    Kafka::builder()
        .properties(&[
            (
                "authorizer.class.name",
                "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            ),
            ("super.users", "User:ANONYMOUS"),
        ])
        .listener(
            "USERS",
            "SASL_PLAINTEXT",
            &[
                ("sasl.enabled.mechanisms", "PLAIN"),
                ("plain.sasl.jaas.config", &jaas),
            ],
        )
        .start()
}

#[test]
fn the_documented_rights_in_kafka_suffice_and_each_one_that_is_missing_is_named() {
    let lacking: Vec<String> = (0..documented("all").len())
        .map(|n| format!("lacks{n}"))
        .collect();
    let known = ["all", "verifies", "sees"];
    let users: Vec<&str> = known
        .into_iter()
        .chain(lacking.iter().map(String::as_str))
        .collect();
    let kafka = authoriser(&[&users[..], &["watches"]].concat());
    for user in known {
        let mut rights = documented(user);
        let of_events = |may| -> Right { (|name| On::Topic(name), format!("events-{user}"), may) };
        match user {
            "verifies" => rights.extend([May::Read, May::DescribeConfigs].map(of_events)),
            // Who may look at a topic and not write to it, which shows only in the middle of a transaction.
            "sees" => rights[0] = of_events(May::Describe),
            _ => {}
        }
        allow(&kafka, user, &rights);
    }
    for (n, user) in lacking.iter().enumerate() {
        let mut rights = documented(user);
        rights.remove(n);
        allow(&kafka, user, &rights);
    }
    let watches: [Right; 2] = [
        (|name| On::Topic(name), "all.sagas".to_owned(), May::Read),
        (
            |name| On::Group(name),
            "all.reader".to_owned(),
            May::Describe,
        ),
    ];
    allow(&kafka, "watches", &watches);
    let tried: Vec<Tried<'_>> = users.iter().map(|user| Tried::new(&kafka, user)).collect();
    let daemons: Vec<Daemon> = tried.iter().map(|it| it.start(&kafka)).collect();
    let read = |it: &Tried<'_>| consumer::read_all(&kafka.bootstrap(), &[&it.topic]).len();
    for (it, daemon) in tried.iter().zip(&daemons) {
        if ["all", "lacks1"].contains(&it.name.as_str()) {
            wait_until("the event", PATIENCE, || read(it) == 1);
            // What is found by the next life of the daemon in what it published.
            block_on(async {
                let writer = it.service.connect().await;
                writer
                    .batch_execute(&format!("begin; {}", event(&it.topic)))
                    .await
                    .unwrap();
                publish_unsettled(&it.service, daemon, &writer, || {
                    wait_until("the second event", PATIENCE, || read(it) == 2);
                })
                .await;
            });
            daemon.start_again();
        }
    }
    for (n, it) in tried.iter().enumerate() {
        let daemon = &daemons[n];
        match n.checked_sub(known.len()) {
            None if it.name == "sees" => wait_denied(it, daemon),
            None => {
                let had = read(it);
                insert(&it.service, &it.topic);
                wait_until("one more event", PATIENCE, || read(it) > had);
            }
            Some(0) => wait_denied(it, daemon),
            Some(lacks) => {
                let said = said(lacks, &it.name);
                // Readers ask for the group, and often have what they want before they hear the answer.
                let serving = (lacks == 5).then(|| serve(&kafka, &it.name, &it.name));
                let daemon = serving.as_ref().unwrap_or(daemon);
                wait_until(&said, PATIENCE, || daemon.log().contains(&said));
            }
        }
    }
    let serving = serve(&kafka, "watches", "all");
    serving.wait_ready();
    serving.wait_metrics("the saga", |metrics| metrics.sum("outboxd_sagas") == 1.0);
    let find = |name: &str| {
        tried
            .iter()
            .zip(&daemons)
            .find(|(it, _)| it.name == name)
            .unwrap()
    };
    for (name, words, code, said) in [
        ("all", "check --connect", 0, "is there"),
        (
            "lacks1",
            "check --connect",
            77,
            "grant Read and Describe on the topic lacks1.",
        ),
        ("verifies", "verify --source SOURCE", 0, ""),
        (
            "all",
            "verify --source SOURCE",
            77,
            "grant Read and Describe on the topic events-all",
        ),
    ] {
        let (it, daemon) = find(name);
        let words = words.replace("SOURCE", &it.service.name);
        let words: Vec<&str> = words.split(' ').collect();
        let ended = it.asked(daemon, &words);
        assert_eq!(ended.code, code, "{name}: {ended:?}");
        assert!(
            (ended.out.clone() + &ended.err).contains(said),
            "{name}: {ended:?}"
        );
    }
}

/// Its topic waits by itself, and says which right it waits for.
fn wait_denied(it: &Tried<'_>, daemon: &Daemon) {
    wait_until("the event to be refused", PATIENCE, || {
        let listed = it.asked(daemon, &["dead-letters", "list"]).out;
        listed.contains("topic_denied") && listed.contains("grant Write and Describe")
    });
}

/// A daemon of this user that only reads what a deployment's relays write.
fn serve(kafka: &Kafka, user: &str, prefix: &str) -> Daemon {
    let port = Port::claim();
    let kafka = block(
        kafka,
        "USERS",
        prefix,
        &sasl("sasl_plaintext", "PLAIN", user),
    );
    let push = format!(
        "[push]\nlisten = \"127.0.0.1:{}\"\n[push.auth]\nissuer = \"https://id.example\"\nalgorithms = [\"HS256\"]\n\
         keys = {{ secret = {{ env = \"SECRET\" }} }}\n",
        port.number()
    );
    let builder = Daemon::builder(OUTBOXD, &(kafka + &push));
    let builder = builder.environment("SECRET", "a secret of thirty-two bytes or more");
    builder.environment("KAFKA_PASSWORD", PASSWORD).start()
}
