//! A reload is a transaction: all of a changed file is applied, or nothing, and what did not change does not notice.

use super::{PATIENCE, epoch, insert, wait_leads, wait_published};
use crate::site::ctl;
use crate::support::daemon::Daemon;
use crate::support::{kafka, postgres, unique, wait_until};
use crate::world::{OUTBOXD, Service, daemon, kafka_block, topic};

const RELOADED: &str = "outboxd_config_last_reload_successful";
const RELOADED_AT: &str = "outboxd_config_last_reload_success_timestamp_seconds";

#[test]
fn a_broken_file_leaves_everything_running_and_is_told_with_line_and_column() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let topic = topic(kafka, "broken", 1, &[]);
    let service = Service::install(postgres, "broken");
    let prefix = unique("broken");
    let daemon = daemon(kafka, &prefix, &[&service]);
    wait_leads(&daemon, &service);
    insert(&service, &topic, &["1"]);
    wait_published(kafka, &topic, 1);
    let led = epoch(&service);
    let began = daemon.metrics().sum(RELOADED_AT);

    let good = kafka_block(kafka, &prefix) + &service.block("");
    let wrong = good.clone() + "batch = { events = 0 }\non_refused = \"drop\"\n";
    daemon.configure(&wrong);
    let ended = ctl(&daemon, &["reload", "--wait"]);
    assert_eq!(ended.code, 78, "{ended:?}");
    let line = wrong
        .lines()
        .position(|line| line.contains("events = 0"))
        .unwrap()
        + 1;
    let file = daemon.config();
    for expected in [
        format!("--> {}:{line}:20\n", file.display()),
        format!("--> {}:{}:14\n", file.display(), line + 1),
        "^^^^".to_owned(),
        "2 errors in".to_owned(),
    ] {
        assert!(ended.err.contains(&expected), "{expected}: {}", ended.err);
    }
    assert!(daemon.metrics().sum(RELOADED).abs() < f64::EPSILON);
    insert(&service, &topic, &["2"]);
    wait_published(kafka, &topic, 2);

    // Not even TOML, told by a signal: the log says so, and no command needs a good file to find the daemon.
    daemon.configure(&(good.clone() + "[sources\n"));
    daemon.signal("HUP");
    wait_until("the refusal in the log", PATIENCE, || {
        daemon.log().contains("this is not TOML")
    });
    let status = crate::site::outboxd(&["status", "--config", file.to_str().unwrap()]);
    assert_eq!(status.code, 0, "{status:?}");

    daemon.configure(&good);
    let ended = ctl(&daemon, &["reload", "--wait"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.out.contains("every source goes on as before"),
        "{ended:?}"
    );
    let metrics = daemon.metrics();
    assert!((metrics.sum(RELOADED) - 1.0).abs() < f64::EPSILON);
    assert!(metrics.sum(RELOADED_AT) > began);
    assert_eq!(epoch(&service), led, "its lease never changed hands");
}

#[test]
fn sources_come_change_and_go_and_the_others_do_not_notice() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let prefix = unique("sources");
    let [stays, changes, goes, comes] =
        ["stays", "changes", "goes", "comes"].map(|name| Service::install(postgres, name));
    let daemon = daemon(kafka, &prefix, &[&stays, &changes, &goes]);
    for service in [&stays, &changes, &goes] {
        wait_leads(&daemon, service);
    }
    let before = [&stays, &changes, &goes].map(epoch);
    let topic = topic(kafka, "sources", 1, &[]);
    for (at, service) in [&stays, &changes, &goes].into_iter().enumerate() {
        insert(service, &topic, &[&at.to_string()]);
    }
    wait_published(kafka, &topic, 3);

    let config = kafka_block(kafka, &prefix)
        + &comes.block("")
        + &changes.block("dead_letter_limit = 7")
        + &stays.block("");
    daemon.configure(&config);
    let ended = ctl(&daemon, &["reload", "--wait"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let told = format!(
        "sources added {}; changed {}; removed {}\n",
        comes.name, changes.name, goes.name
    );
    assert!(ended.out.ends_with(&told), "{ended:?}");

    // Handed back, not left to run out.
    let free = "select count(*) from outbox.relay where lease_until = '-infinity'";
    assert_eq!(goes.number(free), 1);
    for service in [&comes, &changes] {
        wait_leads(&daemon, service);
        insert(service, &topic, &["7"]);
    }
    insert(&stays, &topic, &["8"]);
    insert(&goes, &topic, &["9"]);
    wait_published(kafka, &topic, 6);
    assert_eq!(epoch(&stays), before[0], "it was not touched");
    assert_eq!(epoch(&changes), before[1] + 1, "taken over once, at once");
    assert_eq!(epoch(&goes), before[2], "nobody took it");
    let (_, scrape) = crate::support::http::get(daemon.admin(), "/metrics").unwrap();
    let gone = format!("\"{}\"", goes.name);
    assert!(!scrape.contains(&gone), "its numbers are nobody's");
    let status = crate::site::outboxd(&["status", "--config", daemon.config().to_str().unwrap()]);
    let shown: Vec<&str> = status
        .out
        .lines()
        .skip(3)
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(
        shown,
        [&comes.name, &changes.name, &stays.name],
        "{status:?}"
    );
}

#[test]
fn what_only_a_restart_changes_is_refused_by_name_and_nothing_is_applied() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let (old, new) = (unique("fixed"), unique("fixed"));
    let [first, second] = ["first", "second"].map(|name| Service::install(postgres, name));
    let daemon = daemon(kafka, &old, &[&first]);
    wait_leads(&daemon, &first);
    let config = kafka_block(kafka, &new)
        + "[relay]\nlease = \"20s\"\n"
        + &first.block("")
        + &second.block("");
    daemon.configure(&config);
    let ended = ctl(&daemon, &["reload", "--wait"]);
    assert_eq!(ended.code, 78, "{ended:?}");
    assert!(
        ended
            .err
            .contains("cannot change kafka.prefix and relay.lease"),
        "{ended:?}"
    );
    assert_eq!(
        second.number("select count(*) from outbox.relay where source is not null"),
        0
    );
}

#[test]
fn a_new_source_that_cannot_be_led_refuses_the_whole_file() {
    let (kafka, postgres) = (kafka(), postgres(16));
    let prefix = unique("unmet");
    let [first, second] = ["first", "second"].map(|name| Service::install(postgres, name));
    let daemon = daemon(kafka, &prefix, &[&first]);
    wait_leads(&daemon, &first);
    let led = epoch(&first);
    let nowhere = "[sources.nowhere]\nurl = \"postgres://outboxd@127.0.0.1:1/nowhere\"\n";
    let config = kafka_block(kafka, &prefix)
        + &first.block("dead_letter_limit = 7")
        + &second.block("")
        + nowhere;
    daemon.configure(&config);
    let ended = ctl(&daemon, &["reload", "--wait"]);
    assert_eq!(ended.code, 69, "{ended:?}");
    assert!(
        ended.err.contains("source nowhere: ") && ended.err.contains("127.0.0.1:1/nowhere"),
        "{ended:?}"
    );
    assert_eq!(
        second.number("select count(*) from outbox.relay where source is not null"),
        0
    );
    assert_eq!(
        epoch(&first),
        led,
        "not even what could have been changed was"
    );
    assert!(daemon.metrics().sum(RELOADED).abs() < f64::EPSILON);
}

#[test]
fn another_daemons_file_is_not_read() {
    let kafka = kafka();
    let daemon = Daemon::start(OUTBOXD, &kafka_block(kafka, &unique("file")));
    daemon.wait_ready();
    let other = tempfile::tempdir().unwrap();
    let file = other.path().join("other.toml");
    let socket = daemon.directory().join("ctl.sock");
    std::fs::write(&file, format!("[admin]\nsocket = {socket:?}\n")).unwrap();
    let words = [
        "ctl",
        "reload",
        "--wait",
        "--config",
        file.to_str().unwrap(),
    ];
    let ended = crate::site::outboxd(&words);
    assert_eq!(ended.code, 64, "{ended:?}");
    assert!(ended.err.contains("this daemon runs with"), "{ended:?}");
}
