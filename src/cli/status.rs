//! `outboxd status`: asks the daemon's control socket how each source is doing.

use std::path::Path;

use super::{Failure, load};

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  outboxd status --json | jq '.[] | .source'")]
pub struct Args {
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

#[expect(clippy::unused_async, reason = "the daemon is waited for")]
pub(super) async fn execute(file: &Path, _args: Args) -> Result<(), Failure> {
    let _config = load(file)?;
    Err(Failure::bug("status is not built yet"))
}
