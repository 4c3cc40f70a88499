//! `outboxd run`: the daemon.

use std::path::Path;

use super::{Failure, load};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  outboxd run --config ./outboxd.toml --only relay")]
pub struct Args {
    /// Run one half: relay reads databases and writes to Kafka, push reads Kafka and serves clients.
    #[arg(long, value_name = "HALF")]
    pub only: Option<Half>,
}

/// A half of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Half {
    /// Databases to Kafka.
    Relay,
    /// Kafka to clients.
    Push,
}

#[expect(clippy::unused_async, reason = "the daemon waits")]
pub(super) async fn execute(file: &Path, _args: Args) -> Result<(), Failure> {
    let _config = load(file)?;
    Err(Failure::bug("run is not built yet"))
}
