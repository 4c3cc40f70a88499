//! `outboxd ctl`: tells the running daemon what to do, over its control socket.

use std::io::Write;
use std::path::Path;

use clap::Subcommand;
use clap::builder::NonEmptyStringValueParser;

use super::{Failure, load};
use crate::admin::{self, Kicked, Request};
use crate::logic::push::kick::Kick;

/// Arguments of `ctl`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  outboxd ctl kick --user c-7")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Disconnect the clients of a user or a token from this daemon.
    Kick(KickArgs),
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
    let socket = load(file)?.admin.socket;
    let mut out = std::io::stdout().lock();
    match args.command {
        Command::Kick(KickArgs { whom }) => {
            let (kick, whose) = match (whom.user, whom.token_id) {
                (Some(user), _) => (Kick::User(user), "of this user"),
                (None, token_id) => (
                    Kick::TokenId(token_id.unwrap_or_default()),
                    "with this token",
                ),
            };
            let Kicked { connections } = admin::ask(&socket, &Request::Kick(kick)).await?;
            let noun = match connections {
                1 => "connection",
                _ => "connections",
            };
            writeln!(out, "closed {connections} {noun} {whose}")?;
        }
    }
    Ok(())
}
