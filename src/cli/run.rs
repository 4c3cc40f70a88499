//! `outboxd run`: the daemon.

use std::path::Path;

use super::{Exit, Failure, load};
use crate::app::{self, AppError};

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

pub(super) async fn execute(file: &Path, args: Args) -> Result<(), Failure> {
    let config = load(file)?;
    let only = args.only.map(|half| match half {
        Half::Relay => app::Half::Relay,
        Half::Push => app::Half::Push,
    });
    let definitions = config.definitions()?;
    app::run(config, definitions, only)
        .await
        .map_err(|error| match error {
            AppError::Listen { .. } | AppError::Kafka(_) | AppError::Push(_) => {
                Failure::new(Exit::Config, error)
            }
            AppError::Host { .. } | AppError::Metrics(_) | AppError::Failed => {
                Failure::new(Exit::Bug, error)
            }
        })
}
