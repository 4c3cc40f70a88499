//! What people get wrong: each mistake is named, with what to do, and stops nobody else.

use std::process::{Command, Output};
use std::time::Duration;

use crate::support::consumer;
use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;
use crate::support::{block_on, kafka, postgres, unique, wait_until};
use crate::world::{OUTBOXD, Service, daemon, kafka_block, topic};

const PATIENCE: Duration = Duration::from_secs(90);

fn check(config: &str) -> (i32, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("outboxd.toml");
    std::fs::write(&file, config).unwrap();
    let output: Output = Command::new(OUTBOXD)
        .args(["check", "--connect", "--config", file.to_str().unwrap()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), text)
}

fn insert(service: &Service<'_>, topic: &str, value: &str) {
    block_on(async {
        let client = service.connect().await;
        let statement =
            "insert into outbox.event (topic, key, event_type, payload) values ($1, 'k', 'E', $2)";
        client.execute(statement, &[&topic, &value]).await.unwrap();
    });
}

fn wait_for_error(daemon: &Daemon, words: &[&str]) {
    wait_until(&format!("{words:?} in the log"), PATIENCE, || {
        let log = daemon.log();
        words.iter().all(|word| log.contains(word))
    });
}

#[test]
fn the_doctor_names_what_is_wrong_by_exit_code_and_remedy() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let head = kafka_block(kafka, &unique("doctor"));
    let service = Service::install(postgres, "shop");
    let (code, text) = check(&(head.clone() + &service.block("")));
    assert_eq!(code, 0, "{text}");

    let empty = unique("empty");
    postgres.create_database(&empty);
    let role = format!("{}_relay", service.name);
    let block = format!(
        "[sources.empty]\nurl = \"{}\"\n",
        postgres.url(&role, &empty)
    );
    let (code, text) = check(&(head.clone() + &block));
    assert!(
        code == 65 && text.contains("outboxd sql install"),
        "{code}: {text}"
    );

    let app = format!(
        "[sources.shop]\nurl = \"{}\"\n",
        postgres.url(&format!("{}_app", service.name), &service.name)
    );
    let (code, text) = check(&(head.clone() + &app));
    assert!(
        code == 77 && text.contains("outboxd sql grants"),
        "{code}: {text}"
    );

    let nobody = format!(
        "[sources.shop]\nurl = \"{}\"\n",
        postgres.url("nobody_here", &service.name)
    );
    assert_eq!(check(&(head.clone() + &nobody)).0, 77);
    let nothing = "[sources.shop]\nurl = \"postgres://outboxd@127.0.0.1:1/shop\"\n";
    let (code, text) = check(&(head + nothing));
    assert!(
        code == 69 && text.contains("127.0.0.1:1/shop"),
        "{code}: {text}"
    );
}

#[test]
fn a_source_that_is_away_stops_no_other() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let topic = topic(kafka, "away", 1, &[]);
    let service = Service::install(postgres, "shop");
    let config = kafka_block(kafka, &unique("away"))
        + &service.block("")
        + "[sources.nowhere]\nurl = \"postgres://outboxd@127.0.0.1:1/nowhere\"\n";
    let daemon = Daemon::start(OUTBOXD, &config);
    insert(&service, &topic, "1");
    wait_until("the event", PATIENCE, || {
        consumer::read_all(&kafka.bootstrap(), &[&topic]).len() == 1
    });
    let ready = crate::support::http::get(daemon.admin(), "/readyz").unwrap();
    assert!(ready.0 == 503 && ready.1.contains("nowhere"), "{ready:?}");
}

/// Its connections stay open and its kernel acknowledges what is sent: only its silence tells.
#[test]
fn a_database_that_is_frozen_is_given_up_stops_no_other_and_is_taken_up_again() {
    let kafka = kafka();
    let topic = topic(kafka, "frozen", 1, &[]);
    let cluster = Postgres::start(16);
    let (frozen, other) = (
        Service::install(&cluster, "frozen"),
        Service::install(postgres(16), "other"),
    );
    let daemon = daemon(kafka, &unique("frozen"), &[&frozen, &other]);
    daemon.wait_ready();
    let seen = || consumer::read_all(&kafka.bootstrap(), &[&topic]).len();
    insert(&frozen, &topic, "1");
    wait_until("its first event", PATIENCE, || seen() == 1);
    cluster.pause();
    wait_for_error(&daemon, &["has not answered for 40 s"]);
    insert(&other, &topic, "2");
    wait_until("the event of the other one", PATIENCE, || seen() == 2);
    let healthy = crate::support::http::get(daemon.admin(), "/healthz").unwrap();
    assert_eq!(healthy.0, 200, "{healthy:?}");
    cluster.resume();
    insert(&frozen, &topic, "3");
    wait_until("the event after the thaw", PATIENCE, || seen() == 3);
    assert_eq!(daemon.terminate(), 0, "{}", daemon.log());
}

#[test]
fn one_database_under_two_names_is_refused() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let prefix = unique("names");
    let service = Service::install(postgres, "shop");
    let first = daemon(kafka, &prefix, &[&service]);
    first.wait_ready();
    let other = service
        .block("")
        .replace(&format!("[sources.{}]", service.name), "[sources.other]");
    let second = Daemon::start(OUTBOXD, &(kafka_block(kafka, &prefix) + &other));
    wait_for_error(
        &second,
        &["belongs to source", &service.name, "outboxd sql rename"],
    );
}

#[test]
fn two_deployments_with_one_prefix_and_name_are_told_apart() {
    let kafka = kafka();
    let prefix = unique("twins");
    let topic = topic(kafka, "twins", 1, &[]);
    // The same name in two clusters: two deployments that know nothing of each other.
    let first = Service::install(postgres(16), "twin");
    let second = Service::install(postgres(17), "twin");
    let named = |service: &Service<'_>| {
        service
            .block("")
            .replace(&format!("[sources.{}]", service.name), "[sources.twin]")
    };
    let one = Daemon::start(OUTBOXD, &(kafka_block(kafka, &prefix) + &named(&first)));
    // Whose checkpoints come first owns the topic.
    insert(&first, &topic, "1");
    let seen = || consumer::read_all(&kafka.bootstrap(), &[&topic]).len();
    wait_until("the first one's event", PATIENCE, || seen() == 1);
    let two = Daemon::start(OUTBOXD, &(kafka_block(kafka, &prefix) + &named(&second)));
    insert(&second, &topic, "2");
    wait_for_error(&two, &["belongs to another database", "outboxd sql rebase"]);
    // The first one is disturbed once, says so, and goes on; the second one publishes nothing.
    insert(&first, &topic, "3");
    wait_until("the first one's next event", PATIENCE, || seen() >= 2);
    assert_eq!(seen(), 2);
    wait_for_error(&one, &["fenced"]);
}

#[test]
fn of_two_daemons_with_one_name_one_leads() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let topic = topic(kafka, "doubles", 1, &[]);
    let service = Service::install(postgres, "shop");
    let config = kafka_block(kafka, &unique("doubles"))
        + "[relay]\ninstance = \"same\"\n"
        + &service.block("");
    let (one, two) = (
        Daemon::start(OUTBOXD, &config),
        Daemon::start(OUTBOXD, &config),
    );
    one.wait_ready();
    two.wait_ready();
    for value in 0..20 {
        insert(&service, &topic, &value.to_string());
    }
    let read = || consumer::read_all(&kafka.bootstrap(), &[&topic]);
    wait_until("all events", PATIENCE, || read().len() >= 20);
    let leaders = |daemon: &Daemon| daemon.metrics().sum("outboxd_source_leader");
    assert!((leaders(&one) + leaders(&two) - 1.0).abs() < f64::EPSILON);
    let standby = if leaders(&one) > 0.0 { &two } else { &one };
    wait_for_error(standby, &["has this daemon's instance name"]);
    // A clean stop hands over at once, long before the lease would end.
    let leader = if leaders(&one) > 0.0 { &one } else { &two };
    assert_eq!(leader.terminate(), 0);
    standby.wait_metrics("the other to lead", |metrics| {
        metrics.sum("outboxd_source_leader") > 0.0
    });
    insert(&service, &topic, "20");
    wait_until("the last event", PATIENCE, || read().len() == 21);
}

#[test]
fn a_second_term_ends_a_drain_at_once() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let service = Service::install(postgres, "shop");
    let daemon = daemon(kafka, &unique("signals"), &[&service]);
    daemon.wait_ready();
    // A lock that the last settlement waits for holds the drain up.
    block_on(async {
        let client = service.connect_as("postgres").await;
        client
            .batch_execute("begin; select from outbox.relay for update")
            .await
            .unwrap();
        daemon.signal("TERM");
        wait_for_error(&daemon, &["draining"]);
        assert!(daemon.pid().is_some(), "it drains");
        daemon.signal("TERM");
        daemon.wait();
    });
    wait_for_error(&daemon, &["leaving at once"]);
}
