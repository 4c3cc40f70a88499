//! `outboxd config`: the configuration as outboxd understands it, and what there is to configure.

use std::io::{self, Write};
use std::path::Path;

use super::{Failure, load};
use crate::config::schema;

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
    /// Print the JSON Schema of the configuration, for editors.
    #[command(
        after_help = "An editor that knows TOML takes it by a line at the top of the configuration:\n  \
                      #:schema ./outboxd.schema.json\n\n\
                      Example:\n  outboxd config schema > outboxd.schema.json"
    )]
    Schema,
}

pub(super) fn execute(file: &Path, args: &Args) -> Result<(), Failure> {
    match args.command {
        Command::Show => {
            let shown = load(file)?.show();
            Ok(io::stdout().lock().write_all(shown.as_bytes())?)
        }
        Command::Schema => Ok(writeln!(io::stdout().lock(), "{:#}", schema())?),
    }
}
