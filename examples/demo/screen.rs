//! What the demo looks like: every line that it prints, within 80 columns. Colours are for terminals only.

use std::{
    env,
    io::{self, IsTerminal, Result, Write},
    time::Duration,
};

use time::OffsetDateTime;

use crate::{
    event::{self, Event, Sight},
    ledger::Ledger,
    orders::Ended,
    world::World,
};

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

/// How many faults are told one by one.
const FAULTS: usize = 10;

/// Standard output.
pub(crate) struct Screen {
    colours: bool,
}

impl Screen {
    /// With colours when somebody looks at it who has not asked for none.
    pub(crate) fn new() -> Self {
        let wanted = env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
        Self {
            colours: wanted && io::stdout().is_terminal(),
        }
    }

    /// What this is, before anything is there.
    pub(crate) fn title(&self) -> Result<()> {
        let title = self.paint(BOLD, "outboxd demo");
        self.line(&format!(
            "\n{title}  Orders and their events, committed together, on their way to Kafka\n"
        ))?;
        self.line(&self.paint(DIM, "  starting PostgreSQL and Kafka, then outboxd ..."))
    }

    /// Something has been started.
    pub(crate) fn started(&self, what: &str, detail: &str, took: Duration) -> Result<()> {
        let took = format!("{:5.1} s", took.as_secs_f64());
        self.line(&format!(
            "  {what:<21}{detail:<33}{}",
            self.paint(DIM, &took)
        ))
    }

    /// Where everything is, what to try, and how to stop.
    pub(crate) fn invite(&self, world: &World, orders: Option<u64>) -> Result<()> {
        let admin = world.daemon.admin();
        let places = [
            ("outboxd", format!("http://{admin}/metrics and /readyz")),
            ("", world.daemon.config().display().to_string()),
            ("shop", world.url("shop")),
            ("kitchen", world.url("kitchen")),
            ("Kafka", world.kafka.bootstrap()),
        ];
        self.line("")?;
        for (what, place) in places {
            self.line(&format!("  {what:<10}{}", self.paint(CYAN, &place)))?;
        }
        if orders.is_none() {
            self.line(&format!(
                "\n  Publish an event yourself:   psql {}",
                world.url("shop")
            ))?;
            let insert = [
                "    insert into outbox.event (topic, key, event_type, payload)",
                "    values ('orders', 'mine', 'OrderCreated', '{\"total\": 1250}');",
            ];
            self.line(&self.paint(CYAN, &insert.join("\n")))?;
            self.line("\n  Ctrl-C stops everything and leaves nothing behind.")?;
        }
        let columns = columns("UTC", "topic", "key", "type", "source", "insert to here");
        self.line(&format!("\n{}", self.paint(DIM, &columns)))
    }

    /// An event came out of Kafka.
    pub(crate) fn sight(&self, sight: &Sight) -> Result<()> {
        let took = format!("{:.1} ms", sight.milliseconds);
        self.event(&sight.at, &sight.event, &took, None)
    }

    /// A transaction ended; what is committed is told when it is seen, and what is rolled back must never be.
    pub(crate) fn ended(&self, transaction: &Ended) -> Result<()> {
        let at = event::time_of_day(OffsetDateTime::now_utc());
        let events = transaction.events.iter();
        for event in events.filter(|_| !transaction.committed) {
            self.event(&at, event, "rolled back", Some(YELLOW))?;
        }
        Ok(())
    }

    /// No further orders: what is on its way may arrive.
    pub(crate) fn ending(&self) -> Result<()> {
        self.line(&self.paint(
            DIM,
            "\n  ending: waiting for what is on its way, then draining outboxd",
        ))
    }

    /// How it went.
    pub(crate) fn summary(&self, ledger: &Ledger, orders: u64, faults: &[String]) -> Result<()> {
        let milliseconds = |percent| match ledger.percentile(percent) {
            Some(milliseconds) => format!("{milliseconds:.1} ms"),
            None => "-".to_owned(),
        };
        let (committed, rolled_back, seen) =
            (ledger.committed(), ledger.rolled_back(), ledger.seen());
        let (p50, p99) = (milliseconds(50), milliseconds(99));
        self.line(&format!(
            "\n  committed    {committed} events of {orders} orders"
        ))?;
        self.line(&format!(
            "  rolled back  {rolled_back} events, which nobody may see"
        ))?;
        self.line(&format!(
            "  seen         {seen} events, insert to consumer p50 {p50}, p99 {p99}"
        ))?;
        if faults.is_empty() {
            let right = "every committed event once, no other, in order per key";
            return self.line(&format!(
                "  {}        {right}\n",
                self.paint(GREEN, "right")
            ));
        }
        for fault in faults.iter().take(FAULTS) {
            self.line(&format!("  {}        {fault}", self.paint(RED, "WRONG")))?;
        }
        match faults.len().saturating_sub(FAULTS) {
            0 => self.line(""),
            more => self.line(&format!("               and {more} more\n")),
        }
    }

    fn event(&self, at: &str, event: &Event, took: &str, colour: Option<&str>) -> Result<()> {
        let key = event.key.as_deref().unwrap_or("-");
        let line = columns(
            at,
            &event.topic,
            key,
            &event.event_type,
            &event.source,
            took,
        );
        self.line(&colour.map_or(line.clone(), |colour| self.paint(colour, &line)))
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn line(&self, line: &str) -> Result<()> {
        writeln!(io::stdout().lock(), "{line}")
    }
}

fn columns(at: &str, topic: &str, key: &str, kind: &str, source: &str, took: &str) -> String {
    format!("  {at:<13} {topic:<8} {key:<7} {kind:<16} {source:<8} {took:>14}")
}
