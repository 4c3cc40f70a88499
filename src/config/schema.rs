//! The keys that the code asks for → a JSON Schema, so that editors know the file: what there is, what it takes and what it
//! is for. Says less than `outboxd check`, which reads the values too.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use toml::de::DeValue;

use super::keys::NUMBER_MAX;
use super::read;
use super::section::{Asked, Form, Key, Outside};
use super::value::{DURATION_UNITS, SIZE_UNITS};

/// The commented file: what it says of a key is the key's description.
const REFERENCE: &str = include_str!("../../config/outboxd.toml");

/// A file in which every table is on, so that each of its keys is asked for.
const EVERYTHING: &str = "[sources.x]\n[push]\n[push.tls]\n";

/// The schema of a configuration file.
pub(super) fn schema() -> Value {
    let outside = Outside {
        variable: &|_| None,
        host: "host".to_owned(),
    };
    // That values are missing is no matter: the keys are what is wanted.
    let asked = read::config(Path::new("/outboxd.toml"), EVERYTHING, &outside).1;
    let mut schema = table("", &asked, &descriptions());
    let Some(fields) = schema.as_object_mut() else {
        return schema;
    };
    fields.insert(
        "$schema".into(),
        json!("http://json-schema.org/draft-07/schema#"),
    );
    fields.insert("title".into(), json!("The configuration of outboxd"));
    let variable = json!({
        "description": "The value of an environment variable.",
        "type": "object",
        "properties": {"env": {"type": "string"}},
        "required": ["env"],
        "additionalProperties": false,
    });
    let places = [
        ("file", Form::Text),
        ("credential", Form::Text),
        ("env", Form::Text),
    ];
    let mut secret = form(&Form::OneOf(places.into()));
    if let Some(fields) = secret.as_object_mut() {
        fields.insert("description".into(), json!("Where a secret is kept."));
    }
    fields.insert(
        "definitions".into(),
        json!({"variable": variable, "secret": secret}),
    );
    schema
}

/// The table at a path; the whole file has none.
fn table(path: &str, asked: &Asked, descriptions: &HashMap<String, String>) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    let mut named = None;
    for key in asked.keys.iter().filter(|key| parent(&key.path) == path) {
        let name = last(&key.path);
        properties.insert(
            name.to_owned(),
            described(value(key), &key.path, descriptions),
        );
        if key.is_needed {
            required.push(name);
        }
    }
    for (inner, is_optional) in asked
        .tables
        .iter()
        .filter(|(inner, _)| parent(inner) == path)
    {
        let schema = described(table(inner, asked, descriptions), inner, descriptions);
        if !is_optional && schema.get("required").is_some() {
            required.push(last(inner));
        }
        match last(inner) {
            // Names that the operator chooses.
            "*" => named = Some(schema),
            name => {
                properties.insert(name.to_owned(), schema);
            }
        }
    }
    let others = match named {
        Some(named) => named,
        // A table without keys of its own takes those of librdkafka.
        None if properties.is_empty() => json!({
            "anyOf": [{"type": ["string", "integer", "boolean"]}, {"$ref": "#/definitions/secret"}]
        }),
        None => json!(false),
    };
    let mut schema = json!({"type": "object", "additionalProperties": others});
    if let Some(fields) = schema.as_object_mut() {
        if !properties.is_empty() {
            fields.insert("properties".into(), Value::Object(properties));
        }
        required.sort_unstable();
        required.dedup();
        if !required.is_empty() {
            fields.insert("required".into(), json!(required));
        }
    }
    schema
}

fn parent(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(parent, _)| parent)
}

fn last(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(_, last)| last)
}

fn described(mut schema: Value, path: &str, descriptions: &HashMap<String, String>) -> Value {
    if let (Some(fields), Some(text)) = (schema.as_object_mut(), descriptions.get(path)) {
        fields.insert("description".into(), json!(text));
    }
    schema
}

/// What a key takes, and its default.
fn value(key: &Key) -> Value {
    let mut schema = form(&key.form);
    let default = key.default.as_ref().and_then(|text| {
        let value = DeValue::parse(text).ok()?;
        json_of(value.get_ref())
    });
    if let (Some(fields), Some(default)) = (schema.as_object_mut(), default) {
        fields.insert("default".into(), default);
    }
    schema
}

fn form(form: &Form) -> Value {
    // Any text may come from a variable.
    let text = |schema: Value| json!({"anyOf": [schema, {"$ref": "#/definitions/variable"}]});
    let counted = |units: &[(&str, u64)]| {
        let units: Vec<_> = units.iter().map(|(unit, _)| *unit).collect();
        text(json!({"type": "string", "pattern": format!("^[0-9]+({})$", units.join("|"))}))
    };
    match form {
        Form::Text => text(json!({"type": "string"})),
        Form::Duration => counted(&DURATION_UNITS),
        Form::Size => counted(&SIZE_UNITS),
        Form::Word(words) => text(json!({"enum": words})),
        Form::List(of) => json!({"type": "array", "items": self::form(of)}),
        Form::Flag => json!({"type": "boolean"}),
        Form::Number(range) => match range.clone().into_inner() {
            (least, NUMBER_MAX) => json!({"type": "integer", "minimum": least}),
            (least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
        },
        Form::Secret => json!({"$ref": "#/definitions/secret"}),
        Form::OneOf(keys) => {
            let properties = keys
                .iter()
                .map(|(key, of)| ((*key).to_owned(), self::form(of)));
            json!({
                "type": "object",
                "properties": properties.collect::<Map<_, _>>(),
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": false,
            })
        }
    }
}

/// A default: there are no tables among them, and no dates.
fn json_of(value: &DeValue<'_>) -> Option<Value> {
    match value {
        DeValue::String(text) => Some(json!(text)),
        DeValue::Integer(number) => number.as_str().parse::<u64>().ok().map(Value::from),
        DeValue::Boolean(flag) => Some(json!(flag)),
        DeValue::Array(values) => {
            let values = values.iter().map(|value| json_of(value.get_ref()));
            values.collect::<Option<Vec<_>>>().map(Value::Array)
        }
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

/// The comment above each key and table of the commented file.
fn descriptions() -> HashMap<String, String> {
    let mut found = HashMap::new();
    let (mut comment, mut table) = (Vec::new(), String::new());
    for line in REFERENCE.lines() {
        if line.is_empty() {
            comment.clear();
        } else if let Some(text) = line.strip_prefix("# ") {
            comment.push(text);
        } else {
            // A key or table that is off begins with the sign of a comment, too.
            let line = line.strip_prefix('#').unwrap_or(line);
            let header = line
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'));
            let path = match (header, line.split_once(" = ")) {
                (Some(header), _) => {
                    table = header.replace("sources.orders", "sources.*");
                    table.clone()
                }
                (None, Some((key, _))) => format!("{table}.{key}"),
                (None, None) => continue,
            };
            if !comment.is_empty() {
                found.insert(path, std::mem::take(&mut comment).join(" "));
            }
        }
    }
    found
}
