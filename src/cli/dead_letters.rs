//! `outboxd dead-letters`: the events that Kafka did not take.

use std::path::Path;

use super::{Failure, load};

/// Arguments of `dead-letters`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  outboxd dead-letters list --source orders --json")]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do with dead letters.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List them, oldest first.
    #[command(after_help = "Example:\n  outboxd dead-letters list --source orders --json")]
    List {
        /// Of this source only.
        #[arg(long, value_name = "SOURCE")]
        source: Option<String>,
        /// Print a JSON list instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Show all of one, but the payload.
    #[command(
        after_help = "Example:\n  outboxd dead-letters show --source orders 8a0e6a0c-7c1f-4f0e-9f43-0d5b7f4f5a55"
    )]
    Show {
        /// The source it belongs to.
        #[arg(long, value_name = "SOURCE")]
        source: String,
        /// The event's id.
        #[arg(value_name = "EVENT_ID")]
        event_id: String,
        /// Print JSON instead of lines.
        #[arg(long)]
        json: bool,
    },
}

#[expect(clippy::unused_async, reason = "a database is waited for")]
pub(super) async fn execute(file: &Path, _args: Args) -> Result<(), Failure> {
    let _config = load(file)?;
    Err(Failure::bug("dead-letters is not built yet"))
}
