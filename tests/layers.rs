//! Holds the arrows of ARCHITECTURE.md: which part may name which, and what only one part may name at all.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test that cannot go on fails, and says where"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// What each part may name of the others; a file below a folder belongs to the folder.
const MAY_NAME: [(&str, &[&str]); 17] = [
    ("logic", &["logic"]),
    ("tasks", &[]),
    ("clock", &["logic"]),
    ("host", &[]),
    ("failpoint", &[]),
    ("authorities", &[]),
    ("config", &["config", "logic"]),
    ("logging", &[]),
    ("metrics", &["metrics", "logic"]),
    ("systemd", &[]),
    (
        "outbox",
        &[
            "outbox",
            "logic",
            "config",
            "tasks",
            "failpoint",
            "authorities",
        ],
    ),
    (
        "kafka",
        &["kafka", "logic", "config", "metrics", "tasks", "failpoint"],
    ),
    (
        "auth",
        &["auth", "logic", "config", "metrics", "authorities", "clock"],
    ),
    (
        "relay",
        &[
            "relay",
            "outbox",
            "kafka",
            "logic",
            "config",
            "metrics",
            "tasks",
            "clock",
            "host",
            "failpoint",
        ],
    ),
    (
        "push",
        &[
            "push", "kafka", "auth", "logic", "config", "metrics", "tasks", "clock",
        ],
    ),
    ("admin", &["admin", "logic", "config", "metrics", "tasks"]),
    (
        "app",
        &[
            "relay", "push", "admin", "outbox", "kafka", "auth", "logic", "config", "metrics",
            "tasks", "clock", "host", "systemd", "logging",
        ],
    ),
];

/// Words that only one part may use, and who.
const ONLY: [(&str, &[&str]); 12] = [
    ("rdkafka::", &["kafka"]),
    ("tokio_postgres::", &["outbox", "config"]),
    ("include_str!(\"../../sql", &["outbox"]),
    ("metrics::counter!", &["metrics"]),
    ("tokio::spawn", &["tasks"]),
    ("tokio::task::spawn", &["tasks"]),
    ("env::var", &["config", "main", "failpoint"]),
    ("axum::", &["admin", "push"]),
    ("tungstenite::", &["push"]),
    ("use aws_lc_rs::", &["auth"]),
    ("hyper::client", &["auth"]),
    ("rustls_native_certs::", &["authorities"]),
];

/// What logic may not use: it never waits, never asks for the time, never opens anything.
const NEVER_IN_LOGIC: [&str; 11] = [
    "async ",
    ".await",
    "tokio::",
    "std::fs",
    "std::net",
    "std::io",
    "Instant::now",
    "SystemTime::now",
    "std::env",
    "std::process",
    "tracing::",
];

fn sources(folder: &Path) -> Vec<(String, PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.ends_with("tests.rs") {
            // Tests may do what they test must not.
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let below = path.strip_prefix(root()).unwrap();
            let part = below
                .components()
                .next()
                .unwrap()
                .as_os_str()
                .to_str()
                .unwrap();
            let code = code(&fs::read_to_string(&path).unwrap());
            found.push((part.trim_end_matches(".rs").to_owned(), path, code));
        }
    }
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// A file without comments and without its tests.
fn code(text: &str) -> String {
    // Its properties have a page of the configuration; the library is meant, not the crate.
    let text = text.replace("librdkafka", "");
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let lines = text.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

fn faults_of(part: &str, code: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let allowed = MAY_NAME
        .iter()
        .find(|(name, _)| *name == part)
        .map(|(_, allowed)| *allowed);
    if let Some(allowed) = allowed {
        for (other, _) in MAY_NAME {
            let named = code.contains(&format!("crate::{other}::"))
                || code.contains(&format!("crate::{other};"));
            if named && !allowed.contains(&other) && other != part {
                faults.push(format!("{part} must not name {other}"));
            }
        }
        if code.contains("use crate::{") {
            faults.push(format!(
                "{part}: write `use crate::part::…` line by line, so that arrows can be seen"
            ));
        }
    }
    for (word, parts) in ONLY {
        if code.contains(word) && !parts.contains(&part) {
            faults.push(format!("only {parts:?} may name {word}, and {part} does"));
        }
    }
    if part == "logic" {
        let forbidden = NEVER_IN_LOGIC.iter().filter(|word| code.contains(**word));
        faults.extend(forbidden.map(|word| format!("logic must not use {word}")));
    }
    faults
}

#[test]
fn arrows_go_one_way() {
    let mut faults = Vec::new();
    for (part, path, code) in sources(&root()) {
        for fault in faults_of(&part, &code) {
            faults.push(format!("{}: {fault}", path.display()));
        }
    }
    assert_eq!(faults, Vec::<String>::new());
}

#[test]
fn every_part_has_its_arrows() {
    let free = ["lib", "main", "cli"];
    for (part, path, _) in sources(&root()) {
        let known = MAY_NAME.iter().any(|(name, _)| *name == part) || free.contains(&part.as_str());
        assert!(
            known,
            "{} is in no part of ARCHITECTURE.md's picture",
            path.display()
        );
    }
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    for (_, path, _) in sources(&root()) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("//! "),
            "{} does not say what it is for",
            path.display()
        );
    }
}

#[test]
fn a_wrong_arrow_is_seen() {
    for (part, code) in [
        ("relay", "use crate::push::Feed;"),
        ("push", "use crate::relay::Relay;"),
        ("logic", "use crate::outbox::Session;"),
        ("logic", "let now = Instant::now();"),
        ("logic", "async fn f() {}"),
        ("relay", "let c = rdkafka::ClientConfig::new();"),
        ("outbox", "use crate::kafka::Publisher;"),
        ("relay", "tokio::spawn(f());"),
        ("auth", "use crate::push::Session;"),
        ("push", "use aws_lc_rs::hmac;"),
    ] {
        assert!(!faults_of(part, code).is_empty(), "{part}: {code}");
    }
    assert!(faults_of("relay", "use crate::kafka::Publisher;").is_empty());
}
