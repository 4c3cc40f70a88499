//! What the README tells a newcomer to type, typed. `make demo` has a test of its own, and `make test` runs this one.

use std::process::{Command, Output};

use crate::support::daemon::Daemon;
use crate::support::process::Port;
use crate::support::{kafka, postgres, unique};
use crate::world::{OUTBOXD, kafka_block};

const README: &str = include_str!("../../README.md");

/// The lines of all fenced blocks of a language.
fn blocks(language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let bodies = README
        .split(&fence)
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap());
    bodies.map(|body| body.trim().to_owned()).collect()
}

#[test]
fn a_newcomer_gets_as_far_as_the_readme_says() {
    let (kafka, postgres) = (kafka(), postgres(18));
    let (database, prefix) = (unique("readme"), unique("readme"));
    let local = |text: &str| {
        text.replace(
            "outboxd@127.0.0.1:5432/orders",
            &format!(
                "{database}_outboxd@127.0.0.1:{}/{database}",
                postgres.port()
            ),
        )
        .replace(
            "owner@127.0.0.1:5432/orders",
            &format!("{database}_owner@127.0.0.1:{}/{database}", postgres.port()),
        )
        .replace("role outboxd", &format!("role {database}_outboxd"))
        .replace("orders_app", &format!("{database}_app"))
    };
    postgres.execute(
        "postgres",
        &format!("create role {database}_owner login createrole"),
    );
    postgres.execute(
        "postgres",
        &format!("create database {database} owner {database}_owner"),
    );
    let roles = blocks("sql")
        .into_iter()
        .find(|block| block.contains("create role"))
        .unwrap();
    postgres.execute("postgres", &local(&roles));

    let toml = blocks("toml").join("\n\n");
    let ours = toml.replace("127.0.0.1:9092", &kafka.bootstrap());
    assert!(ours.starts_with("[kafka]\n"), "{ours}");
    let ours = kafka_block(kafka, &prefix) + &local(ours.split_once("\n\n").unwrap().1);

    let commands: Vec<String> = blocks("sh")
        .iter()
        .flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let install = commands
        .iter()
        .find(|line| line.contains("sql install"))
        .unwrap();
    let installed = run(
        &local(install).replace(
            "--relay-role outboxd",
            &format!("--relay-role {database}_outboxd"),
        ),
        "",
    );
    assert!(installed.status.success(), "{installed:?}");

    let insert = blocks("sql")
        .into_iter()
        .find(|block| block.starts_with("insert"))
        .unwrap();
    postgres.execute(&database, &insert);
    let port = Port::claim();
    let ours = ours.replace("127.0.0.1:8080", &format!("127.0.0.1:{}", port.number()));
    let secret = "a secret of thirty-two bytes or more";
    let daemon = Daemon::builder(OUTBOXD, &ours)
        .file("push.secret", secret)
        .start();
    daemon.wait_ready();
    daemon.wait_metrics("the event to be refused or published", |metrics| {
        metrics.sum("outboxd_events_published_total") + metrics.sum("outboxd_refused_total") >= 1.0
    });
    let config = daemon.config();
    let mut ran = 0;
    for command in &commands {
        // `run` is what the daemon above does; the others have been or are this test.
        let word = command.split_whitespace().nth(1);
        if matches!(word, Some("run" | "sql" | "demo" | "test")) {
            continue;
        }
        let output = run(command, config.to_str().unwrap());
        assert!(output.status.success(), "{command}: {output:?}");
        ran += 1;
    }
    assert_eq!(ran, 8, "{commands:?}");
}

/// Runs `outboxd …` with another configuration file.
fn run(command: &str, config: &str) -> Output {
    let words = command
        .split_whitespace()
        .skip(1)
        .map(|word| word.trim_matches('\''))
        .map(|word| if word == "outboxd.toml" { config } else { word });
    Command::new(OUTBOXD).args(words).output().unwrap()
}
