//! The protocol for programs: an AsyncAPI document, made from the types that are written and read. Never says more than `docs/push-protocol.md`.

use std::collections::BTreeMap;

use schemars::generate::{Contract, SchemaSettings};
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use super::frames::{ChangeFrame, Reply, Request, Snapshot};
use super::session::Close;

/// Where schemas are in the document.
const SCHEMAS: &str = "/components/schemas";
/// The sub-protocol, whose version the document has.
const PROTOCOL: &str = "outboxd.push.v1";

/// Frames by their `type`, and what they refer to.
#[derive(Default)]
struct Schemas {
    frames: BTreeMap<String, Value>,
    shared: Map<String, Value>,
}

/// The document.
pub fn document() -> Value {
    let asked = Schemas::default().with::<Request>(Contract::Deserialize);
    let told = Schemas::default()
        .with::<Reply<'_>>(Contract::Serialize)
        .with::<Snapshot<'_>>(Contract::Serialize)
        .with::<ChangeFrame<'_>>(Contract::Serialize);
    let tells = told.names();
    let both = [asked.names(), tells.clone()].concat();
    // A stream is asked for in its address.
    let streamed = without(&tells, &["unsubscribed"]);
    let schemas: Map<_, _> = asked.all().into_iter().chain(told.all()).collect();
    let messages = both
        .iter()
        .map(|name| (name.clone(), message(name, &schemas)));
    let messages: Map<_, _> = messages.collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "outboxd push",
            "version": "1.0.0",
            "description": description(),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "socket": {
                "address": "/v1/ws",
                "description": format!("A WebSocket with the sub-protocol {PROTOCOL}."),
                "messages": references(&both),
                "bindings": {"ws": handshake()},
            },
            "stream": {
                "address": "/v1/stream",
                "description": "Server-sent events of one type's sagas, ?saga_type=T&saga_id=ID, saga_id any number of times: the \
                                event's name is the frame's type, its data the frame, its id epoch and version; Last-Event-ID resumes.",
                "messages": references(&streamed),
            },
        },
        "operations": {
            "auth": request("auth", "Shows a token: first, and again at any time to renew.", &["ready", "bye"]),
            "subscribe": request("subscribe", "Asks for a saga, or for all of a type.", &["subscribed", "error"]),
            "unsubscribe": request("unsubscribe", "Has seen enough.", &["unsubscribed", "error"]),
            "news": {
                "action": "send",
                "summary": "What comes by itself.",
                "channel": {"$ref": "#/channels/socket"},
                "messages": of("socket", &without(&streamed, &["ready", "subscribed"])),
            },
            "stream": {
                "action": "send",
                "summary": "The same over HTTP.",
                "channel": {"$ref": "#/channels/stream"},
                "messages": of("stream", &streamed),
                "security": [{"$ref": "#/components/securitySchemes/token"}],
            },
        },
        "components": {
            "messages": messages,
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    })
}

fn description() -> String {
    let codes = Close::ALL.map(|close| format!("{} {}", close.code(), close.reason()));
    format!(
        "Sagas as clients see them. The whole client rule: take a snapshot unless its version is lower than yours; apply a change \
         whose previous is your version; ignore one whose version is not above yours; anything else is a gap: subscribe again \
         without a version. Another epoch in ready: forget all versions. Frames are JSON objects, one a line; one message may \
         carry several lines. Ignore fields and types that you do not know. Close codes: 40xx reconnect with back-off, 41xx \
         reconnect with a new token, 42xx do not retry: {}.",
        codes.join(", ")
    )
}

fn handshake() -> Value {
    json!({
        "method": "GET",
        "headers": {
            "type": "object",
            "required": ["Sec-WebSocket-Protocol"],
            "properties": {
                "Sec-WebSocket-Protocol": {
                    "type": "string",
                    "description": format!("{PROTOCOL}, and perhaps outboxd.bearer.<token> beside it."),
                },
                "Authorization": {"type": "string", "description": "Bearer, and a token, instead of the first frame."},
            },
        },
        "bindingVersion": "0.1.0",
    })
}

/// A frame that clients send, and how it is answered.
fn request(name: &str, summary: &str, answers: &[&str]) -> Value {
    let names = |names: &[&str]| -> Vec<String> { names.iter().map(ToString::to_string).collect() };
    json!({
        "action": "receive",
        "summary": summary,
        "channel": {"$ref": "#/channels/socket"},
        "messages": of("socket", &names(&[name])),
        "reply": {"channel": {"$ref": "#/channels/socket"}, "messages": of("socket", &names(answers))},
    })
}

fn without(names: &[String], these: &[&str]) -> Vec<String> {
    let others = names.iter().filter(|name| !these.contains(&name.as_str()));
    others.cloned().collect()
}

/// The messages of a channel.
fn references(names: &[String]) -> Value {
    let reference = |name: &String| {
        let message = json!({"$ref": format!("#/components/messages/{name}")});
        (name.clone(), message)
    };
    Value::Object(names.iter().map(reference).collect())
}

/// Some messages of a channel, by reference to it.
fn of(channel: &str, names: &[String]) -> Value {
    let reference =
        |name: &String| json!({"$ref": format!("#/channels/{channel}/messages/{name}")});
    names.iter().map(reference).collect()
}

fn message(name: &str, schemas: &Map<String, Value>) -> Value {
    let schema = schemas.get(name);
    let mut message = Map::new();
    let mut say = |field: &str, value: Value| message.insert(field.to_owned(), value);
    say("name", json!(name));
    say("payload", json!({"$ref": format!("#{SCHEMAS}/{name}")}));
    if let Some(summary) = schema.and_then(|schema| schema.get("description")) {
        say("summary", summary.clone());
    }
    if schema.is_some_and(|schema| schema.pointer("/properties/id").is_some()) {
        say("correlationId", json!({"location": "$message.payload#/id"}));
    }
    Value::Object(message)
}

impl Schemas {
    /// Adds a frame, or each of an enum of frames.
    fn with<T: JsonSchema>(mut self, contract: Contract) -> Self {
        let settings = SchemaSettings::draft07().with(|settings| {
            settings.contract = contract;
            settings.meta_schema = None;
            settings.definitions_path = SCHEMAS.into();
            settings
                .transforms
                .push(Box::new(RecursiveTransform(plain)));
        });
        let schema = settings
            .into_generator()
            .into_root_schema_for::<T>()
            .to_value();
        let shared = schema.pointer(SCHEMAS).and_then(Value::as_object);
        self.shared.extend(shared.cloned().unwrap_or_default());
        let frames = match schema.get("oneOf").and_then(Value::as_array) {
            Some(frames) => frames.clone(),
            None => vec![schema],
        };
        for mut frame in frames {
            let name = frame.pointer("/properties/type/const");
            let Some(name) = name.and_then(Value::as_str).map(str::to_owned) else {
                continue;
            };
            if let Some(fields) = frame.as_object_mut() {
                fields.remove("components");
                fields.remove("title");
            }
            self.frames.insert(name, frame);
        }
        self
    }

    fn names(&self) -> Vec<String> {
        self.frames.keys().cloned().collect()
    }

    fn all(self) -> Map<String, Value> {
        let mut all = self.shared;
        all.extend(self.frames);
        all
    }
}

/// Names of Rust's numbers mean nothing to others.
fn plain(schema: &mut Schema) {
    let is_rusts = |format: &Value| {
        let format = format.as_str().unwrap_or_default();
        format.starts_with("uint") || format.starts_with("int")
    };
    if schema.get("format").is_some_and(is_rusts) {
        schema.remove("format");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_every_frame_and_nothing_of_rusts() {
        let document = document();
        let names: Vec<_> = document["components"]["messages"]
            .as_object()
            .unwrap()
            .keys()
            .collect();
        let expected = [
            "auth",
            "bye",
            "change",
            "error",
            "expiring",
            "heartbeat",
            "ready",
            "snapshot",
            "subscribe",
            "subscribed",
            "unsubscribe",
            "unsubscribed",
        ];
        assert_eq!(names, expected);
        let text = document.to_string();
        for word in ["int64", "uint", "Request", "ChangeFrame", "$defs"] {
            assert!(!text.contains(word), "{word}: {text}");
        }
    }
}
