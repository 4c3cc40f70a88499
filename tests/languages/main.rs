//! Runs the code of docs/from-your-language.md as it stands there, each language against a real database with the rights of a
//! service, looks at the row that arrives, and lets it fall into each trap that the page warns of. Skips a language whose runtime
//! is not on this machine, and says so.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test that cannot go on fails, and says where"
)]

#[path = "../support/mod.rs"]
mod support;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use support::{block_on, postgres, unique};
use time::OffsetDateTime;
use tokio_postgres::{NoTls, Row};
use uuid::Uuid;

const PAGE: &str = include_str!("../../docs/from-your-language.md");

/// What a trap ends with: SQLSTATE and constraint.
const DENIED: &str = "42501";
const NOT_NULL: &str = "23502";
const EMPTY: &str = "23514 text_is_empty_use_null";
const NO_JSON: &str = "23514 payload_is_not_json";
const NO_HEADERS: &str = "23514 header_is_not_a_string";
const NONE: &str = "none";

#[test]
fn java() {
    let Some(language) = Language::prepare("java", "java", &["mvn", "javac", "java"]) else {
        return;
    };
    let into = format!("-Dinto={}", language.folder.display());
    language.run(
        "mvn",
        &[
            "--batch-mode",
            "--quiet",
            &into,
            "dependency:copy-dependencies",
        ],
    );
    let sources = ["Main.java", "Order.java", "Orders.java", "OutboxEvent.java"];
    language.run(
        "javac",
        &[&["-d", "classes", "-cp", "jars/*"][..], &sources].concat(),
    );
    let said = language.run("java", &["-cp", "classes:jars/*", "Main"]);
    language.check(
        &said,
        &[
            ("merge", DENIED),
            ("created-at", NOT_NULL),
            ("identity", DENIED),
            ("empty", EMPTY),
        ],
    );
    // Without the flush the event is older than the change that it tells of.
    let unflushed = language.event("Unflushed").unwrap();
    assert!(unflushed.created_at < language.changed("o-43"));
}

#[test]
fn python() {
    let Some(language) = Language::prepare("python", "python", &["python3"]) else {
        return;
    };
    language.run("python3", &["-m", "venv", "venv"]);
    let install = [
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--requirement",
    ];
    language.run(
        "venv/bin/pip",
        &[&install[..], &["requirements.txt"]].concat(),
    );
    let said = language.run("venv/bin/python", &["main.py"]);
    language.check(
        &said,
        &[
            ("server-default", DENIED),
            ("json-null", NO_HEADERS),
            ("empty", EMPTY),
            ("right", NONE),
        ],
    );
}

#[test]
fn go() {
    let Some(language) = Language::prepare("go", "go", &["go"]) else {
        return;
    };
    let said = language.run("go", &["run", "."]);
    language.check(
        &said,
        &[
            ("empty", EMPTY),
            ("json-null", NO_HEADERS),
            ("returning", DENIED),
            ("right", NONE),
        ],
    );
}

#[test]
fn node() {
    let Some(language) = Language::prepare("node", "js", &["npm", "node"]) else {
        return;
    };
    language.run(
        "npm",
        &["ci", "--ignore-scripts", "--no-audit", "--no-fund"],
    );
    let said = language.run("node", &["main.mjs"]);
    language.check(
        &said,
        &[
            ("array", NO_JSON),
            ("undefined", NOT_NULL),
            ("returning", DENIED),
            ("right", NONE),
        ],
    );
    // What another connection inserts is no part of a transaction that is rolled back.
    assert!(language.event("Orphan").is_some());
    assert_eq!(language.state("o-43"), "APPROVAL_PENDING");
}

#[test]
fn every_block_of_the_page_is_run() {
    let fences = PAGE.lines().filter(|line| line.starts_with("```")).count();
    let run = ["java", "python", "go", "js"].map(|language| blocks(language).len());
    assert_eq!((run, fences), ([2, 1, 1, 1], 10));
}

/// One language: a folder with its code and that of the page, and a database.
struct Language {
    folder: PathBuf,
    database: String,
}

/// An event, as it is in the table.
struct Event {
    id: Uuid,
    all: Value,
    created_at: OffsetDateTime,
}

impl Language {
    /// Makes both; `None`: something that it needs is not on this machine.
    fn prepare(name: &str, fence: &str, programs: &[&str]) -> Option<Self> {
        for program in programs {
            let found = Command::new("sh")
                .args(["-c", r#"command -v "$0" >/dev/null"#, program])
                .status();
            if !found.unwrap().success() {
                // Not through the macros, whose output is for tests that fail.
                let why = format!("skipped: {name}, since there is no {program} here\n");
                io::stderr().write_all(why.as_bytes()).unwrap();
                return None;
            }
        }
        // What was fetched stays there for the next run.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join("languages")
            .join(name);
        fs::create_dir_all(&folder).unwrap();
        let own = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/languages")
            .join(name);
        for file in fs::read_dir(own).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), folder.join(file.file_name())).unwrap();
        }
        for (file, code) in blocks(fence) {
            fs::write(folder.join(file), code).unwrap();
        }
        let database = database(name);
        Some(Self { folder, database })
    }

    /// Runs a program of it to its end, which must be a success; gives what it says.
    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let url = postgres(18).url(&format!("{}_app", self.database), &self.database);
        let path = self.folder.join(program);
        let mut command = Command::new(if path.exists() { path } else { program.into() });
        command.args(arguments).current_dir(&self.folder);
        // It must do with the Go that is there.
        command.env("DATABASE", url).env("GOTOOLCHAIN", "local");
        let done = command.output().unwrap();
        let [said, complaints] =
            [done.stdout, done.stderr].map(|it| String::from_utf8(it).unwrap());
        assert!(
            done.status.success(),
            "{program} {arguments:?}: {said}\n{complaints}"
        );
        said
    }

    /// Holds the row that has arrived against what the page means, and each trap against how it is to end.
    fn check(&self, said: &str, traps: &[(&str, &str)]) {
        let event = self.event("OrderApproved").unwrap();
        assert!(said.contains(&format!("event {}\n", event.id)), "{said}");
        let expected = json!({
            "topic": "orders",
            "key": "o-42",
            "kind": "event",
            "payload": {"total": 1250},
            "headers": {"tenant": "t-1"},
            "rest": null,
        });
        assert_eq!(event.all, expected);
        assert!(
            event.created_at > self.changed("o-42"),
            "inserted before the change"
        );
        assert_eq!(self.state("o-42"), "APPROVED");
        let ends: BTreeMap<_, _> = said
            .lines()
            .filter_map(|line| line.strip_prefix("trap ")?.split_once(' '))
            .collect();
        for (trap, end) in traps {
            assert!(ends[trap].starts_with(end), "{trap}: {}", ends[trap]);
        }
        assert_eq!(ends.len(), traps.len(), "{said}");
    }

    /// The one event of a type.
    fn event(&self, event_type: &str) -> Option<Event> {
        let query = format!(
            "select event_id, created_at, jsonb_build_object('topic', topic, 'key', key, 'kind', kind,
                 'payload', payload::jsonb, 'headers', headers, 'rest', coalesce(content_type,
                 correlation_id, causation_id, reply_to, saga_type, saga_state, saga_step, traceparent))
             from outbox.event where event_type = '{event_type}'"
        );
        let rows = self.query(&query);
        assert!(rows.len() < 2, "{event_type} is there twice");
        rows.first().map(|row| Event {
            id: row.get(0),
            created_at: row.get(1),
            all: row.get(2),
        })
    }

    /// When an order was changed.
    fn changed(&self, order: &str) -> OffsetDateTime {
        self.query(&format!(
            "select changed_at from orders where id = '{order}'"
        ))[0]
            .get(0)
    }

    /// The state of an order.
    fn state(&self, order: &str) -> String {
        self.query(&format!("select state from orders where id = '{order}'"))[0].get(0)
    }

    fn query(&self, query: &str) -> Vec<Row> {
        let url = postgres(18).url("postgres", &self.database);
        block_on(async {
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
            let ask = async move { client.query(query, &[]).await };
            tokio::join!(ask, connection).0.unwrap()
        })
    }
}

/// A database with the outbox and two orders in it, whose changes note their time.
fn database(name: &str) -> String {
    let (database, postgres) = (unique(name), postgres(18));
    postgres.create_database(&database);
    let roles = format!("create role {database}_app login; create role {database}_relay login");
    postgres.execute("postgres", &roles);
    let mut install = Command::new(env!("CARGO_BIN_EXE_outboxd"));
    install.args([
        "sql",
        "install",
        "--url",
        &postgres.url("postgres", &database),
    ]);
    install.args(["--relay-role", &format!("{database}_relay")]);
    let done = install
        .args(["--app-role", &format!("{database}_app")])
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    postgres.execute(
        &database,
        &format!(
            "create table orders (id text primary key, state text not null, changed_at timestamptz);
             insert into orders values ('o-42', 'APPROVAL_PENDING'), ('o-43', 'APPROVAL_PENDING');
             grant select, update on orders to {database}_app;
             create function changed() returns trigger language plpgsql as
                 'begin new.changed_at = clock_timestamp(); return new; end';
             create trigger changed before update on orders for each row execute function changed()"
        ),
    );
    database
}

/// The blocks of the page in a language, each with the name of its file, which its first line says.
fn blocks(language: &str) -> Vec<(&str, &str)> {
    let fence = format!("```{language}\n");
    let bodies = PAGE.split(&fence).skip(1);
    let bodies = bodies.map(|rest| rest.split("\n```").next().unwrap());
    bodies
        .map(|body| {
            let first = body.lines().next().unwrap();
            (first.trim_start_matches(['/', '#', ' ']), body)
        })
        .collect()
}
