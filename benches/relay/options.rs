//! The arguments of the bench. Never read from the environment.

use std::{path::PathBuf, str::FromStr, time::Duration};

pub(crate) const USAGE: &str = "\
Usage: cargo bench --bench relay -- [OPTIONS]
  --only PART     drain, latency or idle; all of them without it
  --rows N        events of one drain [300000]
  --rounds N      drains; the median of each figure is shown [3]
  --seconds N     length of the latency and the idle part [20]
  --rate N        events a second of the latency part [1000]
  --json FILE     writes the figures there as well";

pub(crate) struct Options {
    only: Option<String>,
    pub(crate) rows: usize,
    pub(crate) rounds: usize,
    pub(crate) duration: Duration,
    pub(crate) rate: u32,
    pub(crate) json: Option<PathBuf>,
}

impl Options {
    /// `None` when there is nothing to measure: `cargo test --benches` runs the program as well, without cargo's `--bench`.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self {
            only: None,
            rows: 300_000,
            rounds: 3,
            duration: Duration::from_secs(20),
            rate: 1000,
            json: None,
        };
        let mut measures = false;
        let mut arguments = arguments.peekable();
        while let Some(name) = arguments.next() {
            if name == "--bench" {
                measures = true;
                continue;
            }
            let value = arguments
                .next()
                .ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--only" if matches!(value.as_str(), "drain" | "latency" | "idle") => {
                    options.only = Some(value);
                }
                "--rows" => options.rows = number(&name, &value)?,
                "--rounds" => options.rounds = number(&name, &value)?,
                "--seconds" => options.duration = Duration::from_secs(number(&name, &value)?),
                "--rate" => options.rate = number(&name, &value)?,
                "--json" => options.json = Some(value.into()),
                _ => return Err(format!("{name} {value} means nothing here")),
            }
        }
        if options.rows < 2000
            || options.rounds == 0
            || options.duration.is_zero()
            || options.rate == 0
        {
            return Err("too little to measure".into());
        }
        Ok(measures.then_some(options))
    }

    pub(crate) fn wants(&self, part: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == part)
    }
}

fn number<N: FromStr>(name: &str, value: &str) -> Result<N, String> {
    value
        .parse()
        .map_err(|_| format!("{name} needs a number, not {value}"))
}
