//! What a running daemon takes over from a changed file, and what it refuses by name.

use super::{everything, good, read};

/// Every key that only a restart changes, with another value than the reference's.
pub(super) const FIXED: [(&str, &str); 13] = [
    ("kafka.bootstrap_servers", "\"127.0.0.1:9093\""),
    ("kafka.prefix", "\"other\""),
    ("kafka.create_topics", "true"),
    ("relay.instance", "\"other:1\""),
    ("relay.lease", "\"11s\""),
    ("admin.listen", "\"127.0.0.1:9465\""),
    ("admin.socket", "\"/run/other/ctl.sock\""),
    ("push.listen", "\"127.0.0.1:8081\""),
    ("push.history", "\"8d\""),
    ("push.keep_finished", "\"25h\""),
    ("push.epoch", "1"),
    ("push.state_directory", "\"/var/lib/other\""),
    ("kafka.properties", ""),
];

/// What is taken over by a reload, by the beginning of its path.
const RELOADED: [&str; 11] = [
    "sources.",
    "sagas.",
    "push.allowed_origins",
    "push.trusted_proxies",
    "push.heartbeat",
    "push.drain",
    "push.tls.",
    "push.auth.",
    "push.limits.",
    // Tables by themselves have no value.
    "push.tls",
    "push.auth",
];

/// The reference with another value of one key.
fn with(path: &str, value: &str) -> String {
    let (table, key) = path.rsplit_once('.').unwrap();
    let text = everything();
    if path == "kafka.properties" {
        return text.replace(
            "[kafka.properties]",
            "[kafka.properties]\n\"socket.nagle.disable\" = \"true\"",
        );
    }
    let start = text.find(&format!("\n[{table}]\n")).unwrap();
    let (before, rest) = text.split_at(start);
    let line = rest
        .lines()
        .find(|line| line.starts_with(&format!("{key} = ")))
        .unwrap();
    before.to_owned() + &rest.replacen(line, &format!("{key} = {value}"), 1)
}

#[test]
fn what_only_a_restart_changes_is_named() {
    let old = good(&everything());
    for (path, value) in FIXED {
        let new = good(&with(path, value));
        assert_eq!(old.fixed_differences(&new), [path]);
        assert_eq!(new.fixed_differences(&new), [""; 0]);
    }
}

#[test]
fn all_of_it_is_named_at_once() {
    let old = good("");
    let new = good(
        "[kafka]\nprefix = \"other\"\n[admin]\nlisten = \"127.0.0.1:1\"\nsocket = \"/run/other.sock\"\n",
    );
    // The instance's name comes from the address.
    let named = [
        "kafka.prefix",
        "relay.instance",
        "admin.listen",
        "admin.socket",
    ];
    assert_eq!(old.fixed_differences(&new), named);
}

#[test]
fn clients_cannot_begin_or_cease_to_be_served() {
    let (without, with) = (good(""), good(&everything()));
    assert!(without.fixed_differences(&with).contains(&"push"));
    assert!(with.fixed_differences(&without).contains(&"push"));
}

#[test]
fn every_key_is_either_reloaded_or_refused() {
    for key in read(&everything()).1 {
        let fixed = FIXED.iter().any(|(path, _)| key.path.starts_with(path));
        let reloaded = RELOADED.iter().any(|path| key.path.starts_with(path));
        assert!(
            fixed != reloaded,
            "{}: what does a reload do about it?",
            key.path
        );
    }
}

#[test]
fn sources_are_told_apart_by_what_is_to_be_done() {
    let source = |name: &str, rest: &str| {
        format!("[sources.{name}]\nurl = \"postgres://o@127.0.0.1/{name}\"\n{rest}\n")
    };
    let old = good(&(source("same", "") + &source("tuned", "") + &source("gone", "")));
    let tuned = source("tuned", "dead_letter_limit = 5");
    let new = good(&(source("new", "") + &tuned + &source("same", "")));
    let changes = old.source_changes(&new);
    let names = |sources: &[crate::config::Source]| {
        sources
            .iter()
            .map(|source| source.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&changes.added), ["new"]);
    assert_eq!(names(&changes.changed), ["tuned"]);
    assert_eq!(changes.removed, ["gone"]);
    assert_eq!(new.source_changes(&new), Default::default());
}
