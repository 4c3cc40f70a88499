//! `outboxd man`: manual pages, made from the command line itself.

use std::path::PathBuf;

use clap_mangen::{Man, generate_to};

use super::{Failure, command};

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The Debian package brings them along: man outboxd, man outboxd-ctl-reload.\n\n\
                  Example:\n  outboxd man --out /usr/local/share/man/man1"
)]
pub struct Args {
    /// Write the pages of all commands into this directory, instead of the first one to standard output.
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
}

pub(super) fn execute(args: Args) -> Result<(), Failure> {
    match args.out {
        Some(directory) => Ok(generate_to(command(), directory)?),
        None => Ok(Man::new(command()).render(&mut std::io::stdout().lock())?),
    }
}
