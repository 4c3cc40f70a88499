//! Proves that what the other tests stand on holds: the real services start, keep their data as promised, and never outlive the
//! process that started them. Tests nothing of outboxd itself.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "test code outside of test functions, too"
)]

mod support;

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    thread,
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};
use support::{
    block_on, consumer,
    daemon::Daemon,
    http,
    kafka::Kafka,
    postgres::Postgres,
    process::{runs, signal},
    topics::{create_topic, delete_topic},
    unique, wait_until,
};

const SECOND: Duration = Duration::from_secs(1);

/// The first column of the first row.
fn query(url: &str, sql: &str) -> Result<String, tokio_postgres::Error> {
    block_on(async {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
        let ask = async move { client.query_one(sql, &[]).await.map(|row| row.get(0)) };
        tokio::join!(ask, connection).0
    })
}

fn producer(bootstrap: &str, id: &str) -> ThreadedProducer<DefaultProducerContext> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("transactional.id", id);
    let producer: ThreadedProducer<_> = config.create().unwrap();
    producer.init_transactions(30 * SECOND).unwrap();
    producer
}

/// Sends one record to a partition in the open transaction, and waits until the broker has it.
fn send(
    producer: &ThreadedProducer<DefaultProducerContext>,
    topic: &str,
    partition: i32,
    value: &str,
) {
    let record = BaseRecord::<str, str>::to(topic)
        .partition(partition)
        .payload(value)
        .key("k");
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(30 * SECOND).unwrap();
}

fn values(messages: &[consumer::Message]) -> Vec<&str> {
    messages
        .iter()
        .map(|message| str::from_utf8(message.value.as_deref().unwrap()).unwrap())
        .collect()
}

#[test]
fn every_version_of_postgresql_starts_and_answers() {
    thread::scope(|scope| {
        for version in 14..=18 {
            scope.spawn(move || {
                let postgres = support::postgres(version);
                let url = postgres.create_database(&unique("orders"));
                let answer = query(&url, "select version()").unwrap();
                assert!(answer.starts_with(&format!("PostgreSQL {version}.")), "{answer}");
                let settings = "select current_setting('server_encoding') || current_setting('timezone') \
                                || (select datcollate from pg_database where datname = current_database())";
                assert_eq!(query(&url, settings).unwrap(), "UTF8UTCC");
            });
        }
    });
}

#[test]
fn two_clusters_side_by_side_keep_their_data_and_their_port_through_stop_and_kill() {
    let settings = [
        ("max_prepared_transactions", "7"),
        ("application_name", "it's quoted"),
    ];
    let clusters = [
        Postgres::start(17),
        Postgres::builder(18).settings(&settings).start(),
    ];
    let urls = clusters
        .each_ref()
        .map(|postgres| postgres.create_database("orders"));
    assert_ne!(clusters[0].port(), clusters[1].port());
    assert_eq!(
        query(
            &urls[1],
            "select current_setting('max_prepared_transactions')"
        )
        .unwrap(),
        "7"
    );
    assert_eq!(
        query(
            &urls[1],
            "select reset_val from pg_settings where name = 'application_name'"
        )
        .unwrap(),
        "it's quoted"
    );

    for (postgres, url) in clusters.iter().zip(&urls) {
        postgres.execute("orders", "create table kept (place text)");
        for end in [
            Postgres::stop_fast,
            Postgres::stop_immediate,
            Postgres::kill,
        ] {
            postgres.execute("orders", "insert into kept values ('here')");
            end(postgres);
            assert!(query(url, "select 'up'").is_err());
            postgres.start_again();
        }
        assert_eq!(query(url, "select count(*)::text from kept").unwrap(), "3");
    }
}

#[test]
fn a_paused_cluster_stands_still_as_a_whole_and_goes_on_afterwards() {
    let postgres = Postgres::start(18);
    let postmaster = postgres.pid().unwrap();
    let stopped = |process: u32| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        status.contains("State:\tT")
    };
    postgres.pause();
    let children = support::process::children(postmaster);
    assert!(children.len() > 3, "{children:?}");
    wait_until("all to stop", 10 * SECOND, || {
        stopped(postmaster) && children.iter().all(|child| stopped(*child))
    });
    postgres.resume();
    wait_until("all to go on", 10 * SECOND, || {
        !children.iter().any(|child| stopped(*child))
    });
    assert_eq!(
        query(&postgres.url("postgres", "postgres"), "select 'awake'").unwrap(),
        "awake"
    );

    postgres.pause();
    let directory = postgres.directory().to_owned();
    drop(postgres);
    assert!(!runs(postmaster) && !directory.exists());
}

#[test]
fn a_cluster_asks_for_passwords_when_told_to() {
    let postgres = Postgres::builder(16).password("s'ecret").start();
    postgres.execute("postgres", "create role app login password 'x'");
    assert!(query(&postgres.url("app", "postgres"), "select 'in'").is_err());
    let url = postgres.url("app", "postgres").replace("app@", "app:x@");
    assert_eq!(query(&url, "select 'in'").unwrap(), "in");
}

#[test]
fn a_consumer_sees_what_is_committed_and_nothing_else() {
    let kafka = support::kafka();
    let topic = unique("orders");
    create_topic(
        &kafka.bootstrap(),
        &topic,
        3,
        &[("max.message.bytes", "2000")],
    );
    let producer = producer(&kafka.bootstrap(), &topic);

    producer.begin_transaction().unwrap();
    let headers = OwnedHeaders::new()
        .insert(Header {
            key: "a",
            value: Some("1"),
        })
        .insert(Header {
            key: "a",
            value: None::<&str>,
        });
    let record = BaseRecord::to(&topic)
        .partition(1)
        .key("k")
        .timestamp(1234)
        .headers(headers);
    producer
        .send(record.payload(""))
        .map_err(|(error, _)| error)
        .unwrap();
    producer
        .send(BaseRecord::<str, str>::to(&topic).partition(1))
        .map_err(|(error, _)| error)
        .unwrap();
    producer.commit_transaction(30 * SECOND).unwrap();
    producer.begin_transaction().unwrap();
    // Partition 2 holds nothing but a transaction that was taken back.
    send(&producer, &topic, 1, "aborted");
    send(&producer, &topic, 2, "aborted");
    producer.abort_transaction(30 * SECOND).unwrap();

    let messages = consumer::read_all(&kafka.bootstrap(), &[&topic]);
    let [first, second] = &messages[..] else {
        panic!("{messages:?}")
    };
    let headers = vec![
        ("a".to_owned(), Some(b"1".to_vec())),
        ("a".to_owned(), None),
    ];
    assert_eq!(
        (first.partition, first.offset, first.timestamp_ms),
        (1, 0, Some(1234))
    );
    assert_eq!(
        (first.key.as_deref(), first.value.as_deref()),
        (Some(&b"k"[..]), Some(&b""[..]))
    );
    assert_eq!(first.headers, headers);
    assert_eq!(
        (second.offset, &second.key, &second.value),
        (1, &None, &None)
    );
    delete_topic(&kafka.bootstrap(), &topic);
}

#[test]
fn an_undecided_transaction_blocks_the_reader_and_is_named() {
    let kafka = support::kafka();
    let topic = unique("orders");
    create_topic(&kafka.bootstrap(), &topic, 2, &[]);
    let producer = producer(&kafka.bootstrap(), &topic);
    producer.begin_transaction().unwrap();
    send(&producer, &topic, 1, "undecided");

    let (bootstrap, name) = (kafka.bootstrap(), topic.clone());
    let read = thread::spawn(move || consumer::read_all_within(SECOND, &bootstrap, &[&name]));
    let failure = *read.join().unwrap_err().downcast::<String>().unwrap();
    assert!(
        failure.contains(&format!("{topic}/1")) && !failure.contains(&format!("{topic}/0")),
        "{failure}"
    );

    producer.commit_transaction(30 * SECOND).unwrap();
    assert_eq!(
        values(&consumer::read_all(&kafka.bootstrap(), &[&topic])),
        ["undecided"]
    );
}

#[test]
fn two_brokers_side_by_side_keep_their_data_and_their_address_through_stop_and_kill() {
    let brokers = [
        Kafka::start(),
        Kafka::builder()
            .properties(&[("message.max.bytes", "5000")])
            .optimised()
            .start(),
    ];
    thread::scope(|scope| {
        for kafka in &brokers {
            scope.spawn(|| {
                create_topic(&kafka.bootstrap(), "orders", 1, &[]);
                for end in [Kafka::stop, Kafka::kill, Kafka::kill] {
                    let producer = producer(&kafka.bootstrap(), "id");
                    producer.begin_transaction().unwrap();
                    send(&producer, "orders", 0, kafka.directory().to_str().unwrap());
                    producer.commit_transaction(30 * SECOND).unwrap();
                    end(kafka);
                    assert_eq!(kafka.pid(), None);
                    kafka.start_again();
                }
                let messages = consumer::read_all(&kafka.bootstrap(), &["orders"]);
                assert_eq!(values(&messages), [kafka.directory().to_str().unwrap(); 3]);
            });
        }
    });
}

/// Writes a program that stands for the daemon.
fn program(directory: &Path, script: &str) -> PathBuf {
    let program = directory.join("program");
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

#[test]
fn a_daemon_gets_its_configuration_and_tells_how_it_ended() {
    let directory = tempfile::tempdir().unwrap();
    let script =
        r#"trap 'exit 7' TERM; echo "$VARIABLE" "$@"; cat "$3" >&2; while :; do sleep 0.1; done"#;
    let daemon = Daemon::builder(program(directory.path(), script), "[kafka]\n")
        .environment("VARIABLE", "it's \"set\" $x")
        .arguments(&["--only", "relay"])
        .file("sagas/order.toml", "x")
        .start();
    let config = daemon.config().display().to_string();
    wait_until("its output", 10 * SECOND, || {
        daemon.log().contains("ctl.sock")
    });
    assert!(daemon.log().starts_with(&format!(
        "it's \"set\" $x run --config {config} --only relay\n[kafka]\n"
    )));
    assert!(
        daemon
            .log()
            .contains(&format!("listen = \"{}\"", daemon.admin()))
    );
    assert!(daemon.directory().join("sagas/order.toml").exists());
    assert_eq!(daemon.terminate(), 7);
    daemon.start_again();
    daemon.signal("STOP");
    daemon.kill();
    assert_eq!(daemon.wait(), 128 + 9);
}

#[test]
fn readiness_and_metrics_come_over_http() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = String::new();
        BufReader::new(&stream).read_line(&mut request).unwrap();
        write!(
            stream,
            "HTTP/1.0 503 Service Unavailable\r\nx: y\r\n\r\nnot\r\n\r\nyet"
        )
        .unwrap();
        request
    });
    assert_eq!(
        http::get(address, "/readyz").unwrap(),
        (503, "not\r\n\r\nyet".into())
    );
    assert_eq!(server.join().unwrap(), "GET /readyz HTTP/1.0\r\n");
}

/// Says to this program, started once more by itself, that it is the one to be ended, and how.
const ENDING: &str = "OUTBOXD_TEST_ENDING";

/// The program that it runs as its daemon.
const PROGRAM: &str = "OUTBOXD_TEST_PROGRAM";

/// Starts one of each, two of them in statics, tells about them and waits for its end.
#[allow(clippy::print_stdout, reason = "this is how it tells")]
fn victim(ending: &str) {
    let postgres = support::postgres(18);
    let kafka = support::kafka();
    let daemon = Daemon::start(env::var(PROGRAM).unwrap(), "");
    // Neither hears anything but KILL before it goes on.
    postgres.pause();
    daemon.signal("STOP");
    let pids = [postgres.pid(), kafka.pid(), daemon.pid()].map(Option::unwrap);
    for (pid, directory) in
        pids.iter()
            .zip([postgres.directory(), kafka.directory(), daemon.directory()])
    {
        println!("victim {pid} {}", directory.display());
        for child in support::process::children(*pid) {
            println!("victim {child} {}", directory.display());
        }
    }
    println!("victim complete");
    match ending {
        "exit" => process::exit(0),
        "panic" => panic!("as asked"),
        _ => thread::sleep(600 * SECOND),
    }
}

/// Starts a victim, ends it, and waits until nothing of it is left.
fn nothing_is_left(test: &str, ending: &str, end: impl FnOnce(u32)) {
    if let Ok(ending) = env::var(ENDING) {
        return victim(&ending);
    }
    let directory = tempfile::tempdir().unwrap();
    let program = program(
        directory.path(),
        "trap '' HUP INT TERM; while :; do sleep 1; done",
    );
    // Ctrl-C works as in a terminal, also where the tests were started in the background, which ignores it.
    let mut command = Command::new("env");
    command
        .arg("--default-signal=INT")
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ENDING, ending)
        .env(PROGRAM, program);
    let mut child = command
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap())
        .lines()
        .map(Result::unwrap);
    let told = lines.filter_map(|line| Some(line.split_once("victim ")?.1.to_owned()));
    let told: Vec<_> = told.take_while(|line| line != "complete").collect();
    let servers: Vec<(u32, PathBuf)> = told
        .iter()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(pid, directory)| (pid.parse().unwrap(), directory.into()))
        .collect();
    assert!(
        servers.len() > 6,
        "three servers and the children of one: {servers:?}"
    );
    if ending == "killed" || ending == "interrupted" {
        assert!(
            servers
                .iter()
                .all(|(pid, directory)| runs(*pid) && directory.exists())
        );
    }

    end(child.id());
    child.wait().unwrap();
    wait_until("the end of its servers", 20 * SECOND, || {
        !servers.iter().any(|(pid, _)| runs(*pid))
    });
    wait_until("the end of their directories", 20 * SECOND, || {
        !servers.iter().any(|(_, directory)| directory.exists())
    });
    // Guardians hold the other end of this pipe: it ends with the last of them.
    child
        .stderr
        .take()
        .unwrap()
        .read_to_end(&mut Vec::new())
        .unwrap();
}

#[test]
fn nothing_is_left_of_a_killed_process() {
    nothing_is_left("nothing_is_left_of_a_killed_process", "killed", |victim| {
        signal("KILL", &[victim])
    });
}

#[test]
fn nothing_is_left_of_an_interrupted_process() {
    nothing_is_left(
        "nothing_is_left_of_an_interrupted_process",
        "interrupted",
        |victim| {
            // What a terminal does on Ctrl-C: to the whole process group.
            let status = Command::new("sh")
                .args(["-c", "kill -s INT -- -\"$0\"", &victim.to_string()])
                .status();
            assert!(status.unwrap().success());
        },
    );
}

#[test]
fn nothing_is_left_of_a_process_that_exits() {
    nothing_is_left("nothing_is_left_of_a_process_that_exits", "exit", |_| {});
}

#[test]
fn nothing_is_left_of_a_process_that_panics() {
    nothing_is_left("nothing_is_left_of_a_process_that_panics", "panic", |_| {});
}
