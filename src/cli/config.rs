//! `outboxd config`: the configuration as outboxd understands it.

use std::io::{self, Write};
use std::path::Path;

use super::{Failure, load};

/// Arguments of `config`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  outboxd config show --config ./outboxd.toml")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print what is in effect as TOML: defaults filled in, paths absolute, secrets as their references.
    #[command(after_help = "Example:\n  outboxd config show --config ./outboxd.toml")]
    Show,
}

pub(super) fn execute(file: &Path, args: &Args) -> Result<(), Failure> {
    match args.command {
        Command::Show => {
            let shown = load(file)?.show();
            Ok(io::stdout().lock().write_all(shown.as_bytes())?)
        }
    }
}
