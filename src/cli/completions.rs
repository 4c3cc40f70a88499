//! `outboxd completions`: what a shell needs to complete a command line, made from the command line itself.

use std::io::Write;

use clap_complete::{Shell, generate};

use super::{Failure, command};

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The Debian package brings them along for bash, zsh and fish.\n\n\
                  Example:\n  outboxd completions bash > ~/.local/share/bash-completion/completions/outboxd"
)]
pub struct Args {
    /// For which shell.
    shell: Shell,
}

pub(super) fn execute(args: &Args) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut command(), "outboxd", &mut script);
    Ok(std::io::stdout().lock().write_all(&script)?)
}
