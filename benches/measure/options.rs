//! The arguments of the bench. Never read from the environment.

use std::{path::PathBuf, str::FromStr, time::Duration};

pub(crate) const USAGE: &str = "\
Usage: cargo bench --bench measure -- [OPTIONS]
  --only PART       relay, push, or one of relay-drain, relay-latency, relay-idle, push-memory, push-delivery, push-latency,
                    push-start
  --rows N          events of one drain, and records that push-start has to read [300000]
  --rounds N        drains, and deliveries; the median of each figure is shown [3]
  --seconds N       how long the other parts measure [20]
  --rate N          events a second of the latency parts [1000]
  --connections N   clients of push-memory; the other parts take 500 and 1000, or as many if that is fewer [10000]
  --json FILE       writes the figures there as well";

const PARTS: [&str; 7] = [
    "relay-drain",
    "relay-latency",
    "relay-idle",
    "push-memory",
    "push-delivery",
    "push-latency",
    "push-start",
];

pub(crate) struct Options {
    only: Option<String>,
    pub(crate) rows: usize,
    pub(crate) rounds: usize,
    pub(crate) duration: Duration,
    pub(crate) rate: u32,
    pub(crate) connections: usize,
    pub(crate) json: Option<PathBuf>,
}

impl Options {
    /// What `cargo test` runs, which gives neither options nor cargo's `--bench`: small, to see that it still works.
    fn small() -> Self {
        Self {
            only: Some("push".into()),
            rows: 2000,
            rounds: 1,
            duration: Duration::from_secs(2),
            rate: 100,
            connections: 100,
            ..Self::whole()
        }
    }

    fn whole() -> Self {
        Self {
            only: None,
            rows: 300_000,
            rounds: 3,
            duration: Duration::from_secs(20),
            rate: 1000,
            connections: 10_000,
            json: None,
        }
    }

    /// `None` when there is nothing to measure: `cargo test` was given the name of another test.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let arguments: Vec<String> = arguments.collect();
        if arguments.is_empty() {
            return Ok(Some(Self::small()));
        }
        if !arguments.iter().any(|argument| argument == "--bench") {
            return Ok(None);
        }
        let mut options = Self::whole();
        let mut arguments = arguments.into_iter().filter(|name| name != "--bench");
        while let Some(name) = arguments.next() {
            let value = arguments
                .next()
                .ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--only" if PARTS.iter().any(|part| part.starts_with(&value)) => {
                    options.only = Some(value);
                }
                "--rows" => options.rows = number(&name, &value)?,
                "--rounds" => options.rounds = number(&name, &value)?,
                "--seconds" => options.duration = Duration::from_secs(number(&name, &value)?),
                "--rate" => options.rate = number(&name, &value)?,
                "--connections" => options.connections = number(&name, &value)?,
                "--json" => options.json = Some(value.into()),
                _ => return Err(format!("{name} {value} means nothing here")),
            }
        }
        if options.rows < 2000
            || options.rounds == 0
            || options.duration.is_zero()
            || options.rate == 0
            || options.connections == 0
        {
            return Err("too little to measure".into());
        }
        Ok(Some(options))
    }

    pub(crate) fn wants(&self, part: &str) -> bool {
        debug_assert!(PARTS.contains(&part));
        self.only
            .as_deref()
            .is_none_or(|only| part.starts_with(only))
    }
}

fn number<N: FromStr>(name: &str, value: &str) -> Result<N, String> {
    value
        .parse()
        .map_err(|_| format!("{name} needs a number, not {value}"))
}
