//! Rules of single keys and of keys together.

use std::time::Duration;

use super::super::push::{Algorithm, Keys};
use super::super::{OnRefused, Property, Secret};
use super::{bad, each_is_refused, everything, good};

/// A source with one more line.
fn source(line: &str) -> String {
    format!("[sources.orders]\nurl = \"postgres://u@127.0.0.1/orders\"\n{line}\n")
}

/// The client-facing half with one line exchanged.
fn push(from: &str, to: &str) -> String {
    let text = everything();
    assert!(text.contains(from), "{from}");
    text.replacen(from, to, 1)
}

#[test]
fn an_empty_file_relays_nothing_and_pushes_nothing() {
    let config = good("");
    assert!(
        config.sources.is_empty() && config.push.is_none() && config.saga_definitions.is_none()
    );
    assert_eq!(config.kafka.bootstrap_servers, "127.0.0.1:9092");
    assert_eq!(config.relay.instance, "host:9464");
    assert_eq!(config.admin.socket.to_str(), Some("/run/outboxd/ctl.sock"));
    assert_eq!(
        good("[admin]\nlisten = \"127.0.0.1:9999\"").relay.instance,
        "host:9999"
    );
}

#[test]
fn every_value_arrives() {
    let text = source(
        "password = { file = \"secret\" }\nbatch = { linger = \"20ms\", events = 5, bytes = \"2KiB\" }\n\
         on_refused = \"skip\"\ndead_letter_limit = 7",
    ) + "[relay]\nlease = \"3s\"\ninstance = \"a\"\n[kafka]\nprefix = \"p\"\ncreate_topics = true\n\
         [sagas]\ndefinitions = \"s/*.toml\"\n[admin]\nsocket = \"ctl.sock\"";
    let config = good(&text);
    let source = &config.sources[0];
    assert_eq!(source.name, "orders");
    assert_eq!(
        source.database.password,
        Some(Secret::File("/etc/outboxd/secret".into()))
    );
    assert_eq!(source.batch.linger, Duration::from_millis(20));
    assert_eq!((source.batch.events, source.batch.bytes), (5, 2048));
    assert_eq!(
        (source.on_refused, source.dead_letter_limit),
        (OnRefused::Skip, 7)
    );
    assert_eq!(
        (config.relay.lease, config.relay.instance.as_str()),
        (Duration::from_secs(3), "a")
    );
    assert_eq!(
        (config.kafka.prefix.as_str(), config.kafka.create_topics),
        ("p", true)
    );
    assert_eq!(
        config.saga_definitions.as_deref(),
        Some("/etc/outboxd/s/*.toml")
    );
    assert_eq!(config.admin.socket.to_str(), Some("/etc/outboxd/ctl.sock"));
    let config = good(&everything());
    let push = config.push.unwrap();
    assert_eq!(
        push.tls.unwrap().certificate.to_str(),
        Some("/etc/outboxd/tls.crt")
    );
    assert_eq!(
        push.auth.keys,
        Keys::Jwks("https://id.example/jwks.json".to_owned())
    );
    assert_eq!(push.auth.algorithms, [Algorithm::EdDSA]);
    assert_eq!(
        (push.limits.frame, push.limits.queue),
        (16 << 10, 256 << 10)
    );
    assert!(
        matches!(config.kafka.properties.last(), Some((name, Property::Plain(_))) if name == "ssl.ca.location")
    );
}

#[test]
fn bounds_hold_at_the_limit_and_beyond() {
    let batch = |inner: &str| source(&format!("batch = {{ {inner} }}"));
    for text in [
        "[relay]\nlease = \"2s\"",
        "[relay]\nlease = \"1h\"",
        &batch("events = 1"),
        &batch("events = 10000"),
        &batch("bytes = \"1KiB\""),
        &batch("bytes = \"64MiB\""),
        &batch("linger = \"0ms\""),
        &batch("linger = \"10s\""),
        &source("dead_letter_limit = 0"),
        &push("frame = \"16KiB\"", "frame = \"1MiB\""),
        &push("drain = \"20s\"", "drain = \"0s\""),
        &push("keep_finished = \"24h\"", "keep_finished = \"7d\""),
        &push("leeway = \"30s\"", "leeway = \"5m\""),
        &source("dead_letter_limit = 9223372036854775807"),
        &push("epoch = 0", "epoch = 9223372036854775807"),
    ] {
        good(text);
    }
    each_is_refused(&[
        ("[relay]\nlease = \"1999ms\"", "`lease`: this is too small"),
        ("[relay]\nlease = \"3601s\"", "`lease`: this is too big"),
        (&batch("events = 0"), "allowed is 1 to 10000"),
        (&batch("events = 10001"), "allowed is 1 to 10000"),
        (
            &batch("bytes = \"1023B\""),
            "allowed is \"1KiB\" to \"64MiB\"",
        ),
        (
            &batch("bytes = \"65537KiB\""),
            "allowed is \"1KiB\" to \"64MiB\"",
        ),
        (
            &batch("linger = \"10001ms\""),
            "allowed is \"0ms\" to \"10s\"",
        ),
        (&source("dead_letter_limit = -1"), "allowed is 0 or more"),
        (
            &source("dead_letter_limit = 9223372036854775808"),
            "allowed is 0 or more",
        ),
        (
            &push("frame = \"16KiB\"", "frame = \"1025KiB\""),
            "`frame`: this is too big",
        ),
        (
            &push("queue = \"256KiB\"", "queue = \"4095B\""),
            "`queue`: this is too small",
        ),
        (
            &push("subscriptions = 64", "subscriptions = 0"),
            "`subscriptions` is out of range",
        ),
        (
            &push("heartbeat = \"25s\"", "heartbeat = \"999ms\""),
            "`heartbeat`: this is too small",
        ),
        (
            &push("auth = \"5s\"", "auth = \"99ms\""),
            "`auth`: this is too small",
        ),
        (
            &push("leeway = \"30s\"", "leeway = \"301s\""),
            "`leeway`: this is too big",
        ),
        (
            &push("keep_finished = \"24h\"", "keep_finished = \"169h\""),
            "longer than `history`",
        ),
    ]);
}

#[test]
fn wrong_types_are_said_with_the_right_form() {
    each_is_refused(&[
        ("[relay]\nlease = 10", "write lease = \"10s\""),
        (
            "[kafka]\ncreate_topics = \"yes\"",
            "write create_topics = false, without quotes",
        ),
        ("kafka = 5", "[kafka] must be a table"),
        ("sources = []", "[sources] must be a table"),
        ("[[sources]]\nurl = \"x\"", "[sources] must be a table"),
        ("[sources]\norders = 5", "[sources.orders] must be a table"),
        (
            &source("batch = 5"),
            "[sources.orders.batch] must be a table",
        ),
        (
            &source("dead_letter_limit = \"5\""),
            "must be a whole number",
        ),
        (&source("dead_letter_limit = 5.0"), "must be a whole number"),
        (&source("on_refused = \"stop\""), "write \"block-key\""),
        (
            &source("password = \"CANARY\""),
            "is a secret and does not belong into this file",
        ),
        (
            &source("password = { credential = \"a/b\" }"),
            "this is not the name of a credential",
        ),
        (
            &source("password = { file = \"\" }"),
            "`file`: this is empty",
        ),
        (
            &source("password = { env = \"a-b\" }"),
            "this is not the name of an environment variable",
        ),
        (
            &source("password = { keyring = \"x\" }"),
            "a secret cannot be kept there",
        ),
        ("[sources.orders]\n", "`url` is missing in [sources.orders]"),
        (
            "[relay]\ninstance = \"a b\"",
            "`instance`: this is empty, too long, or has a blank",
        ),
        (
            "[kafka]\nprefix = \"Outboxd\"",
            "`prefix`: this cannot be part of a topic name",
        ),
        (
            "[sagas]\ndefinitions = \"\"",
            "`definitions`: this is empty",
        ),
        ("push = true", "[push] must be a table"),
        (
            &push("allowed_origins = []", "allowed_origins = \"*\""),
            "`allowed_origins` must be a list",
        ),
        (
            &push("allowed_origins = []", "allowed_origins = [\"*\"]"),
            "not by a pattern",
        ),
    ]);
}

#[test]
fn one_database_has_one_name() {
    let two = |one: &str, other: &str| {
        format!("[sources.a]\nurl = \"{one}\"\n[sources.b]\nurl = \"{other}\"\n")
    };
    let same = "`a` and `b` are the same database";
    each_is_refused(&[
        (
            &two("postgres://u@h/d", "postgres://v@h:5432/d?sslmode=disable"),
            same,
        ),
        (
            &two("postgres://u@localhost/d", "postgres://u@127.0.0.1/d"),
            same,
        ),
        (
            &two("postgres://u@[::1]/d", "postgres://u@127.0.0.1/d"),
            same,
        ),
        (
            &two("postgres://u@H.example/d", "postgres://u@h.example/d"),
            same,
        ),
        (&two("postgres://u@h:1,i:2/d", "postgres://u@i:2/d"), same),
        (
            &two("postgres://u@/d?host=/run", "postgres://v@/d?host=/run"),
            same,
        ),
    ]);
    good(&two("postgres://u@h/d", "postgres://u@h/e"));
    good(&two("postgres://u@h/d", "postgres://u@h:5433/d"));
    good(&two("postgres://u@h/d", "postgres://u@i/d"));
    good(&two("postgres://u@127.0.0.1/d", "postgres://u@127.0.0.2/d"));
}

#[test]
fn names_that_kafka_cannot_tell_apart_are_refused() {
    let text =
        "[sources.\"a.b\"]\nurl = \"postgres://u@h/d\"\n[sources.a_b]\nurl = \"postgres://u@h/e\"";
    each_is_refused(&[
        (text, "the names `a.b` and `a_b` differ only in . and _"),
        (
            "[sources.Orders]\nurl = \"postgres://u@h/d\"",
            "this cannot be part of a topic name",
        ),
    ]);
    let shown = good("[sources.\"a.b\"]\nurl = \"postgres://u@h/d\"").show();
    assert!(shown.contains("[sources.\"a.b\"]"), "{shown}");
}

#[test]
fn clients_and_operators_have_their_own_addresses() {
    let errors = bad(&push(
        "listen = \"127.0.0.1:8080\"",
        "listen = \"127.0.0.1:9464\"",
    ));
    assert!(
        errors.contains("clients and operators cannot share one address"),
        "{errors}"
    );
}

#[test]
fn keys_come_from_one_place_and_fit_the_algorithms() {
    let keys = "keys = { jwks_url = \"https://id.example/jwks.json\" }";
    let algorithms = "algorithms = [\"EdDSA\"]";
    let secret = |algorithms: &str| {
        push(keys, "keys = { secret = { file = \"k\" } }")
            .replace("algorithms = [\"EdDSA\"]", algorithms)
    };
    good(&push(keys, "keys = { pem = \"keys.pem\" }"));
    good(&secret("algorithms = [\"HS256\"]"));
    good(&push(algorithms, "algorithms = [\"RS256\", \"ES384\"]"));
    each_is_refused(&[
        (&push(keys, ""), "`keys` is missing in [push.auth]"),
        (&push(keys, "keys = {}"), "exactly one place"),
        (
            &push(keys, "keys = { pem = \"a\", jwks_url = \"https://a/b\" }"),
            "exactly one place",
        ),
        (
            &push(keys, "keys = \"https://a/b\""),
            "must say where keys come from",
        ),
        (
            &push(keys, "keys = { url = \"https://a/b\" }"),
            "keys cannot come from there",
        ),
        (
            &push(keys, "keys = { jwks_url = \"http://id.example/\" }"),
            "could be anybody's",
        ),
        (
            &push(keys, "keys = { secret = \"CANARY\" }"),
            "does not belong into this file",
        ),
        (
            &secret("algorithms = [\"EdDSA\"]"),
            "a secret key is for HS256, HS384 and HS512 only",
        ),
        (
            &push(algorithms, "algorithms = [\"EdDSA\", \"HS256\"]"),
            "need a secret key, not a public one",
        ),
        (
            &push(algorithms, "algorithms = []"),
            "without an algorithm no token is believed",
        ),
        (
            &push(algorithms, "algorithms = [\"none\"]"),
            "an unsigned token could be anybody's",
        ),
        (
            &push(algorithms, "algorithms = [\"RS1\"]"),
            "this algorithm is not supported",
        ),
        (
            &push("issuer = \"https://id.example\"", ""),
            "`issuer` is missing in [push.auth]",
        ),
        (
            &push("certificate = \"/etc/outboxd/tls.crt\"", ""),
            "`certificate` is missing in [push.tls]",
        ),
        (
            &push("key = { file = \"/etc/outboxd/tls.key\" }", ""),
            "`key` is missing in [push.tls]",
        ),
    ]);
}

#[test]
fn a_text_without_quotes_does_not_hide_the_other_errors() {
    let errors = bad(
        "[relay]\nlease = 10s\n[kafka]\nprefix = \"A\"\nprefix = \"b\"\ncolour = 1\n[sources.a]\n",
    );
    for say in [
        "a text must stand in quotes",
        "`prefix`: this cannot be",
        "was given before",
        "no key `colour`",
        "`url` is missing in [sources.a]",
        "5 errors",
    ] {
        assert!(errors.contains(say), "{say}\n{errors}");
    }
    let errors = bad(&push(
        "allowed_origins = []",
        "allowed_origins = [\"a\", \"b\"]",
    ));
    assert!(errors.contains("2 errors"), "{errors}");
    let errors = bad("[relay\nlease = \"1s\"\n");
    assert!(
        errors.contains("this is not TOML: unclosed table") && errors.contains("1 error in"),
        "{errors}"
    );
}

#[test]
fn no_key_commands_the_terminal() {
    for text in [
        "\"\\u001b[31m\" = 1",
        "[sources.\"\\u001b[31m\"]",
        "[kafka.properties]\n\"\\u0007acks\" = 1",
    ] {
        let errors = bad(text);
        assert!(
            errors.chars().all(|c| c == '\n' || !c.is_control()),
            "{errors:?}"
        );
    }
}

#[test]
fn a_place_is_counted_in_characters_and_a_long_line_is_cut_around_it() {
    let errors = bad("[kafka]\r\nprefix = \"ä\"\r\n\tcolour = 1\r\n");
    assert!(
        errors.contains("toml:2:10\n  |\n2 | prefix = \"ä\"\n  |          ^^^\n"),
        "{errors}"
    );
    assert!(
        errors.contains("toml:3:2\n  |\n3 |  colour = ***\n  |  ^^^^^^\n"),
        "{errors}"
    );
    let long = format!("[kafka]\nbootstrap_servers = \"{}:x\"", "a".repeat(5_000));
    let errors = bad(&long);
    assert!(
        errors.lines().all(|line| line.chars().count() < 140),
        "{errors}"
    );
    assert!(errors.contains("bootstrap_servers = \"aaa"), "{errors}");
    let far = format!("kafka = {{ prefix = \"{}\", colour = 1 }}", "a".repeat(40));
    let far = far.replace(
        "prefix",
        &format!("bootstrap_servers = \"{}\", prefix", "b".repeat(4_000)),
    );
    let errors = bad(&far);
    let lines: Vec<_> = errors.lines().collect();
    let at = lines.iter().position(|line| line.contains('^')).unwrap();
    let start = lines[at].find('^').unwrap();
    assert_eq!(&lines[at - 1][start..start + 6], "colour", "{errors}");
}
