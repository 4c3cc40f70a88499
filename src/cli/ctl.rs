//! `outboxd ctl`: tells the running daemon what to do, over its control socket.

use std::io::Write;
use std::path::Path;

use clap::Subcommand;
use clap::builder::NonEmptyStringValueParser;

use super::{Failure, ask};
use crate::admin::{Done, Kicked, Request};
use crate::logic::push::kick::Kick;

/// Arguments of `ctl`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  outboxd ctl reload --wait")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Have the daemon read its configuration again: all of it is applied, or nothing.
    Reload(ReloadArgs),
    /// Publish nothing of a source, and keep its lease, until it is resumed or the daemon restarts.
    #[command(
        after_help = "Only the daemon that is asked pauses: outboxd status shows who leads.\n\n\
                      Example:\n  outboxd ctl pause orders"
    )]
    Pause(SourceArgs),
    /// Publish a paused source again.
    #[command(after_help = "Example:\n  outboxd ctl resume orders")]
    Resume(SourceArgs),
    /// Hand a source's lease to another daemon, and do not take it back at once.
    #[command(after_help = "Example:\n  outboxd ctl release orders")]
    Release(SourceArgs),
    /// Log more or less, until the daemon restarts.
    Log(LogArgs),
    /// Disconnect the clients of a user or a token from this daemon.
    Kick(KickArgs),
}

/// Arguments of `ctl reload`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "What is wrong with the file is printed with line and column, and the daemon goes on with the old one.\n\n\
                  Example:\n  outboxd ctl reload --wait"
)]
struct ReloadArgs {
    /// Wait until it is done, and fail as it did: 78 for a wrong configuration.
    #[arg(long)]
    wait: bool,
}

/// Arguments of what is about one source.
#[derive(Debug, clap::Args)]
struct SourceArgs {
    /// Its name in the configuration.
    source: String,
}

/// Arguments of `ctl log`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  outboxd ctl log info,outboxd::kafka=debug")]
struct LogArgs {
    /// A level (error, warn, info, debug, trace), or target=level pairs, as in OUTBOXD_LOG.
    filter: String,
}

/// Arguments of `ctl kick`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Each daemon knows its own clients: run it on every one. They are told to come back with another token;\n\
                  one that is still valid lets them in again.\n\n\
                  Example:\n  outboxd ctl kick --user c-7"
)]
struct KickArgs {
    #[command(flatten)]
    whom: Whom,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Whom {
    /// The user, as the claim `[push.auth] user_claim` names him.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    user: Option<String>,
    /// The claim `jti` of the token that a client showed last.
    #[arg(long, value_name = "JTI", value_parser = NonEmptyStringValueParser::new())]
    token_id: Option<String>,
}

pub(super) async fn execute(file: &Path, args: Args) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let request = match args.command {
        Command::Reload(ReloadArgs { wait }) => {
            let file = std::path::absolute(file)?;
            Request::Reload { file, wait }
        }
        Command::Pause(SourceArgs { source }) => Request::Pause { source },
        Command::Resume(SourceArgs { source }) => Request::Resume { source },
        Command::Release(SourceArgs { source }) => Request::Release { source },
        Command::Log(LogArgs { filter }) => Request::Log { filter },
        Command::Kick(KickArgs { whom }) => {
            let (kick, whose) = match (whom.user, whom.token_id) {
                (Some(user), _) => (Kick::User(user), "of this user"),
                (None, token_id) => (
                    Kick::TokenId(token_id.unwrap_or_default()),
                    "with this token",
                ),
            };
            let Kicked { connections } = ask(file, &Request::Kick(kick)).await?;
            let noun = match connections {
                1 => "connection",
                _ => "connections",
            };
            return Ok(writeln!(out, "closed {connections} {noun} {whose}")?);
        }
    };
    let Done { done } = ask(file, &request).await?;
    Ok(writeln!(out, "{done}")?)
}
