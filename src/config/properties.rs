//! `[kafka.properties]`: which of librdkafka's properties an operator may set.
//!
//! Refuses, by name and with the reason, what would break a promise. Whether librdkafka knows a property is not asked here.

use toml::Spanned;
use toml::de::DeValue;

use super::section::Section;
use super::value::Fault;
use super::{Property, Secret};

/// Why a property cannot be set. A name that ends in `*` stands for all that begin so.
const REFUSED: [(&[&str], &str); 18] = [
    (
        &["bootstrap.servers", "metadata.broker.list"],
        "it has a key of its own; set bootstrap_servers in [kafka]",
    ),
    (
        &[
            "enable.idempotence",
            "enable.gapless.guarantee",
            "max.in.flight",
            "max.in.flight.requests.per.connection",
        ],
        "outboxd sets it so that no event is doubled or overtaken",
    ),
    (
        &["acks", "request.required.acks"],
        "outboxd waits for all replicas, or a broker's crash could lose events",
    ),
    (
        &["transactional.id", "transaction.timeout.ms"],
        "outboxd names and times its transactions itself: fencing depends on it; see prefix in [kafka]",
    ),
    (
        &[
            "partitioner",
            "partitioner_cb",
            "msg_order_cmp",
            "queuing.strategy",
        ],
        "the partition of a key and the order in it are promised to consumers",
    ),
    (
        &["retry.backoff.ms", "retry.backoff.max.ms"],
        "whether a commit was retried is told by its duration, which this would change",
    ),
    (
        &[
            "retries",
            "message.send.max.retries",
            "message.timeout.ms",
            "delivery.timeout.ms",
        ],
        "an event that is given up silently would be lost; outboxd decides when to try again",
    ),
    (
        &["linger.ms", "queue.buffering.max.ms", "batch.num.messages"],
        "batches are outboxd's; set batch = { linger, events, bytes } of the source",
    ),
    (
        &["batch.size", "message.max.bytes"],
        "outboxd takes it from the topics' limits, to tell which event is too large",
    ),
    (
        &[
            "queue.buffering.max.messages",
            "queue.buffering.max.kbytes",
            "queue.buffering.backpressure.threshold",
        ],
        "outboxd bounds its queue by the batch; set batch = { events, bytes } of the source",
    ),
    (
        &["allow.auto.create.topics"],
        "a mistyped topic would appear instead of an error; set create_topics in [kafka]",
    ),
    (
        &["isolation.level"],
        "outboxd reads the committed and the uncommitted end of its log, each where it must",
    ),
    (
        &[
            "group.*",
            "enable.auto.commit",
            "auto.commit.*",
            "enable.auto.offset.store",
            "auto.offset.reset",
            "offset.store.*",
            "partition.assignment.strategy",
            "session.timeout.ms",
            "heartbeat.interval.ms",
            "max.poll.interval.ms",
            "coordinator.query.interval.ms",
            "consume.callback.max.messages",
        ],
        "outboxd joins no consumer group and keeps its place itself",
    ),
    (
        &[
            "enable.partition.eof",
            "delivery.report.only.error",
            "produce.offset.report",
            "statistics.interval.ms",
        ],
        "outboxd needs these reports as they are",
    ),
    (
        &[
            "api.version.request*",
            "api.version.fallback.ms",
            "broker.version.fallback",
        ],
        "transactions need what the broker says of itself",
    ),
    (
        &["topic.blacklist"],
        "an event for such a topic would never be sent; leave the row out instead",
    ),
    (
        &[
            "plugin.library.paths",
            "interceptors",
            "*_cb",
            "opaque",
            "default_topic_conf",
            "enabled_events",
            "log.queue",
            "internal.termination.signal",
            "builtin.features",
            "ssl_engine_callback_data",
        ],
        "only a program can set it, or it brings foreign code into the daemon",
    ),
    (
        &["sasl.jaas.config"],
        "it belongs to Java clients; set \"sasl.username\" and \"sasl.password\" instead",
    ),
];

/// First words of properties that hold no secret unless their name says so.
const PUBLIC: [&str; 15] = [
    "security.",
    "ssl.",
    "sasl.",
    "client.",
    "compression.",
    "socket.",
    "broker.",
    "connections.",
    "debug",
    "enable.",
    "fetch.",
    "log",
    "metadata.",
    "reconnect.",
    "topic.",
];

/// Words in the name of a property, or of any key, whose value is kept elsewhere.
const SECRET: [&str; 10] = [
    "jaas",
    "key.pem",
    "oauthbearer.config",
    "passphrase",
    "passwd",
    "password",
    "private.key",
    "secret",
    "ssl_key",
    "token",
];

fn refusal(name: &str) -> Option<&'static str> {
    let is = |pattern: &&str| match (pattern.strip_suffix('*'), pattern.strip_prefix('*')) {
        (Some(head), _) => name.starts_with(head),
        (_, Some(tail)) => name.ends_with(tail),
        (None, None) => name == *pattern,
    };
    REFUSED
        .iter()
        .find(|(names, _)| names.iter().any(|pattern| is(pattern)))
        .map(|(_, why)| *why)
}

/// Whether a name says that its value is a secret.
pub(super) fn looks_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // A place is no secret: the file of a key, the address that gives out tokens.
    let place = [".file", ".location", ".url"]
        .iter()
        .any(|end| name.ends_with(end));
    !place && SECRET.iter().any(|word| name.contains(word))
}

/// Whether the value of a property may be shown when its line is.
pub(super) fn is_public(name: &str) -> bool {
    (refusal(name).is_some() || PUBLIC.iter().any(|word| name.starts_with(word)))
        && !looks_secret(name)
}

/// Reads the table, in the file's order.
pub(super) fn read(table: &Section<'_>) -> Vec<(String, Property)> {
    let mut properties = Vec::new();
    for (name, place, value) in table.children() {
        let legal =
            |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'.' | b'_');
        let fault = if let Some(why) = refusal(name) {
            Some(Fault::new(
                format!("the property `{name}` is not yours to set"),
                why,
            ))
        } else if let Some(inner) = nested(name, value.get_ref()) {
            Some(Fault::new(
                "the name of a property has dots and must stand in quotes",
                format!("write \"{inner}\" = …"),
            ))
        } else if name.is_empty() || !name.bytes().all(legal) {
            Some(Fault::new(
                "this is not the name of a librdkafka property",
                "names are of a-z 0-9 . and _, such as \"security.protocol\"",
            ))
        } else {
            None
        };
        match fault {
            Some(fault) => table.refuse(place, fault),
            None => properties
                .extend(property(table, name, value).map(|value| (name.to_owned(), value))),
        }
    }
    properties
}

/// The dotted name that somebody forgot to quote: TOML makes tables of it.
fn nested(name: &str, value: &DeValue<'_>) -> Option<String> {
    let table = value.as_table()?;
    if table
        .keys()
        .any(|key| Secret::KINDS.contains(&key.get_ref().as_ref()))
    {
        return None;
    }
    let (key, value) = table.iter().next()?;
    let name = format!("{name}.{}", key.get_ref());
    Some(nested(&name, value.get_ref()).unwrap_or(name))
}

fn property(table: &Section<'_>, name: &str, value: &Spanned<DeValue<'_>>) -> Option<Property> {
    let text = match value.get_ref() {
        DeValue::Table(_) => return table.secret_at(name, value).map(Property::Secret),
        DeValue::String(text) => text.clone().into_owned(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => number.to_string(),
            Err(_) => {
                return table.refuse_value(
                    value,
                    "the number is too big",
                    "librdkafka takes 64 bits",
                );
            }
        },
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) => {
            return table.refuse_value(
                value,
                &format!("the value of `{name}` must be a text, a whole number, true or false"),
                "put it in quotes",
            );
        }
    };
    if looks_secret(name) {
        return table.refuse_value(
            value,
            &format!("`{name}` is a secret and does not belong into this file"),
            "write { file = \"…\" }, { credential = \"…\" } or { env = \"…\" }",
        );
    }
    if text.contains('\0') {
        return table.refuse_value(value, "the value has a zero byte", "leave it out");
    }
    Some(Property::Plain(text))
}
