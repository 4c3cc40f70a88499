//! The schema that editors are given takes what the code takes, as far as a schema can say it. Never judged by our own code.

use std::fs;
use std::path::Path;

use outboxd::config::Config;
use serde_json::{Value, json};
use toml::de::{DeTable, DeValue};

use crate::site::outboxd;
use crate::support::npm;

/// The file that is shipped.
const REFERENCE: &str = include_str!("../../config/outboxd.toml");

/// That file with everything switched on.
fn everything() -> String {
    let on = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest.to_owned(),
        _ => line.to_owned(),
    };
    REFERENCE.lines().map(on).collect::<Vec<_>>().join("\n")
}

/// A file as an editor sees it.
fn seen(table: &DeTable<'_>) -> Value {
    let entries = table.iter();
    let entries =
        entries.map(|(key, value)| (key.get_ref().to_string(), seen_value(value.get_ref())));
    Value::Object(entries.collect())
}

fn seen_value(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => json!(text),
        DeValue::Integer(number) => json!(number.as_str().parse::<i64>().unwrap()),
        DeValue::Float(number) => json!(number.as_str().parse::<f64>().unwrap()),
        DeValue::Boolean(flag) => json!(flag),
        DeValue::Datetime(at) => json!(at.to_string()),
        DeValue::Array(values) => values
            .iter()
            .map(|value| seen_value(value.get_ref()))
            .collect(),
        DeValue::Table(table) => seen(table),
    }
}

/// Each is that file with this replaced by that, and wrong.
const WRONG: [(&str, &str); 18] = [
    ("lease = \"10s\"", "lease = 10"),
    ("lease = \"10s\"", "lease = \"10 s\""),
    ("lease = \"10s\"", "lese = \"10s\""),
    ("bytes = \"1MiB\"", "bytes = \"1MB\""),
    ("events = 1000", "events = 0"),
    ("on_refused = \"block-key\"", "on_refused = \"wait\""),
    ("create_topics = false", "create_topics = \"false\""),
    (
        "password = { file = \"/run/secrets/orders\" }",
        "password = \"tiger\"",
    ),
    (
        "password = { file = \"/run/secrets/orders\" }",
        "password = { file = \"a\", env = \"B\" }",
    ),
    (
        "keys = { jwks_url = \"https://id.example/jwks.json\" }",
        "keys = {}",
    ),
    ("algorithms = [\"EdDSA\"]", "algorithms = [\"none\"]"),
    ("url = \"postgres://outboxd@127.0.0.1:5432/orders\"\n", ""),
    ("issuer = \"https://id.example\"\n", ""),
    ("certificate = \"/etc/outboxd/tls.crt\"\n", ""),
    (
        "\"security.protocol\" = \"sasl_ssl\"",
        "\"security.protocol\" = [1]",
    ),
    ("[sources.orders]\n", "[sources.orders]\ncolour = 1\n"),
    ("[admin]\n", "[admin]\ncolour = 1\n"),
    ("[kafka]\n", "colour = 1\n[kafka]\n"),
];

#[test]
fn the_schema_knows_right_from_wrong() {
    let text = everything();
    let wrong = WRONG.iter().map(|(from, to)| {
        assert!(text.contains(from), "{from}");
        (text.replacen(from, to, 1), false)
    });
    let variable = "[relay]\nlease = { env = \"PATH\" }\n[kafka.properties]\n\"client.id\" = \"x\"\n\"socket.keepalive.enable\" = true\n";
    let right = ["", REFERENCE, &text].map(|text| (text.to_owned(), true));
    let cases = right
        .into_iter()
        .chain(wrong)
        .chain([("[push]\n".to_owned(), false)]);
    let cases: Vec<Value> = cases
        .inspect(|(text, is_right)| {
            let parsed = Config::parse(Path::new("/etc/outboxd/outboxd.toml"), text);
            assert_eq!(parsed.is_ok(), *is_right, "{text}\n{parsed:?}");
        })
        // What a variable holds is not for a schema to say.
        .chain([(variable.to_owned(), true)])
        .map(|(text, is_right)| {
            let file = seen(DeTable::parse(&text).unwrap().get_ref());
            json!({"text": text, "file": file, "right": is_right})
        })
        .collect();
    let ran = outboxd(&["config", "schema"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let files = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let file = files.path().join(name);
        fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let (schema, cases) = (
        file("schema.json", &ran.out),
        file("cases.json", &json!(cases).to_string()),
    );
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/push/asyncapi");
    npm::install(&folder);
    npm::run(&folder, "node", &["schema.mjs", &schema, &cases], &[]);
}
