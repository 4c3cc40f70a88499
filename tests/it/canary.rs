//! Secrets, tokens and payloads are searched in everything that outboxd says: logs, errors, metrics, tables, the process list.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use outboxd::auth;
use outboxd::config::Config;
use serde_json::json;

use crate::site::outboxd_with;
use crate::support::daemon::Daemon;
use crate::support::kafka::Kafka;
use crate::support::postgres::Postgres;
use crate::support::process::Port;
use crate::support::socket::Socket;
use crate::support::{block_on, http, topics, wait_until};
use crate::world::OUTBOXD;

const PATIENCE: Duration = Duration::from_secs(90);

/// Each begins and ends so that it cannot stand somewhere by chance.
const DATABASE: &str = "canary-database-5f1d";
const BROKER: &str = "canary-broker-9a2c";
const SIGNING: &str = "canary-signing-of-thirty-two-bytes-3e8b";
const OWNER: &str = "canary-owner-77d0";
const PAYLOAD: &str = "canary-payload-b46e";
const SECRETS: [&str; 5] = [DATABASE, BROKER, SIGNING, OWNER, PAYLOAD];

/// What has been said so far, and by what.
#[derive(Default)]
struct Heard(Vec<(String, String)>);

impl Heard {
    fn note(&mut self, what: &str, said: impl Into<String>) {
        self.0.push((what.to_owned(), said.into()));
    }

    fn run(&mut self, words: &[&str], variables: &[(&str, &str)]) {
        let ended = outboxd_with(words, variables);
        self.note(&words.join(" "), ended.out + &ended.err);
    }
}

/// One place of each kind where a secret may be kept: a file, a credential of systemd and a variable.
fn config(kafka: &Kafka, postgres: &Postgres, clients: &Port) -> String {
    format!(
        "[kafka]\nbootstrap_servers = \"{}\"\n[kafka.properties]\n\"security.protocol\" = \"sasl_plaintext\"\n\
         \"sasl.mechanism\" = \"PLAIN\"\n\"sasl.username\" = \"outboxd\"\n\"sasl.password\" = {{ env = \"BROKER\" }}\n\
         \"debug\" = \"security,broker,msg\"\n\
         [sources.orders]\nurl = \"postgres://relay@127.0.0.1:{}/postgres\"\npassword = {{ file = \"password\" }}\n\
         [push]\nlisten = \"127.0.0.1:{}\"\n[push.auth]\nissuer = \"https://id.example\"\nalgorithms = [\"HS256\"]\n\
         keys = {{ secret = {{ credential = \"signing\" }} }}\n",
        kafka.bootstrap_for("USERS"),
        postgres.port(),
        clients.number(),
    )
}

fn broker() -> Kafka {
    let jaas = format!(
        "org.apache.kafka.common.security.plain.PlainLoginModule required user_outboxd=\"{BROKER}\";"
    );
    let properties = [
        ("sasl.enabled.mechanisms", "PLAIN"),
        ("plain.sasl.jaas.config", jaas.as_str()),
    ];
    let builder = Kafka::builder();
    builder
        .listener("USERS", "SASL_PLAINTEXT", &properties)
        .start()
}

#[test]
fn no_secret_token_or_payload_is_said_anywhere() {
    let mut heard = Heard::default();
    let postgres = Postgres::builder(16).password(OWNER).start();
    postgres.execute(
        "postgres",
        &format!("create role relay login password '{DATABASE}'; create role app login"),
    );
    let url = postgres.url("postgres", "postgres");
    let install = [
        "sql",
        "install",
        "--url",
        &url,
        "--relay-role",
        "relay",
        "--app-role",
        "app",
    ];
    heard.run(&install, &[("PGPASSWORD", OWNER)]);
    heard.run(&install, &[("PGPASSWORD", PAYLOAD)]);
    let kafka = broker();
    topics::create_topic(
        &kafka.bootstrap(),
        "orders",
        1,
        &[("max.message.bytes", "2000")],
    );
    let credentials = tempfile::tempdir().unwrap();
    let signing = credentials.path().join("signing");
    fs::write(&signing, SIGNING).unwrap();
    fs::set_permissions(&signing, fs::Permissions::from_mode(0o400)).unwrap();
    let variables = [
        ("BROKER", BROKER),
        (
            "CREDENTIALS_DIRECTORY",
            credentials.path().to_str().unwrap(),
        ),
    ];
    let clients = Port::claim();
    let mut builder = Daemon::builder(OUTBOXD, &config(&kafka, &postgres, &clients));
    for (name, value) in variables.iter().chain(&[("OUTBOXD_LOG", "trace")]) {
        builder = builder.environment(name, value);
    }
    let daemon = builder.file("password", DATABASE).start();
    daemon.wait_ready();
    // One that is published, one that is too large, one of a topic that is not there.
    for (topic, payload) in [
        ("orders", PAYLOAD.to_owned()),
        ("orders", PAYLOAD.repeat(500)),
        ("absent", PAYLOAD.to_owned()),
    ] {
        let statement = format!(
            "insert into outbox.event (topic, key, event_type, payload, headers, saga_type, saga_id, saga_user, saga_state)
             values ('{topic}', '{PAYLOAD}', 'E', to_json('{payload}'::text)::text, '{{\"h\": \"{PAYLOAD}\"}}', 'order', 'o-1',
               'c-7', 'NEW')"
        );
        postgres.execute("postgres", &statement);
    }
    daemon.wait_metrics("all three", |metrics| {
        metrics.sum("outboxd_events_published_total") >= 1.0
            && metrics.sum("outboxd_dead_letter_rows") >= 2.0
    });
    // The configuration names a credential, which this process has no directory for.
    let token = token(&daemon);
    let (whole, _) = token.split_at(token.len() - 8);
    let broken = format!("{whole}AAAAAAAA");
    block_on(async {
        let address = ([127, 0, 0, 1], clients.number()).into();
        let (mut client, _) = Socket::authenticated(address, &token).await.unwrap();
        let subscribe =
            json!({"type": "subscribe", "id": 2, "saga_type": "order", "saga_id": "o-1"});
        client.send(&subscribe).await.unwrap();
        while client.news().await.unwrap()["type"] != "snapshot" {}
        assert!(Socket::authenticated(address, &broken).await.is_err());
    });
    let file = daemon.config().display().to_string();
    for words in [
        "check",
        "check --connect",
        "config show",
        "status",
        "status --json",
        "dead-letters list",
        "verify --source orders",
        "saga list",
        "saga show order o-1",
        "ctl reload --wait",
        "token create --sub c-7 --ttl nonsense",
    ] {
        let words: Vec<&str> = words
            .split(' ')
            .chain(["--config", file.as_str()])
            .collect();
        heard.run(&words, &variables);
    }
    heard.run(&["token", "check", &broken, "--config", &file], &variables);
    for path in ["/metrics", "/healthz", "/readyz", "/nothing"] {
        heard.note(path, http::get(daemon.admin(), path).unwrap().1);
    }
    let pid = daemon.pid().unwrap();
    let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    heard.note("the process list", words);

    // Wrong ones, and one that everybody may read.
    daemon.write("password", &format!("{DATABASE}-of-yesterday"));
    postgres.stop_fast();
    postgres.start_again();
    wait_until("the wrong password to be told", PATIENCE, || {
        daemon.log().contains("does not let us in")
    });
    daemon.write("password", DATABASE);
    let password = daemon.directory().join("password");
    fs::set_permissions(&password, fs::Permissions::from_mode(0o644)).unwrap();
    wait_until("the open file to be told", PATIENCE, || {
        daemon
            .log()
            .contains("can be read by everybody; run: chmod o-r")
    });
    heard.run(&["check", "--connect", "--config", &file], &variables);
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    heard.run(
        &["check", "--connect", "--config", &file],
        &[variables[1], ("BROKER", "canary-broker-9a2c-of-yesterday")],
    );
    assert_eq!(daemon.terminate(), 0, "{}", daemon.log());
    heard.note("the log", daemon.log());

    assert!(daemon.log().contains("DEBUG"), "the log says little");
    for (what, said) in &heard.0 {
        for secret in SECRETS.iter().chain(&[token.as_str(), broken.as_str()]) {
            // The operator's own view of an event: its key is data, and these commands are asked for it.
            let shows_keys = *secret == PAYLOAD && what.starts_with("dead-letters");
            assert!(
                shows_keys || !said.contains(secret),
                "{what} says {secret}:\n{said}"
            );
        }
    }
}

/// What `token create` prints, by the way of the library: a command line would show it.
fn token(daemon: &Daemon) -> String {
    let text = fs::read_to_string(daemon.config()).unwrap();
    let text = text.replace("{ credential = \"signing\" }", "{ file = \"signing\" }");
    daemon.write("signing", SIGNING);
    let auth = Config::parse(&daemon.config(), &text)
        .unwrap()
        .push
        .unwrap()
        .auth;
    let claims = json!({
        "iss": "https://id.example", "aud": "outboxd", "sub": "c-7", "exp": 4_000_000_000_u64,
    });
    auth::sign(&auth, claims.as_object().unwrap().clone()).unwrap()
}
