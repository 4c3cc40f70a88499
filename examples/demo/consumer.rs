//! The consumer: a process of its own that knows Kafka and nothing else, reads only what is committed, and reports each event
//! the moment it sees it, a line of JSON each. Never commits an offset: it reads everything from the beginning, once.

use std::{
    env,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    process::{self, Child, Command, Stdio},
    thread,
    time::Duration,
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use rdkafka::consumer::Consumer as _;

use crate::{
    event::{self, Event, Sight},
    support::consumer::{self, Message},
    world::Failure,
};

/// The first line of its reports, before any event: it is connected.
const READY: &str = "ready";

/// How long that may take.
const CONNECT: Duration = Duration::from_secs(20);

/// What the process does, until its parent is gone.
pub(crate) fn run(bootstrap: &str, topics: &[String]) -> Result<(), Failure> {
    leave_with_parent();
    let topics: Vec<_> = topics.iter().map(String::as_str).collect();
    let consumer = consumer::consumer(bootstrap, &topics);
    let mut reports = io::stdout().lock();
    for topic in &topics {
        consumer.fetch_watermarks(topic, 0, CONNECT)?;
    }
    writeln!(reports, "{READY}")?;
    loop {
        if let Some(message) = consumer.poll(Duration::from_secs(1)) {
            let sight = sight(&consumer::owned(&message?))?;
            writeln!(reports, "{}", serde_json::to_string(&sight)?)?;
        }
    }
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
        milliseconds: (now - inserted).as_seconds_f64() * 1000.0,
    })
}

/// Ends this process when its input does, which the parent holds open for as long as it lives.
fn leave_with_parent() {
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        process::exit(0);
    });
}

/// The process, as its parent sees it; dropping it ends it.
pub(crate) struct Consumer(Child);

impl Consumer {
    /// Starts this program once more as the consumer; returns when it is connected. `report` hears of everything that it sees,
    /// and gets `None` when it has ended.
    pub(crate) fn start(
        bootstrap: &str,
        topics: &[&str],
        report: impl Fn(Option<Sight>) + Send + 'static,
    ) -> Result<Self, Failure> {
        let mut command = Command::new(env::current_exe()?);
        command
            .args(["consume", "--bootstrap", bootstrap])
            .args(topics);
        // Ctrl-C on the terminal is for the parent, who ends this one in its turn.
        command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let output = process.stdout.take().map(BufReader::new).into_iter();
        let mut lines = output.flat_map(BufRead::lines).map_while(Result::ok);
        let consumer = Self(process);
        if lines.next().as_deref() != Some(READY) {
            return Err("the consumer cannot read the topics".into());
        }
        thread::spawn(move || {
            let sights = lines.map_while(|line| serde_json::from_str(&line).ok());
            sights.for_each(|sight| report(Some(sight)));
            report(None);
        });
        Ok(consumer)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.0.stdin = None;
        let _ = self.0.wait();
    }
}
