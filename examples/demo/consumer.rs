//! The consumer: a process of its own that knows Kafka and nothing else, reads only what is committed, and reports each event
//! the moment it sees it. Never commits an offset: it reads everything from the beginning, once.

use std::{process, thread, time::Duration};

use rdkafka::consumer::Consumer as _;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    again::{self, Again},
    event::{self, Event, Sight},
    support::consumer::{self, Message},
    world::Failure,
};

/// How long it may take to be connected.
const CONNECT: Duration = Duration::from_secs(20);

/// Starts it; returns when it is connected. `report` hears of everything that it sees, and gets `None` when it has ended.
pub(crate) fn start(
    bootstrap: &str,
    topics: &[&str],
    report: impl Fn(Option<Sight>) + Send + 'static,
) -> Result<Again, Failure> {
    let mut arguments = vec!["consume", "--bootstrap", bootstrap];
    arguments.extend(topics);
    Again::start(&arguments, report)
}

/// What the process does, until its parent is gone.
pub(crate) fn run(bootstrap: &str, topics: &[String]) -> Result<(), Failure> {
    thread::spawn(|| {
        // It is told nothing, but that the parent is gone.
        again::told().for_each(drop);
        process::exit(0);
    });
    let topics: Vec<_> = topics.iter().map(String::as_str).collect();
    let consumer = consumer::consumer(bootstrap, &topics);
    for topic in &topics {
        consumer.fetch_watermarks(topic, 0, CONNECT)?;
    }
    again::ready()?;
    loop {
        if let Some(message) = consumer.poll(Duration::from_secs(1)) {
            let message = consumer::owned(&message?);
            if is_original(&message) {
                again::report(&sight(&message)?)?;
            }
        }
    }
}

/// A copy is made on purpose, and by somebody else than outboxd.
pub(crate) fn is_original(message: &Message) -> bool {
    message.headers.iter().all(|(name, _)| name != "copy")
}

/// Reads a record as any consumer of outboxd's can: what it is about is in its headers.
fn sight(message: &Message) -> Result<Sight, Failure> {
    let now = OffsetDateTime::now_utc();
    let header = |name: &str| {
        let found = message.headers.iter().find(|(header, _)| header == name);
        let value = found.and_then(|(_, value)| String::from_utf8(value.clone()?).ok());
        value.ok_or_else(|| format!("a record in {} has no header {name}", message.topic))
    };
    let inserted = OffsetDateTime::parse(&header("ce_time")?, &Rfc3339)?;
    let key = message.key.clone().map(String::from_utf8).transpose()?;
    let event = Event {
        id: header("ce_id")?,
        source: header("ce_source")?,
        topic: message.topic.clone(),
        key,
        event_type: header("ce_type")?,
    };
    Ok(Sight {
        event,
        at: event::time_of_day(now),
        milliseconds: event::milliseconds(inserted, now),
    })
}
