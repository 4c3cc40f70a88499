//! The arguments of the chaos run. Never read from the environment.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub(crate) const USAGE: &str = "\
Usage: cargo test --test chaos -- run [OPTIONS]
  --seed N          draws the schedule of faults; a random one without it
  --kills N         SIGKILLs of daemons [1000]
  --others N        of each other fault [30]
  --minutes N       no new fault after this time [70]
  --json FILE       writes the figures there as well
  --sabotage RULE   runs without a rule of the hand-over, to see the verdict fail; needs --features failpoints
Or:    cargo test --test chaos -- document
  writes the figures of docs/chaos.json into docs/correctness.md";

pub(crate) struct Options {
    pub(crate) seed: u64,
    pub(crate) kills: usize,
    pub(crate) others: usize,
    pub(crate) limit: Duration,
    pub(crate) json: Option<PathBuf>,
    pub(crate) sabotage: Option<String>,
}

impl Options {
    pub(crate) fn parse(arguments: &[String], seed: u64) -> Result<Self, String> {
        let mut options = Self {
            seed,
            kills: 1000,
            others: 30,
            limit: Duration::from_secs(70 * 60),
            json: None,
            sabotage: None,
        };
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            let value = arguments
                .next()
                .ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--seed" => options.seed = number(name, value)?,
                "--kills" => options.kills = number(name, value)?,
                "--others" => options.others = number(name, value)?,
                "--minutes" => {
                    options.limit = Duration::from_secs(60 * number::<u64>(name, value)?)
                }
                "--json" => options.json = Some(value.into()),
                "--sabotage" if cfg!(feature = "failpoints") => {
                    options.sabotage = Some(value.clone());
                }
                _ => return Err(format!("{name} {value} means nothing here")),
            }
        }
        Ok(options)
    }
}

fn number<N: FromStr>(name: &str, value: &str) -> Result<N, String> {
    value
        .parse()
        .map_err(|_| format!("{name} needs a number, not {value}"))
}
