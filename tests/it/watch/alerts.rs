//! Each alert is made to fire by its cause, as a real Prometheus sees real daemons; and the dashboard has something to show.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use outboxd::auth;
use outboxd::config::Config;
use serde_json::json;

use super::files::{RULES, alerts, expressions, metrics_in};
use crate::site::ctl;
use crate::support::daemon::Daemon;
use crate::support::kafka::Kafka;
use crate::support::postgres::Postgres;
use crate::support::process::Port;
use crate::support::prometheus::Prometheus;
use crate::support::socket::Socket;
use crate::support::{block_on, http, wait_until};
use crate::world::{OUTBOXD, Service, kafka_block, topic};

const PATIENCE: Duration = Duration::from_secs(90);

/// What a saga should look like here; one that is asked too much of.
const DEFINITION: &str = "saga = \"create-order\"\n[states]\nAPPROVAL_PENDING = { kind = \"initial\", limit = \"500ms\", \
    next = [\"APPROVED\"] }\nAPPROVED = { kind = \"terminal\", outcome = \"completed\" }\n";

/// Two daemons that share a source and serve clients, with a Prometheus that waits for nothing.
struct Watched<'a> {
    kafka: Kafka,
    postgres: &'a Postgres,
    service: Service<'a>,
    topic: String,
    first: Daemon,
    second: Daemon,
    clients: Port,
    prometheus: Prometheus,
    fired: Mutex<BTreeSet<String>>,
}

/// The rules as they are, but that nothing has to last: what takes minutes in life takes seconds here.
fn impatient() -> String {
    let lines = RULES
        .lines()
        .filter(|line| !line.trim().starts_with("for: "));
    let mut rules: String = lines.map(|line| format!("{line}\n")).collect();
    for (from, to) in [
        (
            "outboxd_last_poll_timestamp_seconds > 60",
            "outboxd_last_poll_timestamp_seconds > 5",
        ),
        ("> time() - 60", "> time() - 25"),
        (
            "(increase(outboxd_lease_lost_total[15m])) > 3",
            "(increase(outboxd_lease_lost_total[15m])) > 0",
        ),
        (
            "{reason!=\"refused\"}[15m])) > 10",
            "{reason!=\"refused\"}[15m])) > 0",
        ),
    ] {
        assert!(rules.contains(from), "{from}");
        rules = rules.replace(from, to);
    }
    rules
}

fn daemon(kafka: &Kafka, service: &Service<'_>, clients: &Port, keys: &str) -> Daemon {
    let config = format!(
        "{}\n[relay]\nlease = \"3s\"\n{}\n[push]\nlisten = \"127.0.0.1:{}\"\n[push.auth]\nissuer = \"https://id.example\"\n\
         {keys}\n[push.limits]\nunauthenticated = 1\n[sagas]\ndefinitions = \"sagas/*.toml\"\n",
        kafka_block(kafka, "watch"),
        service.block(""),
        clients.number(),
    );
    let builder = Daemon::builder(OUTBOXD, &config);
    builder
        .file("secret", "a secret of thirty-two bytes or more")
        .file("sagas/create-order.toml", DEFINITION)
        .start()
}

impl<'a> Watched<'a> {
    fn start(postgres: &'a Postgres) -> Self {
        let kafka = Kafka::start();
        let service = Service::install_with(postgres, "orders", &["--slot", "1s"]);
        let topic = topic(&kafka, "watch", 1, &[("max.message.bytes", "2000")]);
        let (clients, others, nobody) = (Port::claim(), Port::claim(), Port::claim());
        let secret = "algorithms = [\"HS256\"]\nkeys = { secret = { file = \"secret\" } }";
        let first = daemon(&kafka, &service, &clients, secret);
        first.wait_ready();
        let absent = format!(
            "keys = {{ jwks_url = \"http://127.0.0.1:{}/\" }}",
            nobody.number()
        );
        let second = daemon(&kafka, &service, &others, &absent);
        second.wait_ready();
        let prometheus = Prometheus::start(&[first.admin(), second.admin()], &impatient());
        Self {
            kafka,
            postgres,
            service,
            topic,
            first,
            second,
            clients,
            prometheus,
            fired: Mutex::default(),
        }
    }

    fn fires(&self, alert: &str, labels: &[(&str, &str)]) {
        self.fires_by(alert, labels, || {});
    }

    /// Waits until an alert fires, and does this meanwhile.
    fn fires_by(&self, alert: &str, labels: &[(&str, &str)], cause: impl Fn()) {
        wait_until(&format!("{alert} {labels:?} to fire"), PATIENCE, || {
            cause();
            self.prometheus.fires(alert, labels)
        });
        self.fired.lock().unwrap().insert(alert.to_owned());
    }

    /// Inserts one event; more columns and their values as SQL.
    fn insert(&self, topic: &str, columns: &str, values: &str) {
        self.service.execute(&format!(
            "insert into outbox.event (topic, key, event_type, payload{columns}) values ('{topic}', 'k', 'E', '{{}}'{values})"
        ));
    }

    fn saga(&self, columns: &str, values: &str) {
        let columns = format!(", saga_type, saga_id{columns}");
        self.insert(
            &self.topic,
            &columns,
            &format!(", 'create-order', 'o-1'{values}"),
        );
    }

    /// A whole saga, and a word of its service too many.
    fn report(&self) {
        self.saga(", saga_user, saga_state", ", 'c-7', 'APPROVAL_PENDING'");
        self.saga(", saga_step, saga_step_status", ", 'verify', 'done'");
        self.saga(", saga_state, saga_outcome", ", 'APPROVED', 'completed'");
        self.saga(", saga_state", ", 'REJECTED'");
    }

    fn leads(daemon: &Daemon) -> bool {
        daemon.metrics().sum("outboxd_source_leader") == 1.0
    }

    /// How often the daemon was seen to have been started, by what Prometheus remembers.
    fn wait_seen(&self, daemon: &Daemon) {
        let started = daemon.metrics().sum("process_start_time_seconds");
        let query = format!(
            "process_start_time_seconds{{instance=\"{}\"}}",
            daemon.admin()
        );
        wait_until("Prometheus to see the daemon", PATIENCE, || {
            self.prometheus
                .query(&query)
                .iter()
                .any(|(_, seen)| *seen == started)
        });
    }
}

#[test]
fn each_alert_fires_by_its_cause_and_no_other_time() {
    let postgres = Postgres::start(17);
    let watched = Watched::start(&postgres);
    let (first, second) = (
        watched.first.admin().to_string(),
        watched.second.admin().to_string(),
    );
    // The second daemon's issuer has never been there; all else is well.
    watched.fires("OutboxdKeysStale", &[("instance", &second)]);
    wait_until("all else to be well", PATIENCE, || {
        let firing = watched.prometheus.firing();
        firing
            .iter()
            .all(|alert| alert["alertname"] == "OutboxdKeysStale")
    });
    refused_events(&watched);
    sagas(&watched);
    limits(&watched, &first);
    orders(&watched, &first);
    full_ring(&watched);
    dashboard(&watched);
    slow_commits(&watched);
    frozen_leader(&watched, &first);
    restarts(&watched, &second);
    no_kafka(&watched);
    no_database(&watched);
    let fired = watched.fired.lock().unwrap();
    let missed: Vec<_> = alerts()
        .into_iter()
        .filter(|it| !fired.contains(*it))
        .collect();
    assert_eq!(missed, Vec::<&str>::new());
}

fn refused_events(watched: &Watched<'_>) {
    watched.insert("there_is_no_such_topic", "", "");
    watched.fires("OutboxdTopicUnusable", &[("source", &watched.service.name)]);
    let large = format!(
        "insert into outbox.event (topic, key, event_type, payload) \
        select '{}', 'large', 'E', to_json(repeat('x', 9000))::text",
        watched.topic
    );
    watched.service.execute(&large);
    watched.fires("OutboxdDeadLetters", &[("source", &watched.service.name)]);
}

fn sagas(watched: &Watched<'_>) {
    let token = Config::load(&watched.first.config()).unwrap().push.unwrap();
    let claims = json!({
        "iss": "https://id.example", "aud": "outboxd", "sub": "c-7", "exp": 4_000_000_000_u64,
    });
    let token = auth::sign(&token.auth, claims.as_object().unwrap().clone()).unwrap();
    let address = (Ipv4Addr::LOCALHOST, watched.clients.number()).into();
    block_on(async {
        let (mut client, _) = Socket::authenticated(address, &token).await.unwrap();
        let subscribe = json!({
            "type": "subscribe", "id": 2, "saga_type": "create-order", "saga_id": "o-1",
        });
        client.send(&subscribe).await.unwrap();
        while client.news().await.unwrap()["type"] != "subscribed" {}
        watched.report();
        while client.news().await.unwrap()["outcome"] != "completed" {}
    });
    watched.fires("OutboxdSagaAnomalies", &[("kind", "after_end")]);
    let forgotten = ", saga_type, saga_id, saga_user, saga_state";
    let values = ", 'create-order', 'o-2', 'c-7', 'APPROVAL_PENDING'";
    watched.insert(&watched.topic, forgotten, values);
    watched.fires("OutboxdSagasStuck", &[("state", "APPROVAL_PENDING")]);
}

fn limits(watched: &Watched<'_>, first: &str) {
    // Nobody of them shows a token.
    let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, watched.clients.number())).unwrap();
    let _held: Vec<TcpStream> = (0..3).map(|_| connect()).collect();
    watched.fires(
        "OutboxdPushFull",
        &[("instance", first), ("reason", "unauthenticated")],
    );

    let limit = |files: &str| {
        let pid = watched.first.pid().unwrap().to_string();
        let mut command = Command::new("prlimit");
        let done = command
            .args(["--pid", &pid, &format!("--nofile={files}:")])
            .status();
        assert!(done.unwrap().success());
    };
    let had = watched.first.metrics().sum("process_max_fds");
    let open = watched.first.metrics().sum("process_open_fds");
    limit(&(open * 1.15).floor().to_string());
    watched.fires("OutboxdFilesRunOut", &[("instance", first)]);
    limit(&had.to_string());
    watched.prometheus.wait_quiet(&["OutboxdFilesRunOut"]);
}

/// What an operator does, and forgets or mistypes.
fn orders(watched: &Watched<'_>, first: &str) {
    let config = watched.first.config();
    let ctl = |words: &[&str]| ctl(&watched.first, words).code;
    let source = watched.service.name.as_str();
    assert_eq!(ctl(&["pause", source]), 0);
    watched.fires("OutboxdPaused", &[("source", source), ("instance", first)]);
    assert_eq!(ctl(&["resume", source]), 0);
    let good = std::fs::read_to_string(&config).unwrap();
    watched
        .first
        .write("outboxd.toml", &good.replace("lease", "laese"));
    assert_eq!(ctl(&["reload", "--wait"]), 78);
    watched.fires("OutboxdReloadFailed", &[("instance", first)]);
    watched.first.write("outboxd.toml", &good);
    assert_eq!(ctl(&["reload", "--wait"]), 0);
    watched
        .prometheus
        .wait_quiet(&["OutboxdPaused", "OutboxdReloadFailed"]);
}

/// A dump that takes long reads every slot, and holds the lock that keeps each from being emptied.
fn full_ring(watched: &Watched<'_>) {
    block_on(async {
        let dump = watched.service.connect_as("postgres").await;
        dump.batch_execute("begin; select count(*) from outbox.event")
            .await
            .unwrap();
        let source = [("source", watched.service.name.as_str())];
        watched.fires_by("OutboxdRingFull", &source, || {
            watched.insert(&watched.topic, "", "");
        });
        dump.batch_execute("commit").await.unwrap();
    });
    watched.prometheus.wait_quiet(&["OutboxdRingFull"]);
}

/// Every panel shows something, and all of it is in a scrape.
fn dashboard(watched: &Watched<'_>) {
    let scrape = |daemon: &Daemon| http::get(daemon.admin(), "/metrics").unwrap().1;
    let scrapes = scrape(&watched.first) + &scrape(&watched.second);
    let there: BTreeSet<&str> = metrics_in(&scrapes);
    for (title, expression) in expressions() {
        for metric in metrics_in(&expression) {
            assert!(there.contains(metric), "{title}: no scrape has {metric}");
        }
        let asked = expression
            .replace("$source", ".*")
            .replace("$instance", ".*")
            .replace("$saga_type", ".*")
            .replace("$__rate_interval", "1m");
        assert!(!asked.contains('$'), "{asked}");
        wait_until(&format!("{title} to show {asked}"), PATIENCE, || {
            !watched.prometheus.query(&asked).is_empty()
        });
    }
}

fn slow_commits(watched: &Watched<'_>) {
    let source = [("source", watched.service.name.as_str())];
    watched.fires_by("OutboxdProducerUnstable", &source, || {
        watched.insert(&watched.topic, "", "");
        // Long enough for a commit to be slow, wherever in a batch it comes.
        watched.kafka.pause();
        std::thread::sleep(Duration::from_millis(500));
        watched.kafka.resume();
    });
}

fn frozen_leader(watched: &Watched<'_>, first: &str) {
    wait_until("the first daemon to lead", PATIENCE, || {
        Watched::leads(&watched.first)
    });
    watched.first.signal("STOP");
    watched.fires("OutboxdDown", &[("instance", first)]);
    wait_until("the other one to lead", PATIENCE, || {
        Watched::leads(&watched.second)
    });
    watched.first.signal("CONT");
    watched.fires("OutboxdLeaderChanges", &[("source", &watched.service.name)]);
    watched.prometheus.wait_quiet(&["OutboxdDown"]);
}

fn restarts(watched: &Watched<'_>, second: &str) {
    for _ in 0..3 {
        watched.second.kill();
        watched.second.start_again();
        watched.second.wait_ready();
        watched.wait_seen(&watched.second);
    }
    watched.fires("OutboxdRestarts", &[("instance", second)]);
}

fn no_kafka(watched: &Watched<'_>) {
    let source = &watched.service.name;
    let away = [
        "OutboxdKafkaAway",
        "OutboxdNoLeader",
        "OutboxdBehind",
        "OutboxdPushBehind",
    ];
    watched.prometheus.wait_quiet(&away);
    watched.kafka.kill();
    watched.insert(&watched.topic, ", created_at", ", now() - interval '5 min'");
    watched.fires(
        "OutboxdKafkaAway",
        &[("target", &format!("kafka/{source}"))],
    );
    watched.fires("OutboxdNoLeader", &[("source", source)]);
    watched.fires("OutboxdBehind", &[("source", source)]);
    watched.fires("OutboxdPushBehind", &[]);
    let up = watched.prometheus.query("max(outboxd_kafka_broker_up)");
    assert_eq!(up[0].1, 0.0);
    watched.kafka.start_again();
    watched.prometheus.wait_quiet(&away);
}

fn no_database(watched: &Watched<'_>) {
    let source = &watched.service.name;
    // It takes what is sent and answers nothing, which no time-out of TCP ends.
    watched.postgres.pause();
    watched.fires("OutboxdNotReading", &[("source", source)]);
    watched.postgres.resume();
    watched.postgres.stop_immediate();
    watched.fires("OutboxdDatabaseAway", &[("source", source)]);
    watched.postgres.start_again();
    watched.prometheus.wait_quiet(&[
        "OutboxdNotReading",
        "OutboxdDatabaseAway",
        "OutboxdNoLeader",
    ]);
}
