//! What the demo looks like: every line that it prints, within 100 columns. Colours are for terminals only.

use std::{
    env,
    io::{self, IsTerminal, Result, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use time::OffsetDateTime;

use crate::{
    event::{self, Sight, StateSeen},
    ledger::Ledger,
    sagas::Sagas,
    world::World,
};

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

/// Where clients see states; events are seen in their topics.
const WEBSOCKET: &str = "WebSocket";

/// How many faults of a kind are told one by one.
const FAULTS: usize = 20;

/// More orders than this are told as numbers, not one by one.
const ORDERS: u64 = 30;

/// From one line of numbers to the next.
const PACE: Duration = Duration::from_secs(2);

/// Standard output.
pub(crate) struct Screen {
    colours: bool,
    /// When the next line of numbers is due; `None`: orders are told one by one.
    numbers: Option<Instant>,
}

impl Screen {
    /// For so many orders, or without an end; with colours when somebody looks at it who has not asked for none.
    pub(crate) fn new(orders: Option<u64>) -> Self {
        let wanted = env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
        let many = orders.is_some_and(|orders| orders > ORDERS);
        Self {
            colours: wanted && io::stdout().is_terminal(),
            numbers: many.then(Instant::now),
        }
    }

    /// What this is, before anything is there.
    pub(crate) fn title(&self) -> Result<()> {
        let title = self.paint(BOLD, "outboxd demo");
        self.line(&format!(
            "\n{title}  One saga in two styles, from four services to Kafka and to their customers\n"
        ))?;
        self.line(&self.paint(DIM, "  starting PostgreSQL and Kafka, then outboxd ..."))
    }

    /// Something has been started.
    pub(crate) fn started(&self, what: &str, detail: &str, took: Duration) -> Result<()> {
        let took = format!("{:5.1} s", took.as_secs_f64());
        self.line(&format!(
            "  {what:<21}{detail:<36}{}",
            self.paint(DIM, &took)
        ))
    }

    /// Where everything is, what to try, and how to stop.
    pub(crate) fn invite(
        &mut self,
        world: &World,
        page: SocketAddr,
        orders: Option<u64>,
    ) -> Result<()> {
        let deployment = &world.deployment;
        let (admin, push) = (deployment.daemon.admin(), deployment.push());
        let places = [
            ("outboxd", format!("http://{admin}/metrics and /readyz")),
            ("", format!("ws://{push}/v1/ws")),
            ("", format!("http://{push}/console")),
            ("", deployment.daemon.config().display().to_string()),
            ("order", deployment.postgres.url("order", "order")),
            ("Kafka", deployment.kafka.bootstrap()),
        ];
        self.line("")?;
        for (what, place) in places {
            self.line(&format!("  {what:<10}{}", self.paint(CYAN, &place)))?;
        }
        if orders.is_none() {
            let page = self.paint(CYAN, &format!("http://{page}/"));
            self.line(&format!("\n  Place orders and break things:   {page}"))?;
            self.line("\n  Ctrl-C stops everything and leaves nothing behind.")?;
        }
        let head = if let Some(due) = &mut self.numbers {
            *due = Instant::now() + PACE;
            let names = ["events", "seen", "sagas", "ended"];
            numbers("UTC", names.map(str::to_owned), "p99 to Kafka", "to client")
        } else {
            columns("UTC", "seen in", "order", "what", "after insert")
        };
        self.line(&format!("\n{}", self.paint(DIM, &head)))
    }

    /// An event about an order came out of Kafka.
    pub(crate) fn sight(&self, sight: &Sight, order: &str) -> Result<()> {
        let (event, took) = (&sight.event, milliseconds(Some(sight.milliseconds)));
        let place = event.topic.trim_start_matches("create-order-saga.");
        let line = columns(&sight.at, place, order, &event.event_type, &took);
        // What goes wrong, and what undoes it.
        let undoes = ["Failed", "Declined", "Disabled", "Cancel", "Reject"];
        let colour = undoes.iter().any(|word| event.event_type.contains(word));
        self.one(&if colour {
            self.paint(YELLOW, &line)
        } else {
            line
        })
    }

    /// A client saw its saga's state.
    pub(crate) fn state(&self, seen: &StateSeen) -> Result<()> {
        let state = &seen.state;
        let previous = seen
            .previous
            .iter()
            .map(|previous| format!("{previous} -> "));
        let outcome = state.outcome.iter().map(|outcome| format!(", {outcome}"));
        let what: String = previous
            .chain([state.state.clone()])
            .chain(outcome)
            .collect();
        let took = milliseconds(Some(seen.milliseconds));
        let line = columns(&seen.at, WEBSOCKET, &state.order, &what, &took);
        self.one(&self.paint(GREEN, &line))
    }

    /// A client gave up.
    pub(crate) fn failed(&self, order: &str, why: &str) -> Result<()> {
        let line = columns(&now(), WEBSOCKET, order, why, "");
        self.one(&self.paint(RED, line.trim_end()))
    }

    /// Somebody breaks something at the page, or mends it.
    pub(crate) fn broken(&self, what: &str) -> Result<()> {
        let line = columns(&now(), "page", "", what, "");
        self.one(&self.paint(BOLD, line.trim_end()))
    }

    /// The numbers so far, if they are due.
    pub(crate) fn progress(&mut self, ledger: &Ledger, sagas: &Sagas) -> Result<()> {
        let due = self.numbers.is_some_and(|due| due <= Instant::now());
        if !due {
            return Ok(());
        }
        self.numbers = Some(Instant::now() + PACE);
        let counts = [
            ledger.committed(),
            ledger.seen(),
            sagas.count(),
            sagas.outcomes().values().sum(),
        ];
        self.line(&numbers(
            &now(),
            counts.map(|count| count.to_string()),
            &milliseconds(ledger.percentile(99)),
            &milliseconds(sagas.percentile(99)),
        ))
    }

    /// No further orders: what is on its way may arrive.
    pub(crate) fn ending(&self) -> Result<()> {
        self.line(&self.paint(
            DIM,
            "\n  ending: waiting for all sagas, then draining outboxd",
        ))
    }

    /// How it went; `faults` by kind.
    pub(crate) fn summary(
        &self,
        orders: u64,
        ledger: &Ledger,
        sagas: &Sagas,
        faults: &[Vec<String>],
    ) -> Result<()> {
        let (committed, seen, watched) = (ledger.committed(), ledger.seen(), sagas.count());
        let outcomes = sagas.outcomes();
        let ended: usize = outcomes.values().sum();
        let outcomes = outcomes
            .iter()
            .map(|(outcome, count)| format!(", {count} {outcome}"));
        let outcomes: String = outcomes.collect();
        let [p50, p99] = [50, 99].map(|percent| milliseconds(ledger.percentile(percent)));
        let [c50, c99, most] = [50, 99, 100].map(|percent| milliseconds(sagas.percentile(percent)));
        let lines = [
            (
                "committed",
                format!("{committed} events of {orders} orders"),
            ),
            (
                "seen",
                format!("{seen} events, insert to consumer p50 {p50}, p99 {p99}"),
            ),
            (
                "watched",
                format!("{ended} of {watched} sagas to their end{outcomes}"),
            ),
            (
                "",
                format!("insert to client p50 {c50}, p99 {c99}, max {most}"),
            ),
        ];
        self.line("")?;
        for (what, text) in lines {
            self.line(&format!("  {what:<11}  {text}"))?;
        }
        if faults.iter().all(Vec::is_empty) {
            let right = [
                "every committed event once, no other, in order per key",
                "every saga ended as it should, and that came over its WebSocket, without a gap",
            ];
            for right in right {
                self.line(&format!("  {}        {right}", self.paint(GREEN, "right")))?;
            }
            return self.line("");
        }
        for faults in faults {
            for fault in faults.iter().take(FAULTS) {
                self.line(&format!("  {}        {fault}", self.paint(RED, "WRONG")))?;
            }
            let more = faults.len().saturating_sub(FAULTS);
            if more > 0 {
                self.line(&format!("               and {more} more like these"))?;
            }
        }
        self.line("")
    }

    /// A line of one order.
    fn one(&self, line: &str) -> Result<()> {
        match self.numbers {
            None => self.line(line),
            Some(_) => Ok(()),
        }
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

fn columns(at: &str, place: &str, order: &str, what: &str, took: &str) -> String {
    format!("  {at:<12}  {place:<19}  {order:<6}  {what:<40}  {took:>12}")
}

fn numbers(at: &str, counts: [String; 4], to_kafka: &str, to_client: &str) -> String {
    let counts: String = counts.iter().map(|count| format!("{count:>12}")).collect();
    format!("  {at:<12}{counts}{to_kafka:>14}{to_client:>12}")
}

fn milliseconds(milliseconds: Option<f64>) -> String {
    milliseconds.map_or("-".to_owned(), |it| format!("{it:.1} ms"))
}

fn now() -> String {
    event::time_of_day(OffsetDateTime::now_utc())
}
