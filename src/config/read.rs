//! The file's text → the proven configuration, or every error in it.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::diagnostics::Problem;
use super::keys::NUMBER_MAX;
use super::section::{Asked, Outside, Reader, Section};
use super::value::{self, Fault};
use super::{
    Admin, Batch, Config, ConfigErrors, Kafka, OnRefused, Relay, Source, database, properties, push,
};

/// What explains every key.
const MANUAL: &str = "config/outboxd.toml";

/// Reads a whole file; also returns what was asked for.
pub(super) fn config(
    file: &Path,
    text: &str,
    outside: &Outside<'_>,
) -> (Result<Config, ConfigErrors>, Asked) {
    let name = file.display().to_string();
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let base = absolute.parent().unwrap_or(Path::new("/"));
    let (table, broken) = DeTable::parse_recoverable(text);
    let reader = Reader::new(outside, base, MANUAL);
    let config = root(
        Section::root(&reader, table.get_ref()),
        &absolute,
        &outside.host,
    );
    let (mut problems, asked) = reader.into_findings();
    let strict = !broken.is_empty();
    if strict {
        problems = syntax(text, &broken, problems);
    }
    let result = match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(ConfigErrors::new(name, text, problems, strict)),
    };
    (result, asked)
}

/// `[admin] socket` alone, also where much else is wrong.
pub(super) fn socket(file: &Path, text: &str, outside: &Outside<'_>) -> Option<PathBuf> {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let (table, _) = DeTable::parse_recoverable(text);
    let reader = Reader::new(outside, absolute.parent().unwrap_or(Path::new("/")), MANUAL);
    let root = Section::root(&reader, table.get_ref());
    socket_in(&root.section("admin"))
}

/// Errors of the TOML itself, and of the values as well if what is broken is nothing but a value.
pub(super) fn syntax(text: &str, broken: &[toml::de::Error], values: Vec<Problem>) -> Vec<Problem> {
    let line = |at: usize| text.get(..at).unwrap_or_default().matches('\n').count();
    let unquoted =
        |error: &toml::de::Error| error.message().starts_with("string values must be quoted");
    let local = |error: &toml::de::Error| unquoted(error) || error.message() == "duplicate key";
    let mut problems = Vec::<Problem>::new();
    for error in broken {
        let span = error.span().unwrap_or(0..0);
        let (what, remedy) = if unquoted(error) {
            (
                "a text must stand in quotes".to_owned(),
                "write it as \"…\"; durations and sizes, too",
            )
        } else if error.message() == "duplicate key" {
            (
                "this key was given before".to_owned(),
                "keep one of the two",
            )
        } else {
            (
                format!("this is not TOML: {}", error.message()),
                "mend it (https://toml.io says how); the rest of the file is checked then",
            )
        };
        // What follows on the same line is a consequence as a rule.
        if !problems
            .iter()
            .any(|known| line(known.span.start) == line(span.start))
        {
            problems.push(Problem {
                span,
                fault: Fault::new(what, remedy),
            });
        }
    }
    if broken.iter().all(local) {
        let lines: Vec<_> = problems
            .iter()
            .map(|problem| line(problem.span.start))
            .collect();
        let untouched = |problem: &Problem| !lines.contains(&line(problem.span.start));
        problems.extend(values.into_iter().filter(untouched));
    }
    problems
}

fn root(section: Section<'_>, file: &Path, host: &str) -> Option<Config> {
    let kafka = kafka(section.section("kafka"));
    let admin_section = section.section("admin");
    let admin = admin(&admin_section);
    let relay = relay(section.section("relay"), host, admin.as_ref());
    let sources = sources(section.section("sources"));
    let push = section.optional("push").map(|push| {
        let place = push.span_of("listen");
        (push::read(push), place)
    });
    let sagas = section.section("sagas");
    let saga_definitions = sagas.optional_text("definitions", |text| sagas.path(text));
    sagas.end();
    if let (Some((Some(push), place)), Some(admin)) = (&push, &admin)
        && push.listen == admin.listen
        && push.listen.port() != 0
    {
        section.refuse(
            place.clone(),
            Fault::new(
                "clients and operators cannot share one address",
                "give listen of [push] and listen of [admin] different ports",
            ),
        );
    }
    admin_section.end();
    section.end();
    Some(Config {
        file: file.to_owned(),
        kafka: kafka?,
        relay: relay?,
        sources: sources?,
        push: match push {
            Some((push, _)) => Some(push?),
            None => None,
        },
        saga_definitions: saga_definitions.map(|path| path.display().to_string()),
        admin: admin?,
    })
}

fn kafka(section: Section<'_>) -> Option<Kafka> {
    let bootstrap_servers =
        section.text("bootstrap_servers", Some("127.0.0.1:9092"), value::brokers);
    let prefix = section.text("prefix", Some("outboxd"), value::name);
    let create_topics = section.flag("create_topics", false);
    let properties = properties::read(&section.section("properties"));
    section.end();
    Some(Kafka {
        bootstrap_servers: bootstrap_servers?,
        prefix: prefix?,
        create_topics: create_topics?,
        properties,
    })
}

fn relay(section: Section<'_>, host: &str, admin: Option<&Admin>) -> Option<Relay> {
    let instance = section.optional_text("instance", value::word);
    // Below two seconds a slow commit or a short pause of the machine would cost the lease.
    let lease = section.duration("lease", "10s", 2_000..=3_600_000);
    section.end();
    let port = admin.map_or(0, |admin| admin.listen.port());
    Some(Relay {
        instance: instance.unwrap_or_else(|| format!("{host}:{port}")),
        lease: lease?,
    })
}

fn admin(section: &Section<'_>) -> Option<Admin> {
    let listen = section.text("listen", Some("127.0.0.1:9464"), value::listen);
    let socket = socket_in(section);
    Some(Admin {
        listen: listen?,
        socket: socket?,
    })
}

fn socket_in(section: &Section<'_>) -> Option<PathBuf> {
    section.text("socket", Some("/run/outboxd/ctl.sock"), |text| {
        section.path(text)
    })
}

fn sources(section: Section<'_>) -> Option<Vec<Source>> {
    let mut sources: Vec<Option<Source>> = Vec::new();
    for (name, span, value) in section.children() {
        let source = source(name, section.named(name, span.clone(), value));
        if let Err(fault) = value::name(name) {
            section.refuse(span.clone(), fault);
        }
        for earlier in sources.iter().flatten() {
            if let Some(fault) = source.as_ref().and_then(|source| clash(earlier, source)) {
                section.refuse(span.clone(), fault);
            }
        }
        sources.push(source);
    }
    sources.into_iter().collect()
}

/// Why two sources cannot be relayed side by side.
fn clash(one: &Source, other: &Source) -> Option<Fault> {
    let places = database::places(&one.database.connect);
    let shared = database::places(&other.database.connect)
        .iter()
        .any(|place| places.contains(place));
    // Kafka refuses a topic whose name differs from another's only in this.
    let alike = one.name.replace('.', "_") == other.name.replace('.', "_");
    if shared {
        Some(Fault::new(
            format!("`{}` and `{}` are the same database", one.name, other.name),
            "keep one of them: a database has one outbox and one name",
        ))
    } else if alike {
        Some(Fault::new(
            format!(
                "the names `{}` and `{}` differ only in . and _",
                one.name, other.name
            ),
            "Kafka cannot tell their topics apart; rename one",
        ))
    } else {
        None
    }
}

fn source(name: &str, section: Section<'_>) -> Option<Source> {
    let base = section.base();
    let database = section.text("url", None, |text| database::parse(text, base));
    let password = section.secret("password");
    let batch = batch(section.section("batch"));
    let refused = [
        ("block-key", OnRefused::BlockKey),
        ("skip", OnRefused::Skip),
    ];
    let on_refused = section.choice("on_refused", Some("block-key"), &refused);
    let dead_letter_limit = section.number("dead_letter_limit", 100_000, 0..=NUMBER_MAX);
    section.end();
    let mut database = database?;
    database.password = password;
    Some(Source {
        name: name.to_owned(),
        database,
        batch: batch?,
        on_refused: on_refused?,
        dead_letter_limit: dead_letter_limit?,
    })
}

fn batch(section: Section<'_>) -> Option<Batch> {
    let linger = section.duration("linger", "5ms", 0..=10_000);
    let events = section.number("events", 1_000, 1..=10_000);
    let bytes = section.size("bytes", "1MiB", 1 << 10..=64 << 20);
    section.end();
    Some(Batch {
        linger: linger?,
        events: usize::try_from(events?).ok()?,
        bytes: bytes?,
    })
}
